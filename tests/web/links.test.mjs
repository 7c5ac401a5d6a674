// Which nodes an event is about: in the open graph, and in the prompt that the host runs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { findNode, timelineOf } from "../../web/links.js";

const TEXT = "a fox | 5s";
const node = (class_type, inputs = {}) => ({ class_type, inputs });
const answer = (prompt, id) => {
  const found = timelineOf(prompt, id);
  return found && [found.id, found.exact, found.text];
};

test("a sampler right behind its timeline", () => {
  const prompt = {
    1: node("GF_PromptTimeline", { timeline: TEXT }),
    3: node("GF_StreamSampler", { model: ["7", 0], seed: 4, timeline: ["1", 0] }),
    7: node("GF_LoadModel", { model: "built-in" }),
  };
  assert.deepEqual(answer(prompt, "3"), ["1", true, TEXT]);
  assert.deepEqual(answer(prompt, 3), ["1", true, TEXT]);
  assert.equal(answer(prompt, "7"), null);
  assert.equal(answer(prompt, "9"), null);
  assert.equal(answer(undefined, "3"), null);
});

test("a Shot Cut in between gives segments other numbers; a node that hands on does not", () => {
  const prompt = {
    1: node("GF_PromptTimeline", { timeline: ["8", 0] }),
    2: node("Any Switch", { which: 1, any_01: ["1", 0] }),
    3: node("GF_ShotCut", { timeline: ["2", 0], prompt: ["8", 0] }),
    4: node("GF_StreamSampler", { timeline: ["3", 0] }),
    5: node("GF_StreamSampler", { timeline: ["2", 0] }),
  };
  assert.deepEqual(answer(prompt, "4"), ["1", false, null]);
  assert.deepEqual(answer(prompt, "5"), ["1", true, null]);
});

test("into and out of subgraphs", () => {
  const prompt = { "4:8": node("GF_PromptTimeline", { timeline: TEXT }), "5:2": node("GF_StreamSampler", { timeline: ["4:8", 0] }) };
  assert.deepEqual(answer(prompt, "5:2"), ["4:8", true, TEXT]);
});

for (const [text, sampler, outer] of [[8, 2, 5], ["8", "2", "5"]]) {
  test(`nodes inside subgraphs, ids as ${typeof text}s`, () => {
    const inside = { nodes: [{ id: text }, { id: sampler }] };
    const root = { _nodes: [{ id: 1 }, { id: outer, subgraph: inside }] };
    assert.equal(findNode(root, "5:2"), inside.nodes[1]);
    assert.equal(findNode(root, "1"), root._nodes[0]);
    for (const unknown of ["5:3", "9:2", "1:2", "2"]) assert.equal(findNode(root, unknown), null);
  });
}

test("links that go in a circle end", () => {
  const prompt = { 1: node("A", { a: ["2", 0] }), 2: node("A", { a: ["1", 0] }), 3: node("GF_StreamSampler", { timeline: ["1", 0] }) };
  assert.equal(answer(prompt, "3"), null);
});
