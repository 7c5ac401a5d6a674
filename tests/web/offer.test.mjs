// Storyboards of other programs: which texts the server is asked about.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { mayBeTheirs } from "../../web/timeline/offer.js";

const folder = new URL("../fixtures/others/", import.meta.url);
const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name }) => name);

for (const name of [...files, "captions/01.json"]) {
  test(`${name} may be another program's`, () => assert.ok(mayBeTheirs(readFileSync(new URL(name, folder), "utf8"))));
}

for (const text of ["", "a fox | 5s\nthan: it runs", "{fox} runs | 5s\nthen: b", "@fps 16\n2 foxes run\nthen b", "a --- b"]) {
  test(`not asked about: ${JSON.stringify(text)}`, () => assert.ok(!mayBeTheirs(text)));
}
