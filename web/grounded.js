/**
 * The pack's part of the browser: a storyboard on Prompt Timeline, a live view on nodes that render, and on the others
 * what they have to say. All are extras: whatever fails here is written to the console, and the nodes go on with their
 * plain widgets.
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { VIEWS, handOver } from "./canvas.js";
import { RENDERS, findNode, sketch, takeOf, timelineOf, writtenSeed } from "./links.js";
import { LiveView } from "./live.js";
import { Recall } from "./recall.js";
import { Shown } from "./shown.js";
import { TakesView } from "./takes.js";
import { ACTIONS, deedOfKey } from "./timeline/actions.js";
import { Editor } from "./timeline/editor.js";
import { splitLines } from "./timeline/lines.js";
import { Toasts, failure } from "./toasts.js";

const HEIGHT = { storyboard: 330, live: 210, takes: 340, report: 90, chart: 220, sheet: 150, film: 180 }; // least, in pixels
const ADD = {
  GF_PromptTimeline: addEditor,
  GF_StreamSampler: (node) => addElement(node, "live", new LiveView({ url, stop }), [340, 0]),
  GF_SegmentTakes: addTakes,
  GF_TakeReport: (node) => addShown(node, "report", 240),
  GF_TakeDrift: (node) => addShown(node, "chart", 460),
  GF_TakeSheet: (node) => addShown(node, "sheet", 300),
  GF_SaveVideo: (node) => addShown(node, "film", 440),
};
const COLOURS = { GF_TIMELINE: "#5fb0a2", GF_TAKE: "#e0b05c", GF_MEMORY: "#a98be0" }; // as in style.css, for Nodes 2.0
const views = new WeakMap(); // node -> its Editor, LiveView or Shown
const sources = new Map(); // sampler's execution id -> promise of the id of the timeline that it renders
const heights = new WeakMap(); // node whose text comes from another one -> how tall it was
const HISTORIES = 50;
const histories = new Map(); // graph and execution id of a timeline -> its undo
const url = (path) => api.apiURL(path);

const recall = new Recall(async (take) => {
  const answer = await api.fetchApi(`/grounded/take?take=${encodeURIComponent(take)}`);
  return answer.ok ? answer.json() : {};
});
const toasts = new Toasts(
  () => app.extensionManager.toast,
  (text) => [...document.querySelectorAll(".p-dialog")].some(({ innerText }) => innerText.includes(text)),
);

app.registerExtension({
  name: "grounded.forcing",
  nodeCreated(node) {
    if (node.comfyClass?.startsWith("GF_")) guarded(() => fixSeed(node));
    guarded(() => ADD[node.comfyClass]?.(node));
  },
  getNodeMenuItems: (node) => views.get(node)?.menu?.() ?? [],
});

/** The front end puts "randomize" under every new seed; a film whose seed changes with each Run keeps no shot. */
function fixSeed(node) {
  const control = node.widgets?.find(({ name }) => name === "control_after_generate");
  if (control) control.value = "fixed";
}

/** A palette that is loaded takes the colour of every type away that it does not know. */
function colourSockets() {
  for (const table of [app.canvas?.default_connection_color_byType, app.canvas?.constructor.link_type_colors]) {
    for (const [type, colour] of Object.entries(COLOURS)) if (table && !table[type]) table[type] = colour;
  }
}

function addEditor(node) {
  const widget = textWidget(node);
  const editor = new Editor({
    getText: () => String(widget.value ?? ""),
    setText: (text) => {
      const box = textBox(node);
      const place = box === document.activeElement ? changedUntil(box.value, text) : null;
      widget.value = text;
      widget.callback?.(text);
      if (place !== null) setTimeout(() => box.setSelectionRange(place, place)); // where one would go on typing
      node.graph?.setDirtyCanvas?.(true, false);
    },
    showPlace: (line, column) => showPlace(textBox(node), line, column),
    url,
    convert,
    fit: (linked) => fitNode(node, linked),
  });
  addElement(node, "storyboard", editor, [460, 600], HEIGHT.storyboard + 30);
}

/** A node whose text comes from another one is as small as what it shows, and as tall as before when it does not. */
function fitNode(node, linked) {
  if (linked && !heights.has(node)) heights.set(node, node.size[1]);
  const least = node.computeSize()[1];
  node.setSize([node.size[0], linked ? least : Math.max(least, heights.get(node) ?? 0)]);
  if (!linked) heights.delete(node);
  node.graph?.setDirtyCanvas?.(true, true);
}

const post = (path, asked) =>
  api.fetchApi(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked) });

