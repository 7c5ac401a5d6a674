// Storyboards of other programs: which texts the server is asked about, and for which of them an answer is shown.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import { Offer, mayBeTheirs } from "../../web/timeline/offer.js";

const folder = new URL("../fixtures/others/", import.meta.url);
const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name }) => name);

for (const name of [...files, "captions/01.json"]) {
  test(`${name} may be another program's`, () => assert.ok(mayBeTheirs(readFileSync(new URL(name, folder), "utf8"))));
}

for (const text of ["", "a fox | 5s\nthan: it runs", "{fox} runs | 5s\nthen: b", "@fps 16\n2 foxes run\nthen b", "a --- b"]) {
  test(`not asked about: ${JSON.stringify(text)}`, () => assert.ok(!mayBeTheirs(text)));
}

/** An offer without a page: `answer()` is the server's word on what it was asked last. */
function asking() {
  const offer = Object.create(Offer.prototype);
  const convert = () => new Promise((done) => (offer.answer = () => done({ text: "a fox", said: "a schedule" })));
  return Object.assign(offer, { convert, text: null, found: null, words: {}, element: { hidden: true } });
}

const asked = async (offer) => {
  while (!offer.answer) await new Promise((done) => setTimeout(done, 20));
};

test("an answer is shown for the text that it is about", async () => {
  const offer = asking();
  const looked = offer.look('{"0": "a fox"}', true);
  await asked(offer);
  offer.answer();
  await looked;
  assert.deepEqual([offer.found?.text, offer.words.textContent, offer.element.hidden], ["a fox", "This is a schedule.", false]);
});

test("an answer is not shown for a text that was changed meanwhile", async () => {
  const offer = asking();
  const looked = offer.look('{"0": "a fox"}', true);
  await asked(offer);
  await offer.look("a fox | 5s", false);
  offer.answer();
  await looked;
  assert.deepEqual([offer.found, offer.element.hidden], [null, true]);
});
