/**
 * Options of a segment, the parts after `|`: read from fields, written back as text.
 * Mirrors gf_core/timeline/options.py.
 */

import { BLANKS, escape, nearest } from "./lines.js";

export const DEFAULT_SECONDS = 5;
export const MAX_SECONDS = 3600;
export const MAX_SEED = Number.MAX_SAFE_INTEGER;
const MAX_LORA = 10;

const BLANK = `[${BLANKS}]*`;
const NUMBER = /^(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)$/;
const NUMBER_LIKE = new RegExp(`^[+-]?(?:[0-9.]|(?:nan|inf|infinity)${BLANK}s?$)`, "i");
const DURATION = new RegExp(`^([0-9.]+)${BLANK}[sS]$`);
const SECONDS_WORD = new RegExp(`^([0-9.]+)${BLANK}(?:secs?|seconds?)?$`, "i");
const MINUTES = new RegExp(`^([0-9.]+)${BLANK}(?:m|mins?|minutes?)$`, "i");
const CLOCK = /^([0-9]+):([0-9]{2})$/;
const EDGES = new RegExp(`^[${BLANKS}]+|[${BLANKS}]+$`, "g");
const FIRST_BLANK = new RegExp(`[${BLANKS}]`);

/** Values of the option fields of a line, and where each stands: `{values, places}`; throws TimelineError. */
export function readOptions(line, fields) {
  const values = {};
  const places = {};
  for (const field of fields) {
    if (!field.text) throw line.error(field.start, "an option is empty", "remove the extra '|'");
    const [name, value] = readOption(line, field);
    if (name === "loras") {
      if (values.loras?.some(([other]) => other === value[0]))
        throw line.error(field.start, `lora ${value[0]} is given twice`, "keep one of the two");
      values.loras = [...(values.loras ?? []), value];
      continue;
    }
    if (name in values) {
      const label = name === "seconds" ? "the duration" : name;
      throw line.error(field.start, `${label} is given twice`, "keep one of the two");
    }
    values[name] = value;
    places[name] = field;
  }
  return { values, places };
}

/** The option fields of a segment as text; the duration always comes first. */
export function writeOptions(segment) {
  const parts = [`${writeNumber(segment.seconds)}s`];
  if (segment.seed !== null) parts.push(`seed ${segment.seed}`);
  if (segment.recache !== null) parts.push(`recache ${writeNumber(segment.recache)}`);
  if (segment.blend !== null) parts.push(`blend ${writeNumber(segment.blend)}s`);
  for (const [name, strength] of segment.loras) parts.push(`lora ${escape(name)}:${writeNumber(strength)}`);
  if (segment.mute) parts.push("mute");
  return parts;
}

/** The shortest plain decimal that reads back as exactly `value`. */
export function writeNumber(value) {
  const [digits, exponent] = String(Math.abs(value)).split("e");
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  if (!exponent) return sign + digits;
  const [whole, fraction = ""] = digits.split(".");
  const point = whole.length + Number(exponent);
  const all = whole + fraction;
  return sign + (point <= 0 ? `0.${"0".repeat(-point)}${all}` : all.padEnd(point, "0"));
}

/** A whole number in smallest..largest. */
export function readWhole(line, field, what, example, smallest, largest) {
  if (!/^[0-9]+$/.test(field.text)) {
    const message = `${what} needs a whole number, not '${field.text}'`;
    throw line.error(field.start, message, `write for example ${what} ${example}`);
  }
  const digits = field.text.replace(/^0+/, "") || "0";
  const value = Number(digits);
  if (digits.length > 18 || value < smallest || value > largest) {
    const fix = `choose a number from ${smallest} to ${largest}`;
    throw line.error(field.start, `${what} ${field.text} is out of range`, fix);
  }
  return value;
}

function readOption(line, field) {
  if (NUMBER_LIKE.test(field.text)) {
    return ["seconds", readDuration(line, field, "a duration", `${DEFAULT_SECONDS}s`)];
  }
  const word = /^[A-Za-z]*/.exec(field.text)[0];
  const reader = READERS.get(word.toLowerCase());
  const next = field.text.slice(word.length, word.length + 1);
  if (!reader || (next && !FIRST_BLANK.test(next))) {
    const shown = field.text.split(FIRST_BLANK)[0];
    const guess = nearest(word || shown, READERS.keys());
    const names = [...READERS.keys()].join(", ");
    const known = `options are a duration such as 5s, ${names}; a bar in a prompt is written \\|`;
    throw line.error(field.start, `unknown option '${shown}'`, guess ? `did you mean '${guess}'?` : known);
  }
  return reader(line, field.after(word.length));
}

function readLora(line, value) {
  const colon = value.text.lastIndexOf(":");
  const name = (colon < 0 ? value.text : value.text.slice(0, colon)).replace(EDGES, "");
  const strength = (colon < 0 ? "1" : value.text.slice(colon + 1)).replace(EDGES, "");
  const example = "write for example lora ink_wash:0.8";
  if (!name) throw line.error(value.start, "lora needs a name", example);
  const at = colon < 0 ? value.start : value.place(value.text.length - strength.length);
  if (!NUMBER.test(strength.replace(/^-/, "")))
    throw line.error(at, `the strength of lora ${name} is not a number: '${strength}'`, example);
  if (Math.abs(Number(strength)) > MAX_LORA) {
    const fix = `choose a strength from -${MAX_LORA} to ${MAX_LORA}`;
    throw line.error(at, `the strength of lora ${name} is out of range: ${strength}`, fix);
  }
  return ["loras", [name, Number(strength)]];
}

const READERS = new Map([
  ["seed", (line, value) => ["seed", readWhole(line, value, "seed", 7, 0, MAX_SEED)]],
  ["recache", (line, value) => ["recache", readShare(line, value)]],
  ["blend", (line, value) => ["blend", readDuration(line, value, "blend", "blend 1.5s")]],
  ["lora", readLora],
  ["mute", (line, value) => ["mute", readFlag(line, value)]],
]);

function readShare(line, value) {
  if (!NUMBER.test(value.text) || Number(value.text) > 1) {
    const message = `recache needs a number from 0 to 1, not '${value.text}'`;
    throw line.error(value.start, message, "write for example recache 0.8");
  }
  return Number(value.text);
}

function readFlag(line, value) {
  if (value.text) throw line.error(value.start, "mute takes no value", "write mute alone");
  return true;
}

function readDuration(line, field, what, example) {
  const match = DURATION.exec(field.text);
  if (!match || !NUMBER.test(match[1])) {
    const message = `${what} is a number of seconds with an s, not '${field.text}'`;
    throw line.error(field.start, message, `write ${inSeconds(field.text) ?? example}`);
  }
  const seconds = Number(match[1]);
  if (!(seconds > 0 && seconds <= MAX_SECONDS)) {
    const fix = `choose more than 0 and at most ${MAX_SECONDS} seconds; split longer ones with then:`;
    throw line.error(field.start, `${what} of ${match[1]} seconds is out of range`, fix);
  }
  return seconds;
}

/** What was probably meant by another way to write a time. */
function inSeconds(text) {
  for (const [pattern, scale] of [[SECONDS_WORD, 1], [MINUTES, 60]]) {
    const match = pattern.exec(text);
    if (match && NUMBER.test(match[1])) return `${writeNumber(Number(match[1]) * scale)}s`;
  }
  const clock = CLOCK.exec(text);
  return clock ? `${Number(clock[1]) * 60 + Number(clock[2])}s` : null;
}
