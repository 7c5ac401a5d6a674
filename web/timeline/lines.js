/**
 * Lines of storyboard text: fields between `|`, where each character stands, and errors that point there.
 * Mirrors gf_core/timeline/lines.py; the fixtures in tests/fixtures/timeline hold for both.
 */

/** White space at the edges of a field, the same set as in Python. */
export const BLANKS = " \t\u00a0\u3000\ufeff";
/** Characters without a width. In a prompt they are kept; elsewhere they count as blanks. */
export const UNSEEN = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060";
export const EDGES = `${BLANKS}${UNSEEN}\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f`;
const DIGITS = [0x660, 0x6f0, 0x966, 0x9e6, 0xe50]; // zeros of Arabic, Persian, Devanagari, Bengali and Thai
const OTHERS = { "\u066b": ".", "\u2212": "-", "\ufe55": ":" };
const WIDE = new RegExp(`[${EDGES.slice(1)}\\uff01-\\uff5e\\u066b\\u2212\\ufe55${DIGITS.map((zero) => String.fromCharCode(zero, 45, zero + 9)).join("")}]`, "g");
/** The bar, its full-width sister, and signs that are taken for it. */
export const BARS = "|｜￨│┃∣¦";
const ESCAPED = new RegExp(`\\\\([\\\\${BARS}])`, "g");
const BAR = new RegExp(`\\\\[^]|[${BARS}]`, "g");
const WRITTEN = new RegExp(`[\\\\${BARS}]`, "g");
const FORBIDDEN = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\p{Surrogate}/u;
const LONGEST_WORD = 40; // of words that are compared
const MOST_WIDE_BARS = 50; // of a prompt that are asked whether an option stands behind them

/**
 * `text` as a keyboard of letters without width would write it: half-width letters, signs and digits, blanks. It has
 * the same length, so that a place in it is one in `text`.
 */
export const plain = (text) =>
  text.replace(WIDE, (sign) => {
    const code = sign.charCodeAt(0);
    if (EDGES.includes(sign)) return " ";
    if (code >= 0xff01) return String.fromCharCode(code - 0xfee0);
    return OTHERS[sign] ?? String(code - DIGITS.find((zero) => code >= zero && code < zero + 10));
  });

/** What is wrong with the text, where (1-based line and column in code points), and what to do. */
export class TimelineError extends Error {
  constructor(line, column, message, fix) {
    super(message);
    Object.assign(this, { name: "TimelineError", line, column, fix });
  }
}

/** `text` without `blanks` at its edges. (A regular expression for the end takes hours over a long line of blanks.) */
export function strip(text, blanks = " ") {
  let [first, end] = [0, text.length];
  while (first < end && blanks.includes(text[first])) first++;
  while (end > first && blanks.includes(text[end - 1])) end--;
  return text.slice(first, end);
}

/** A part of a line: as written (`raw`), from place `start` to `end`, trimmed, and as it is meant (`text`). */
export class Field {
  constructor(line, raw, start, escapes = ESCAPED, blanks = BLANKS) {
    this.line = line;
    this.raw = strip(raw, blanks);
    this.start = start + (this.raw ? raw.indexOf(this.raw) : raw.length);
    this.end = this.start + this.raw.length;
    this.escapes = escapes;
    this.text = escapes ? this.raw.replace(escapes, "$1") : this.raw;
  }

  /** The text in plain characters: what verbs, directives and options are read from. */
  get plain() {
    return (this.said ??= plain(this.text));
  }

  /** All up to the first blank. */
  get word() {
    return this.text.slice(0, this.plain.split(" ", 1)[0].length);
  }

  /** Place in the line of the text's character `at`. */
  place(at) {
    let behind = at;
    for (const { index } of this.escapes ? this.raw.matchAll(this.escapes) : []) if (index < behind) behind++;
    return this.start + behind;
  }

  /** What follows the first `count` characters. */
  after(count) {
    const place = this.place(count);
    return new Field(this.line, this.raw.slice(place - this.start), place, this.escapes);
  }

  /** An error that points at the text's character `at`. */
  error(message, fix, at = 0) {
    return this.line.error(message, fix, this.place(at));
  }

  /** Throw the error unless `holds`. */
  require(holds, message, fix, at = 0) {
    if (!holds) throw this.error(message, fix, at);
  }
}

