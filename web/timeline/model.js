/**
 * Edits of a storyboard as pure functions text -> text. Each touches the one line (or place in a line) that it
 * is about; comments, blank lines, @lines, line breaks and the spacing of other lines stay as written.
 * `index` is a segment's place in the text. An edit that cannot be done gives the text back unchanged.
 */

import { escape, splitLines } from "./lines.js";
import { MAX_SECONDS, writeNumber } from "./options.js";
import { read, writeLine, writeSay } from "./text.js";

const BEFORE_BAR = /[ \t]*\|?[ \t]*$/;

export function setSeconds(text, index, seconds) {
  const value = Math.min(MAX_SECONDS, Math.max(0.01, Math.round(seconds * 1000) / 1000));
  return edit(text, index, (segment) => {
    const blend = segment.blend > value ? { blend: `blend ${writeNumber(value)}s` } : {};
    return withOptions(segment, { seconds: `${writeNumber(value)}s`, ...blend });
  });
}

/** `seed` null takes the line's own seed away: it is derived again. */
export function setSeed(text, index, seed) {
  return edit(text, index, (segment) => withOptions(segment, { seed: seed === null ? null : `seed ${seed}` }));
}

export function setMute(text, index, mute) {
  return edit(text, index, (segment) => withOptions(segment, { mute: mute ? "mute" : null }));
}

/** Line breaks become spaces; an empty prompt is no segment, so the text stays. */
export function setPrompt(text, index, prompt) {
  const plain = prompt.replace(/\s*[\r\n]+\s*/g, " ").replace(/^[\s\ufeff]+|[\s\ufeff]+$/g, "");
  if (!plain) return text;
  return edit(text, index, (segment) => {
    const { source, promptPlace, verbWritten } = segment;
    const said = segment.verb === "start" && !verbWritten ? writeSay({ verb: "start", prompt: plain }) : escape(plain);
    return source.slice(0, promptPlace.start) + said + source.slice(promptPlace.end);
  });
}

/** Another verb for a segment after the first; what only a `then:` may have goes with it. */
export function setVerb(text, index, verb) {
  if (index === 0) return text;
  return edit(text, index, (segment) => reverb(segment, verb));
}

/** Cut a segment in two after `seconds`: the same prompt goes on as `then:`, with noise of its own. */
export function split(text, index, seconds) {
  const segment = read(text).segments[index];
  if (!usable(segment) || !(seconds > 0 && seconds < segment.seconds)) return text;
  const tail = { ...segment, verb: "then", seconds: segment.seconds - seconds, seed: null, recache: null, blend: null };
  tail.seconds = Math.round(tail.seconds * 1000) / 1000;
  if (!tail.seconds) return text;
  return insertLine(setSeconds(text, index, seconds), index, writeLine(tail));
}

/** The same line once more, right after; a copy of the first segment begins with `cut:`. */
export function duplicate(text, index) {
  const segment = read(text).segments[index];
  if (!usable(segment)) return text;
  return insertLine(text, index, segment.verb === "start" ? reverb(segment, "cut") : segment.source);
}

/** A new segment after `index`. */
export function insert(text, index, { verb = "then", prompt = "what happens next", seconds = 5 } = {}) {
  const fields = { seed: null, recache: null, blend: null, loras: [], mute: false };
  return insertLine(text, index, writeLine({ verb, prompt, seconds, ...fields }));
}

/** Take a segment out; the next one opens the film if it was the first. The last one cannot go. */
export function remove(text, index) {
  const { segments } = read(text);
  if (segments.length < 2 || !segments[index]) return text;
  const lines = pieces(text);
  const row = segments[index].line - 1;
  if (index === 0) lines[segments[1].line - 1].source = reverb(segments[1], "start");
  if (row === lines.length - 1 && row > 0) lines[row - 1].ending = "";
  lines.splice(row, 1);
  return join(lines);
}

/** Move `count` segments from `from` so that they stand before what was segment `to` (the length: at the end). */
export function move(text, from, to, count = 1) {
  const { segments } = read(text);
  if (to >= from && to <= from + count) return text;
  if (from < 0 || to < 0 || count < 1 || from + count > segments.length || to > segments.length) return text;
  const order = segments.map((_, index) => index);
  const moved = order.splice(from, count);
  order.splice(to > from ? to - count : to, 0, ...moved);
  const lines = pieces(text);
  segments.forEach((segment, slot) => {
    const source = segments[order[slot]];
    const changed = slot === 0 && order[slot] !== 0 ? "start" : slot > 0 && order[slot] === 0 ? "cut" : null;
    lines[segment.line - 1].source = changed ? reverb(source, changed) : source.source;
  });
  return join(lines);
}

