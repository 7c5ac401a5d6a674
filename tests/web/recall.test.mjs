// What nodes have shown comes back from the Take: asked once, for the name that stays, and for the widgets as they are.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Recall, fitting, whose } from "../../web/recall.js";

const FACTS = { GF_StreamSampler: [{ text: "film", of: {} }], GF_TakeReport: [{ text: "report", of: {} }] };
const graph = (take) => ({
  1: { class_type: "GF_PromptTimeline", inputs: {} },
  2: { class_type: "GF_StreamSampler", inputs: { take, timeline: ["1", 0] } },
  3: { class_type: "GF_TakeReport", inputs: { take: ["2", 0] } },
  4: { class_type: "GF_TakeDrift", inputs: { take: ["2", 0] } },
  5: { class_type: "GF_TakeDrift", inputs: {} },
});

function stage(answers = { fox: FACTS }) {
  const asked = [];
  const recall = new Recall(async (take) => (asked.push(take), answers[take] ?? {}));
  return { asked, recall, view: () => ({ told: [], shown(facts) { this.told.push(facts?.text ?? null); } }) };
}

test("every kind of node is told what lies in its Take, which is asked once", async () => {
  const { asked, recall, view } = stage();
  const views = Object.fromEntries(Object.keys(graph("fox")).map((id) => [id, view()]));
  for (let tick = 0; tick < 3; tick++) {
    await Promise.all(Object.entries(views).map(([id, one]) => recall.follow(graph("fox"), id, one, 1e6 + tick)));
  }
  assert.deepEqual(Object.values(views).map(({ told }) => told), [["film"], ["film"], ["report"], [null], []]);
  assert.deepEqual(asked, ["fox"]);
});

test("a name that is being typed is waited for, and a Take of another name takes the old picture away", async () => {
  const { asked, recall, view } = stage();
  const one = view();
  await recall.follow(graph("fox"), "2", one, 1000);
  for (const [take, now] of [["fo", 2000], ["f", 2100], ["", 2200], ["o", 2300], ["ow", 2400], ["owl", 2500], ["owl", 2700]]) {
    await recall.follow(graph(take || "x"), "2", one, now);
  }
  assert.deepEqual(asked, ["fox"]);
  await recall.follow(graph("owl"), "2", one, 2900);
  assert.deepEqual([asked, one.told], [["fox", "owl"], ["film", null]]);
});

test("an answer that comes late is for nobody", async () => {
  let answer;
  const recall = new Recall(() => new Promise((done) => (answer = done)));
  const one = { told: [], shown(facts) { this.told.push(facts); } };
  const first = recall.follow(graph("fox"), "2", one, 1000);
  recall.follow(graph("owl"), "2", one, 1100);
  answer(FACTS);
  await first;
  assert.deepEqual(one.told, []);
});

test("facts hold for the widgets that they were made with, the newest first", () => {
  const facts = [6, 3, 6].map((columns, at) => ({ text: at, of: { columns } }));
  assert.deepEqual([6, 3, 9].map((columns) => fitting(facts, { columns, other: 1 })?.text ?? null), [2, 1, null]);
  assert.equal(fitting(undefined, {}), null);
});

test("a film of another text is told as such, in whatever order its seed stands", () => {
  const text = "a fox | 4s\nthen: it jumps | 4s\n";
  const rendered = (of) => `${of}\n@seed 7\n`;
  assert.equal(whose(text, rendered(text)), "");
  assert.equal(whose(`@seed 9\n# a remark\n${text}`, rendered(text)), "");
  for (const edit of [text.replace("fox", "owl"), text.replace("4s", "5s"), text.replace("then", "cut"), `${text}then: it sleeps\n`, `@style soft\n${text}`]) {
    assert.equal(whose(edit, rendered(text)), "the last film, of an earlier text", edit);
  }
  assert.equal(whose("an owl | 4s\nthen: it sleeps | 4s\n", rendered(text)), "another storyboard's last film");
  assert.equal(whose(null, rendered(text)), "the last film of this Take");
  assert.equal(whose(text, undefined), "");
});

test("views hear whose film it is; a text that a Shot Cut adds to is not known before a Run", async () => {
  const facts = { ...FACTS, GF_StreamSampler: [{ text: "film", timeline: "an owl | 4s\n", of: {} }] };
  const { recall } = stage({ fox: facts });
  const told = async (prompt, id) => {
    let heard;
    await recall.follow(prompt, id, { shown: (_, whose) => (heard = whose) }, 1e6);
    return heard;
  };
  const prompt = graph("fox");
  prompt[1].inputs.timeline = "a fox | 4s\n";
  assert.equal(await told(prompt, "2"), "another storyboard's last film");
  assert.equal(await told(prompt, "3"), "another storyboard's last film");
  prompt[1].inputs.timeline = "an owl | 4s\n";
  assert.equal(await told(prompt, "2"), "");
  prompt[6] = { class_type: "GF_ShotCut", inputs: { timeline: ["1", 0] } };
  prompt[2].inputs.timeline = ["6", 0];
  assert.equal(await told(prompt, "2"), "the last film of this Take");
});
