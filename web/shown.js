/** What a node says after a Run: lines of text, a picture, a film. */

import { make, put, report, shield } from "./timeline/dom.js";

export class Shown {
  /** `url(path)` makes a path of the server's. */
  constructor({ url }) {
    this.url = url;
    this.text = make("pre", "gf-text");
    this.note = make("div", "gf-note", { role: "status" });
    this.image = make("img", "gf-page", { alt: "", draggable: "false", hidden: "" });
    this.film = make("video", "gf-film", { controls: "", loop: "", playsinline: "", preload: "metadata", hidden: "" });
    this.film.muted = true; // so that it may begin by itself
    this.film.autoplay = true;
    this.film.addEventListener("error", () => this.cannotPlay());
    this.film.addEventListener("loadedmetadata", () => this.film.videoWidth || this.cannotPlay()); // only its sound
    for (const part of [this.text, this.film]) shield(part); // text is selected and copied, a film is played
    this.element = make("div", "gf-shown", {}, this.text, this.note, this.image, this.film);
  }

  /** Show what a node says (null: nothing), and whose film it is about where that may be another's. */
  shown(facts, whose = "") {
    this.facts = facts;
    this.whose = facts && whose ? `About ${whose}.` : "";
    report(this.text, facts?.text ?? "");
    put(this.note, { textContent: this.whose });
    put(this.image, { hidden: !facts?.picture });
    if (facts?.picture) this.image.src = this.url(facts.picture);
    else this.image.removeAttribute("src");
    this.play(facts?.film ?? null);
    if (facts && !facts.film && facts.stand_in) this.cannotPlay();
  }

  play(path) {
    this.playing = path;
    put(this.film, { hidden: !path });
    if (path) this.film.src = this.url(path);
    else if (this.film.hasAttribute("src")) {
      this.film.removeAttribute("src");
      this.film.load(); // else the browser holds the last picture
    }
  }

  /** The file is nothing that this browser plays: play the Take's own film, and say so. */
  cannotPlay() {
    const { film, stand_in: other, codec } = this.facts ?? {};
    if (this.playing !== (film ?? null) || !other) return this.play(null);
    const what = film ? `This browser cannot play ${codec === "as rendered" ? "the film" : codec}` : `A folder of ${codec} pictures does not play`;
    put(this.note, { textContent: `${this.whose} ${what}: below is the Take's own film.`.trim() });
    this.play(other);
  }

  /** Entries for the node's menu: what can be done with the file. */
  menu() {
    const { film, path } = this.facts ?? {};
    if (!path) return [];
    const address = this.url(film ?? this.facts.stand_in);
    const save = () => make("a", "", { href: address, download: film ? path.split(/[\\/]/).at(-1) : "film.mp4" }).click();
    return [
      { content: film ? "Open the film in a new tab" : "Open the Take's film in a new tab", callback: () => window.open(address, "_blank") },
      { content: film ? "Save the film on this computer" : "Save the Take's film on this computer", callback: save },
      { content: "Copy the path of the film", callback: () => copy(path) },
    ];
  }
}

/** Put `text` on the clipboard, also where the page has no right to it because it is not served over https. */
async function copy(text) {
  if (navigator.clipboard?.writeText && window.isSecureContext) return navigator.clipboard.writeText(text);
  const field = make("textarea", "", { style: "position: fixed; opacity: 0" });
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}
