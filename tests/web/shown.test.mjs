// What views make of text: lines of a report, and what fits on a block of the strip.

import assert from "node:assert/strict";
import { test } from "node:test";

import { labelled } from "../../web/timeline/dom.js";
import { sayPlace } from "../../web/timeline/view.js";

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

test("a block says its verb on one line, or its number alone", () => {
  const then = { verb: "then" };
  assert.equal(sayPlace(0, { verb: "start" }, 26), "1");
  assert.deepEqual([49, 48].map((width) => sayPlace(1, then, width)), ["2 then", "2"]);
  assert.deepEqual([57, 50].map((width) => sayPlace(11, then, width)), ["12 then", "12"]);
  assert.equal(sayPlace(4, { verb: "back", back: 2 }, 90), "5 back to 2");
});
