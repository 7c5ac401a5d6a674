/** One storyboard being edited: its text, what it reads as, what is selected, undo, and the film being made. */

import { setDirectives } from "./directives.js";
import { put } from "./dom.js";
import { listen } from "./gestures.js";
import { hintsOf } from "./hints.js";
import * as edits from "./model.js";
import { Offer } from "./offer.js";
import { makePlan } from "./plan.js";
import { Scrub, frameAt } from "./scrub.js";
import { read } from "./text.js";
import { View } from "./view.js";

const MAX_SCALE = 240; // pixels per second

export class Editor {
  /**
   * `getText()` and `setText(text)` reach the text widget, `showPlace(line, column)` the place in it, `url(path)` the
   * server, `convert(text)` asks it for another program's storyboard in the words of ours, and `fit(linked)` makes the
   * node as tall as it has to be.
   */
  constructor(host) {
    Object.assign(this, { host, selected: 0, anchor: 0, time: null, marker: null }); // chosen is what lies between both
    this.rendered = null; // while a film is made: names of its segments, [] where they are not known yet
    Object.assign(this, { linked: false, incoming: null }); // whether another node gives the text, and what it last gave
    Object.assign(this, { zoom: 0, heldScale: null }); // pixels per second; 0 shows the whole film
    this.thumbs = new Map(); // name of a segment -> address of its picture
    this.view = new View();
    this.element = this.view.element;
    this.offer = new Offer(host.convert, (text) => this.change(text));
    this.view.fields.element.before(this.offer.element);
    this.history = new edits.History(host.getText());
    this.show(this.history.present);
    this.scrub = new Scrub(this.view.lanes, (time) => this.pictureAt(time));
    listen(this);
    new ResizeObserver(() => this.draw()).observe(this.view.scroll);
  }

  /** Show a text without writing it. */
  show(text) {
    this.board = read(text);
    this.hints = hintsOf(this.board);
    this.plan = makePlan(this.board);
    this.offer.look(text, !this.linked && this.board.errors.length > 0);
    this.selected = clamp(this.selected, this.board.segments.length - 1);
    this.anchor = clamp(this.anchor, this.board.segments.length - 1);
    this.draw();
  }

  get chosen() {
    return this.board.segments[this.selected];
  }

  /** Place and number of the segments that are selected together. */
  get range() {
    const first = Math.min(this.selected, this.anchor);
    return { first, count: Math.abs(this.selected - this.anchor) + 1 };
  }

  draw() {
    this.scale = this.heldScale ?? Math.max(this.view.fitScale(this.plan), this.zoom);
    this.pictures = this.thumbs.size ? names(this.board).map((name) => this.thumbs.get(name)) : [];
    this.view.draw(this);
  }

  /** The text may have been changed in its own box: follow it. Cheap when it was not. */
  refresh() {
    if (this.linked) return;
    const text = this.host.getText();
    if (text === this.history.present) return;
    // A text that came in with a workflow replaces a new node's first one: nobody should undo to that.
    const typed = document.activeElement?.value === text;
    if (!typed && !this.history.can(-1)) this.history = new edits.History(text);
    else this.history.push(text, { typing: true });
    this.show(text);
  }

  /** Whether the text comes from another node: then there is nothing to edit, and what came in last is shown. */
  setLinked(linked) {
    if (linked === this.linked) return;
    Object.assign(this, { linked, incoming: null });
    this.showIncoming();
  }

  /** What came in from another node. */
  came(text) {
    if (!this.linked || text === this.incoming) return;
    this.incoming = text;
    this.showIncoming();
  }

  showIncoming() {
    this.view.setLinked(this.linked, this.incoming !== null);
    this.show(this.linked ? (this.incoming ?? "") : this.history.present);
    this.host.fit(this.linked);
  }

  /** Pixels that it takes while there is nothing to edit, else null: a line, and the strip when its text is known. */
  get height() {
    return this.linked ? (this.incoming === null ? 44 : 212) : null;
  }

  /** Go back (-1) or forward (1) in what was typed and done here, after what has just been typed in the text's own box. */
  undo(steps) {
    this.refresh();
    if (!this.linked && this.history.can(steps)) this.write(this.history.go(steps));
  }

  /** Go on with the undo of the editor that this node had before, if it has had the text that stands here. */
  takeOver(history) {
    if (this.history.can(-1) || this.history.can(1) || !history.find(this.history.present)) return;
    this.history = history;
    this.draw();
  }

  /** Edit the selected segment by a function of model.js; `typing` joins the change to typing just before. */
  edit(name, value, typing = false) {
    const { length } = this.board.segments;
    this.change(edits[name](this.history.present, this.selected, value), typing);
    if (this.board.segments.length > length) this.select(this.selected + 1); // the new one
  }

  /** Do to every selected segment what `edit` does to one, the last one first so that their places stay. */
  editAll(name, value) {
    const { first, count } = this.range;
    const places = Array.from({ length: count }, (_, at) => first + count - 1 - at);
    this.change(places.reduce((text, place) => edits[name](text, place, value), this.history.present));
  }

  remove() {
    const { first } = this.range;
    this.editAll("remove");
    this.select(first);
  }

  duplicate() {
    const { first, count } = this.range;
    this.put(edits.duplicate(this.history.present, first, count), first + count, count);
  }

