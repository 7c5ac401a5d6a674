/**
 * Storyboard text to segments, verbs, cast and errors; and segments back to lines.
 * Mirrors gf_core/timeline/grammar.py. Unlike Python's `parse`, `read` goes on after an error,
 * so that the picture of a film stays while one of its lines is being typed.
 */

import { BARS, EDGES, Field, TimelineError, UNSEEN, escape, findForbidden, plain, splitLines, strip, suggest } from "./lines.js";
import { MAX_SEED, PLAIN, bare, isOption, readOptions, readWhole, writeOptions } from "./options.js";
import { VERBS } from "./verbs.js";

const WORDS = Object.keys(VERBS).filter((verb) => VERBS[verb].written === `${verb}:`); // verbs of one word
const DEFAULT_FPS = { value: 16, above: 16, below: 1 };
const MAX_FPS = 120;
const MAX_SEGMENTS = 20_000;
const NAME = "[\\p{L}\\p{Nl}\\p{No}_][\\p{L}\\p{N}_-]*";
const VERB = /^ *([A-Za-z]+) *:/;
const BACK = /^ *back( [^:]*|):/i;
const BACK_TO = /^( +to +)([0-9]+) *$/i;
const OPENS_BACK = /^ *back +to +[0-9]+ *:/i; // a first prompt may begin with other words from `back` to a colon
// how scripts for cameras begin a shot: `CUT TO:`, `Scene 2:`, `Fade in:`
const SCRIPT = new RegExp(
  "^ *((?:(?:hard|jump|match|quick|smash) +)?(then|cut|scene|shot|fade|dissolve|wipe)"
    + "(?: +(?:to|in|into|out|back|from|black|white|next|[0-9]{1,4}))*) *:",
  "i",
);
const CAST = new RegExp(`^[${EDGES}]*(${NAME})[${EDGES}]*[=＝]`, "u");
export const REFERENCE = new RegExp(`\\{(${NAME})\\}`, "gu");
const PICTURES = ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff"];
const PICTURE = new RegExp(`[${BARS}][${EDGES}]*([^${BARS}]*\\.[A-Za-z0-9]{2,5})$`, "u");
const BRACED = /[{｛]([^{}｛｝]{1,80})[}｝]/gu;
const SCHEDULE = /^ *(?:"[0-9]+" *:|0 *:(?! *[0-9])|[{[]+ *(?:(?:"|[0-9]+ *:)[^]*)?$)/;
const LIST = /^ *(?:[-*+•·–] |[0-9]+[.)] |"?[0-9]+"? *:|[\]}],?$)/;
const HERE = "write a line per segment, without numbers, quotes or dashes: what is seen | 5s, then: what comes next | 5s";
const EXAMPLES = {
  fps: "@fps 16",
  seed: "@seed 7",
  style: "@style 35mm film, soft morning light",
  cast: "@cast fox = a small red fox with a torn left ear",
};

/**
 * Read `text`: `{rate, seed, style, cast: Map, pictures: Map, segments, errors, lines}`; `errors[0]` is the one Python
 * raises, `pictures` holds the files of those in the cast who have one, and
 * `rate` is pictures per second as `{value, above, below}`, a fraction.
 *
 * A segment is `{verb, back, prompt, seconds, seed, recache, blend, motion, mute, line, error}`
 * plus its places in the text: `source` (the line), `verbWritten`, `promptPlace`, `backPlace` (of the number in
 * `back to 2:`, of so many `digits`) and `places` (of options).
 */
export function read(text) {
  const lines = splitLines(text);
  const forbidden = findForbidden(lines);
  const board = { seed: null, style: "", cast: new Map(), pictures: new Map(), segments: [], errors: forbidden ? [forbidden] : [], lines };
  Object.assign(board, { given: new Set(), references: [], rate: foreseenFps(lines) });
  for (const line of lines) {
    const whole = line.whole();
    const said = whole.plain.replace(/^ +/, "");
    if (!said || said.startsWith("#")) continue;
    if (said.startsWith("@")) attempt(board, () => readDirective(whole.after(whole.plain.length - said.length), board));
    else if (board.segments.length === MAX_SEGMENTS) {
      const message = "the storyboard has more than 20,000 segments, and those are a day of film";
      attempt(board, () => { throw whole.error(message, "cut it into several storyboards"); });
      break;
    } else board.segments.push(readSegment(line, board));
  }
  for (const segment of board.segments) segment.error ??= attempt(board, () => checkBack(segment, board.segments));
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
  if (segment.verb === "back") return `back to ${segment.back}: ${prompt}`;
  if (segment.verb !== "start") return `${segment.verb}: ${prompt}`;
  // A first prompt that looks like a remark, a directive, a verb or a schedule hides behind the verb it may have.
  const said = plain(segment.prompt).replace(/^ +/, "");
  return [/^[#@]/, VERB, OPENS_BACK, SCHEDULE].some((form) => form.test(said)) ? `scene: ${prompt}` : prompt;
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
  const [say, ...options] = line.fields(isOption);
  const first = !board.segments.length;
  const segment = { ...PLAIN, verb: first ? "start" : "then", prompt: say.text, line: line.number };
  Object.assign(segment, { back: null, source: line.source, verbWritten: false, promptPlace: say, backPlace: null, digits: 0, places: {} });
  segment.error = attempt(board, () => {
    readVerb(say, segment, first);
    const { promptPlace } = segment;
    promptPlace.require(bare(promptPlace), "the segment has no prompt", "write what is seen before the first '|'");
    board.references.push({ field: promptPlace, segment });
    const { values, places, error } = readOptions(options, board.rate);
    Object.assign(segment, values, { places });
    if (error) throw error;
    checkSwitchOptions(segment);
  });
  return segment;
}

/** The number in `back to 2:`; whether there is such a segment is asked when all are read. */
function readBack(say, match, segment) {
  const [, to, number] = BACK_TO.exec(match[1]) ?? [];
  const said = strip(match[1].replace(/^ +to(?= |$)/i, ""));
  const fix = /^[0-9]{1,9}$/.test(said) ? `write back to ${said}:` : "write for example back to 1:";
  const at = match[0].length - 1 - match[1].length;
  say.require(number?.length <= 9, `'back to' needs the number of a segment, not '${said || "nothing"}'`, fix, at);
  const promptPlace = say.after(match[0].length);
  Object.assign(segment, { backPlace: say.after(at + to.length), digits: number.length, back: Number(number) });
  return Object.assign(segment, { promptPlace, prompt: promptPlace.text, verbWritten: true, verb: "back" });
}

/** A segment goes back to one in front of it that is in the film. */
function checkBack({ back, backPlace, line }, segments) {
  if (back === null) return;
  const own = 1 + segments.findIndex((segment) => segment.line === line);
  const fix = own === 2 ? "write back to 1:" : `choose a number from 1 to ${own - 1}`;
  backPlace.require(back >= 1 && back <= segments.length, `there is no segment ${back} to go back to`, fix);
  backPlace.require(back !== own, "a segment cannot go back to itself", fix);
  backPlace.require(back < own, `segment ${back} comes later: there is nothing to go back to yet`, fix);
  const unmute = "remove 'mute' from it, or go back to another one";
  backPlace.require(!segments[back - 1].mute, `segment ${back} is muted: there is nothing to go back to`, unmute);
}

function readVerb(say, segment, first) {
  const back = first ? null : BACK.exec(say.plain);
  if (back) return readBack(say, back, segment);
  const match = VERB.exec(say.plain);
  const word = match ? match[1].toLowerCase() : "";
  const opens = !first || !["then", "cut", "start"].includes(word);
  say.require(opens, `the first segment cannot be '${word}:'`, `remove '${word}:' (or write 'scene:')`);
  if (first ? word === "scene" : WORDS.includes(word)) {
    const promptPlace = say.after(match[0].length);
    return Object.assign(segment, { promptPlace, prompt: promptPlace.text, verbWritten: true, verb: first ? "start" : word });
  }
  const elsewhere = "remove it (or write 'scene:' in front of it, where these words are the prompt)";
  const goesBack = first && OPENS_BACK.test(say.plain);
  say.require(!goesBack, "the first segment cannot go back: nothing is in front of it", elsewhere);
  if (first) return say.require(!SCHEDULE.test(say.plain), "this is a schedule of another program", HERE);
  const ways = Object.values(VERBS).flatMap(({ written, means }) => (written ? [`${written} (${means})`] : []));
  const begin = `begin the line with ${ways.slice(0, -1).join(", ")} or ${ways.at(-1)}`;
  const [, script, term] = SCRIPT.exec(say.plain) ?? [];
  if (script) throw say.error(`unknown verb '${script}:'`, verbFor(script, term.toLowerCase()));
  if (match) throw say.error(`unknown verb '${match[1]}:'`, suggest(word, WORDS, begin, (name) => `'${name}:'`));
  const leading = say.plain.split(" ", 1)[0].toLowerCase();
  const fix = WORDS.includes(leading) ? `put a colon after it: '${leading}:'` : begin;
  throw say.error("a segment after the first needs a verb", LIST.test(say.plain) ? HERE : fix);
}

/** What to write in place of a script's own beginning of a shot, whose word for it is `word`. */
function verbFor(said, word) {
  const verb = WORDS.includes(word) ? word : "cut";
  let other = word === "scene" ? ", or 'cut:' to keep the cast" : "";
  if (["fade", "dissolve", "wipe"].includes(word)) other = "; a change that comes slowly is 'then:' with | blend 2s behind the prompt";
  return `write '${verb}:' in place of '${said}:'${other}`;
}

/** An option that belongs to one verb stands behind no other, and a blend fits inside its segment. */
function checkSwitchOptions({ verb, seconds, blend, places }) {
  for (const [owner, { written, options = [] }] of Object.entries(VERBS)) {
    for (const name of options) {
      places[name]?.require(verb === owner, `${name} belongs to '${written}' only`, `remove ${name}, or begin the line with ${written}`);
    }
  }
  const [short, long] = [seconds, blend ?? 0].map((value) => Number(value.toPrecision(6)));
  const message = `the blend of ${long} s is longer than its segment of ${short} s`;
  places.blend?.require(blend <= seconds, message, "shorten the blend or lengthen the segment");
}

function readDirective(whole, board) {
  const { given, references } = board;
  const [said] = whole.plain.split(" ", 1);
  const name = said.slice(1).toLowerCase();
  const value = whole.after(said.length);
  const known = Object.keys(EXAMPLES);
  if (!known.includes(name)) {
    const all = `directives are ${known.map((directive) => `@${directive}`).join(", ")}`;
    throw whole.error(`unknown directive '${whole.word}'`, suggest(name, known, all, (guess) => `'@${guess}'`));
  }
  if (name === "cast") return readCast(value, board);
  whole.require(!given.has(name), `@${name} is given twice`, "keep one of the two");
  value.require(value.text, `@${name} needs a value`, `write for example ${EXAMPLES[name]}`);
  if (name === "fps") board.rate = readFps(value);
  if (name === "seed") board.seed = readWhole(value, "@seed", 0, MAX_SEED);
  if (name === "style") {
    board.style = value.text;
    references.push({ field: value, segment: null });
  }
  given.add(name);
}

/** What the line with `@fps` will say, which may stand below lengths in frames. */
function foreseenFps(lines) {
  for (const { source } of lines) {
    const [, value] = /^ *@fps +([^]*)$/i.exec(plain(source)) ?? [];
    if (value) return readRate(strip(value)) ?? DEFAULT_FPS;
  }
  return DEFAULT_FPS;
}

/**
 * Pictures per second as `{value, above, below}` (a fraction): `24`, `24.0`, `12.5`, `24000/1001`; `23.976` and `29.97`
 * are what broadcasters mean. null: no such number, or none with 1001 parts at most.
 */
function readRate(text) {
  const [, ...parts] = /^([0-9]{1,6})\/([0-9]{1,4})$/.exec(text) ?? [];
  let [above, below] = parts.map(Number);
  const number = /^[0-9]{1,3}(?:\.([0-9]{0,9}))?$/.exec(text);
  if (number) {
    const decimals = number[1] ?? "";
    const next = Math.ceil(Number(text));
    const isSlowed = next % 24 === 0 || next % 30 === 0;
    const slowed = ((next * 1000) / 1001).toFixed(decimals.length);
    if (decimals.length >= 2 && isSlowed && slowed === text.replace(/^0+(?=[0-9])/, "")) [above, below] = [next * 1000, 1001];
    else [above, below] = [Number(text.replace(".", "")), 10 ** decimals.length];
  }
  if (!above || !below) return null;
  const shared = divisor(above, below);
  [above, below] = [above / shared, below / shared];
  return below > 1001 ? null : { value: above / below, above, below };
}

const divisor = (a, b) => (b ? divisor(b, a % b) : a);

const inRange = (fps) => fps >= 1 && fps <= MAX_FPS;

function readFps(value) {
  const said = bare(value);
  const rate = readRate(said);
  const number = /^([0-9]{1,3})[.,]([0-9]{1,3}) *(?:fps)?$|^([0-9]{1,3}) *(?:fps)?$/.exec(said.toLowerCase());
  const fix = number && inRange(parseFloat(number[0].replace(",", ".")))
    ? `write @fps ${number[3] ?? `${number[1]}.${number[2]}`}`
    : `write a number such as 24 or 23.976, or a fraction such as 24000/1001, from 1 to ${MAX_FPS}`;
  value.require(rate, `@fps needs a number, not '${value.text}'`, fix);
  value.require(inRange(rate.value), `@fps ${value.text} is out of range`, `choose a number from 1 to ${MAX_FPS}`);
  return rate;
}

function readCast(value, { cast, pictures }) {
  const match = CAST.exec(value.text);
  const example = `write for example: ${EXAMPLES.cast}`;
  value.require(match, "@cast needs a name, '=' and a description", example);
  const name = match[1];
  let description = value.after(match[0].length);
  value.require(!cast.has(name), `${name} is in the cast twice`, "give one of the two another name");
  description.require(description.text, `${name} has no description`, example);
  const found = PICTURE.exec(description.text);
  if (found) description = readPicture(name, description, found, pictures);
  checkReferences(description, cast); // only names above: no circles
  cast.set(name, description.text);
}

/** Keep the picture that stands behind the description's last bar; gives the description before it. */
function readPicture(name, whole, { 0: behind, 1: said, index }, pictures) {
  const file = whole.after(index + behind.length - said.length);
  const description = new Field(whole.line, whole.raw.slice(0, index), whole.start, whole.escapes);
  const suffix = said.split(".").at(-1).toLowerCase();
  const known = `give a picture, such as ${name}.png; its name ends with one of ${PICTURES.join(", ")}`;
  file.require(PICTURES.includes(suffix), `'${said}' is no picture`, known);
  const parts = said.split("/");
  const beside = !/[\\:]/.test(said) && !["", "~"].includes(parts[0]) && !parts.includes("..");
  const fix = `write its name, or a folder below and its name with / between them, such as cast/${name}.png`;
  file.require(beside, `the picture '${said}' is not beside the storyboard`, fix);
  whole.require(description.text, `${name} has no description`, `write for example: ${EXAMPLES.cast} | fox.png`);
  pictures.set(name, said);
  return description;
}

function checkReferences(field, cast) {
  for (const { 0: braced, 1: inside, index } of field.text.matchAll(BRACED)) {
    const name = plain(inside).replaceAll(" ", "");
    if (!cast.has(name) || !Array.from(braced).some((sign) => `${UNSEEN}｛｝`.includes(sign))) continue;
    throw field.error(`'${braced}' has a full-width or an invisible sign and would not be read as {${name}}`, `write {${name}}`, index);
  }
  for (const { 1: name, index } of field.text.matchAll(REFERENCE)) {
    if (cast.has(name)) continue;
    const add = `add a line above: @cast ${name} = what it looks like`;
    throw field.error(`{${name}} is not in the cast`, suggest(name, cast.keys(), add, (guess) => `{${guess}}`), index);
  }
}
