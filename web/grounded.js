/**
 * The pack's part of the browser: a storyboard on Prompt Timeline, a live view on Stream Sampler. Both are extras:
 * whatever fails here is written to the console, and the nodes go on with their plain widgets.
 */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { findNode, timelineOf } from "./links.js";
import { LiveView } from "./live.js";
import { Editor } from "./timeline/editor.js";
import { splitLines } from "./timeline/lines.js";

const EDITOR_HEIGHT = 330;
const LIVE_HEIGHT = 210;
const editors = new Map(); // node -> Editor; nodes leave in onRemoved
const lives = new Map();

app.registerExtension({
  name: "grounded.forcing",
  nodeCreated(node) {
    const add = { GF_PromptTimeline: addEditor, GF_StreamSampler: addLiveView }[node.comfyClass];
    if (add) guarded(() => add(node));
  },
});

function addEditor(node) {
  const widget = node.widgets.find(({ name }) => name === "timeline");
  const editor = new Editor({
    getText: () => String(widget.value ?? ""),
    setText: (text) => {
      widget.value = text;
      widget.callback?.(text);
      node.graph?.setDirtyCanvas?.(true, false);
    },
    showPlace: (line, column) => showPlace(textBox(widget), line, column),
  });
  addElement(node, "storyboard", editor.view.element, EDITOR_HEIGHT, [460, 600], EDITOR_HEIGHT + 30);
  keep(editors, node, editor);
}

function addLiveView(node) {
  const view = new LiveView({
    url: (path) => api.apiURL(path),
    stop: async (id) => {
      const answer = await api.fetchApi("/grounded/stop", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ node: id }),
      });
      return answer.ok && (await answer.json()).stopped;
    },
  });
  addElement(node, "live", view.element, LIVE_HEIGHT, [340, 0]);
  keep(lives, node, view);
}

/** The styles, once. */
function ensureStyle() {
  if (document.getElementById("gf-style")) return;
  const href = new URL("./style.css", import.meta.url).href;
  document.head.append(Object.assign(document.createElement("link"), { id: "gf-style", rel: "stylesheet", href }));
}

/** A widget that shows `element` and stores nothing. */
function addElement(node, name, element, height, [width, tall], most = null) {
  ensureStyle();
  const options = { serialize: false, hideOnZoom: false, getMinHeight: () => height, getValue: () => "", setValue: () => {} };
  if (most) options.getMaxHeight = () => most; // what a taller node has to spare goes to its other widgets
  const widget = node.addDOMWidget(name, `GROUNDED_${name.toUpperCase()}`, element, options);
  widget.serialize = false;
  const [least, high] = node.computeSize();
  node.setSize([Math.max(width, least, node.size[0]), Math.max(tall, high, node.size[1])]);
}

function keep(map, node, view) {
  map.set(node, view);
  const { onRemoved, onAdded } = node;
  node.onRemoved = function (...inputs) {
    map.delete(node);
    return onRemoved?.apply(this, inputs);
  };
  node.onAdded = function (...inputs) {
    map.set(node, view); // it also leaves one graph for another when it goes into a subgraph
    return onAdded?.apply(this, inputs);
  };
}

/** The text box of a widget, in either front end. */
function textBox(widget) {
  const own = widget.inputEl ?? widget.element;
  if (own?.tagName === "TEXTAREA" && own.isConnected) return own;
  return [...document.querySelectorAll("textarea")].find((box) => box.value === widget.value);
}

function showPlace(box, line, column) {
  const at = box && splitLines(box.value)[line - 1];
  if (!at) return;
  const before = Array.from(at.source).slice(0, column - 1).join("").length;
  box.focus();
  box.setSelectionRange(at.offset + before, at.offset + at.source.length);
}

/** The text may be edited in its box, loaded, or undone by the host: compare now and then, which costs nothing. */
setInterval(() => editors.forEach((editor, node) => guarded(() => follow(editor, node))), 200);

function follow(editor, node) {
  const slot = (node.inputs ?? []).findIndex(({ name }) => name === "timeline");
  const linked = slot >= 0 && Boolean(node.isInputConnected?.(slot));
  const { element } = editor.view;
  if (element.inert !== linked) {
    element.inert = linked; // the text comes from another node: there is nothing to edit here
    element.title = linked ? "The text comes from another node" : "";
  }
  editor.refresh();
}

document.addEventListener("selectionchange", () => {
  const box = document.activeElement;
  if (box?.tagName !== "TEXTAREA" || box.classList.contains("gf-words")) return;
  for (const editor of editors.values()) {
    if (box.value !== editor.history.present) continue;
    editor.selectLine(splitLines(box.value.slice(0, box.selectionStart)).length);
  }
});

const onEditor = {
  started: (editor, detail, exact) => editor.started(detail, exact),
  progress: (editor, detail) => editor.progress(detail.index, detail.film_seconds),
  segment: (editor, detail) => editor.thumb(detail.index, api.apiURL(detail.thumb)),
  finished: (editor) => editor.finished(),
};
for (const [event, tell] of Object.entries(onEditor)) {
  api.addEventListener(`grounded.${event}`, ({ detail }) =>
    guarded(() => {
      const root = app.rootGraph ?? app.graph?.rootGraph ?? app.graph;
      lives.get(findNode(root, detail.node)?.node)?.[event]?.(detail);
      const source = timelineOf(root, detail.node);
      const editor = source && editors.get(source.node);
      if (editor) tell(editor, detail, source.exact);
    }));
}

function guarded(step) {
  try {
    step();
  } catch (error) {
    console.error("Grounded Forcing:", error);
  }
}