  /** The selected segments as text. */
  copy() {
    return edits.copy(this.history.present, this.range.first, this.range.count);
  }

  /** Put segments that were copied here or elsewhere after the selected ones. */
  paste(copied) {
    const { first, count } = this.range;
    const { length } = this.board.segments;
    const text = edits.paste(this.history.present, first + count - 1, copied);
    this.put(text, first + count, read(text).segments.length - length);
  }

  /** A text with `count` new segments at `first`, which are selected. */
  put(text, first, count) {
    if (text === this.history.present) return;
    this.change(text);
    this.select(first);
    this.select(first + count - 1, true);
  }

  /** Fields of the film in place of the segment's, or back. */
  toggleFilm() {
    this.view.showFields(this.view.filmFields.element.hidden ? "film" : "segment");
    this.draw();
  }

  /** What stands after `@name`, one a line for the cast. */
  setFilm(name, value) {
    this.change(setDirectives(this.history.present, name, name === "cast" ? value.split("\n") : [value]), true);
  }

  reorder(first, to, count = 1) {
    const moved = edits.move(this.history.present, first, to, count);
    if (moved !== this.history.present) {
      const begin = to > first ? to - count : to;
      Object.assign(this, { anchor: begin + this.anchor - first, selected: begin + this.selected - first });
    }
    this.change(moved);
  }

  change(text, typing = false) {
    if (this.history.push(text, { typing })) this.write(text);
  }

  write(text) {
    this.host.setText(text);
    this.show(text);
  }

  /** Select a segment; `more` keeps what lies between it and the one that was selected before. */
  select(index, more = false) {
    this.selected = clamp(index, this.board.segments.length - 1);
    if (!more) this.anchor = this.selected;
    this.draw();
    if (this.chosen) this.view.scrollTo(this.plan.segments[this.selected]);
  }

  /** Select the segment written on `line`, if one is. */
  selectLine(line) {
    const index = this.board.segments.findIndex((segment) => segment.line === line);
    if (index >= 0 && index !== this.selected) this.select(index);
  }

  setMarker(time) {
    this.marker = clamp(time, this.plan.seconds);
    this.view.drawTimes();
    put(this.view.fields.split, { hidden: true }); // who has placed the marker knows
  }

  /** Where Split cuts the selected segment: at the marker if it is inside, else in the middle. */
  splitSeconds() {
    if (!this.chosen) return 0;
    const { start, seconds, asked } = this.plan.segments[this.selected];
    const inside = this.marker === null ? 0 : (this.marker - start) / seconds;
    const share = inside > 0 && inside < 1 ? inside : 0.5;
    return Math.max(0.05, Math.round(asked * share * 20) / 20);
  }

  /** Zoom by a factor (0: fit) around a time of the film. */
  zoomBy(factor, around = null) {
    const { scroll } = this.view;
    const middle = around ?? (scroll.scrollLeft + scroll.clientWidth / 2) / this.scale;
    const offset = middle * this.scale - scroll.scrollLeft;
    this.zoom = Math.min(MAX_SCALE, this.scale * factor);
    this.draw();
    scroll.scrollLeft = middle * this.scale - offset;
  }

  /** A render of the storyboard `timeline` began; a Shot Cut may have put more into it than stands here. */
  started({ timeline }) {
    this.rendered = names(read(timeline));
    this.thumbs.clear();
    this.time = 0;
    this.draw();
  }

  progress({ node, index, film_seconds: done }) {
    if (!this.rendered) {
      this.rendered = this.inTake ?? []; // the page was opened while the film is being made
      for (let made = 0; made <= index; made++) this.segment({ index: made, thumb: `/grounded/thumb/${node}/${made}` });
    }
    this.time = Math.min(done, this.plan.seconds);
    this.view.drawTimes();
  }

  /** The first picture of a segment is there. */
  segment({ index, thumb }) {
    if (this.rendered?.[index]) this.thumbs.set(this.rendered[index], this.host.url(thumb));
    this.draw();
  }

  /** Address of the film's picture at a time of the storyboard, null where nothing is rendered. */
  pictureAt(time) {
    if (!this.facts) return null;
    const frame = frameAt(time, this.plan, names(this.board), this.facts, this.inTake);
    return frame === null ? null : this.host.url(`${this.facts.any}${frame}`);
  }

  finished() {
    Object.assign(this, { rendered: null, time: null });
    this.view.drawTimes();
  }

  /** The pictures that lie in the Take (null: none). While a film is made, only what it is called is news. */
  shown(facts) {
    this.facts = facts;
    this.inTake = facts && names(read(facts.timeline));
    if (this.rendered?.length) return;
    if (this.rendered) this.rendered = this.inTake ?? [];
    this.thumbs.clear();
    for (const [index, path] of Object.entries(facts?.pictures ?? {})) this.thumbs.set(this.inTake[index], this.host.url(path));
    if (facts && this.linked && this.incoming === null) this.came(facts.timeline);
    this.draw();
  }
}

const clamp = (value, most) => Math.max(0, Math.min(value, most));

/** A name for each segment that stays when it moves: its prompt and how often that came before. */
function names(board) {
  const uses = new Map();
  return board.segments.map(({ prompt }) => {
    uses.set(prompt, (uses.get(prompt) ?? 0) + 1);
    return `${uses.get(prompt)} ${prompt}`;
  });
}
