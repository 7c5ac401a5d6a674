/**
 * Seconds to chunks: where each segment really begins and how long it really is.
 * Mirrors the arithmetic of gf_core/timeline/plan.py (lengths only; no seeds, no keys).
 */

import { writeNumber } from "./lengths.js";
import { VERBS } from "./verbs.js";

const CHUNK = 12; // pictures: three latent frames of four
const FIRST_CHUNK = 9; // the film's first latent frame is one picture
const SECOND = 10n ** 30n;

/** Pictures in the first `chunks` chunks of a film. */
const pictures = (chunks) => (chunks ? FIRST_CHUNK + (chunks - 1) * CHUNK : 0);

/** The decimal that was written, so that 0.1 s ten times is 1 s: `seconds` as parts of `SECOND`. */
function exact(seconds) {
  const [whole, part = ""] = writeNumber(seconds).split(".");
  return BigInt(whole + part.slice(0, 30).padEnd(30, "0"));
}

/**
 * Plan `board` (from `read`): `{seconds, segments, shots}`, one of `segments` for each of the text:
 * `{muted, start, seconds, asked}`, and `shots` as `{index, verb, start, seconds}`. A muted segment has no length;
 * if it was a cut, a scene or went back, the next one does in its place.
 */
export function makePlan({ rate: { above, below }, segments }) {
  const shots = [];
  const seconds = (frames) => (frames * below) / above;
  let [asked, end, mutedVerb] = [0n, 0, "then"];
  const placed = segments.map((segment, index) => {
    let verb = VERBS[mutedVerb].force > VERBS[segment.verb].force ? mutedVerb : segment.verb;
    const [first, start] = [end, seconds(pictures(end))];
    if (segment.mute) mutedVerb = verb;
    else {
      if (!shots.length) verb = "start";
      if (VERBS[verb].force) shots.push({ index, verb, start });
      mutedVerb = "then";
      asked += exact(segment.seconds) * BigInt(above);
      // As many chunks from the start of the film as come closest; a tie takes the longer.
      const chunk = SECOND * BigInt(CHUNK * below);
      end = Math.max(end, Number((asked - SECOND * BigInt(FIRST_CHUNK * below) + chunk / 2n) / chunk)) + 1;
      shots.at(-1).seconds = seconds(pictures(end)) - shots.at(-1).start;
    }
    return { muted: segment.mute, start, asked: segment.seconds, seconds: seconds(pictures(end) - pictures(first)) };
  });
  return { seconds: seconds(pictures(end)), segments: placed, shots };
}
