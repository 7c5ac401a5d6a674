/**
 * Lines of storyboard text: fields between `|`, where each character stands, and errors that point there.
 * Mirrors gf_core/timeline/lines.py; the fixtures in tests/fixtures/timeline hold for both.
 */

/** White space at the edges of a field, the same set as in Python. */
export const BLANK = "[ \\t\\u00a0\\u3000\\ufeff]";
const FIRST_BLANK = new RegExp(BLANK);
const LEADING = new RegExp(`^${BLANK}*`);
const EDGES = new RegExp(`^${BLANK}+|${BLANK}+$`, "g");
const ESCAPED = /\\([\\|])/g;
const BAR = /(?<!(?<!\\)(?:\\\\)*\\)\|/; // with an even number of backslashes before it

/** What is wrong with the text, where (1-based line and column in code points), and what to do. */
export class TimelineError extends Error {
  constructor(line, column, message, fix) {
    super(message);
    Object.assign(this, { name: "TimelineError", line, column, fix });
  }
}

/** `text` without the blanks at its edges. */
const trim = (text) => text.replace(EDGES, "");

/** A trimmed part of a line: as written (`raw`), from place `start` to `end`, and as it is meant (`text`). */
class Field {
  constructor(line, raw, start, escapes = ESCAPED) {
    this.line = line;
    this.raw = trim(raw);
    this.start = start + LEADING.exec(raw)[0].length;
    this.end = this.start + this.raw.length;
    this.escapes = escapes;
    this.text = escapes ? this.raw.replace(escapes, "$1") : this.raw;
  }

  /** All up to the first blank. */
  get word() {
    return this.text.split(FIRST_BLANK, 1)[0];
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
    const column = Array.from(this.line.source.slice(0, this.place(at))).length + 1;
    return new TimelineError(this.line.number, column, message, fix);
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

  /** The parts between `|`; `\|` is a bar and `\\` a backslash inside a part. */
  fields() {
    let end = -1;
    return this.source.split(BAR).map((raw) => {
      const start = end + 1;
      end = start + raw.length;
      return new Field(this, raw, start);
    });
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

/** Write `text` so that `Line.fields` reads it back. */
export const escape = (text) => text.replaceAll("\\", "\\\\").replaceAll("|", "\\|");

/** The known word that `word` most likely stands for, or null: Python's difflib.get_close_matches. */
export function nearest(word, known) {
  let best = [0.6, "", null]; // likeness of a word that may have been meant
  for (const name of known) {
    const lower = name.toLowerCase();
    const score = (2 * matching(lower, word.toLowerCase())) / (lower.length + word.length);
    if (score > best[0] || (score === best[0] && lower > best[1])) best = [score, lower, name];
  }
  return best[2];
}

/** Characters that match (Ratcliff-Obershelp): the longest part of both, then left and right of it. */
function matching(a, b) {
  for (let size = Math.min(a.length, b.length); size; size--) {
    for (let i = 0; i + size <= a.length; i++) {
      const j = b.indexOf(a.slice(i, i + size));
      if (j >= 0) return size + matching(a.slice(0, i), b.slice(0, j)) + matching(a.slice(i + size), b.slice(j + size));
    }
  }
  return 0;
}
