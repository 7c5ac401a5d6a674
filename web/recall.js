/**
 * What nodes have shown comes back: a node whose view shows nothing of its Take yet is told what lies in the Take.
 * The host says it again with every Run (`executed`); this is for the time before: a workflow that was just opened,
 * gone back in by undo, another tab, a page that was reloaded, a node that was just added.
 */

import { takeOf, textOf } from "./links.js";
import { read } from "./timeline/text.js";

const PATIENCE = 400; // milliseconds that a name has to stay, as somebody may be typing it
const SOURCE = { GF_PromptTimeline: "GF_StreamSampler" }; // whose facts they show

export class Recall {
  /** `ask(take)` gives what nodes show of a Take: `{kind: [facts]}`. */
  constructor(ask) {
    this.ask = ask;
    this.states = new WeakMap(); // view -> the name of its Take, since when, and whether the Take was asked
    this.answers = new Map(); // name of a Take -> promise of its facts, for nodes that ask at the same time
  }

  /** Look after one node of `prompt` (from `sketch`); cheap when there is nothing to do. */
  async follow(prompt, id, view, now = Date.now()) {
    const take = takeOf(prompt, id);
    const state = this.states.get(view) ?? { take: null, since: 0, asked: false };
    this.states.set(view, state);
    if (take !== state.take) Object.assign(state, { since: state.take === null ? 0 : now, take, asked: false });
    if (take === null || state.asked || now - state.since < PATIENCE) return;
    state.asked = true;
    const facts = await this.answer(take);
    if (state.take !== take) return; // it has got another one in the meantime
    const { class_type: kind, inputs } = prompt[id];
    view.shown(fitting(facts[SOURCE[kind] ?? kind], inputs), whose(textOf(prompt, id), facts.GF_StreamSampler?.[0]?.timeline));
  }

  answer(take) {
    if (!this.answers.has(take)) {
      this.answers.set(take, this.ask(take).finally(() => setTimeout(() => this.answers.delete(take), PATIENCE)));
    }
    return this.answers.get(take);
  }
}

/** The newest facts that hold for a node's widgets as they are; null where there are none. */
export const fitting = (facts, inputs) =>
  facts?.findLast(({ of }) => Object.entries(of).every(([name, value]) => inputs[name] === value)) ?? null;

/** Whose film a Take's last one is, where it may not be that of `text`; "" where it is, but for seeds. */
export function whose(text, rendered) {
  if (rendered === undefined) return "";
  if (text === null) return "the last film of this Take";
  if (meaning(text) === meaning(rendered)) return "";
  const prompts = new Set(read(text).segments.map(({ prompt }) => prompt));
  const known = read(rendered).segments.some(({ prompt }) => prompts.has(prompt));
  return known ? "the last film, of an earlier text" : "another storyboard's last film";
}

/** What a storyboard says, without its seeds: those may stand on other nodes. */
function meaning(text) {
  const { rate, style, cast, segments } = read(text);
  const said = segments.map(({ verb, back, prompt, seconds, recache, blend, motion, mute }) =>
    [verb, back, prompt, seconds, recache, blend, motion, mute]);
  return JSON.stringify([rate.above, rate.below, style, [...cast], said]);
}