/** One physical line: its 1-based number, its text, the offset of its first character, and its line break. */
export class Line {
  constructor(number, source, offset, ending) {
    Object.assign(this, { number, source, offset, ending });
  }

  /** The line as one field, nothing unescaped. */
  whole() {
    return new Field(this, this.source, 0, null);
  }

  /**
   * `[say, ...options]`: what stands before the first bar, and the parts between the others; `\|` is no bar, `\\` a
   * backslash. Another of `BARS` in front of the first `|` is a bar if `isOption` holds for what follows it.
   */
  fields(isOption) {
    const { source } = this;
    const bars = [...source.matchAll(BAR)].filter(([sign]) => BARS.includes(sign)).map(({ index }) => index);
    const part = (at) => new Field(this, source.slice(bars[at] + 1, bars[at + 1]), bars[at] + 1, ESCAPED, EDGES);
    const first = bars.findIndex((bar, at) => source[bar] === "|" || (at < MOST_WIDE_BARS && isOption(part(at))));
    if (first < 0) return [new Field(this, source, 0)];
    return [new Field(this, source.slice(0, bars[first]), 0), ...bars.slice(first).map((_, at) => part(first + at))];
  }

  /** An error that points at the character `place` of the line. */
  error(message, fix, place) {
    const signs = Array.from(message);
    const short = signs.length > 400 ? `${signs.slice(0, 200).join("")} ... ${signs.slice(-100).join("")}` : message;
    return new TimelineError(this.number, Array.from(this.source.slice(0, place)).length + 1, short, fix);
  }
}

/** Lines of `text`, whichever line break it uses. */
export function splitLines(text) {
  const parts = text.split(/(\r\n|\n|\r)/);
  const lines = [];
  for (let at = 0, offset = 0; at < parts.length; at += 2) {
    const [source, ending = ""] = parts.slice(at, at + 2);
    lines.push(new Line(lines.length + 1, source, offset, ending));
    offset += source.length + ending.length;
  }
  return lines;
}

/** The error about the first character that no text should hold, or null: control characters, halves of characters. */
export function findForbidden(lines) {
  for (const line of lines) {
    const found = FORBIDDEN.exec(line.source);
    if (!found) continue;
    const code = found[0].charCodeAt(0);
    const what = code < 0xd800 ? `a control character (U+${code.toString(16).toUpperCase().padStart(4, "0")})` : "half of a character";
    return line.error(`${what}, which no film can carry in its storyboard`, "delete or retype it", found.index);
  }
  return null;
}

/** Write `text` so that `Line.fields` reads it back. */
export const escape = (text) => text.replace(WRITTEN, "\\$&");

/** `did you mean 'x'?` about the known word that `word` most likely stands for: Python's difflib.get_close_matches. */
export function suggest(word, known, otherwise, form = (name) => `'${name}'`) {
  let best = [0.6, "", null]; // likeness of a word that may have been meant
  const meant = Array.from(word.toLowerCase());
  for (const name of known) {
    if (Math.max(Array.from(name).length, Array.from(word).length) > LONGEST_WORD) continue;
    const lower = name.toLowerCase();
    const signs = Array.from(lower);
    const score = (2 * matching(signs, meant)) / (signs.length + meant.length);
    if (score > best[0] || (score === best[0] && lower >= best[1])) best = [score, lower, name];
  }
  return best[2] === null ? otherwise : `did you mean ${form(best[2])}?`;
}

/** Characters that match (Ratcliff-Obershelp): the longest part of both, then left and right of it. */
function matching(a, b) {
  let [size, from, to] = [0, 0, 0];
  let row = []; // length of the part of both that ends at a[i] and b[j], by j
  for (let i = 0; i < a.length; i++) {
    const next = [];
    for (let j = 0; j < b.length; j++) {
      if (a[i] !== b[j]) continue;
      next[j] = (row[j - 1] ?? 0) + 1;
      if (next[j] > size) [size, from, to] = [next[j], i + 1 - next[j], j + 1 - next[j]];
    }
    row = next;
  }
  if (!size) return 0;
  return size + matching(a.slice(0, from), b.slice(0, to)) + matching(a.slice(from + size), b.slice(to + size));
}
