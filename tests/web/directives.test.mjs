// What is said of the whole film, written into the text and nowhere else.

import assert from "node:assert/strict";
import { test } from "node:test";

import { directives, setDirectives } from "../../web/timeline/directives.js";
import { read } from "../../web/timeline/text.js";

const FILM = "# mine\n@FPS 24\n@cast fox = a red fox\n\n# the first\n{fox} walks | 2s\nthen: it sleeps | 1s\n@cast owl = an owl\n";
const CASES = [
  ["another value in its place", "fps", ["12"], FILM.replace("@FPS 24", "@fps 12")],
  ["none any more", "fps", [""], FILM.replace("@FPS 24\n", "")],
  ["a new one after the last", "style", [" film\nnoir "], `${FILM}@style film noir\n`],
  ["one more of the cast", "cast", ["fox = a red fox", "owl = an owl", "cat = a cat"], `${FILM}@cast cat = a cat\n`],
  ["one less of the cast", "cast", ["owl = a white owl"], FILM.replace("fox = a red fox", "owl = a white owl").replace("@cast owl = an owl\n", "")],
  ["the same", "cast", ["fox = a red fox", "owl = an owl"], FILM],
];

for (const [name, directive, values, want] of CASES) {
  test(name, () => assert.equal(setDirectives(FILM, directive, values), want));
}

test("a film without any begins with it", () => {
  for (const [text, want] of [["a | 1s", "@seed 7\na | 1s"], ["", "@seed 7\n"], ["a | 1s\r\ncut: b | 1s", "@seed 7\r\na | 1s\r\ncut: b | 1s"]]) {
    assert.equal(setDirectives(text, "seed", ["7"]), want);
    assert.equal(read(want).seed, 7);
  }
});

test("after a last line without a break", () => {
  assert.equal(setDirectives("a | 1s\n@fps 24", "seed", ["7"]), "a | 1s\n@fps 24\n@seed 7\n");
});

test("what is read is what is written", () => {
  for (const [directive, values] of [["fps", ["24"]], ["cast", ["fox = a red fox", "owl = an owl"]], ["style", []]]) {
    assert.deepEqual(directives(FILM, directive), values);
    assert.equal(setDirectives(FILM, directive, values).toLowerCase(), FILM.toLowerCase());
  }
});