async function convert(text) {
  const answer = await post("/grounded/convert", { text });
  return answer.ok ? answer.json() : null;
}

async function stop(id) {
  const answer = await post("/grounded/stop", { node: id });
  return answer.ok && (await answer.json()).stopped;
}

function addTakes(node) {
  const widget = (wanted) => node.widgets.find(({ name }) => name === wanted);
  const slot = () => (node.inputs ?? []).findIndex(({ name }) => name === "pick");
  const view = new TakesView({
    url,
    stop,
    getPick: () => widget("pick").value,
    setPick: (name) => {
      widget("pick").value = name;
      widget("pick").callback?.(name);
      node.graph?.setDirtyCanvas?.(true, false);
    },
    mayPick: () => slot() < 0 || !node.isInputConnected?.(slot()),
    segment: () => widget("segment").value,
  });
  addElement(node, "takes", view, [460, 0]);
}

function addShown(node, name, tall) {
  addElement(node, name, new Shown({ url }), [400, tall]);
}

/** A widget that shows `view` and stores nothing. What a taller node has to spare above `most` goes to other widgets. */
function addElement(node, name, view, [width, tall], most = Infinity) {
  views.set(node, view);
  view.element.graphNode = node;
  handOver(view.element);
  if (!document.getElementById("gf-style")) {
    const href = new URL("./style.css", import.meta.url).href;
    document.head.append(Object.assign(document.createElement("link"), { id: "gf-style", rel: "stylesheet", href }));
  }
  const least = () => view.height ?? HEIGHT[name];
  const sizes = { getMinHeight: least, ...(most < Infinity && { getMaxHeight: () => view.height ?? most }) };
  const options = { serialize: false, hideOnZoom: false, getValue: () => "", setValue: () => {}, ...sizes };
  node.addDOMWidget(name, `GROUNDED_${name.toUpperCase()}`, view.element, options).serialize = false;
  const [narrow, low] = node.computeSize();
  node.setSize([Math.max(width, narrow, node.size[0]), Math.max(tall, low, node.size[1])]);
}

const textWidget = (node) => node.widgets.find(({ name }) => name === "timeline");

/** The text box of a timeline, in either front end. */
function textBox(node) {
  const widget = textWidget(node) ?? {};
  const element = "element" in widget ? widget.element : widget.inputEl; // the older name, of which newer ones warn
  const shown = element?.tagName === "TEXTAREA" && element.isConnected;
  return shown ? element : document.querySelector(`[data-node-id="${node.id}"] textarea:not([class*="gf-"])`);
}

/** Where in `after` the part ends that differs from `before`. */
function changedUntil(before, after) {
  let same = 0;
  while (same < Math.min(before.length, after.length) && before.at(-1 - same) === after.at(-1 - same)) same++;
  return after.length - same;
}

/** The text box has an undo of the browser's, which an edit of the strip ends: both go through one history. */
document.addEventListener(
  "keydown",
  (event) => {
    const deed = deedOfKey(event);
    const node = deed === ACTIONS.undo[1] || deed === ACTIONS.redo[1] ? timelineOfBox(event.target) : null;
    if (!node) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    guarded(() => deed(views.get(node)));
  },
  { capture: true },
);

function showPlace(box, line, column) {
  const at = box && splitLines(box.value)[line - 1];
  if (!at) return;
  const before = Array.from(at.source).slice(0, column - 1).join("").length;
  box.focus();
  box.setSelectionRange(at.offset + before, at.offset + at.source.length);
}

const rootGraph = () => app.rootGraph ?? app.graph?.rootGraph ?? app.graph;

/** Undo outlives a node that the host makes anew, as it does for its own undo and for another tab. */
function keepHistory(key, view) {
  const before = histories.get(key);
  if (before && before !== view.history) view.takeOver(before);
  histories.delete(key);
  histories.set(key, view.history);
  while (histories.size > HISTORIES) histories.delete(histories.keys().next().value);
}

/** Nodes whose view is on the page. */
const shownNodes = () => [...document.querySelectorAll(VIEWS)].map(({ graphNode }) => graphNode);

/** Text, links and Takes may be changed anywhere: compare now and then, which costs little. */
setInterval(() => guarded(look), 200);

function look() {
  toasts.verdict(app.lastNodeErrors);
  const nodes = shownNodes();
  if (!nodes.length) return;
  colourSockets();
  for (const node of nodes) guarded(() => follow(node)); // first, whatever becomes of the rest: it keeps an artist's text
  const prompt = sketch(rootGraph());
  const ids = new Map(Object.entries(prompt).map(([id, { node }]) => [node, id]));
  for (const node of nodes) if (ids.has(node)) guarded(() => remind(node, prompt, ids.get(node)));
}

