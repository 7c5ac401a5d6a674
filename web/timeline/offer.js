/** A storyboard of another program that was pasted into the text: what it is, and a button that makes it one of ours. */

import { make, put } from "./dom.js";

const THEIRS = /^\s*(?:\{\s*["0-9}]|\[|"?[0-9]+"?\s*:)/; // JSON, or a schedule
const MARKS = /^---[ \t]*$/m; // a script's lines between shots
const PAUSE = 250; // ms without a key before it is asked

/** Whether a text that has errors may be another program's; the server knows. */
export const mayBeTheirs = (text) => THEIRS.test(text) || MARKS.test(text);

export class Offer {
  /** `convert(text)` promises `{text, said}`, or null where it is none; `accept(text)` takes the new text. */
  constructor(convert, accept) {
    Object.assign(this, { convert, text: null, found: null });
    this.words = make("span", "gf-offered");
    this.button = make("button", "gf-button", { type: "button", title: "Write it as a storyboard of ours; ctrl+Z brings it back" }, "Convert");
    this.element = make("div", "gf-offer", { hidden: "", role: "status" }, this.words, this.button);
    this.button.addEventListener("click", () => this.found && accept(this.found.text));
  }

  /** The text is this now, `wrong` where it does not read as a storyboard. */
  async look(text, wrong) {
    if (text === this.text) return;
    Object.assign(this, { text, found: null });
    put(this.element, { hidden: true });
    if (!wrong || !mayBeTheirs(text)) return;
    await new Promise((done) => setTimeout(done, PAUSE));
    const found = this.text === text ? await this.convert(text).catch(() => null) : null;
    if (this.text !== text || !found) return; // it was changed meanwhile, or is nobody's
    this.found = found;
    put(this.words, { textContent: `This is ${found.said}.` });
    put(this.element, { hidden: false });
  }
}
