// A length without its bar is words of the picture: the strip says so, and refuses nothing.

import assert from "node:assert/strict";
import { test } from "node:test";

import { hintsOf } from "../../web/timeline/hints.js";
import { read } from "../../web/timeline/text.js";

const hints = (text) => hintsOf(read(text)).map(({ line, column, fix }) => [line, column, fix.split(": ")[1]]);

test("a length at the end of a prompt without one", () => {
  assert.deepEqual(hints("a fox sleeps 3s\ncut: it dances at sunset 2.5 s.\nthen: it sleeps 4 seconds"), [
    [1, 14, "| 3s"], [2, 26, "| 2.5s"], [3, 17, "| 4s"],
  ]);
});

test("not where a length is given, and not where it is none", () => {
  assert.deepEqual(hints("a fox sleeps 3s | 5s\nthen: room 7\nthen: a bar of the 80s\nthen: 3s pass\nthen: foxes4s"), []);
  assert.deepEqual(hints("a fox\nthn: it sleeps 3s"), [], "a line with a mistake has enough to say");
});
