// Who feeds whom: in the open graph, and in the prompt that the host runs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { findNode, sketch, takeOf, timelineOf, writtenSeed } from "../../web/links.js";

const TEXT = "a fox | 5s";
const node = (class_type, inputs = {}) => ({ class_type, inputs });
const answer = timelineOf;

test("a sampler right behind its timeline", () => {
  const prompt = {
    1: node("GF_PromptTimeline", { timeline: TEXT }),
    3: node("GF_StreamSampler", { model: ["7", 0], seed: 4, timeline: ["1", 0] }),
    7: node("GF_LoadModel", { model: "built-in" }),
  };
  assert.deepEqual(answer(prompt, "3"), "1");
  assert.deepEqual(answer(prompt, 3), "1");
  assert.equal(answer(prompt, "7"), null);
  assert.equal(answer(prompt, "9"), null);
  assert.equal(answer(undefined, "3"), null);
});

test("through a Shot Cut, and through a node that hands on", () => {
  const prompt = {
    1: node("GF_PromptTimeline", { timeline: ["8", 0] }),
    2: node("Any Switch", { which: 1, any_01: ["1", 0] }),
    3: node("GF_ShotCut", { timeline: ["2", 0], prompt: ["8", 0] }),
    4: node("GF_StreamSampler", { timeline: ["3", 0] }),
    5: node("GF_StreamSampler", { timeline: ["2", 0] }),
  };
  assert.deepEqual(answer(prompt, "4"), "1");
  assert.deepEqual(answer(prompt, "5"), "1");
});

test("into and out of subgraphs", () => {
  const prompt = { "4:8": node("GF_PromptTimeline", { timeline: TEXT }), "5:2": node("GF_StreamSampler", { timeline: ["4:8", 0] }) };
  assert.deepEqual(answer(prompt, "5:2"), "4:8");
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

/** A graph as LiteGraph has it: `links` are [from, slot, to, slot]. */
function graph(nodes, links, inputs = [], outputs = []) {
  const made = { nodes, getNodeById: (id) => nodes.find((one) => String(one.id) === String(id)) };
  const all = links.map(([origin_id, origin_slot, to, slot], id) => ({ id, origin_id, origin_slot, to, slot }));
  made.getLink = (id) => all[id];
  made.outputs = outputs.map((id) => ({ linkIds: [id] }));
  made.inputs = inputs;
  const into = (one, slot) => all.find((link) => String(link.to) === String(one.id) && link.slot === slot);
  for (const one of nodes) {
    one.getInputLink = (slot) => into(one, slot);
    if (!one.subgraph) continue;
    one.getInputLink = () => assert.fail("the host looks inside the subgraph here");
    one.inputs.forEach((input, slot) => (input.link = into(one, slot)?.id ?? null));
  }
  return made;
}

const litegraph = (id, comfyClass, inputs = [], widgets = {}, more = {}) => ({
  id, comfyClass, inputs: inputs.map((name) => ({ name })),
  widgets: Object.entries(widgets).map(([name, value]) => ({ name, value })), ...more,
});

test("the open graph says which Take a node shows", () => {
  const root = graph(
    [
      litegraph(1, "GF_PromptTimeline", ["timeline"], { timeline: TEXT }),
      litegraph(2, "GF_StreamSampler", ["timeline", "take"], { take: " monday\\fox" }),
      litegraph(3, "GF_TakeReport", ["take"]),
      litegraph(4, "Reroute", ["any"]),
      litegraph(5, "GF_SaveVideo", ["take"]),
      litegraph(6, "GF_TakeDrift", ["take"]),
      litegraph(7, "GF_PromptTimeline", ["timeline"]),
    ],
    [[1, 0, 2, 0], [2, 0, 3, 0], [2, 0, 4, 0], [4, 0, 5, 0]],
  );
  const prompt = sketch(root);
  const takes = Object.keys(prompt).map((id) => takeOf(prompt, id));
  assert.deepEqual(takes, ["monday/fox", "monday/fox", "monday/fox", "monday/fox", "monday/fox", null, null]);
  assert.equal(prompt[2].node, root.nodes[1]);
});

test("a Take whose name comes from another node is not known before a Run", () => {
  const nodes = [litegraph(1, "PrimitiveString", [], { value: "x" }), litegraph(2, "GF_StreamSampler", ["take"], { take: "old" })];
  assert.equal(takeOf(sketch(graph(nodes, [[1, 0, 2, 0]])), 2), null);
});

for (const inside of [-10, "-10"]) {
  test(`Takes through the edges of subgraphs, ids as ${typeof inside}s`, () => {
    const sampler = graph([litegraph(8, "GF_StreamSampler", ["timeline", "take"], { take: "inner" })], [[inside, 0, 8, 0], [inside, 1, 8, 1], [8, 0, -20, 0]], [], [2]);
    const reports = graph([litegraph(9, "GF_TakeReport", ["take"])], [[inside, 0, 9, 0]]);
    const named = { inputs: [{ name: "timeline" }, { name: "take", widget: { name: "take" } }], widgets: [{ name: "take", value: "outer" }] };
    const root = graph(
      [litegraph(1, "GF_PromptTimeline"), { id: 4, subgraph: sampler, ...named }, { id: 5, subgraph: reports, inputs: [{ name: "take" }] }],
      [[1, 0, 4, 0], [4, 0, 5, 0]],
    );
    const prompt = sketch(root);
    assert.deepEqual(Object.keys(prompt), ["1", "4:8", "5:9"]);
    assert.equal(timelineOf(prompt, "4:8"), "1");
    for (const id of ["1", "4:8", "5:9"]) assert.equal(takeOf(prompt, id), "outer", id);
  });
}

test("a sampler's seed gives way to the one that its text states, and to no other", () => {
  const of = (timeline) => writtenSeed({ 1: { class_type: "GF_PromptTimeline", inputs: { timeline } },
    2: { class_type: "GF_ShotCut", inputs: { timeline: ["1", 0] } }, 3: { class_type: "GF_StreamSampler", inputs: { timeline: ["2", 0] } } }, "3");
  assert.equal(of("@style film\n  @seed 12\n\na fox | 1s"), "12");
  assert.equal(of("@seed\t0"), "0");
  for (const text of ["a fox | 1s | seed 12", "# @seed 12", "@seed", "@seeds 12", "@seed fox", ["9", 0]]) assert.equal(of(text), null);
  assert.equal(writtenSeed({ 3: { class_type: "GF_StreamSampler", inputs: {} } }, "3"), null);
});
