// Reads `[{text}]` from standard input and prints what the browser's reader and planner make of each text.

import { readFileSync } from "node:fs";

import { makePlan } from "../../web/timeline/plan.js";
import { writeOptions } from "../../web/timeline/options.js";
import { read } from "../../web/timeline/text.js";
import { expanded } from "./expanded.mjs";

const answers = JSON.parse(readFileSync(0, "utf8")).map((text) => {
  const board = read(text);
  const [error] = board.errors;
  if (error) return { error: [error.line, error.column, error.message, error.fix] };
  const { segments, shots } = makePlan(board);
  const verb = (at) => shots.find(({ index }) => index === at)?.verb ?? "then";
  return {
    pictures: [...board.pictures],
    segments: board.segments.map((segment, index) => [segment.verb, expanded(board, index), writeOptions(segment)]),
    plan: segments.flatMap(({ muted, start, seconds }, at) => (muted ? [] : [[at, verb(at), start, seconds]])),
  };
});
process.stdout.write(JSON.stringify(answers));
