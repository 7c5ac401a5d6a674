/** The live view on Stream Sampler: the film as it is made, where it is, and a Stop that keeps what is there. */

import { make, shield } from "./timeline/dom.js";

export class LiveView {
  /** `url(path)` makes a path of the server's; `stop(nodeId)` asks it to end the render. */
  constructor({ url, stop }) {
    this.url = url;
    this.image = make("img", "", { alt: "", draggable: "false" });
    this.image.addEventListener("error", () => this.image.removeAttribute("src"));
    this.words = make("span", "", {}, "The film shows here while it is made");
    this.fill = make("div", "");
    this.said = make("span", "gf-said");
    this.stop = make("button", "gf-button", { type: "button", title: "Stop here and keep the film so far", disabled: "" }, "Stop");
    this.stop.addEventListener("click", async () => {
      this.stop.disabled = true;
      this.say("stopping after this part…");
      if (!(await stop(this.node))) this.say("nothing was running");
    });
    shield(this.stop);
    this.element = make("div", "gf-live", {}, make("div", "gf-screen", {}, this.words, this.image),
      make("div", "gf-gauge", {}, this.fill), make("div", "gf-row", {}, this.said, this.stop));
  }

  started({ node, seconds, width, height, fps }) {
    this.node = node;
    this.image.src = this.url(`/grounded/live/${node}?t=${Date.now()}`);
    this.words.textContent = "Making the first pictures…";
    this.stop.disabled = false;
    this.say(`${Math.round(seconds * 100) / 100} s${width ? `, ${width} × ${height}, ${fps} fps` : ""}`, 0);
  }

  progress(detail) {
    if (this.node !== detail.node) this.started({ node: detail.node, seconds: detail.seconds }); // the page is newer than the render
    this.say(detail.text, detail.film_seconds / detail.seconds);
  }

  finished({ cancelled, text }) {
    this.node = null;
    this.stop.disabled = true;
    this.words.textContent = "";
    this.say(text || (cancelled ? "stopped" : "done"), cancelled ? null : 1);
  }

  /** Words, of which the first line is seen, and how much of the film is there (null: as before). */
  say(text, share = null) {
    this.said.textContent = String(text).split("\n", 1)[0];
    this.said.title = text;
    if (share !== null) this.fill.style.width = `${(100 * Math.max(0, Math.min(1, share || 0))).toFixed(1)}%`;
  }
}
