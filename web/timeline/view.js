/** Draws a storyboard: ruler, shots, segments, playhead, the selected segment's fields, and errors. */

import { button, keep, make, put } from "./dom.js";
import { FilmFields } from "./film_fields.js";
import { writeNumber } from "./lengths.js";
import { VERBS } from "./verbs.js";

const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800];
const EXCERPT = 160;
const PIN = 20; // pixels for a muted segment, which has no length
const BOLD = "600 10px system-ui, sans-serif"; // of verbs, as in style.css
const PLAIN = "10px system-ui, sans-serif"; // of lengths
const SPACED = 1.06; // letters of verbs stand a little apart
const MARGINS = { small: 11, full: 17, pictured: 2 }; // pixels around a block's verb
const BLEND_HELP = "Seconds in which the text moves to this prompt; empty: at once";
const RECACHE_HELP = "How far the memory follows this prompt, 0 to 1; empty: as the memory says";
const BACK_HELP = "Number of the segment, as on its block, whose cast comes back";
const MOTION_HELP = "Its last moments come back too: its shot goes on";
const UNKNOWN = "The text comes from another node. It is shown here after a Run.";
const LENGTH_HELP = "Drag to change the length of what ends here; alt for fine steps";
const SPLIT_HELP = "click the ruler, then Split";
const SEED_HELP = "Noise of this segment; empty: derived from the film's seed and the prompt";

export class View {
  constructor() {
    this.total = make("span", "gf-total");
    this.undo = button("undo");
    this.redo = button("redo");
    this.bar = make("div", "gf-bar", {},
      ...["zoomOut", "fit", "zoomIn"].map(button), this.undo, this.redo, this.total, button("film"), button("tidy"));
    this.ruler = make("div", "gf-ruler", { title: "Look through what is rendered; click to place the marker where Split cuts" });
    this.shots = make("div", "gf-shots");
    this.segments = make("div", "gf-segments", { role: "listbox", "aria-label": "Segments of the film" });
    this.playhead = make("div", "gf-playhead");
    this.marker = make("div", "gf-marker");
    this.drop = make("div", "gf-drop");
    // An input, because the host leaves keys to inputs: its own undo would take the whole graph back.
    this.keys = make("input", "gf-keys", { readonly: "", "aria-label": "Storyboard keys" });
    this.lanes = make("div", "gf-lanes", {},
      this.ruler, this.shots, this.segments, this.marker, this.drop, this.playhead, this.keys);
    this.scroll = make("div", "gf-scroll", {}, this.lanes);
    this.fields = makeFields();
    this.filmFields = new FilmFields();
    this.errors = make("div", "gf-errors", { role: "status" });
    this.aside = make("div", "gf-aside", { hidden: "" });
    this.element = make("div", "gf-board", {}, this.aside, this.bar, this.scroll, this.fields.element, this.filmFields.element, this.errors);
    this.scroll.addEventListener("scroll", () => this.drawRuler());
  }

  /** The text comes from another node, and is known (`came`) or not yet. */
  setLinked(linked, came) {
    put(this.element, { inert: linked });
    put(this.aside, { hidden: !linked, textContent: came ? "The text comes from another node. This is what came in last." : UNKNOWN });
    for (const part of [this.bar, this.scroll]) put(part, { hidden: linked && !came });
    put(this.errors, { hidden: linked });
    this.showFields(linked ? null : "segment");
  }

  /** Fields of the selected "segment", of the "film", or none. */
  showFields(which) {
    put(this.fields.element, { hidden: which !== "segment" });
    put(this.filmFields.element, { hidden: which !== "film" });
    this.bar.querySelector("[data-action=film]").classList.toggle("gf-on", which === "film");
  }

  /** Pixels per second that show the whole film. */
  fitScale(plan) {
    return Math.max(40, this.scroll.clientWidth - 2) / Math.max(plan.seconds, 0.1);
  }

