// Which Prompt Timeline an event's sampler is fed from, through Shot Cuts, reroutes and subgraphs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { findNode, timelineOf } from "../../web/links.js";

/** A graph from `[id, type, {inputs: {name: [originId, originSlot]}, subgraph}]`. */
function graph(rows, outputs = []) {
  const made = { links: new Map(), nodes: [] };
  const link = ([origin_id, origin_slot]) => {
    made.links.set(made.links.size + 1, { origin_id, origin_slot });
    return made.links.size;
  };
  for (const [id, type, { inputs = {}, subgraph } = {}] of rows) {
    const slots = Object.entries(inputs).map(([name, from]) => ({ name, link: from && link(from) }));
    made.nodes.push({ id, type, comfyClass: type, inputs: slots, graph: made, subgraph });
  }
  made.outputs = outputs.map((from) => ({ linkIds: [link(from)] }));
  return made;
}
const answer = (root, id) => {
  const found = timelineOf(root, id);
  return found && [String(found.node.id), found.exact];
};

for (const ids of [[1, 3], ["1", "3"]]) {
  test(`a sampler right behind its timeline, ids as ${typeof ids[0]}s`, () => {
    const root = graph([[ids[0], "GF_PromptTimeline"], [ids[1], "GF_StreamSampler", { inputs: { model: null, timeline: [ids[0], 0] } }]]);
    assert.deepEqual(answer(root, "3"), ["1", true]);
    assert.equal(answer(root, "1"), null);
    assert.equal(answer(root, "7"), null);
  });
}

test("a Shot Cut in between gives segments other numbers; a reroute does not", () => {
  const root = graph([
    [1, "GF_PromptTimeline"],
    [2, "Reroute", { inputs: { "": [1, 0] } }],
    [3, "GF_ShotCut", { inputs: { timeline: [2, 0] } }],
    [4, "GF_StreamSampler", { inputs: { timeline: [3, 0] } }],
    [5, "GF_StreamSampler", { inputs: { timeline: [2, 0] } }],
    [6, "GF_StreamSampler", { inputs: { timeline: null } }],
  ]);
  assert.deepEqual(answer(root, "4"), ["1", false]);
  assert.deepEqual(answer(root, "5"), ["1", true]);
  assert.equal(answer(root, "6"), null);
});

test("into and out of subgraphs", () => {
  const text = graph([[8, "GF_PromptTimeline"]], [[8, 0]]);
  const render = graph([[2, "GF_StreamSampler", { inputs: { timeline: [-10, 1] } }]]);
  const root = graph([
    [4, "text", { subgraph: text }],
    [5, "render", { inputs: { model: null, timeline: [4, 0] }, subgraph: render }],
  ]);
  assert.deepEqual(answer(root, "5:2"), ["8", true]);
  assert.equal(findNode(root, "5:2").node, render.nodes[0]);
  assert.equal(findNode(root, "5:3"), null);
  assert.equal(findNode(root, "9:2"), null);
});

test("links that go in a circle end", () => {
  const root = graph([[1, "Reroute", { inputs: { a: [2, 0] } }], [2, "Reroute", { inputs: { a: [1, 0] } }],
    [3, "GF_StreamSampler", { inputs: { timeline: [2, 0] } }]]);
  assert.equal(answer(root, "3"), null);
});
