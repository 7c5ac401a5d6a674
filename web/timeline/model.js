/**
 * Edits of a storyboard as pure functions text -> text. Each touches the one line (or place in a line) that it
 * is about; comments, blank lines, @lines, line breaks and the spacing of other lines stay as written.
 * `index` is a segment's place in the text. An edit that cannot be done gives the text back unchanged.
 */

import { MAX_SECONDS } from "./lengths.js";
import { BARS, escape } from "./lines.js";
import { PLAIN, writeOption } from "./options.js";
import { read, writeLine, writeSay } from "./text.js";

const LAST_BAR = new RegExp(`[${BARS}]$`);

const PAUSE = 800; // milliseconds
const LIMIT = 200; // texts that can be gone back to

export function setSeconds(text, index, seconds) {
  if (!(seconds > 0)) return text;
  const value = round(Math.min(MAX_SECONDS, Math.max(0.01, seconds)));
  return edit(text, index, (segment) => {
    return withOptions(segment, { seconds: value, ...(segment.blend > value && { blend: value }) });
  });
}

/** `seed` null takes the line's own seed away: it is derived again. */
export const setSeed = (text, index, seed) => edit(text, index, (segment) => withOptions(segment, { seed }));

/** Seconds in which a `then:` blends, at most its length; null or 0: none. */
export const setBlend = (text, index, blend) =>
  edit(text, index, (segment) =>
    segment.verb === "then" && !(blend < 0) ? withOptions(segment, { blend: blend ? Math.min(blend, segment.seconds) : null }) : segment.source,
  );

/** How far a `then:` moves the memory to its prompt, 0 to 1; null: as the memory says. */
export const setRecache = (text, index, recache) =>
  edit(text, index, (segment) =>
    segment.verb === "then" && (recache === null || (recache >= 0 && recache <= 1)) ? withOptions(segment, { recache }) : segment.source,
  );

export const setMute = (text, index, mute) => edit(text, index, (segment) => withOptions(segment, { mute }));

/** Line breaks become spaces; an empty prompt is no segment, so the text stays. */
export function setPrompt(text, index, prompt) {
  const plain = prompt.split(/[\r\n]+/).map((line) => line.trim()).filter(Boolean).join(" ");
  if (!plain) return text;
  return edit(text, index, ({ source, verb, verbWritten, promptPlace }) => {
    const said = verb === "start" && !verbWritten ? writeSay({ verb, prompt: plain }) : escape(plain);
    return source.slice(0, promptPlace.start) + said + source.slice(promptPlace.end);
  });
}

/** Another verb for a segment after the first; what only the old one may have goes with it. */
export const setVerb = (text, index, verb) => (index ? edit(text, index, (segment) => reverb(segment, verb)) : text);

/** Let a segment after the first go back to segment `number`, from 1; null: to the one before the last. */
export const setBack = (text, index, number) => {
  const wanted = number ?? Math.max(1, index - 1);
  if (!index || !Number.isInteger(wanted) || wanted < 1 || wanted > index) return text;
  return edit(text, index, (segment) => reverb(segment, "back", wanted));
};

/** Whether the recent frames come back too, where a segment goes back. */
export const setMotion = (text, index, motion) =>
  edit(text, index, (segment) => (segment.verb === "back" ? withOptions(segment, { motion }) : segment.source));

/** Cut a segment in two after `seconds`: the same prompt goes on as `then:`, with noise of its own. */
export function split(text, index, seconds) {
  const segment = read(text).segments[index];
  const rest = round(segment?.seconds - seconds);
  if (segment?.error || !(seconds > 0 && rest > 0)) return text;
  const tail = { ...segment, verb: "then", seconds: rest, seed: null, recache: null, blend: null, motion: false };
  const parts = addLine(setSeconds(text, index, seconds), index, () => writeLine(tail));
  return renumber(parts, (number) => (number > index ? number + 1 : number)); // it ends where its rest does
}

/** The same `count` lines once more, right after; a copy of the first segment begins with `cut:`. */
export const duplicate = (text, index, count = 1) => addLines(text, index + count - 1, stretch(text, index, count));

/** `count` segments as text that `paste` takes, here or in another storyboard. */
export const copy = (text, index, count = 1) => stretch(text, index, count).join("\n");

/** The segments of the text `copied` after segment `index`; a text with mistakes, or without segments, is not taken. */
export function paste(text, index, copied) {
  const [, ...segments] = read(`opens the film | 1s\n${copied}`).segments;
  const pasted = addLines(text, index, segments.map(({ source }) => source));
  return read(pasted).errors.length > read(text).errors.length ? text : pasted;
}

