/**
 * The pack's part of the browser: a storyboard on Prompt Timeline, a live view on nodes that render. Both are extras:
 * whatever fails here is written to the console, and the nodes go on with their plain widgets.
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { findNode, timelineOf } from "./links.js";
import { LiveView } from "./live.js";
import { put } from "./timeline/dom.js";
import { Editor } from "./timeline/editor.js";
import { splitLines } from "./timeline/lines.js";

const HEIGHT = { storyboard: 330, live: 210 };
const ADD = { GF_PromptTimeline: addEditor, GF_StreamSampler: addLiveView, GF_SegmentTakes: addLiveView };
const views = new WeakMap(); // node -> its Editor or LiveView
const sources = new Map(); // sampler's execution id -> promise of the timeline that it renders
const OWN_ERROR = "grounded_forcing.NotPossible"; // one that is meant for people
let refused = null; // what the host said of the last graph that it did not take: each reason once per input

app.registerExtension({
  name: "grounded.forcing",
  nodeCreated(node) {
    if (node.comfyClass?.startsWith("GF_")) guarded(() => fixSeed(node));
    guarded(() => ADD[node.comfyClass]?.(node));
  },
});

/** The front end puts "randomize" under every new seed; a film whose seed changes with each Run keeps no shot. */
function fixSeed(node) {
  const control = node.widgets?.find(({ name }) => name === "control_after_generate");
  if (control) control.value = "fixed";
}

function addEditor(node) {
  const widget = textWidget(node);
  const editor = new Editor({
    getText: () => String(widget.value ?? ""),
    setText: (text) => {
      widget.value = text;
      widget.callback?.(text);
      node.graph?.setDirtyCanvas?.(true, false);
    },
    showPlace: (line, column) => showPlace(textBox(node), line, column),
    url: (path) => api.apiURL(path),
  });
  addElement(node, "storyboard", editor, [460, 600], HEIGHT.storyboard + 30);
}

function addLiveView(node) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" } };
  const view = new LiveView({
    url: (path) => api.apiURL(path),
    stop: async (id) => {
      const answer = await api.fetchApi("/grounded/stop", { ...post, body: JSON.stringify({ node: id }) });
      return answer.ok && (await answer.json()).stopped;
    },
  });
  addElement(node, "live", view, [340, 0]);
}

/** A widget that shows `view` and stores nothing. What a taller node has to spare above `most` goes to other widgets. */
function addElement(node, name, view, [width, tall], most = Infinity) {
  views.set(node, view);
  view.element.graphNode = node;
  if (!document.getElementById("gf-style")) {
    const href = new URL("./style.css", import.meta.url).href;
    document.head.append(Object.assign(document.createElement("link"), { id: "gf-style", rel: "stylesheet", href }));
  }
  const sizes = { getMinHeight: () => HEIGHT[name], ...(most < Infinity && { getMaxHeight: () => most }) };
  const options = { serialize: false, hideOnZoom: false, getValue: () => "", setValue: () => {}, ...sizes };
  node.addDOMWidget(name, `GROUNDED_${name.toUpperCase()}`, view.element, options).serialize = false;
  const [least, high] = node.computeSize();
  node.setSize([Math.max(width, least, node.size[0]), Math.max(tall, high, node.size[1])]);
}

const textWidget = (node) => node.widgets.find(({ name }) => name === "timeline");

/** The text box of a timeline, in either front end. */
function textBox(node) {
  const { inputEl, element = inputEl } = textWidget(node) ?? {};
  const shown = element?.tagName === "TEXTAREA" && element.isConnected;
  return shown ? element : document.querySelector(`[data-node-id="${node.id}"] textarea:not(.gf-words)`);
}

function showPlace(box, line, column) {
  const at = box && splitLines(box.value)[line - 1];
  if (!at) return;
  const before = Array.from(at.source).slice(0, column - 1).join("").length;
  box.focus();
  box.setSelectionRange(at.offset + before, at.offset + at.source.length);
}

/** Nodes whose view is on the page. */
const shownNodes = () => [...document.querySelectorAll(".gf-board, .gf-live")].map(({ graphNode }) => graphNode);

/** The text may be edited in its box, loaded, or undone by the host: compare now and then, which costs nothing. */
setInterval(() => [sayRefused, ...shownNodes().map((node) => () => follow(node))].forEach((step) => guarded(step)), 200);

function follow(node) {
  const view = views.get(node);
  // Nodes 2.0 goes on to show the elements of a removed node where another has taken its id, as in a new subgraph.
  const heir = node.graph ? null : app.canvas?.graph?.getNodeById?.(node.id);
  if (views.has(heir)) view.element.replaceWith(views.get(heir).element);
  if (node.comfyClass !== "GF_PromptTimeline") return;
  const slot = (node.inputs ?? []).findIndex(({ name }) => name === "timeline");
  const linked = slot >= 0 && Boolean(node.isInputConnected?.(slot)); // then there is nothing to edit here
  put(view.element, { inert: linked, title: linked ? "The text comes from another node" : "" });
  view.refresh();
}

document.addEventListener("selectionchange", () => {
  const box = document.activeElement;
  const node = box?.tagName === "TEXTAREA" && shownNodes().find((one) => textBox(one) === box);
  if (node) views.get(node).selectLine(splitLines(box.value.slice(0, box.selectionStart)).length);
});

for (const event of ["started", "progress", "segment", "finished"]) {
  api.addEventListener(`grounded.${event}`, ({ detail }) => guarded(() => tell(event, detail)));
}

api.addEventListener("execution_error", ({ detail }) => detail.exception_type === OWN_ERROR && sayWhy(detail.exception_message));

function sayRefused() {
  if (app.lastNodeErrors === refused) return;
  refused = app.lastNodeErrors;
  const own = Object.values(refused ?? {}).filter(({ class_type: type }) => type.startsWith("GF_"));
  new Set(own.flatMap(({ errors }) => errors.map(({ details }) => details.replace(/^\w+ - /, "")))).forEach(sayWhy);
}

/** Newer front ends mark a node that failed and say why two clicks away; older ones say it in a dialog. */
function sayWhy(detail) {
  const told = () => [...document.querySelectorAll(".p-dialog")].some(({ innerText }) => innerText.includes(detail.trim()));
  setTimeout(() => told() || app.extensionManager.toast.add({ severity: "error", summary: "Grounded Forcing", detail }), 300);
}

/** Hand an event to the sampler's live view and to the editor of the timeline that it renders. */
async function tell(event, detail) {
  const root = app.rootGraph ?? app.graph?.rootGraph ?? app.graph;
  views.get(findNode(root, detail.node))?.[event]?.(detail);
  if (event === "started" || !sources.has(detail.node)) sources.set(detail.node, findSource(detail.node));
  const source = await sources.get(detail.node); // events of one sampler wait in their order
  views.get(source && findNode(root, source.id))?.[event](detail, source);
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
