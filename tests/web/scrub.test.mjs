// Which picture of the film a time of the storyboard shows, also after it was edited.

import assert from "node:assert/strict";
import { test } from "node:test";

import { makePlan } from "../../web/timeline/plan.js";
import { frameAt } from "../../web/timeline/scrub.js";
import { read } from "../../web/timeline/text.js";

const FILM = { starts: { 0: 0, 2: 21 }, fps: 16, frames: 33 }; // a 1.3125 s, c 0.75 s; b was muted
const RENDERED = ["a", "b", "c"];
const at = (text, time) => frameAt(time, makePlan(read(text)), read(text).segments.map(({ prompt }) => prompt), FILM, RENDERED);
const AS_RENDERED = "a | 1.3s\nthen: b | 1s | mute\ncut: c | 0.75s";

test("as it was rendered", () => {
  const got = [0, 0.2, 0.3, 1.3, 1.32, 1.8, 2, 9].map((time) => at(AS_RENDERED, time));
  assert.deepEqual(got, [0, 0, 4, 20, 21, 25, 29, null]);
});

test("after segments were moved, and where one is longer than it was", () => {
  const moved = "c | 1.3s\ncut: new | 0.75s\ncut: a | 1.5s";
  assert.deepEqual([0, 0.7, 0.8, 1.5, 2.1, 3.3].map((time) => at(moved, time)), [21, 29, null, null, 0, 16]);
});