/** Align the bars and write options in their usual order; all that is not a segment stays. */
export function tidy(text) {
  const { segments, errors } = read(text);
  if (errors.length) return text;
  const width = Math.max(0, ...segments.map((segment) => writeSay(segment).length).filter((length) => length <= 60));
  const lines = pieces(text);
  for (const segment of segments) lines[segment.line - 1].source = writeLine(segment, width);
  return join(lines);
}

/** Undo and redo of a text. Typing within `pause` milliseconds is one step. */
export class History {
  constructor(text, { pause = 800, limit = 200 } = {}) {
    Object.assign(this, { past: [], present: text, future: [], pause, limit, typedAt: -Infinity });
  }

  /** Record `text` as the present; `typing` joins it to typing just before. Returns false when nothing changed. */
  push(text, { typing = false, now = Date.now() } = {}) {
    if (text === this.present) return false;
    const joins = typing && now - this.typedAt < this.pause;
    if (!joins) this.past = [...this.past, this.present].slice(-this.limit);
    this.typedAt = typing ? now : -Infinity;
    [this.present, this.future] = [text, []];
    return true;
  }

  undo() {
    return this.step(this.past, this.future);
  }

  redo() {
    return this.step(this.future, this.past);
  }

  step(from, to) {
    if (!from.length) return this.present;
    to.push(this.present);
    this.present = from.pop();
    this.typedAt = -Infinity;
    return this.present;
  }
}

function usable(segment) {
  return segment && !segment.error;
}

function edit(text, index, change) {
  const segment = read(text).segments[index];
  if (!segment) return text;
  const { offset, source } = segment;
  return text.slice(0, offset) + change(segment) + text.slice(offset + source.length);
}

/** The line with options set (a string), taken away (null) or left (absent). */
function withOptions(segment, wanted) {
  let { source } = segment;
  const places = Object.entries(wanted).map(([name, said]) => ({ name, said, place: segment.places[name] }));
  const standing = places.filter(({ place }) => place).sort((a, b) => b.place.start - a.place.start);
  for (const { said, place } of standing) {
    const before = source.slice(0, place.start);
    const rest = source.slice(place.end);
    if (said === null) source = before.replace(BEFORE_BAR, "") + (rest.startsWith("|") ? " " : "") + rest;
    else source = before + said + rest;
  }
  const added = places.filter(({ said, place }) => said !== null && !place);
  for (const { name, said } of added) {
    // The duration is what one looks for first, so it goes right after the prompt.
    const at = name === "seconds" ? segment.promptPlace.end : source.trimEnd().length;
    const rest = source.slice(at);
    source = `${source.slice(0, at)} | ${said}${rest && !/^\s/.test(rest) ? " " : ""}${rest}`;
  }
  return source;
}

/** The line under another verb; "start" leaves the verb away. */
function reverb(segment, verb) {
  const drop = verb === "then" ? {} : { recache: null, blend: null };
  const source = withOptions(segment, drop);
  const indent = /^\s*/.exec(source)[0];
  const rest = source.slice(segment.promptPlace.start);
  const { prompt } = segment;
  if (verb !== "start") return `${indent}${verb}: ${rest}`;
  return indent + (writeSay({ verb, prompt }).startsWith("scene: ") ? "scene: " : "") + rest;
}

function insertLine(text, index, source) {
  const { segments } = read(text);
  const lines = pieces(text);
  const row = segments[index].line - 1;
  const ending = lines.find((line) => line.ending)?.ending ?? "\n";
  const own = lines[row].ending;
  lines[row].ending = own || ending;
  lines.splice(row + 1, 0, { source, ending: own });
  return join(lines);
}

/** Lines with their line breaks, to be put together again by `join`. */
function pieces(text) {
  const lines = splitLines(text);
  return lines.map(({ source, offset }, row) => ({
    source,
    ending: row + 1 < lines.length ? text.slice(offset + source.length, lines[row + 1].offset) : "",
  }));
}

function join(lines) {
  return lines.map(({ source, ending }) => source + ending).join("");
}
