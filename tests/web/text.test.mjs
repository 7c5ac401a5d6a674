// The browser's reader of storyboards against the fixtures that Python reads, and its writer.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { read, writeLine } from "../../web/timeline/text.js";
import { expanded } from "./expanded.mjs";

const fixture = (name) => JSON.parse(readFileSync(new URL(`../fixtures/timeline/${name}.json`, import.meta.url), "utf8"));
const facts = ({ verb, back, prompt, seconds, seed, recache, blend, motion, mute }) =>
  ({ verb, back, prompt, seconds, seed, recache, blend, motion, mute });

for (const film of fixture("films")) {
  test(`film ${film.name} reads as recorded`, () => {
    const board = read(film.text);
    assert.deepEqual(board.errors, []);
    const [above, below = 1] = String(film.fps).split("/").map(Number);
    assert.deepEqual([board.rate.value, board.seed, board.style], [above / below, film.seed, film.style]);
    assert.deepEqual(Object.fromEntries(board.cast), film.cast);
    assert.deepEqual(Object.fromEntries(board.pictures), film.pictures ?? {});
    const segments = board.segments.map((segment, index) => ({
      ...facts(segment),
      line: segment.line,
      expanded: expanded(board, index),
    }));
    assert.deepEqual(segments, film.segments.map((segment) => ({ back: null, motion: false, ...segment })));
  });

  test(`film ${film.name} survives writing`, () => {
    const board = read(film.text);
    const head = [...board.cast].map(([name, description]) => `@cast ${name} = ${description}`);
    const text = [...head, ...board.segments.map((segment) => writeLine(segment, 30))].join("\n");
    const again = read(text);
    assert.deepEqual(again.errors, []);
    assert.deepEqual(again.segments.map(facts), board.segments.map(facts));
  });
}

for (const wrong of fixture("errors")) {
  test(`error ${wrong.name} points at line and column`, () => {
    const [error] = read(wrong.text).errors;
    assert.deepEqual([error.line, error.column], [wrong.line, wrong.column]);
    assert.ok(error.message && error.fix);
    assert.equal(error.fix, wrong.fix ?? error.fix);
  });
}

test("a wrong line is still a segment, and the lines after it are still read", () => {
  const board = read("a fox | 5s\ncut: b | 5\nthen: c | 2s\nthen: {who} | 2s");
  assert.deepEqual(board.segments.map((segment) => segment.seconds), [5, 5, 2, 2]);
  assert.deepEqual(board.segments.map((segment) => Boolean(segment.error)), [false, true, false, true]);
  assert.deepEqual(board.errors.map((error) => error.line), [2, 4]);
});

test("columns count code points, as Python does", () => {
  assert.equal(read("🦊🦊 runs | 5").errors[0].column, 11);
});

test("more segments than a day of film are refused where they begin, as in Python", () => {
  const text = "a fox\n" + "then: b\n".repeat(20_000);
  assert.deepEqual(read(text).errors.map((error) => [error.line, error.column, error.fix]), [
    [20_001, 1, "cut it into several storyboards"],
  ]);
});