  /** Scroll until a planned segment is seen. */
  scrollTo({ start, seconds }) {
    const { scroll, film } = this;
    const [left, right] = [start * film.scale, (start + seconds) * film.scale];
    if (left < scroll.scrollLeft) scroll.scrollLeft = left;
    else if (right > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = Math.min(left, right - scroll.clientWidth);
  }

  /** Draw an editor's film. */
  draw(film) {
    this.film = film;
    const { board, plan, scale, history } = film;
    const count = ({ length }, word) => `${length} ${word}${length === 1 ? "" : "s"}`;
    const total = [count(plan.shots, "shot"), count(board.segments, "segment"), sayTime(plan.seconds)].join(" · ");
    put(this.total, { textContent: total });
    put(this.undo, { disabled: !history.can(-1) });
    put(this.redo, { disabled: !history.can(1) });
    put(this.lanes.style, { width: `${Math.max(Math.ceil(plan.seconds * scale), 40)}px` });
    this.drawSegments(film);
    this.drawShots(film);
    this.drawRuler();
    this.drawTimes();
    this.drawErrors(board.errors, film.hints);
    drawFields(this.fields, film);
    this.filmFields.draw(history.present);
  }

  /** Only what moves while a film is made. */
  drawTimes() {
    const { time, marker, scale, plan } = this.film;
    stand(this.playhead, time, scale);
    stand(this.marker, marker === null ? null : Math.min(marker, plan.seconds), scale);
  }

  drawSegments({ board, plan, scale, range, pictures }) {
    const chosen = (index) => index >= range.first && index < range.first + range.count;
    let pins = 0;
    keep(this.segments, board.segments.length, makeBlock).forEach((block, index) => {
      const { verb, back, prompt, error } = board.segments[index];
      const placed = plan.segments[index];
      pins = placed.muted ? pins + 1 : 0;
      const width = placed.muted ? PIN : placed.seconds * scale - 1;
      const url = pictures[index];
      const size = placed.muted || width < 26 ? "tiny" : width < 84 ? "small" : "full";
      const marks = { muted: placed.muted, selected: chosen(index), wrong: error, pictured: url };
      const classes = ["block", verb, size, ...Object.keys(marks).filter((mark) => marks[mark])];
      put(block, {
        className: classes.map((name) => `gf-${name}`).join(" "),
        ariaSelected: String(chosen(index)),
        title: error ? sayError(error) : `${index + 1}  ${sayClock(placed.start)}  ${sayLength(placed)}${placed.muted ? `: ${prompt}` : ""}`,
      });
      const left = placed.start * scale - (placed.muted ? PIN * (pins - 0.5) : 0);
      stretch(block, Math.max(0, Math.min(left, plan.seconds * scale - width)), width); // a pin at an end stays inside
      const [image, first, words, length] = block.children;
      put(image.style, { backgroundImage: url ? `url("${url}")` : "" });
      const says = { start: "", back: ` back to ${back}` }[verb] ?? ` ${verb}`;
      const whole = `${index + 1}${says}`; // as nodes and messages count
      const room = width - (MARGINS[size] ?? width);
      put(first, { textContent: SPACED * widthOf(whole, BOLD) <= room - (url ? MARGINS.pictured : 0) ? whole : String(index + 1) }); // its colour says the verb too
      put(words, { textContent: prompt.slice(0, EXCERPT) });
      const real = sayTime(placed.seconds);
      const lengths = [sayLength(placed), real, real.replace(" s", "")];
      put(length, { textContent: lengths.find((said) => widthOf(said, PLAIN) <= room) ?? "" });
    });
  }

  drawShots({ plan: { shots }, scale }) {
    keep(this.shots, shots.length, () => make("div", "")).forEach((element, at) => {
      const { index, verb, start, seconds } = shots[at];
      const wide = seconds * scale;
      put(element, {
        className: `gf-shot gf-${verb}`,
        textContent: wide > 110 ? `Shot ${at + 1} · ${sayTime(seconds)}` : wide > 16 ? String(at + 1) : "",
        title: `Shot ${at + 1}, ${VERBS[verb].title}. Drag to move the whole shot`,
      });
      put(element.dataset, { first: String(index) });
      stretch(element, start * scale, wide - 1);
    });
  }

  /** Ticks of the part in view only, however far the zoom goes. */
  drawRuler() {
    const { plan, scale } = this.film;
    const { scrollLeft, clientWidth } = this.scroll;
    const step = STEPS.find((seconds) => seconds * scale >= 52) ?? STEPS.at(-1);
    const from = Math.floor(scrollLeft / scale / step);
    const to = Math.floor(Math.min((scrollLeft + clientWidth) / scale, plan.seconds) / step);
    keep(this.ruler, Math.max(0, to - from + 1), () => make("span", "gf-tick")).forEach((tick, at) => {
      put(tick, { textContent: sayClock((from + at) * step) });
      stand(tick, (from + at) * step, scale);
    });
  }

  drawErrors(errors, hints) {
    if (errors === this.shownErrors) return; // a button that is being pressed stays
    this.shownErrors = errors;
    const line = (error, look) =>
      make("button", look, { type: "button", "data-line": error.line, "data-column": error.column }, sayError(error));
    this.errors.replaceChildren(...errors.map((error) => line(error, "gf-error")), ...hints.map((hint) => line(hint, "gf-error gf-hint")));
  }
}

function makeBlock(index) {
  return make("div", "", { role: "option", "data-index": index },
    make("div", "gf-picture"), make("span", "gf-verb"), make("div", "gf-prompt"), make("span", "gf-length"),
    make("div", "gf-edge", { title: LENGTH_HELP }), make("div", "gf-begin", { title: LENGTH_HELP }));
}

/** What the selected segment says, to be changed, and the buttons that act on it. */
function makeFields() {
  const verbs = Object.keys(VERBS).filter((verb) => VERBS[verb].written).map((verb) =>
    make("button", `gf-button gf-${verb}`, { type: "button", "data-verb": verb, title: VERBS[verb].title }, verb));
  const field = (tag, className, name, attributes) => make(tag, className, { "data-field": name, ...attributes });
  const seconds = field("input", "gf-number", "seconds", { type: "number", min: 0.1, step: 0.25, title: "Length in seconds" });
  const real = make("span", "gf-real", { title: "Lengths snap to whole chunks" });
  const seed = field("input", "gf-number gf-seed", "seed", { inputmode: "numeric", placeholder: "seed", title: SEED_HELP });
  const share = { type: "number", min: 0, step: 0.1, placeholder: "recache", title: RECACHE_HELP };
  const blend = field("input", "gf-number gf-then-only", "blend", { type: "number", min: 0, step: 0.25, placeholder: "blend", title: BLEND_HELP });
  const recache = field("input", "gf-number gf-then-only", "recache", { ...share, max: 1 });
  const back = field("input", "gf-number gf-back-only", "back", { type: "number", min: 1, step: 1, title: BACK_HELP });
  const motion = make("button", "gf-button gf-back-only", { type: "button", "data-motion": "", title: MOTION_HELP }, "motion");
  const prompt = field("textarea", "gf-words", "prompt", { rows: 3, spellcheck: "false", "aria-label": "Prompt of the segment" });
  const mute = button("mute");
  const split = make("span", "gf-tip", {}, SPLIT_HELP);
  const element = make("div", "gf-fields", {},
    make("div", "gf-row", {}, make("span", "gf-verbs", {}, ...verbs), back, motion, seconds, real, blend, recache, seed), prompt,
    make("div", "gf-row", {}, ...["split", "duplicate", "insert", "remove"].map(button), split, mute));
  return { element, split, verbs, back, motion, seconds, real, blend, recache, seed, prompt, mute };
}

/** What is being typed stays as it is typed. */
function drawFields({ element, split, verbs, back, motion, seconds, real, blend, recache, seed, prompt, mute }, { chosen, selected, plan, marker }) {
  element.classList.toggle("gf-empty", !chosen); // then there is but one thing to do: add
  if (!chosen) return;
  for (const choice of verbs) {
    put(choice, { disabled: selected === 0 });
    choice.classList.toggle("gf-on", choice.dataset.verb === chosen.verb);
  }
  for (const input of [blend, recache]) put(input, { hidden: chosen.verb !== "then" });
  for (const input of [back, motion]) put(input, { hidden: chosen.verb !== "back" });
  put(back, { max: String(selected) });
  motion.classList.toggle("gf-on", chosen.motion);
  const said = (value) => (value === null ? "" : writeNumber(value));
  const values = [[seconds, writeNumber(chosen.seconds)], [seed, String(chosen.seed ?? "")], [prompt, chosen.prompt]];
  values.push([back, String(chosen.back ?? "")], [blend, said(chosen.blend)], [recache, said(chosen.recache)]);
  for (const [input, value] of values) if (input !== document.activeElement) put(input, { value });
  put(prompt, { readOnly: Boolean(chosen.error && !chosen.prompt) });
  put(split, { hidden: marker !== null });
  put(real, { textContent: chosen.mute ? "muted" : `s → ${sayTime(plan.segments[selected].seconds)}` });
  mute.classList.toggle("gf-on", chosen.mute);
}

let pen = null;
const widths = new Map(); // of what stands on blocks, in pixels

/** Pixels that words on a block take in a font. */
function widthOf(said, font) {
  pen ??= document.createElement("canvas").getContext("2d");
  const key = font + said;
  if (!widths.has(key)) {
    pen.font = font;
    widths.set(key, pen.measureText(said).width);
  }
  return widths.get(key);
}

/** Put a line at a time of the film, or nowhere. */
function stand({ style }, time, scale) {
  put(style, { display: time === null ? "none" : "block", transform: `translateX(${pixels(time * scale)})` });
}

const stretch = ({ style }, left, width) => put(style, { left: pixels(left), width: pixels(Math.max(2, width)) });

/** As the browser itself writes it, so that it compares. */
const pixels = (length) => `${Math.round(length * 10) / 10}px`;

/** Seconds for people: "4.5 s". */
const sayTime = (seconds) => `${writeNumber(Math.round(seconds * 100) / 100)} s`;

/** Asked and real length: "2 s → 2.25 s", or one of them when they agree. */
function sayLength({ asked, seconds, muted }) {
  if (muted) return "muted";
  return Math.abs(asked - seconds) < 0.005 ? sayTime(asked) : `${sayTime(asked)} → ${sayTime(seconds)}`;
}

/** A time of the film: "1:04.5". */
function sayClock(seconds) {
  const tenths = Math.round(seconds * 10);
  const rest = (tenths % 600) / 10;
  return `${Math.floor(tenths / 600)}:${rest < 10 ? "0" : ""}${rest}`;
}

const sayError = ({ line, column, message, fix }) => `${line}:${column}  ${message}. ${fix[0].toUpperCase()}${fix.slice(1)}`;