/** Follow what was changed in the node itself. */
function follow(node) {
  const view = views.get(node);
  // Nodes 2.0 goes on to show the elements of a removed node where another has taken its id, as in a new subgraph or a
  // workflow that is opened in place of one. It may still name the graph that it was in.
  const heir = node.graph?.getNodeById?.(node.id) === node ? null : app.canvas?.graph?.getNodeById?.(node.id);
  if (views.has(heir)) view.element.replaceWith(views.get(heir).element);
  if (node.comfyClass === "GF_PromptTimeline") {
    const slot = (node.inputs ?? []).findIndex(({ name }) => name === "timeline");
    view.setLinked(slot >= 0 && Boolean(node.isInputConnected?.(slot)));
    view.refresh();
  }
  if (node.comfyClass === "GF_SegmentTakes") view.refresh();
}

/** What a node should show that depends on the others. */
function remind(node, prompt, id) {
  const view = views.get(node);
  if (node.comfyClass === "GF_PromptTimeline") {
    keepHistory(`${rootGraph().id} ${id}`, view);
    const { timeline } = prompt[id].inputs;
    if (typeof timeline === "string") view.came(timeline); // a subgraph's own field gives it, which is known at once
  }
  if (RENDERS.has(node.comfyClass)) view.seeded(writtenSeed(prompt, id));
  return recall.follow(prompt, id, view);
}

/** The timeline whose text box that is, if it is one. */
const timelineOfBox = (box) =>
  box?.tagName === "TEXTAREA" ? shownNodes().find((one) => one.comfyClass === "GF_PromptTimeline" && textBox(one) === box) : undefined;

document.addEventListener("selectionchange", () => {
  const box = document.activeElement;
  const node = timelineOfBox(box);
  if (node) views.get(node).selectLine(splitLines(box.value.slice(0, box.selectionStart)).length);
});

for (const event of ["started", "noted", "progress", "share", "segment", "finished"]) {
  api.addEventListener(`grounded.${event}`, ({ detail }) => guarded(() => tell(event, detail)));
}

api.addEventListener("executed", ({ detail }) => guarded(() => showAgain(detail)));
api.addEventListener("execution_start", () => guarded(begin));
api.addEventListener("execution_error", ({ detail }) => guarded(() => sayWhy(detail)));

function begin() {
  toasts.clear();
  for (const node of shownNodes()) views.get(node).awaited?.();
}

function sayWhy(detail) {
  views.get(findNode(rootGraph(), detail.node_id))?.failed?.(detail.exception_message);
  const said = failure(detail);
  if (said) toasts.say(said);
}

/** What a node has shown, now or in the Run that its result was kept from. */
async function showAgain({ node: id, output }) {
  const facts = output?.grounded && JSON.parse(output.grounded[0]);
  const node = findNode(rootGraph(), id);
  const view = views.get(node);
  const prompt = facts && view ? sketch(rootGraph()) : {};
  if (!view || !facts || !about(prompt, id, facts)) return;
  if (node.comfyClass === "GF_PromptTimeline") {
    view.came(facts.text);
    return;
  }
  view.shown(facts);
  await sources.get(id); // after the events of the render that has just ended
  if (facts.timeline) views.get(prompt[timelineOf(prompt, id)]?.node)?.shown(facts);
}

/** Whether something that is said of a Take is meant for this node: one of another workflow may have the same number. */
function about(prompt, id, { take }) {
  const own = takeOf(prompt, id);
  return !take || !own || take === own;
}

/** Hand an event to the sampler's live view and to the editor of the timeline that it renders. */
async function tell(event, detail) {
  const root = rootGraph();
  const prompt = sketch(root);
  if (event === "started" || !sources.has(detail.node)) sources.set(detail.node, findSource(detail.node));
  if (!about(prompt, detail.node, detail)) return;
  views.get(prompt[detail.node]?.node)?.[event]?.(detail);
  const source = await sources.get(detail.node); // events of one sampler wait in their order
  views.get(source && findNode(root, source))?.[event]?.(detail);
}

/** What the host itself says that it runs: the open graph may have been changed since, or be another one. */
async function findSource(sampler) {
  const answer = await api.fetchApi("/queue");
  return timelineOf((await answer.json()).queue_running[0]?.[2], sampler);
}

async function guarded(step) {
  try {
    await step();
  } catch (error) {
    console.error("Grounded Forcing:", error);
  }
}
