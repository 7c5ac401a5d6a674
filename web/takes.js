/** The takes of a segment on Segment Takes: a small player for each, with a button that picks it; the live view till then. */

import { LiveView } from "./live.js";
import { make, put, shield } from "./timeline/dom.js";

export class TakesView extends LiveView {
  /**
   * As LiveView; `getPick()` gives the name that is picked, `setPick(name)` writes one, `mayPick()` says whether it may
   * (else another node picks), and `segment()` is the segment that the node is set to.
   */
  constructor({ getPick, setPick, mayPick, segment, ...rest }) {
    super(rest);
    Object.assign(this, { getPick, setPick, mayPick, segment, cells: [], of: "" });
    this.grid = make("div", "gf-takes", { hidden: "" });
    for (const [event, play] of [["pointerenter", true], ["pointerleave", false]]) {
      this.grid.addEventListener(event, () => this.cells.forEach(({ film }) => run(film, play)));
    }
    shield(this.grid);
    this.element.prepend(this.grid);
  }

  started(detail) {
    this.fold(true);
    super.started(detail);
  }

  shown(facts) {
    if (this.node !== null) return;
    const takes = facts?.takes ?? [];
    this.number = facts?.of?.segment;
    const of = JSON.stringify(takes);
    if (of !== this.of) {
      this.of = of;
      this.cells = takes.map((take) => this.cell(take));
      this.grid.replaceChildren(...this.cells.map(({ element }) => element));
    }
    this.words.textContent = takes.length ? "" : "The takes play here when they are made";
    this.tell(facts?.text ?? "", takes.length ? 1 : 0);
    this.refresh();
  }

  /** The players in the place of the live picture, or the other way round. */
  fold(away) {
    put(this.grid, { hidden: away });
    put(this.screen, { hidden: !away });
  }

  cell({ name, seed, film: path }) {
    const film = make("video", "", { loop: "", playsinline: "", preload: "auto", src: this.url(path), title: `seed ${seed}` });
    film.muted = true;
    film.addEventListener("click", () => run(film, film.paused));
    const button = make("button", "gf-button gf-then", { type: "button" }, "Pick");
    button.addEventListener("click", () => {
      this.setPick(this.picked() === name.toLowerCase() ? "" : name);
      this.refresh();
    });
    const line = make("div", "gf-row", {}, make("span", "gf-letter", {}, name), make("span", "gf-total", {}, `seed ${seed}`), button);
    return { name, film, button, element: make("div", "gf-take", {}, film, line) };
  }

  picked() {
    return String(this.getPick() ?? "").trim().toLowerCase();
  }

  /** Mark the take that is picked, by its button or by its name; takes of another segment are put away. */
  refresh() {
    if (this.node === null) this.fold(!this.cells.length || this.number !== this.segment());
    const free = this.mayPick();
    for (const { name, button, element } of this.cells) {
      const on = this.picked() === name.toLowerCase();
      put(button, { textContent: on ? "Picked" : "Pick", disabled: !free, title: free ? "" : "The pick comes from another node" });
      button.classList.toggle("gf-on", on);
      element.classList.toggle("gf-chosen", on);
    }
  }
}

const run = (film, on) => (on ? film.play().catch(() => {}) : film.pause());
