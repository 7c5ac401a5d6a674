/**
 * Options of a segment, the parts after `|`: read from fields, written back as text.
 * Mirrors gf_core/timeline/options.py.
 */

import { MAX_SECONDS, guess, meant, readLength, writeNumber } from "./lengths.js";
import { TimelineError, strip, suggest } from "./lines.js";

export const MAX_SEED = Number.MAX_SAFE_INTEGER;
export const PLAIN = { seconds: 5, seed: null, recache: null, blend: null, motion: false, mute: false }; // a line without options

const SHARE = /^([0-9]+(?:[.,][0-9]*)?|[.,][0-9]+) *(%?)$/;
const NUMBER_LIKE = /^[+-]?(?:[0-9.,]|(?:nan|inf|infinity) *s?$)/i;

const READERS = {
  seed: (value) => readWhole(value, "seed", 0, MAX_SEED),
  recache: readShare,
  blend: (value, fps) => readDuration(value, fps, "blend"),
  motion: (value) => readFlag(value, "motion"),
  mute: (value) => readFlag(value, "mute"),
};

const WRITERS = {
  seconds: (seconds) => `${writeNumber(seconds)}s`,
  seed: (seed) => `seed ${seed}`,
  recache: (share) => `recache ${writeNumber(share)}`,
  blend: (seconds) => `blend ${writeNumber(seconds)}s`,
  motion: () => "motion",
  mute: () => "mute",
};

/**
 * Values of the option fields of a line, where each stands, and the first error: `{values, places, error}`. `fps` is
 * `{value, above, below}`, for lengths in frames. Options after a wrong one still count, and a length without its s.
 */
export function readOptions(fields, fps) {
  const found = { values: {}, places: {}, error: null };
  for (const field of fields) {
    try {
      field.require(field.text, "an option is empty", "remove the extra '|'");
      const [name, value] = readOption(field, fps);
      field.require(!(name in found.places), `${name === "seconds" ? "the duration" : name} is given twice`, "keep one of the two");
      found.values[name] = value;
      found.places[name] = field;
    } catch (error) {
      if (!(error instanceof TimelineError)) throw error;
      found.error ??= error;
      const half = NUMBER_LIKE.test(field.plain) ? guess(bare(field).toLowerCase(), fps) : null; // it is being typed
      if (half === null || found.places.seconds) continue;
      found.values.seconds = half;
      found.places.seconds = field;
    }
  }
  return found;
}

/** Whether the field reads as an option. */
export const isOption = (field) => Boolean(field.text) && !readOptions([field], { value: 1, above: 1, below: 1 }).error;

/** One option as text, null for its absence. */
export const writeOption = (name, value) => (value === null || value === false ? null : WRITERS[name](value));

/** The option fields of a segment as text; the duration always comes first. */
export const writeOptions = (segment) =>
  Object.keys(WRITERS).map((name) => writeOption(name, segment[name])).filter((part) => part !== null);

/** A whole number in smallest..largest. */
export function readWhole(field, what, smallest, largest) {
  const text = bare(field);
  const number = /^([0-9]{1,18})[.,]0*$/.exec(text)?.[1];
  const fix = number ? `write ${what} ${number}` : `write a whole number from ${smallest} to ${largest}`;
  field.require(/^[0-9]+$/.test(text), `${what} needs a whole number, not '${field.text}'`, fix);
  const value = Number(text);
  const inRange = value >= smallest && value <= largest;
  field.require(inRange, `${what} ${field.text} is out of range`, `choose a number from ${smallest} to ${largest}`);
  return value;
}

/** The field's plain text without blanks at its edges. */
export const bare = (field) => strip(field.plain);

/** `[name, value]` of one option. */
function readOption(field, fps) {
  if (NUMBER_LIKE.test(field.plain)) return ["seconds", readDuration(field, fps, "a duration")];
  const [said] = field.plain.split(" ", 1);
  const name = said.toLowerCase();
  if (Object.hasOwn(READERS, name)) return [name, READERS[name](field.after(name.length), fps)];
  const word = /^[A-Za-z]*/.exec(said)[0];
  const elsewhere = "remove it; load the LoRA with --lora, or with a LoRA node in front of the sampler";
  field.require(word.toLowerCase() !== "lora", "LoRAs belong to the whole film, not to a segment", elsewhere);
  const known = Object.keys(READERS);
  const all = `options are a duration such as 5s, ${known.join(", ")}; a bar in a prompt is written \\|`;
  throw field.error(`unknown option '${field.word}'`, suggest(word || field.word, known, all));
}

function readShare(value) {
  const [, number = "", percent = ""] = SHARE.exec(bare(value)) ?? [];
  const share = number ? Number(number.replace(",", ".")) / (percent ? 100 : 1) : 2;
  const fix = share <= 1 ? `write recache ${writeNumber(share)}` : "choose a number from 0 to 1";
  const isShare = number && !percent && !number.includes(",") && share <= 1;
  value.require(isShare, `recache needs a number from 0 to 1, not '${value.text}'`, fix);
  return share;
}

function readFlag(value, name) {
  value.require(!value.text, `${name} takes no value`, `write ${name} alone`);
  return true;
}

function readDuration(field, fps, what) {
  const text = bare(field).toLowerCase();
  const seconds = readLength(text, fps);
  const option = what === "blend" ? "blend " : "";
  const message = `${what} is a number of seconds with an s, not '${field.text}'`;
  if (seconds === null) throw field.error(message, `write ${option}${meant(text, fps)}`);
  const fix = `choose more than 0 and at most ${MAX_SECONDS} seconds; split longer ones with then:`;
  field.require(seconds > 0 && seconds <= MAX_SECONDS, `${what} of '${field.text}' is out of range`, fix);
  return seconds;
}
