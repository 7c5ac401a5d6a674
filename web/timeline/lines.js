/**
 * Lines of storyboard text: fields between `|`, where each character stands, and errors that point there.
 * Mirrors gf_core/timeline/lines.py; the fixtures in tests/fixtures/timeline hold for both.
 */

/** White space at the edges of a field, the same set as in Python. */
export const BLANKS = " \\t\\u00a0\\u3000\\ufeff";
const BLANK_CHARS = " \t\u00a0\u3000\ufeff";

/** What is wrong with the text, where (1-based line and column in code points), and what to do. */
export class TimelineError extends Error {
  constructor(line, column, message, fix) {
    super(message);
    this.name = "TimelineError";
    Object.assign(this, { line, column, fix });
  }
}

/** A trimmed, unescaped part of a line. `places`: where every character and the end stand, or the first's place. */
export class Field {
  constructor(text, places) {
    let start = 0;
    let stop = text.length;
    while (start < stop && BLANK_CHARS.includes(text[start])) start++;
    while (stop > start && BLANK_CHARS.includes(text[stop - 1])) stop--;
    this.text = text.slice(start, stop);
    this.places = typeof places === "number" ? places + start : places.slice(start, stop + 1);
  }

  /** Place in the line of the field's character `at`. */
  place(at) {
    return typeof this.places === "number" ? this.places + at : this.places[at];
  }

  get start() {
    return this.place(0);
  }

  get end() {
    return this.place(this.text.length);
  }

  /** What follows the first `count` characters. */
  after(count) {
    const places = typeof this.places === "number" ? this.places + count : this.places.slice(count);
    return new Field(this.text.slice(count), places);
  }
}

/** One physical line: its 1-based number, its text, and the offset of its first character. */
export class Line {
  constructor(number, source, offset) {
    Object.assign(this, { number, source, offset });
  }

  whole() {
    return new Field(this.source, 0);
  }

  /** The parts between `|`; `\|` is a bar and `\\` a backslash inside a part. */
  fields() {
    if (this.source.includes("\\")) return this.escapedFields();
    let at = 0;
    return this.source.split("|").map((text) => {
      at += text.length + 1;
      return new Field(text, at - text.length - 1);
    });
  }

  escapedFields() {
    const { source } = this;
    const fields = [];
    let text = "";
    let places = [];
    for (let at = 0; at < source.length; at++) {
      if (source[at] === "|") {
        fields.push(new Field(text, [...places, at]));
        text = "";
        places = [];
        continue;
      }
      places.push(at);
      if (source[at] === "\\" && (source[at + 1] === "|" || source[at + 1] === "\\")) at++;
      text += source[at];
    }
    fields.push(new Field(text, [...places, source.length]));
    return fields;
  }

  error(place, message, fix) {
    const column = Array.from(this.source.slice(0, place)).length + 1;
    return new TimelineError(this.number, column, message, fix);
  }
}

/** Lines of `text`, whichever line break it uses. */
export function splitLines(text) {
  const lines = [];
  const breaks = /\r\n|\n|\r/g;
  let start = 0;
  for (let found = breaks.exec(text); found; found = breaks.exec(text)) {
    lines.push(new Line(lines.length + 1, text.slice(start, found.index), start));
    start = breaks.lastIndex;
  }
  lines.push(new Line(lines.length + 1, text.slice(start), start));
  return lines;
}

/** Write `text` so that `Line.fields` reads it back. */
export function escape(text) {
  return text.replaceAll("\\", "\\\\").replaceAll("|", "\\|");
}

/** The known word that `word` most likely stands for, or null. */
export function nearest(word, known) {
  let best = null;
  let bestScore = 0.6;
  for (const name of known) {
    const score = similarity(name.toLowerCase(), word.toLowerCase());
    const better = score > bestScore || (score === bestScore && (best === null || name.toLowerCase() > best.toLowerCase()));
    if (better) [best, bestScore] = [name, score];
  }
  return best;
}

/** Ratcliff-Obershelp likeness in 0..1: twice the matching characters over all characters. */
function similarity(a, b) {
  const total = a.length + b.length;
  return total ? (2 * matching(a, b)) / total : 1;
}

function matching(a, b) {
  let size = 0;
  let inA = 0;
  let inB = 0;
  for (let i = 0; i < a.length; i++) {
    for (let j = 0; j < b.length; j++) {
      let run = 0;
      while (i + run < a.length && j + run < b.length && a[i + run] === b[j + run]) run++;
      if (run > size) [size, inA, inB] = [run, i, j];
    }
  }
  if (!size) return 0;
  return size + matching(a.slice(0, inA), b.slice(0, inB)) + matching(a.slice(inA + size), b.slice(inB + size));
}
