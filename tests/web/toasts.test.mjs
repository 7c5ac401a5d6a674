// Messages of the pack's own: whole sentences, none of the host's, gone with the next Run.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Toasts, failure, firstSentence, refusals } from "../../web/toasts.js";

const error = (type, details) => ({ type, details, message: "as the host says" });
const SAID = "line 2, column 1: unknown verb 'than:'. Did you mean 'then:'?";
const node = (...errors) => ({ class_type: "GF_StreamSampler", errors });

test("only what the pack's own checks say, once", () => {
  const own = ["model", "clip", "vae"].map((name) => error("custom_validation_failed", `${name} - ${SAID}`));
  assert.deepEqual(refusals({ 1: node(...own), 2: node(own[0]) }), [SAID]);
  assert.deepEqual(refusals({ 1: { class_type: "KSampler", errors: own } }), []);
});

for (const type of ["required_input_missing", "return_type_mismatch", "value_smaller_than_min", "value_not_in_list", "invalid_input_type", "exception_during_validation"]) {
  test(`${type} is the host's to say`, () => assert.deepEqual(refusals({ 1: node(error(type, "timeline")) }), []));
}

for (const details of [undefined, "", "model", "timeline - ", "timeline -   "]) {
  test(`nothing to say: ${details}`, () => assert.deepEqual(refusals({ 1: node(error("custom_validation_failed", details)) }), []));
}

test("of what fails in a Run only what is meant for people", () => {
  assert.equal(failure({ exception_type: "grounded_forcing.NotPossible", exception_message: `${SAID}\n` }), SAID);
  assert.equal(failure({ exception_type: "RuntimeError", exception_message: SAID }), null);
});

test("the first sentence", () => {
  const said = { "it has 1.5 s. Write 2 s.": "it has 1.5 s.", "no end": "no end", "why? because": "why?", "a.mp4 is gone. x": "a.mp4 is gone." };
  for (const [text, first] of Object.entries(said)) assert.equal(firstSentence(text), first);
});

test("messages have a life, and the next verdict takes them away", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const shown = new Set();
  const host = { add: (message) => shown.add(message), remove: (message) => shown.delete(message) };
  const toasts = new Toasts(() => host, (text) => text === "in a dialog already");
  const wrong = { 1: node(error("custom_validation_failed", `timeline - ${SAID}`)) };
  for (let tick = 0; tick < 3; tick++) toasts.verdict(wrong);
  toasts.say("in a dialog already");
  context.mock.timers.tick(400);
  assert.deepEqual([...shown].map(({ detail, life, summary }) => [detail, life > 0, summary]), [[SAID, true, "Grounded Forcing"]]);
  toasts.verdict({});
  assert.equal(shown.size, 0);
  toasts.say(SAID);
  toasts.clear(); // accepted before it was seen
  context.mock.timers.tick(400);
  assert.equal(shown.size, 0);
});

test("a Run that fails before the page knows that its graph was taken is told all the same", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const shown = new Set();
  const toasts = new Toasts(() => ({ add: (one) => shown.add(one), remove: (one) => shown.delete(one) }), () => false);
  toasts.say(SAID);
  toasts.verdict({});
  context.mock.timers.tick(400);
  assert.equal(shown.size, 1);
});

test("a Run that is refused takes away why the one before failed", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const shown = new Set();
  const toasts = new Toasts(() => ({ add: (one) => shown.add(one), remove: (one) => shown.delete(one) }), () => false);
  toasts.say("an older failure.");
  context.mock.timers.tick(400);
  toasts.verdict({ 1: node(error("custom_validation_failed", `timeline - ${SAID}`)) });
  context.mock.timers.tick(400);
  assert.deepEqual([...shown].map(({ detail }) => detail), [SAID]);
});
