/**
 * Storyboard text to segments, verbs, cast and errors; and segments back to lines.
 * Mirrors gf_core/timeline/grammar.py and writer.py. Unlike Python's `parse`, `read` goes on after an error,
 * so that the picture of a film stays while one of its lines is being typed.
 */

import { BLANKS, TimelineError, escape, nearest, splitLines } from "./lines.js";
import { DEFAULT_SECONDS, MAX_SEED, readOptions, readWhole, writeOptions } from "./options.js";

export const VERBS = ["then", "cut", "scene"];
const DEFAULT_FPS = 16;
const MAX_FPS = 120;
const NAME = "[\\p{L}\\p{Nl}\\p{No}_][\\p{L}\\p{N}_-]*";
const VERB = new RegExp(`^([A-Za-z]+)[${BLANKS}]*:`);
const CAST = new RegExp(`^(${NAME})[${BLANKS}]*=`, "u");
const REFERENCE = new RegExp(`\\{(${NAME})\\}`, "gu");
const FIRST_BLANK = new RegExp(`[${BLANKS}]`);
const DIRECTIVES = ["fps", "seed", "style", "cast"];
const EXAMPLES = { fps: "@fps 16", seed: "@seed 7", style: "@style 35mm film, soft morning light" };

/**
 * Read `text`: `{fps, seed, style, cast: Map, segments, errors}`; `errors[0]` is the one Python raises.
 *
 * A segment is `{verb, prompt, seconds, seed, recache, blend, loras: [[name, strength]], mute, line, error}`
 * plus its places in the text: `source` and `offset` (the line), `verbWritten`, `promptPlace`, `options`, `places`.
 */
export function read(text) {
  const reading = { settings: {}, cast: new Map(), segments: [], references: [], errors: [] };
  const lines = splitLines(text);
  for (const line of lines) {
    const whole = line.whole();
    if (!whole.text || whole.text.startsWith("#")) continue;
    if (whole.text.startsWith("@")) attempt(reading, () => readDirective(line, whole, reading));
    else reading.segments.push(readSegment(line, reading));
  }
  for (const { line, place, segment } of reading.references) {
    const error = attempt(reading, () => checkReferences(line, place, reading.cast));
    if (segment) segment.error ??= error;
  }
  if (!reading.segments.length) {
    const example = "for example: a red fox walks left in a meadow | 5s";
    const fix = `write what is seen on a line of its own, ${example}`;
    reading.errors.push(new TimelineError(lines.length, 1, "the storyboard has no segment", fix));
  }
  const { fps = DEFAULT_FPS, seed = null, style = "" } = reading.settings;
  return { fps, seed, style, cast: reading.cast, segments: reading.segments, errors: reading.errors };
}

/** The full prompt of a segment: cast names replaced, style appended (for a board without errors). */
export function expanded(board, index) {
  const cast = new Map();
  const expand = (text) => text.replace(REFERENCE, (_, name) => cast.get(name));
  for (const [name, description] of board.cast) cast.set(name, expand(description));
  const { prompt } = board.segments[index];
  const style = board.style && (/[.,;:!?]$/.test(prompt) ? " " : ", ") + board.style;
  return expand(prompt + style);
}

