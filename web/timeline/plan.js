/**
 * Seconds to chunks: where each segment really begins and how long it really is.
 * Mirrors the arithmetic of gf_core/timeline/plan.py (lengths only; no seeds, no keys).
 */

import { writeNumber } from "./options.js";

const FORCE = { then: 0, cut: 1, scene: 2, start: 3 };
const DIGITS = 18;
const UNIT = 10n ** BigInt(DIGITS); // exact decimals: 0.1 s ten times is 1 s

/** Pictures in the first `chunks` chunks of a film: 12 each, the first has 9. */
export function pictures(chunks, timing = TIMING) {
  if (chunks <= 0) return 0;
  const { chunkFrames, timeStride } = timing;
  return 1 + (chunkFrames - 1) * timeStride + (chunks - 1) * chunkFrames * timeStride;
}

/** The paper's: three latent frames in a chunk, four pictures in a latent frame. */
export const TIMING = Object.freeze({ chunkFrames: 3, timeStride: 4 });

/**
 * Plan `board` (from `read`): `{fps, seconds, chunkSeconds, segments}` with one entry per segment of the text:
 * `{index, verb, shot, muted, start, seconds, asked, chunks}`. A muted segment has no length; if it was a
 * cut or a scene, the next one cuts in its place. `shot` counts from 0.
 */
export function makePlan(board, timing = TIMING) {
  const { fps } = board;
  const chunkPictures = timing.chunkFrames * timing.timeStride;
  const placed = [];
  let asked = 0n;
  let end = 0;
  let shot = -1;
  let started = false;
  let mutedVerb = "then";
  board.segments.forEach((segment, index) => {
    let verb = FORCE[mutedVerb] > FORCE[segment.verb] ? mutedVerb : segment.verb;
    const start = pictures(end, timing) / fps;
    if (segment.mute) {
      mutedVerb = verb;
      placed.push({ index, verb, shot: Math.max(shot, 0), muted: true, start, seconds: 0, asked: segment.seconds, chunks: 0 });
      return;
    }
    if (!started) verb = "start";
    [started, mutedVerb] = [true, "then"];
    if (verb !== "then") shot += 1;
    asked += exact(segment.seconds);
    const first = end;
    end = Math.max(end + 1, nearestChunks(asked, fps, chunkPictures, pictures(1, timing)));
    const seconds = (pictures(end, timing) - pictures(first, timing)) / fps;
    placed.push({ index, verb, shot, muted: false, start, seconds, asked: segment.seconds, chunks: end - first });
  });
  return { fps, seconds: pictures(end, timing) / fps, chunkSeconds: chunkPictures / fps, segments: placed };
}

/** How many chunks from the start of the film come closest to `asked` units (a tie takes the longer). */
function nearestChunks(asked, fps, chunkPictures, firstPictures) {
  const over = asked * BigInt(fps) - BigInt(firstPictures) * UNIT;
  const step = BigInt(chunkPictures) * UNIT;
  return Number(floorDivide(2n * over + step, 2n * step)) + 1;
}

function floorDivide(a, b) {
  const quotient = a / b;
  return a % b < 0n ? quotient - 1n : quotient;
}

function exact(seconds) {
  const [whole, fraction = ""] = writeNumber(seconds).split(".");
  return BigInt(whole) * UNIT + BigInt(fraction.slice(0, DIGITS).padEnd(DIGITS, "0"));
}
