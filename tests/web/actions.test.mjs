// What each key does, told by an editor that only writes down what it is asked.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ACTIONS, deedOfKey } from "../../web/timeline/actions.js";

const press = (keys) => {
  const parts = keys.split(" ");
  const key = parts.at(-1);
  return { key, ctrlKey: parts.includes("ctrl"), metaKey: false, shiftKey: parts.includes("shift"), altKey: parts.includes("alt") };
};

/** Everything that `deed` asks of an editor where the second of five segments is chosen. */
function asked(deed) {
  const said = [];
  const tell = (name) => (...given) => said.push([name, ...given]);
  deed({
    selected: 1,
    range: { first: 1, count: 1 },
    chosen: { seconds: 3, mute: false },
    splitSeconds: () => 1.5,
    view: { fields: { prompt: { focus: tell("focus") } } },
    ...Object.fromEntries(["zoomBy", "undo", "edit", "editAll", "duplicate", "remove", "select", "reorder", "toggleFilm"].map((name) => [name, tell(name)])),
  });
  return said;
}

// `reorder(from, to)` puts a segment before what is segment `to` now, so one place on means two.
const WANTED = {
  "-": ["zoomBy", 1 / 1.5],
  "0": ["zoomBy", 0],
  "+": ["zoomBy", 1.5],
  "=": ["zoomBy", 1.5],
  "ctrl z": ["undo", -1],
  "ctrl y": ["undo", 1],
  "ctrl shift z": ["undo", 1],
  "f": ["toggleFilm"],
  "s": ["edit", "split", 1.5],
  "d": ["duplicate"],
  "n": ["edit", "insert"],
  "delete": ["remove"],
  "backspace": ["remove"],
  "m": ["editAll", "setMute", true],
  "[": ["edit", "setSeconds", 2.75],
  "]": ["edit", "setSeconds", 3.25],
  "arrowleft": ["select", 0],
  "arrowright": ["select", 2],
  "home": ["select", 0],
  "end": ["select", Infinity],
  "shift arrowleft": ["select", 0, true],
  "shift arrowright": ["select", 2, true],
  "alt arrowleft": ["reorder", 1, 0, 1],
  "alt arrowright": ["reorder", 1, 3, 1],
  "enter": ["focus"],
};

test("every key does what it says", () => {
  for (const [keys, want] of Object.entries(WANTED)) assert.deepEqual(asked(deedOfKey(press(keys))), [want], keys);
  assert.deepEqual(Object.values(ACTIONS).flatMap(([keys]) => keys).sort(), Object.keys(WANTED).sort());
  assert.deepEqual(asked(ACTIONS.tidy[1]), [["edit", "tidy"]]);
});

test("a key with another one held is another key", () => {
  for (const keys of ["ctrl s", "alt d", "ctrl alt z", "alt 0", "x", "ctrl shift y"]) assert.equal(deedOfKey(press(keys)), undefined, keys);
  assert.equal(deedOfKey({ key: "Z", metaKey: true }), ACTIONS.undo[1], "a Mac's key");
  assert.equal(deedOfKey({ key: "ArrowRight", altKey: true }), ACTIONS.later[1]);
  assert.equal(deedOfKey({ key: "D", shiftKey: true }), ACTIONS.duplicate[1], "shift or caps lock alone changes nothing");
});
