/** One storyboard being edited: its text, what it reads as, what is selected, undo, and the film being made. */

import { listen } from "./gestures.js";
import * as edits from "./model.js";
import { makePlan } from "./plan.js";
import { read } from "./text.js";
import { View } from "./view.js";

const MAX_SCALE = 240; // pixels per second

export class Editor {
  /** `getText()` and `setText(text)` reach the text widget, `showPlace(line, column)` the place in it. */
  constructor({ getText, setText, showPlace = () => {} }) {
    Object.assign(this, { getText, setText, showPlace });
    Object.assign(this, { selected: 0, zoom: 1, heldScale: null, time: null, marker: null, run: null });
    this.thumbs = new Map();
    this.view = new View();
    this.history = new edits.History(getText());
    this.take(this.history.present);
    listen(this);
    new ResizeObserver(() => this.draw()).observe(this.view.scroll);
    this.draw();
  }

  get scale() {
    const fit = this.view.fitScale(this.plan);
    return this.heldScale ?? Math.max(fit, Math.min(MAX_SCALE, fit * this.zoom));
  }

  /** Read `text` and plan it; nothing is written. */
  take(text) {
    this.board = read(text);
    this.plan = makePlan(this.board);
    this.selected = Math.max(0, Math.min(this.selected, this.board.segments.length - 1));
  }

  draw() {
    this.view.draw({
      board: this.board,
      plan: this.plan,
      selected: this.selected,
      scale: this.scale,
      time: this.time,
      marker: this.marker === null ? null : Math.min(this.marker, this.plan.seconds),
      thumbs: this.thumbs.size ? names(this.board).map((name) => this.thumbs.get(name)) : [],
      canUndo: this.history.past.length > 0,
      canRedo: this.history.future.length > 0,
    });
  }

  /** The text may have been changed in its own box: follow it. Cheap when it was not. */
  refresh() {
    const text = this.getText();
    if (text === this.history.present) return;
    // A text that came in with a workflow replaces a new node's first one: nobody should undo to that.
    const typed = document.activeElement?.value === text;
    if (!typed && !this.history.past.length) this.history = new edits.History(text);
    else this.history.push(text, { typing: true });
    this.take(text);
    this.draw();
  }

  /** An edit by name: of the selected segment, of the view, or undo and redo. */
  act(name, value, options) {
    const at = this.selected;
    const { present: text } = this.history;
    if (name === "undo" || name === "redo") return this.change(this.history[name](), { recorded: true });
    if (name === "zoomIn" || name === "zoomOut") return this.zoomBy(name === "zoomIn" ? 1.5 : 1 / 1.5);
    if (name === "fit") return this.zoomBy(0);
    if (name === "tidy") return this.change(edits.tidy(text));
    if (name === "mute") return this.change(edits.setMute(text, at, !this.board.segments[at]?.mute));
    if (name === "split") return this.change(edits.split(text, at, this.splitSeconds()));
    const changed = edits[name](text, at, value);
    this.change(changed, options);
    if (changed !== text && (name === "duplicate" || name === "insert")) this.select(at + 1);
  }

  change(text, { typing = false, recorded = false } = {}) {
    if (!recorded && !this.history.push(text, { typing })) return;
    this.setText(text);
    this.take(text);
    this.draw();
  }

  /** Show what an edit would do, without doing it. */
  preview(name, ...values) {
    const { present: text } = this.history;
    this.take(name ? edits[name](text, ...values) : text);
    this.draw();
  }

  reorder(first, to, count = 1) {
    const { present: text } = this.history;
    const moved = edits.move(text, first, to, count);
    if (moved === text) return;
    this.selected = to > first ? to - count : to;
    this.change(moved);
  }

  stretch(seconds) {
    const length = this.board.segments[this.selected].seconds + seconds;
    if (length > 0) this.act("setSeconds", length);
  }

