// What views make of text: lines of a report, and what fits on a block of the strip.

import assert from "node:assert/strict";
import { test } from "node:test";

import { labelled } from "../../web/timeline/dom.js";

for (const [line, label] of Object.entries({
  "film     29.81 s, 477 frames": "film     ",
  "estimate memory 570 MB": "estimate ",
  "29.81 s of film in 1:17": "",
  "rendering goes on": "",
  "shot 1   2.1 s": "",
  "stopped": "",
  "": "",
})) {
  test(`the label of "${line}"`, () => assert.deepEqual(labelled(line), [label, line.slice(label.length)]));
}
