/** Fields for what holds for the whole film; they take the place of the selected segment's while they are open. */

import { directives } from "./directives.js";
import { make, put } from "./dom.js";

const HELP = {
  fps: "Pictures per second of the film, such as 24 or 23.976; empty: 16",
  seed: "Seed of the film (@seed): it goes before the one of the sampler; empty: the sampler's",
  style: "What every prompt ends with: the look of the film",
  cast: "The cast, one a line: name = description. {name} in a prompt stands for the description; | fox.png behind it shows what it looks like",
};
const USUAL = { fps: "16", seed: "sampler's", style: "35mm film, soft morning light", cast: "fox = a small red fox with a torn left ear" };

export class FilmFields {
  constructor() {
    const field = (tag, className, name, more = {}) =>
      make(tag, className, { "data-film": name, title: HELP[name], placeholder: USUAL[name], spellcheck: "false", ...more });
    this.fps = field("input", "gf-number", "fps", { inputmode: "decimal" });
    this.seed = field("input", "gf-number gf-film-seed", "seed", { inputmode: "numeric" });
    this.style = field("input", "gf-number gf-film-style", "style");
    this.cast = field("textarea", "gf-number gf-cast", "cast", { rows: 3 });
    const label = (text) => make("span", "gf-name", {}, text);
    this.element = make("div", "gf-fields gf-film-fields", { hidden: "" },
      make("div", "gf-row", {}, label("fps"), this.fps, label("seed"), this.seed, label("style"), this.style),
      label("cast"), this.cast);
  }

  /** What is being typed stays as it is typed. */
  draw(text) {
    if (this.element.hidden) return;
    for (const name of ["fps", "seed", "style", "cast"]) {
      if (this[name] !== document.activeElement) put(this[name], { value: directives(text, name).join("\n") });
    }
  }
}
