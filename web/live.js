/** The live view on nodes that render: the film as it is made, where it is, a Stop that keeps what is there, and a report. */

import { make, put, report, shield } from "./timeline/dom.js";
import { firstSentence } from "./toasts.js";

const EMPTY = "The film shows here while it is made";
const FAILED = "Nothing was made in this Run";

export class LiveView {
  /** `url(path)` makes a path of the server's; `stop(nodeId)` asks it to end the render. */
  constructor({ url, stop }) {
    Object.assign(this, { url, node: null, stopping: false, began: false });
    this.image = make("img", "", { alt: "", draggable: "false" });
    this.image.addEventListener("error", () => this.image.removeAttribute("src"));
    this.words = make("span", "", {}, EMPTY);
    this.fill = make("div", "");
    this.said = make("span", "gf-said");
    this.report = make("pre", "gf-report");
    this.seed = make("div", "gf-aside");
    this.stop = make("button", "gf-button", { type: "button", title: "Stop here and keep the film so far", disabled: "" }, "Stop");
    this.stop.addEventListener("click", async () => {
      this.stop.disabled = true;
      this.say("stopping after this part…");
      this.stopping = true;
      if (await stop(this.node)) return;
      this.stopping = false;
      this.say("nothing was running");
    });
    shield(this.stop);
    shield(this.report);
    this.screen = make("div", "gf-screen", {}, this.words, this.image);
    this.element = make("div", "gf-live", {}, this.seed, this.screen,
      make("div", "gf-gauge", {}, this.fill), make("div", "gf-row", {}, this.said, this.stop), this.report);
  }

  /** The one rule of seeds, said where the other one stands: the text's goes first. */
  seeded(written) {
    put(this.seed, { textContent: written === null ? "" : `The seed above is not used: the text says @seed ${written}` });
  }

  started({ node, seconds, width, height, fps }) {
    Object.assign(this, { node, stopping: false, began: true });
    this.image.src = this.url(`/grounded/live/${node}?t=${Date.now()}`);
    this.words.textContent = "Making the first pictures…";
    this.stop.disabled = false;
    this.say(`${Math.round(seconds * 100) / 100} s${width ? `, ${width} × ${height}, ${Math.round(fps * 1000) / 1000} fps` : ""}`, 0);
  }

  progress(detail) {
    if (this.node !== detail.node) this.started({ node: detail.node, seconds: detail.seconds }); // the page is newer than the render
    this.say(detail.text, detail.share);
  }

  /** Between two chunks. */
  share({ share }) {
    this.measure(share);
  }

  /** What is known before and while it renders: what it will take, what was kept. */
  noted({ text, share = null }) {
    report(this.report, text);
    this.measure(share);
  }

  finished({ cancelled, text, share = cancelled ? null : 1 }) {
    Object.assign(this, { node: null, stopping: false });
    this.stop.disabled = true;
    this.words.textContent = "";
    this.tell(text, share);
  }

  /** The host begins a Run, in which this node may or may not render. */
  awaited() {
    this.began = false;
  }

  /** The render ended in an error, or never began. */
  failed(text) {
    if (!this.began) this.image.removeAttribute("src");
    Object.assign(this, { node: null, stopping: false });
    this.stop.disabled = true;
    this.words.textContent = this.began ? "" : FAILED;
    const first = firstSentence(text);
    this.say(first, 0);
    this.said.title = text;
    report(this.report, text.trim().slice(first.length).trim()); // what to do
  }

  /** What lies in the Take (null: nothing), and whose film that is where it may be another's. A render that runs says more. */
  shown(facts, whose = "") {
    if (this.node !== null) return;
    this.words.textContent = facts ? "" : EMPTY;
    if (facts) this.image.src = this.url(facts.picture);
    else this.image.removeAttribute("src");
    this.tell(facts && whose ? `${whose}, ${facts.text}` : (facts?.text ?? ""), facts?.share ?? 0);
  }

  /** A line that says it all, and what follows as report. */
  tell(text, share) {
    const [first, ...rest] = text.split("\n");
    this.say(first, share);
    report(this.report, rest.join("\n"));
  }

  /** One line, and how much of the film is there (null: as before). A Stop keeps its words until it has stopped. */
  say(line, share = null) {
    if (!this.stopping) {
      this.said.textContent = line;
      this.said.title = line;
    }
    this.measure(share);
  }

  measure(share) {
    if (share !== null) this.fill.style.width = `${(100 * Math.max(0, Math.min(1, share || 0))).toFixed(1)}%`;
  }
}