  select(index) {
    this.selected = Math.max(0, Math.min(index, this.board.segments.length - 1));
    this.draw();
    const { scroll } = this.view;
    const placed = this.plan.segments[this.selected];
    if (!placed) return;
    const [left, right] = [placed.start * this.scale, (placed.start + placed.seconds) * this.scale];
    if (left < scroll.scrollLeft) scroll.scrollLeft = left;
    else if (right > scroll.scrollLeft + scroll.clientWidth) scroll.scrollLeft = Math.min(left, right - scroll.clientWidth);
  }

  /** Select the segment written on `line`, if one is. */
  selectLine(line) {
    const index = this.board.segments.findIndex((segment) => segment.line === line);
    if (index >= 0 && index !== this.selected) this.select(index);
  }

  setMarker(time) {
    this.marker = Math.max(0, Math.min(time, this.plan.seconds));
    this.draw();
  }

  /** Where Split cuts the selected segment: at the marker if it is inside, else in the middle. */
  splitSeconds() {
    const placed = this.plan.segments[this.selected];
    const inside = this.marker === null ? 0 : (this.marker - placed.start) / placed.seconds;
    const share = inside > 0 && inside < 1 ? inside : 0.5;
    return Math.max(0.05, Math.round(placed.asked * share * 20) / 20);
  }

  /** Zoom by a factor (0: fit) around a time of the film. */
  zoomBy(factor, around = null) {
    const { scroll } = this.view;
    const middle = around ?? (scroll.scrollLeft + scroll.clientWidth / 2) / this.scale;
    const offset = middle * this.scale - scroll.scrollLeft;
    const most = Math.max(1, MAX_SCALE / this.view.fitScale(this.plan));
    this.zoom = Math.max(1, Math.min(most, this.zoom * factor));
    this.draw();
    scroll.scrollLeft = middle * this.scale - offset;
  }

  /** Keep the scale while a length is dragged, so that the edge stays under the pointer. */
  holdScale(hold) {
    this.heldScale = hold ? this.scale : null;
  }

  /** First segment and length of the shot that segment `first` begins, muted ones in it included. */
  shotAt(first) {
    const { segments } = this.plan;
    const next = segments.findIndex((placed, at) => at > first && this.board.segments[at].verb !== "then");
    return [first, (next < 0 ? segments.length : next) - first];
  }

  /** The place among the segments nearest to `time`, and the time of a place. */
  slotAt(time) {
    const after = this.plan.segments.findIndex((placed) => !placed.muted && time < placed.start + placed.seconds / 2);
    return after < 0 ? this.plan.segments.length : after;
  }

  slotTime(slot) {
    return this.plan.segments[slot]?.start ?? this.plan.seconds;
  }

  /** A render began. `run`: the started event; `exact`: its indexes are this text's. */
  started(run, exact) {
    this.run = { ...run, exact, names: names(this.board) };
    this.thumbs.clear();
    this.time = 0;
    this.draw();
  }

  progress(index, seconds) {
    if (!this.run) return;
    const made = this.run.segments?.find((segment) => segment.index === index);
    const placed = this.plan.segments[index];
    this.time = Math.min(seconds, this.plan.seconds);
    if (this.run.exact && made?.seconds && placed && !placed.muted) {
      const share = Math.max(0, Math.min(1, (seconds - made.start) / made.seconds));
      this.time = placed.start + share * placed.seconds;
    }
    this.view.drawTimes({ ...this.view.state, time: this.time });
    this.view.state.time = this.time;
  }

  thumb(index, url) {
    if (!this.run?.exact) return;
    this.thumbs.set(this.run.names[index], url);
    this.draw();
  }

  finished() {
    this.time = null;
    this.draw();
  }
}

/** A name for each segment that stays when it moves: its prompt and how often that came before. */
function names(board) {
  const uses = new Map();
  return board.segments.map(({ prompt }) => {
    uses.set(prompt, (uses.get(prompt) ?? 0) + 1);
    return `${uses.get(prompt)} ${prompt}`;
  });
}