/** What a segment's line says before its options: verb and escaped prompt. */
export function writeSay(segment) {
  const prompt = escape(segment.prompt);
  if (segment.verb !== "start") return `${segment.verb}: ${prompt}`;
  // A first prompt that looks like a comment, a directive or a verb hides behind the verb it may have.
  return /^[#@]/.test(prompt) || VERB.test(prompt) ? `scene: ${prompt}` : prompt;
}

/** A segment as one line; `width` aligns the first bar. */
export function writeLine(segment, width = 0) {
  return [writeSay(segment).padEnd(width), ...writeOptions(segment)].join(" | ");
}

function attempt(reading, step) {
  try {
    step();
    return null;
  } catch (error) {
    if (!(error instanceof TimelineError)) throw error;
    reading.errors.push(error);
    return error;
  }
}

function readSegment(line, reading) {
  const [say, ...options] = line.fields();
  const segment = {
    verb: reading.segments.length ? "then" : "start",
    prompt: say.text,
    seconds: DEFAULT_SECONDS,
    seed: null,
    recache: null,
    blend: null,
    loras: [],
    mute: false,
    line: line.number,
    error: null,
    source: line.source,
    offset: line.offset,
    verbWritten: false,
    promptPlace: say,
    options,
    places: {},
  };
  segment.error = attempt(reading, () => {
    readVerb(line, say, segment, !reading.segments.length);
    const { promptPlace } = segment;
    if (!segment.prompt) {
      throw line.error(promptPlace.start, "the segment has no prompt", "write what is seen before the first '|'");
    }
    reading.references.push({ line, place: promptPlace, segment });
    const { values, places } = readOptions(line, options);
    Object.assign(segment, values, { places });
    checkSwitchOptions(line, segment);
  });
  return segment;
}

function readVerb(line, say, segment, first) {
  const match = VERB.exec(say.text);
  const word = match ? match[1].toLowerCase() : "";
  if (first && ["then", "cut", "start"].includes(word)) {
    const fix = `remove '${word}:' (or write 'scene:')`;
    throw line.error(say.start, `the first segment cannot be '${word}:'`, fix);
  }
  if (first ? word === "scene" : VERBS.includes(word)) {
    const place = say.after(match[0].length);
    Object.assign(segment, { promptPlace: place, prompt: place.text, verbWritten: true });
    if (!first) segment.verb = word;
    return;
  }
  if (first) return;
  const choices = "then: (same shot goes on), cut: (new shot, same cast) or scene: (forget all)";
  if (match) {
    const guess = nearest(word, VERBS);
    const fix = guess ? `did you mean '${guess}:'?` : `begin the line with ${choices}`;
    throw line.error(say.start, `unknown verb '${match[1]}:'`, fix);
  }
  const leading = say.text.split(FIRST_BLANK)[0].toLowerCase();
  const known = VERBS.includes(leading);
  const fix = known ? `put a colon after it: '${leading}:'` : `begin the line with ${choices}`;
  throw line.error(say.start, "a segment after the first needs a verb", fix);
}

/** `recache` and `blend` shape a `then`, and a blend fits inside its segment. */
function checkSwitchOptions(line, segment) {
  for (const name of ["recache", "blend"]) {
    if (segment[name] === null || segment.verb === "then") continue;
    const fix = `remove ${name}, or begin the line with then:`;
    throw line.error(segment.places[name].start, `${name} belongs to 'then:' only`, fix);
  }
  if (segment.blend === null || segment.blend <= segment.seconds) return;
  const [blend, seconds] = [segment.blend, segment.seconds].map((value) => Number(value.toPrecision(6)));
  const message = `the blend of ${blend} s is longer than its segment of ${seconds} s`;
  throw line.error(segment.places.blend.start, message, "shorten the blend or lengthen the segment");
}

function readDirective(line, whole, reading) {
  const word = /^@([A-Za-z]*)/.exec(whole.text)[1];
  const value = whole.after(1 + word.length);
  const name = word.toLowerCase();
  const next = whole.text.slice(1 + word.length, 2 + word.length);
  if (!DIRECTIVES.includes(name) || (next && !FIRST_BLANK.test(next))) {
    const shown = whole.text.split(FIRST_BLANK)[0];
    const guess = nearest(shown.slice(1), DIRECTIVES);
    const known = DIRECTIVES.map((directive) => `@${directive}`).join(", ");
    const fix = guess ? `did you mean '@${guess}'?` : `directives are ${known}`;
    throw line.error(whole.start, `unknown directive '${shown}'`, fix);
  }
  if (name === "cast") return readCast(line, value, reading.cast);
  if (name in reading.settings) throw line.error(whole.start, `@${name} is given twice`, "keep one of the two");
  if (!value.text) throw line.error(value.start, `@${name} needs a value`, `write for example ${EXAMPLES[name]}`);
  if (name === "fps") reading.settings.fps = readWhole(line, value, "@fps", 16, 1, MAX_FPS);
  else if (name === "seed") reading.settings.seed = readWhole(line, value, "@seed", 7, 0, MAX_SEED);
  else {
    reading.settings.style = value.text;
    reading.references.push({ line, place: value, segment: null });
  }
}

function readCast(line, value, cast) {
  const match = CAST.exec(value.text);
  const example = "write for example: @cast fox = a small red fox with a torn left ear";
  if (!match) throw line.error(value.start, "@cast needs a name, '=' and a description", example);
  const name = match[1];
  const description = value.after(match[0].length);
  if (cast.has(name)) {
    throw line.error(value.start, `${name} is in the cast twice`, "give one of the two another name");
  }
  if (!description.text) throw line.error(description.start, `${name} has no description`, example);
  checkReferences(line, description, cast); // only names above: no circles
  cast.set(name, description.text);
}

function checkReferences(line, place, cast) {
  if (!place.text.includes("{")) return;
  for (const match of place.text.matchAll(REFERENCE)) {
    if (cast.has(match[1])) continue;
    const guess = nearest(match[1], cast.keys());
    const add = `add a line above: @cast ${match[1]} = what it looks like`;
    const fix = guess ? `did you mean {${guess}}?` : add;
    throw line.error(place.place(match.index), `{${match[1]}} is not in the cast`, fix);
  }
}
