/** The live view on Stream Sampler: the film as it is made, where it is, and a Stop that keeps what is there. */

import { make } from "./timeline/view.js";

export class LiveView {
  /** `url(path)` makes a path of the server's; `stop(nodeId)` asks it to end the render. */
  constructor({ url, stop }) {
    this.url = url;
    this.image = make("img", "", { alt: "", draggable: "false" });
    this.words = make("span", "", {}, "The film shows here while it is made");
    this.fill = make("div", "");
    this.said = make("span", "gf-said");
    this.stop = make("button", "gf-button", { type: "button", title: "Stop here and keep the film so far" }, "Stop");
    this.stop.disabled = true;
    this.stop.addEventListener("click", async () => {
      this.stop.disabled = true;
      this.say("stopping after this part…");
      if (!(await stop(this.node))) this.say("nothing was running");
    });
    const screen = make("div", "gf-screen", {}, this.words, this.image);
    this.element = make("div", "gf-live", {}, screen, make("div", "gf-gauge", {}, this.fill),
      make("div", "gf-row", {}, this.said, this.stop));
    for (const type of ["pointerdown", "mousedown", "dblclick", "keydown"]) {
      this.stop.addEventListener(type, (event) => event.stopPropagation());
    }
    this.image.addEventListener("error", () => this.image.removeAttribute("src"));
  }

  started({ node, seconds, width, height, fps }) {
    Object.assign(this, { node, seconds });
    this.image.src = this.url(`/grounded/live/${node}?t=${Date.now()}`);
    this.words.textContent = "Making the first pictures…";
    this.stop.disabled = false;
    this.gauge(0);
    this.say(`${Math.round(seconds * 100) / 100} s, ${width} × ${height}, ${fps} fps`);
  }

  progress({ film_seconds: done, seconds, text }) {
    this.gauge(done / seconds);
    this.say(text);
  }

  finished({ cancelled, text }) {
    this.stop.disabled = true;
    if (!cancelled) this.gauge(1);
    this.words.textContent = "";
    this.say(text || (cancelled ? "stopped" : "done"));
  }

  say(text) {
    const [first, ...rest] = String(text).split("\n");
    this.said.textContent = first;
    this.said.title = [first, ...rest].join("\n");
  }

  gauge(share) {
    this.fill.style.width = `${(100 * Math.max(0, Math.min(1, share || 0))).toFixed(1)}%`;
  }
}