/** A new segment after `index`, or the first one of a storyboard that has none. */
export function insert(text, index) {
  if (read(text).segments.length) {
    return addLines(text, index, [writeLine({ ...PLAIN, verb: "then", prompt: "what happens next" })]);
  }
  const first = writeLine({ ...PLAIN, verb: "start", prompt: "a red fox walks left in a meadow" });
  return rewrite(text, ({ lines }) => {
    const last = lines.at(-1);
    if (!last.source.trim()) last.source = first;
    else {
      last.ending = lines[0].ending || "\n";
      lines.push({ source: first, ending: "" });
    }
  });
}

/**
 * Take a segment out; the next one opens the film if it was the first, and what went back to it becomes a cut. The last
 * one cannot go.
 */
export function remove(text, index) {
  const { segments: all } = read(text);
  if (all.length < 2 || !all[index]) return text;
  const now = (number) => (number === index + 1 ? null : number - (number > index + 1));
  return rewrite(renumber(text, now), ({ segments, lines }) => {
    if (index === 0) lines[segments[1].line - 1].source = reverb(segments[1], "start");
    const row = segments[index].line - 1;
    if (row === lines.length - 1) lines[row - 1].ending = "";
    lines.splice(row, 1);
  });
}

/**
 * Move `count` segments from `from` so that they stand before what was segment `to` (the length: at the end). Remarks
 * right above a segment go with it, but for those that the text begins with, which are about the film.
 */
export function move(text, from, to, count = 1) {
  const places = read(text).segments.map((_, index) => index);
  places.splice(to > from ? to - count : to, 0, ...places.splice(from, count));
  const inside = from >= 0 && to >= 0 && Math.max(from + count, to) <= places.length;
  const known = inside ? renumber(text, (number) => (places.indexOf(number - 1) + 1 || number)) : text;
  return rewrite(known, ({ segments, lines }) => {
    if (!inside || (to >= from && to <= from + count)) return;
    const order = [...segments];
    const moved = order.splice(from, count);
    order.splice(to > from ? to - count : to, 0, ...moved);
    const remarks = new Map(segments.map((segment) => [segment, remarksAbove(lines, segment.line - 1)]));
    const ending = lines[0].ending || "\n";
    const last = lines.at(-1);
    const lineEnd = last.ending;
    last.ending ||= ending;
    [...segments.entries()].reverse().forEach(([slot, { line }]) => {
      const segment = order[slot];
      const verb = slot === 0 ? "start" : segment === segments[0] ? "cut" : null; // the film's first has no verb
      const source = !verb || segment === segments[slot] ? segment.source : reverb(segment, verb);
      const above = remarks.get(segments[slot]).length;
      const row = { ...lines[line - 1], source };
      lines.splice(line - 1 - above, above + 1, ...remarks.get(segment), row);
    });
    lines.at(-1).ending = lineEnd;
  });
}

