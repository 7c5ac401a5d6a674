/** Looking through what is rendered: the film's picture under the pointer, while it is over the ruler. */

import { make, put } from "./dom.js";

const EVERY = 4; // frames: a finer look is not seen at this size

/**
 * The frame of a rendered film (`{starts, fps, frames}`) that a time of the storyboard shows, or null. `names` are the
 * segments' names as the board has them, `rendered` as the film has them, by their places; a segment is looked for by
 * its name, so that it is found after others were moved, and what was not rendered yet shows nothing.
 */
export function frameAt(time, plan, names, { starts, fps, frames }, rendered) {
  const at = plan.segments.findIndex(({ muted, start, seconds }) => !muted && time >= start && time < start + seconds);
  if (at < 0) return null;
  const place = rendered.indexOf(names[at]);
  if (!(place in starts)) return null;
  const ends = Object.values(starts).filter((start) => start > starts[place]);
  const frame = starts[place] + Math.floor(((time - plan.segments[at].start) * fps) / EVERY) * EVERY;
  return frame < Math.min(frames, ...ends) ? frame : null;
}

export class Scrub {
  /** `ask(time)` gives the address of a picture, or null. */
  constructor(lanes, ask) {
    this.image = make("img", "gf-scrub", { alt: "", draggable: "false" });
    Object.assign(this, { ask, wanted: null, lanes });
    put(this.image, { hidden: true });
    lanes.append(this.image);
    this.image.addEventListener("load", () => this.next());
    this.image.addEventListener("error", () => this.hide());
  }

  /** Show the picture of a time at `left` pixels; one at a time is fetched, the last one wanted wins. */
  show(time, left) {
    const address = this.ask(time);
    if (!address) return this.hide();
    const width = this.image.offsetWidth || 120;
    put(this.image.style, { left: `${Math.max(0, Math.min(left - width / 2, this.lanes.offsetWidth - width))}px` });
    this.wanted = address;
    if (this.image.hidden || this.image.complete) this.next();
    return undefined;
  }

  next() {
    if (!this.wanted) return;
    put(this.image, { hidden: false });
    if (this.image.getAttribute("src") !== this.wanted) this.image.src = this.wanted;
  }

  hide() {
    this.wanted = null;
    put(this.image, { hidden: true });
  }
}
