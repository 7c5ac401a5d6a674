/**
 * Storyboard text to segments, verbs, cast and errors; and segments back to lines.
 * Mirrors gf_core/timeline/grammar.py. Unlike Python's `parse`, `read` goes on after an error,
 * so that the picture of a film stays while one of its lines is being typed.
 */

import { BLANK, TimelineError, escape, nearest, splitLines } from "./lines.js";
import { MAX_SEED, PLAIN, readOptions, readWhole, writeOptions } from "./options.js";

export const VERBS = ["then", "cut", "scene"];
const DEFAULT_FPS = 16;
const MAX_FPS = 120;
const NAME = "[\\p{L}\\p{Nl}\\p{No}_][\\p{L}\\p{N}_-]*";
const VERB = new RegExp(`^([A-Za-z]+)${BLANK}*:`);
const CAST = new RegExp(`^(${NAME})${BLANK}*=`, "u");
export const REFERENCE = new RegExp(`\\{(${NAME})\\}`, "gu");
const EXAMPLES = { fps: "@fps 16", seed: "@seed 7", style: "@style 35mm film, soft morning light", cast: "@cast ..." };

/**
 * Read `text`: `{fps, seed, style, cast: Map, segments, errors, lines}`; `errors[0]` is the one Python raises.
 *
 * A segment is `{verb, prompt, seconds, seed, recache, blend, mute, line, error}`
 * plus its places in the text: `source` (the line), `verbWritten`, `promptPlace` and `places` (of options).
 */
export function read(text) {
  const lines = splitLines(text);
  const board = { fps: DEFAULT_FPS, seed: null, style: "", cast: new Map(), segments: [], errors: [], lines };
  Object.assign(board, { given: new Set(), references: [] }); // directives seen, fields that may name the cast
  for (const line of lines) {
    const whole = line.whole();
    if (!whole.text || whole.text.startsWith("#")) continue;
    if (whole.text.startsWith("@")) attempt(board, () => readDirective(whole, board));
    else board.segments.push(readSegment(line, board));
  }
  for (const { field, segment } of board.references) {
    const error = attempt(board, () => checkReferences(field, board.cast));
    if (segment) segment.error ??= error;
  }
  if (!board.segments.length) {
    const fix = "write what is seen on a line of its own, for example: a red fox walks left in a meadow | 5s";
    board.errors.push(new TimelineError(lines.length, 1, "the storyboard has no segment", fix));
  }
  return board;
}

/** What a segment's line says before its options: verb and escaped prompt. */
export function writeSay(segment) {
  const prompt = escape(segment.prompt);
  if (segment.verb !== "start") return `${segment.verb}: ${prompt}`;
  // A first prompt that looks like a comment, a directive or a verb hides behind the verb it may have.
  return /^[#@]/.test(prompt) || VERB.test(prompt) ? `scene: ${prompt}` : prompt;
}

/** A segment as one line; `width` aligns the first bar. */
export const writeLine = (segment, width = 0) => [writeSay(segment).padEnd(width), ...writeOptions(segment)].join(" | ");

function attempt({ errors }, step) {
  try {
    step();
    return null;
  } catch (error) {
    if (!(error instanceof TimelineError)) throw error;
    errors.push(error);
    return error;
  }
}

function readSegment(line, board) {
  const [say, ...options] = line.fields();
  const first = !board.segments.length;
  const segment = { ...PLAIN, verb: first ? "start" : "then", prompt: say.text, line: line.number };
  Object.assign(segment, { source: line.source, verbWritten: false, promptPlace: say, places: {} });
  segment.error = attempt(board, () => {
    readVerb(say, segment, first);
    const { promptPlace } = segment;
    promptPlace.require(segment.prompt, "the segment has no prompt", "write what is seen before the first '|'");
    board.references.push({ field: promptPlace, segment });
    const { values, places } = readOptions(options);
    Object.assign(segment, values, { places });
    checkSwitchOptions(segment);
  });
  return segment;
}

function readVerb(say, segment, first) {
  const match = VERB.exec(say.text);
  const word = match ? match[1].toLowerCase() : "";
  const opens = !first || !["then", "cut", "start"].includes(word);
  say.require(opens, `the first segment cannot be '${word}:'`, `remove '${word}:' (or write 'scene:')`);
  if (first ? word === "scene" : VERBS.includes(word)) {
    const promptPlace = say.after(match[0].length);
    return Object.assign(segment, { promptPlace, prompt: promptPlace.text, verbWritten: true, verb: first ? "start" : word });
  }
  if (first) return;
  const begin = "begin the line with then: (same shot goes on), cut: (new shot, same cast) or scene: (forget all)";
  if (match) {
    const guess = nearest(word, VERBS);
    throw say.error(`unknown verb '${match[1]}:'`, guess ? `did you mean '${guess}:'?` : begin);
  }
  const leading = say.word.toLowerCase();
  const fix = VERBS.includes(leading) ? `put a colon after it: '${leading}:'` : begin;
  throw say.error("a segment after the first needs a verb", fix);
}

/** `recache` and `blend` shape a `then`, and a blend fits inside its segment. */
function checkSwitchOptions({ verb, seconds, blend, places }) {
  for (const name of ["recache", "blend"]) {
    places[name]?.require(verb === "then", `${name} belongs to 'then:' only`, `remove ${name}, or begin the line with then:`);
  }
  const [short, long] = [seconds, blend ?? 0].map((value) => Number(value.toPrecision(6)));
  const message = `the blend of ${long} s is longer than its segment of ${short} s`;
  places.blend?.require(blend <= seconds, message, "shorten the blend or lengthen the segment");
}

function readDirective(whole, board) {
  const { given, references } = board;
  const shown = whole.word;
  const name = shown.slice(1).toLowerCase();
  const value = whole.after(shown.length);
  const known = Object.keys(EXAMPLES);
  if (!known.includes(name)) {
    const guess = nearest(shown.slice(1), known);
    const all = `directives are ${known.map((directive) => `@${directive}`).join(", ")}`;
    throw whole.error(`unknown directive '${shown}'`, guess ? `did you mean '@${guess}'?` : all);
  }
  if (name === "cast") return readCast(value, board.cast);
  whole.require(!given.has(name), `@${name} is given twice`, "keep one of the two");
  value.require(value.text, `@${name} needs a value`, `write for example ${EXAMPLES[name]}`);
  if (name === "fps") board.fps = readWhole(value, "@fps", 16, 1, MAX_FPS);
  if (name === "seed") board.seed = readWhole(value, "@seed", 7, 0, MAX_SEED);
  if (name === "style") {
    board.style = value.text;
    references.push({ field: value, segment: null });
  }
  given.add(name);
}

function readCast(value, cast) {
  const match = CAST.exec(value.text);
  const example = "write for example: @cast fox = a small red fox with a torn left ear";
  value.require(match, "@cast needs a name, '=' and a description", example);
  const name = match[1];
  const description = value.after(match[0].length);
  value.require(!cast.has(name), `${name} is in the cast twice`, "give one of the two another name");
  description.require(description.text, `${name} has no description`, example);
  checkReferences(description, cast); // only names above: no circles
  cast.set(name, description.text);
}

function checkReferences(field, cast) {
  for (const { 1: name, index } of field.text.matchAll(REFERENCE)) {
    if (cast.has(name)) continue;
    const guess = nearest(name, cast.keys());
    const fix = guess ? `did you mean {${guess}}?` : `add a line above: @cast ${name} = what it looks like`;
    throw field.error(`{${name}} is not in the cast`, fix, index);
  }
}
