/**
 * Options of a segment, the parts after `|`: read from fields, written back as text.
 * Mirrors gf_core/timeline/options.py.
 */

import { BLANK, nearest } from "./lines.js";

export const MAX_SECONDS = 3600;
export const MAX_SEED = Number.MAX_SAFE_INTEGER;
export const PLAIN = { seconds: 5, seed: null, recache: null, blend: null, mute: false }; // a line without options

const NUMBER = /^(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)$/;
const NUMBER_LIKE = new RegExp(`^[+-]?(?:[0-9.]|(?:nan|inf|infinity)${BLANK}*s?$)`, "i");
const DURATION = new RegExp(`^([0-9.]+)${BLANK}*[sS]$`);
const SECONDS_WORD = new RegExp(`^([0-9.]+)${BLANK}*(?:secs?|seconds?)?$`, "i");
const MINUTES = new RegExp(`^([0-9.]+)${BLANK}*(?:m|mins?|minutes?)$`, "i");
const CLOCK = /^([0-9]{1,6}):([0-9]{2})$/;

const READERS = {
  seed: (value) => readWhole(value, "seed", 7, 0, MAX_SEED),
  recache: readShare,
  blend: (value) => readDuration(value, "blend", "blend 1.5s"),
  mute: readFlag,
};

const WRITERS = {
  seconds: (seconds) => `${writeNumber(seconds)}s`,
  seed: (seed) => `seed ${seed}`,
  recache: (share) => `recache ${writeNumber(share)}`,
  blend: (seconds) => `blend ${writeNumber(seconds)}s`,
  mute: () => "mute",
};

/** Values of the option fields of a line, and where each stands: `{values, places}`; throws TimelineError. */
export function readOptions(fields) {
  const values = {};
  const places = {};
  for (const field of fields) {
    field.require(field.text, "an option is empty", "remove the extra '|'");
    const [name, value] = readOption(field);
    field.require(!(name in places), `${name === "seconds" ? "the duration" : name} is given twice`, "keep one of the two");
    values[name] = value;
    places[name] = field;
  }
  return { values, places };
}

/** One option as text, null for its absence. */
export const writeOption = (name, value) => (value === null || value === false ? null : WRITERS[name](value));

/** The option fields of a segment as text; the duration always comes first. */
export const writeOptions = (segment) =>
  Object.keys(WRITERS).map((name) => writeOption(name, segment[name])).filter((part) => part !== null);

/** The shortest plain decimal that reads back as exactly `value`, which is 0 or more. */
export function writeNumber(value) {
  const [digits, exponent] = String(value).split("e");
  if (!exponent) return digits;
  const [whole, fraction = ""] = digits.split(".");
  const point = whole.length + Number(exponent);
  const all = whole + fraction;
  return point <= 0 ? `0.${"0".repeat(-point)}${all}` : all.padEnd(point, "0");
}

/** A whole number in smallest..largest. */
export function readWhole(field, what, example, smallest, largest) {
  const { text } = field;
  field.require(/^[0-9]+$/.test(text), `${what} needs a whole number, not '${text}'`, `write for example ${what} ${example}`);
  const value = Number(text);
  const inRange = value >= smallest && value <= largest;
  field.require(inRange, `${what} ${text} is out of range`, `choose a number from ${smallest} to ${largest}`);
  return value;
}

/** `[name, value]` of one option. */
function readOption(field) {
  if (NUMBER_LIKE.test(field.text)) return ["seconds", readDuration(field, "a duration", `${PLAIN.seconds}s`)];
  const name = field.word.toLowerCase();
  if (Object.hasOwn(READERS, name)) return [name, READERS[name](field.after(name.length))];
  const word = /^[A-Za-z]*/.exec(field.word)[0];
  const elsewhere = "remove it; load the LoRA with --lora, or with a LoRA node in front of the sampler";
  field.require(word.toLowerCase() !== "lora", "LoRAs belong to the whole film, not to a segment", elsewhere);
  const known = Object.keys(READERS);
  const guess = nearest(word || field.word, known);
  const all = `options are a duration such as 5s, ${known.join(", ")}; a bar in a prompt is written \\|`;
  throw field.error(`unknown option '${field.word}'`, guess ? `did you mean '${guess}'?` : all);
}

function readShare(value) {
  const { text } = value;
  const isShare = NUMBER.test(text) && Number(text) <= 1;
  value.require(isShare, `recache needs a number from 0 to 1, not '${text}'`, "write for example recache 0.8");
  return Number(text);
}

function readFlag(value) {
  value.require(!value.text, "mute takes no value", "write mute alone");
  return true;
}

function readDuration(field, what, example) {
  const { text } = field;
  const number = DURATION.exec(text)?.[1];
  const meant = `write ${inSeconds(text) ?? example}`;
  field.require(NUMBER.test(number), `${what} is a number of seconds with an s, not '${text}'`, meant);
  const fix = `choose more than 0 and at most ${MAX_SECONDS} seconds; split longer ones with then:`;
  field.require(Number(number) > 0 && Number(number) <= MAX_SECONDS, `${what} of ${number} seconds is out of range`, fix);
  return Number(number);
}

/** What was probably meant by another way to write a time. */
function inSeconds(text) {
  for (const [pattern, scale] of [[SECONDS_WORD, 1], [MINUTES, 60]]) {
    const number = pattern.exec(text)?.[1];
    if (NUMBER.test(number)) return `${writeNumber(Number(number) * scale)}s`;
  }
  const clock = CLOCK.exec(text);
  return clock ? `${Number(clock[1]) * 60 + Number(clock[2])}s` : null;
}
