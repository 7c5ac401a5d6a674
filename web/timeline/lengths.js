/**
 * Lengths as people write them: `5s`, `3,5 sec.`, `1m30s`, `0:01:30`, `500 ms`, `81 frames`.
 * Mirrors gf_core/timeline/lengths.py.
 */

export const MAX_SECONDS = 3600;

const NAMES = {
  3600: "h hr hrs hour hours",
  60: "m min mins minute minutes 分",
  1: "s sec secs second seconds 秒",
  0.001: "ms msec msecs millisecond milliseconds",
};
const UNITS = new Map(Object.entries(NAMES).flatMap(([scale, names]) => names.split(" ").map((name) => [name, Number(scale)])));
const LONGEST = 400; // characters of a length

const AMOUNT = "[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+";
const BARE = new RegExp(`^(?:${AMOUNT})$`);
const PART = new RegExp(`(${AMOUNT}) *([a-z秒分]+)\\.? *`, "g");
const FRAMES = /^([0-9]{1,9}) *(?:f|frames?)\.? *$/;
const CLOCK = /^(?:([0-9]{1,3}):)?([0-9]{1,3}):([0-9]{2}(?:[.,][0-9]+)?) *s?$/;
const FRAME_CLOCK = /^([0-9]{1,3}):([0-9]{2}):([0-9]{2})[:;]([0-9]{2,3})$/;
const POWER = /^([0-9]+(?:\.[0-9]*)?e[+-]?[0-9]{1,3}) *s?$/;
const THOUSANDS = /^([1-9][0-9]*),([0-9]{3})/;

/** Seconds that `text` (plain, lower case) says, below 0 after a minus; null if it says no length. */
export function readLength(text, fps) {
  if (text.length > LONGEST) return null;
  if (text[0] === "-") {
    const rest = text.slice(1).replace(/^ +/, "");
    if (rest[0] === "-") return null;
    const length = BARE.test(rest) ? number(rest) : readLength(rest, fps);
    return length === null ? null : -length;
  }
  const clock = CLOCK.exec(text);
  if (clock) {
    const [hours, minutes, seconds] = [clock[1], Number(clock[2]), number(clock[3])];
    if (seconds === null || seconds >= 60 || (hours && minutes >= 60)) return null;
    return micro(Number(hours ?? 0) * 3600 + minutes * 60 + seconds);
  }
  const frames = FRAMES.exec(text);
  if (frames) return seconds(Number(frames[1]), fps);
  const parts = [...text.matchAll(PART)];
  if (!parts.length || text.replace(PART, "")) return null;
  const amounts = parts.map((part) => number(part[1]));
  const scales = parts.map((part) => UNITS.get(part[2]) ?? 0);
  const falls = scales.every((scale, at) => scale && !(at && scales[at - 1] <= scale));
  if (!falls || amounts.includes(null)) return null;
  const total = amounts.reduce((sum, amount, at) => sum + amount * scales[at], 0);
  return scales.length === 1 && scales[0] === 1 ? total : micro(total);
}

/** What was probably meant by a `text` that is no length: lengths that could be written in its place. */
export function meant(text, fps) {
  const grouped = THOUSANDS.exec(text);
  if (grouped) return `${grouped[1]}.${grouped[2].replace(/0+$/, "") || "0"}s or ${grouped[1]}${grouped[2]}s`;
  const value = guess(text, fps);
  return value === null ? "a length such as 5s, 1m30s, 1:30 or 81f" : `${writeNumber(value)}s`;
}

/** The one length that a `text` which is none can mean, in seconds, or null. */
export function guess(text, fps) {
  let value = null;
  if (text[0] === "+") {
    text = text.slice(1).replace(/^ +/, "");
    value = readLength(text, fps);
  }
  const [power, clock] = [POWER.exec(text), FRAME_CLOCK.exec(text)?.slice(1).map(Number)];
  if (text.length > LONGEST);
  else if (BARE.test(text)) value = number(text);
  else if (power) value = Number(power[1]);
  else if (clock && Math.max(clock[1], clock[2]) < 60 && clock[3] < fps.value) {
    value = micro(clock[0] * 3600 + clock[1] * 60 + clock[2] + seconds(clock[3], fps));
  }
  return value > 0 && value <= MAX_SECONDS ? value : null;
}

/** The shortest plain decimal that reads back as exactly `value`, which is 0 or more. */
export function writeNumber(value) {
  const [digits, exponent] = String(value).split("e");
  if (!exponent) return digits;
  const [whole, fraction = ""] = digits.split(".");
  const point = whole.length + Number(exponent);
  const all = whole + fraction;
  return point <= 0 ? `0.${"0".repeat(-point)}${all}` : all.padEnd(point, "0");
}

/** How long `frames` pictures are. */
const seconds = (frames, { above, below }) => (frames * below) / above;

/** A decimal with a point or a comma; null for `1,500`, which can be 1.5 and 1500. */
const number = (text) => (/^[1-9][0-9]*,[0-9]{3}$/.test(text) ? null : Number(text.replace(",", ".")));

/** Whole microseconds, as sums of minutes and milliseconds would leave dust behind. */
const micro = (value) => (value < 1e9 ? Math.floor(value * 1e6 + 0.5) / 1e6 : value);
