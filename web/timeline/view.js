/** Draws a storyboard: ruler, shots, segments, playhead, the selected segment's fields, and errors. */

import { writeNumber } from "./options.js";

const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800];
const EXCERPT = 160;
const PIN = 12; // pixels for a muted segment, which has no length
export const VERB_WORDS = {
  start: "opens the film",
  then: "then: the shot goes on under a new prompt",
  cut: "cut: a new shot, the cast stays",
  scene: "scene: everything is new",
};

/** An element with classes, attributes and children. */
export function make(tag, className, attributes = {}, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Seconds for people: "4.5 s". */
export function sayTime(seconds) {
  return `${writeNumber(Math.round(seconds * 100) / 100)} s`;
}

/** Asked and real length: "2 s → 2.25 s", or one of them when they agree. */
export function sayLength({ asked, seconds, muted }) {
  if (muted) return "muted";
  return Math.abs(asked - seconds) < 0.005 ? sayTime(asked) : `${sayTime(asked)} → ${sayTime(seconds)}`;
}

const clock = (seconds) => {
  const minutes = Math.floor(seconds / 60);
  const rest = Math.round((seconds - minutes * 60) * 10) / 10;
  return `${minutes}:${rest < 10 ? "0" : ""}${rest}`;
};

export class View {
  constructor() {
    const button = (action, label, title) =>
      make("button", "gf-button", { type: "button", "data-action": action, title }, label);
    this.total = make("span", "gf-total");
    this.bar = make("div", "gf-bar", {},
      button("zoomOut", "−", "Zoom out (ctrl + wheel)"), button("fit", "Fit", "Show the whole film"),
      button("zoomIn", "+", "Zoom in (ctrl + wheel)"), button("undo", "↶", "Undo (ctrl + Z)"),
      button("redo", "↷", "Redo (ctrl + Y)"), this.total,
      button("tidy", "Tidy", "Align the bars of the text; comments stay"));
    this.ruler = make("div", "gf-ruler", { title: "Click to place the marker where Split cuts" });
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
    this.fields = makeFields(button);
    this.errors = make("div", "gf-errors", { role: "status" });
    this.element = make("div", "gf-board", {}, this.bar, this.scroll, this.fields.element, this.errors);
    this.blocks = [];
    this.scroll.addEventListener("scroll", () => this.drawRuler());
  }

  /** Pixels per second that show the whole film. */
  fitScale(plan) {
    return Math.max(40, this.scroll.clientWidth - 2) / Math.max(plan.seconds, 0.1);
  }

  /** Draw `state`: `{board, plan, selected, scale, time, marker, thumbs, canUndo, canRedo}`. */
  draw(state) {
    this.state = state;
    const { board, plan, scale } = state;
    const width = Math.ceil(plan.seconds * scale);
    put(this.lanes.style, "width", `${Math.max(width, 40)}px`);
    const count = new Set(plan.segments.filter((segment) => !segment.muted).map((segment) => segment.shot)).size;
    const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
    put(this.total, "textContent", `${plural(count, "shot")} · ${plural(board.segments.length, "segment")} · ${sayTime(plan.seconds)}`);
    this.drawBlocks(state);
    this.drawShots(plan, scale);
    this.drawRuler();
    this.drawTimes(state);
    this.drawErrors(board.errors);
    this.fields.draw(state);
    for (const [action, on] of [["undo", state.canUndo], ["redo", state.canRedo]]) {
      this.bar.querySelector(`[data-action=${action}]`).disabled = !on;
    }
  }

  /** Only what moves while a film is made. */
  drawTimes({ time, marker, scale }) {
    put(this.playhead.style, "display", time === null ? "none" : "block");
    if (time !== null) put(this.playhead.style, "transform", `translateX(${(time * scale).toFixed(1)}px)`);
    put(this.marker.style, "display", marker === null ? "none" : "block");
    if (marker !== null) put(this.marker.style, "transform", `translateX(${(marker * scale).toFixed(1)}px)`);
  }

  drawBlocks({ board, plan, scale, selected, thumbs }) {
    while (this.blocks.length > board.segments.length) this.blocks.pop().element.remove();
    while (this.blocks.length < board.segments.length) {
      this.blocks.push(makeBlock(this.blocks.length));
      this.segments.append(this.blocks.at(-1).element);
    }
    let pins = 0;
    plan.segments.forEach((placed, index) => {
      const block = this.blocks[index];
      const segment = board.segments[index];
      pins = placed.muted ? pins + 1 : 0;
      const left = placed.start * scale - (placed.muted ? PIN * (pins - 1) + PIN / 2 : 0);
      const width = placed.muted ? PIN : Math.max(3, placed.seconds * scale - 1);
      const size = placed.muted || width < 26 ? "tiny" : width < 84 ? "small" : "full";
      const error = segment.error ? ` gf-wrong` : "";
      const chosen = index === selected ? " gf-selected" : "";
      const picture = thumbs[index] ?? "";
      put(block.element, "className",
        `gf-block gf-${segment.verb} gf-${size}${placed.muted ? " gf-muted" : ""}${chosen}${error}${picture ? " gf-pictured" : ""}`);
      put(block.element, "ariaSelected", index === selected ? "true" : "false");
      put(block.element.style, "left", `${left.toFixed(1)}px`);
      put(block.element.style, "width", `${width.toFixed(1)}px`);
      put(block.verb, "textContent", segment.verb === "start" ? "1" : segment.verb);
      put(block.prompt, "textContent", segment.prompt.slice(0, EXCERPT));
      put(block.length, "textContent", sayLength(placed));
      put(block.picture.style, "backgroundImage", picture && `url("${picture}")`);
      put(block.element, "title", segment.error ? sayError(segment.error) : `${clock(placed.start)}  ${sayLength(placed)}`);
    });
  }

  drawShots(plan, scale) {
    const shots = [];
    for (const placed of plan.segments) {
      if (placed.muted) continue;
      if (shots.at(-1)?.shot !== placed.shot) shots.push({ ...placed, seconds: 0, count: 0 });
      shots.at(-1).seconds += placed.seconds;
      shots.at(-1).count += 1;
    }
    while (this.shots.children.length > shots.length) this.shots.lastChild.remove();
    while (this.shots.children.length < shots.length) this.shots.append(make("div", "gf-shot"));
    shots.forEach((shot, at) => {
      const element = this.shots.children[at];
      put(element, "className", `gf-shot gf-${shot.verb}`);
      put(element.style, "left", `${(shot.start * scale).toFixed(1)}px`);
      put(element.style, "width", `${Math.max(2, shot.seconds * scale - 1).toFixed(1)}px`);
      const wide = shot.seconds * scale;
      put(element, "textContent", wide > 110 ? `Shot ${at + 1} · ${sayTime(shot.seconds)}` : wide > 16 ? String(at + 1) : "");
      put(element, "title", `Shot ${at + 1}, ${VERB_WORDS[shot.verb]}. Drag to move the whole shot`);
      put(element.dataset, "first", String(shot.index));
    });
  }

  /** Ticks of the part in view only, however far the zoom goes. */
  drawRuler() {
    const { plan, scale } = this.state;
    const step = STEPS.find((seconds) => seconds * scale >= 52) ?? STEPS.at(-1);
    const from = Math.floor(this.scroll.scrollLeft / scale / step);
    const to = Math.ceil((this.scroll.scrollLeft + this.scroll.clientWidth) / scale / step);
    const key = `${step} ${from} ${to} ${scale} ${plan.seconds}`;
    if (key === this.rulerKey) return;
    this.rulerKey = key;
    const ticks = [];
    for (let tick = from; tick <= to && tick * step <= plan.seconds; tick++) {
      const element = make("span", "gf-tick", {}, clock(tick * step));
      element.style.left = `${(tick * step * scale).toFixed(1)}px`;
      ticks.push(element);
    }
    this.ruler.replaceChildren(...ticks);
  }

  drawErrors(errors) {
    const key = errors.map(sayError).join("\n");
    if (key === this.errorKey) return;
    this.errorKey = key;
    const shown = errors.slice(0, 3).map((error) =>
      make("button", "gf-error", { type: "button", "data-line": error.line, "data-column": error.column }, sayError(error)));
    const more = errors.length > 3 ? [make("span", "gf-more", {}, `and ${errors.length - 3} more`)] : [];
    this.errors.replaceChildren(...shown, ...more);
  }
}

function sayError({ line, column, message, fix }) {
  return `${line}:${column}  ${message}. ${fix[0].toUpperCase()}${fix.slice(1)}`;
}

/** Write only what differs: a write that changes nothing still costs layout. */
function put(target, name, value) {
  if (target[name] !== value) target[name] = value;
}

function makeBlock(index) {
  const picture = make("div", "gf-picture");
  const verb = make("span", "gf-verb");
  const prompt = make("div", "gf-prompt");
  const length = make("span", "gf-length");
  const edge = make("div", "gf-edge", { title: "Drag to change the length; alt for fine steps" });
  const element = make("div", "gf-block", { role: "option", "data-index": index }, picture, verb, prompt, length, edge);
  return { element, picture, verb, prompt, length };
}

/** The row of fields for the selected segment. */
function makeFields(button) {
  const verbs = ["then", "cut", "scene"].map((verb) =>
    make("button", `gf-button gf-choice gf-${verb}`, { type: "button", "data-verb": verb, title: VERB_WORDS[verb] }, verb));
  const seconds = make("input", "gf-number", { type: "number", min: 0.1, step: 0.25, title: "Length in seconds", "data-field": "seconds" });
  const real = make("span", "gf-real", { title: "Lengths snap to whole chunks" });
  const seed = make("input", "gf-number gf-seed", { type: "text", inputmode: "numeric", placeholder: "seed", title: "Noise of this segment; empty: derived from the film's seed and the prompt", "data-field": "seed" });
  const mute = button("mute", "Mute", "Leave the segment out of the film (M)");
  const prompt = make("textarea", "gf-words", { rows: 3, spellcheck: "false", "aria-label": "Prompt of the segment", "data-field": "prompt" });
  const tools = make("div", "gf-row", {}, button("split", "Split", "Split at the marker, else in the middle (S)"),
    button("duplicate", "Duplicate", "The same segment once more (D)"), button("insert", "Add", "A new segment after this one (N)"),
    button("remove", "Delete", "Delete this segment (Del)"), mute);
  const row = make("div", "gf-row", {}, make("span", "gf-verbs", {}, ...verbs), seconds, real, seed);
  const element = make("div", "gf-fields", {}, row, prompt, tools);
  const fill = (input, value) => {
    if (document.activeElement !== input) put(input, "value", value);
  };
  const draw = ({ board, plan, selected }) => {
    const segment = board.segments[selected];
    put(element.style, "visibility", segment ? "visible" : "hidden");
    if (!segment) return;
    for (const choice of verbs) {
      choice.disabled = selected === 0;
      choice.classList.toggle("gf-on", choice.dataset.verb === segment.verb);
    }
    fill(seconds, writeNumber(segment.seconds));
    fill(seed, segment.seed === null ? "" : String(segment.seed));
    fill(prompt, segment.prompt);
    const placed = plan.segments[selected];
    put(real, "textContent", placed.muted ? "muted" : `s → ${sayTime(placed.seconds)}`);
    mute.classList.toggle("gf-on", segment.mute);
    prompt.readOnly = Boolean(segment.error && !segment.prompt);
  };
  return { element, seconds, seed, prompt, draw };
}