/** The lines of remarks that stand right above a row; none if the text begins with them. */
function remarksAbove(lines, row) {
  let first = row;
  while (first > 0 && /^#/.test(plainLine(lines[first - 1]))) first--;
  return first === 0 ? [] : lines.slice(first, row);
}

/** A line as it is read, without blanks in front. */
const plainLine = (line) => line.whole().plain.trimStart();

/** Align the bars and write options in their usual order; all that is not a segment stays. */
export function tidy(text) {
  return rewrite(text, ({ segments, lines, errors }) => {
    if (errors.length) return;
    const width = Math.max(0, ...segments.map((segment) => writeSay(segment).length).filter((length) => length <= 60));
    for (const segment of segments) lines[segment.line - 1].source = writeLine(segment, width);
  });
}

/** Undo and redo of a text. Typing within `PAUSE` milliseconds is one step. */
export class History {
  constructor(text) {
    Object.assign(this, { texts: [text], at: 0, typedAt: -Infinity });
  }

  get present() {
    return this.texts[this.at];
  }

  /** Record `text` as the present; `typing` joins it to typing just before. Returns false when nothing changed. */
  push(text, { typing = false, now = Date.now() } = {}) {
    if (text === this.present) return false;
    const joins = typing && now - this.typedAt < PAUSE;
    this.texts = [...this.texts.slice(0, joins ? this.at : this.at + 1), text].slice(-LIMIT);
    Object.assign(this, { at: this.texts.length - 1, typedAt: typing ? now : -Infinity });
    return true;
  }

  /** Whether there is a text so many steps from the present: -1 to undo, 1 to redo. */
  can(steps) {
    return this.at + steps in this.texts;
  }

  /** Make `text`, which has been there, the present; whether it has been. */
  find(text) {
    const at = this.texts.lastIndexOf(text);
    if (at >= 0) Object.assign(this, { at, typedAt: -Infinity });
    return at >= 0;
  }

  /** Go there, if it can be done; the present. */
  go(steps) {
    if (this.can(steps)) Object.assign(this, { at: this.at + steps, typedAt: -Infinity });
    return this.present;
  }
}

/** Milliseconds, so that sums of lengths stay short numbers. */
const round = (seconds) => Math.round(seconds * 1000) / 1000;

/** `text` after `change({segments, lines, errors})`, which may write and splice the lines. */
function rewrite(text, change) {
  const board = read(text);
  change(board);
  return board.lines.map(({ source, ending }) => source + ending).join("");
}

/** `text` with the line of one segment as `change(segment)` writes it. */
function edit(text, index, change) {
  return rewrite(text, ({ segments, lines }) => {
    const segment = segments[index];
    if (segment) lines[segment.line - 1].source = change(segment);
  });
}

/** `text` with a line after one segment's, as `write(segment)` says it. */
function addLine(text, index, write) {
  return rewrite(text, ({ segments, lines }) => {
    const segment = segments[index];
    if (!segment) return;
    const { ending } = lines[segment.line - 1];
    lines[segment.line - 1].ending ||= lines[0].ending || "\n";
    lines.splice(segment.line, 0, { source: write(segment), ending });
  });
}

/** `text` with lines after one segment's, which moves the numbers of those behind it on. */
const addLines = (text, index, sources) => {
  const more = sources.reduceRight((into, source) => addLine(into, index, () => source), text);
  return renumber(more, (number) => (number > index + 1 ? number + sources.length : number));
};

/** `text` in which segments go back to other numbers, as `now(number)` says; null makes a cut of them. */
function renumber(text, now) {
  return rewrite(text, ({ segments, lines }) => {
    for (const segment of segments.filter(({ back }) => back !== null)) {
      const { back, backPlace, digits, source, line } = segment;
      const number = now(back);
      if (number === back) continue;
      const { start } = backPlace;
      lines[line - 1].source = number === null ? reverb(segment, "cut") : source.slice(0, start) + number + source.slice(start + digits);
    }
  });
}

/** The lines of `count` segments as they may stand inside a film. */
const stretch = (text, index, count) =>
  read(text).segments.slice(index, index + count).map((segment) => (segment.verb === "start" ? reverb(segment, "cut") : segment.source));

/** The line with options set, taken away (null or false) or left (absent). */
function withOptions({ source, promptPlace, places }, wanted) {
  // The duration is what one looks for first, so a new one goes right after the prompt.
  const free = (name) => (name === "seconds" ? promptPlace.end : source.trimEnd().length);
  const options = Object.entries(wanted).map(([name, value]) => {
    const { start, end } = places[name] ?? { start: free(name), end: free(name) };
    return { said: writeOption(name, value), start, end, isNew: !places[name] };
  });
  for (const { said, start, end, isNew } of options.sort((a, b) => b.start - a.start)) {
    const [before, rest] = [source.slice(0, start), source.slice(end)];
    if (said && isNew) source = `${before} | ${said}${rest && !/^\s/.test(rest) ? " " : ""}${rest}`;
    else if (said) source = before + said + rest;
    else if (!isNew) source = before.trimEnd().replace(LAST_BAR, "").trimEnd() + (BARS.includes(rest[0]) ? " " : "") + rest;
  }
  return source;
}

/** The line under another verb; "start" leaves the verb away, unless the prompt must hide behind one. */
function reverb(segment, verb, back = null) {
  const foreign = { ...(verb !== "then" && { recache: null, blend: null }), ...(verb !== "back" && { motion: null }) };
  const source = withOptions(segment, foreign);
  const hides = writeSay({ verb: "start", prompt: segment.prompt }).startsWith("scene: ");
  const said = verb === "back" ? `back to ${back}: ` : `${verb}: `;
  const written = verb !== "start" ? said : hides ? "scene: " : "";
  return /^\s*/.exec(source)[0] + written + source.slice(segment.promptPlace.start);
}
