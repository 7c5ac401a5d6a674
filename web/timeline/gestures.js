/** Pointer, wheel and keyboard on a storyboard, told to the editor as edits. */

import { ACTIONS, deedOfKey } from "./actions.js";
import { shield } from "./dom.js";
import { setSeconds } from "./model.js";
import { VERBS } from "./verbs.js";

const STEP = 0.25; // seconds; with alt FINE
const FINE = 0.05;
const SLACK = 5; // pixels before a press becomes a drag

/** Listen on the editor's view. */
export function listen(editor) {
  const { element, lanes, keys, fields, filmFields } = editor.view;
  shield(element);
  element.addEventListener("wheel", (event) => onWheel(editor, event), { passive: false });
  element.addEventListener("click", (event) => onClick(editor, event));
  lanes.addEventListener("pointerdown", (event) => onPointerDown(editor, event));
  lanes.addEventListener("pointermove", (event) => {
    if (event.buttons || !event.target.closest(".gf-ruler")) return editor.scrub.hide();
    return editor.scrub.show(timeAt(editor, event), timeAt(editor, event) * editor.scale);
  });
  lanes.addEventListener("pointerleave", () => editor.scrub.hide());
  lanes.addEventListener("dblclick", () => fields.prompt.focus());
  keys.addEventListener("keydown", (event) => {
    const deed = deedOfKey(event);
    if (!deed) return;
    event.preventDefault();
    deed(editor);
  });
  for (const type of ["copy", "cut", "paste"]) keys.addEventListener(type, (event) => onClipboard(editor, event));
  fields.element.addEventListener("input", (event) => onField(editor, event.target));
  filmFields.element.addEventListener("input", ({ target }) => editor.setFilm(target.dataset.film, target.value));
  filmFields.element.addEventListener("focusout", () => queueMicrotask(() => editor.draw()));
  fields.element.addEventListener("focusout", () => queueMicrotask(() => editor.draw()));
  fields.element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.ctrlKey || event.metaKey || event.target.closest("button")) return;
    event.preventDefault(); // a prompt is one line
    keys.focus({ preventScroll: true });
  });
}

function onClick(editor, event) {
  const { action, verb, motion, line, column } = event.target.closest("button")?.dataset ?? {};
  if (line) editor.host.showPlace(Number(line), Number(column));
  if (!action && !verb && motion === undefined) return;
  if (event.detail) editor.view.keys.focus({ preventScroll: true }); // after a click keys act on the segments
  if (action) ACTIONS[action][1](editor);
  else if (motion !== undefined) editor.edit("setMotion", !editor.chosen.motion);
  else if (verb === "back") editor.edit("setBack", editor.chosen?.back ?? null);
  else editor.edit("setVerb", verb);
}

/** Segments go to other places and films as the text that they are. */
function onClipboard(editor, event) {
  event.preventDefault();
  if (event.type === "paste") return editor.paste(event.clipboardData.getData("text/plain"));
  event.clipboardData.setData("text/plain", editor.copy());
  return event.type === "cut" && editor.remove();
}

function onField(editor, { dataset, value }) {
  if (dataset.field === "prompt") editor.edit("setPrompt", value, true);
  if (dataset.field === "seconds") editor.edit("setSeconds", Number(value), true);
  if (dataset.field === "back") editor.edit("setBack", Number(value), true);
  if (dataset.field === "blend") editor.edit("setBlend", value.trim() ? Number(value) : null, true);
  if (dataset.field === "recache") editor.edit("setRecache", value.trim() ? Number(value) : null, true);
  if (dataset.field === "seed" && /^\s*[0-9]{0,16}\s*$/.test(value)) editor.edit("setSeed", value.trim() ? Number(value) : null, true);
}

function onWheel(editor, event) {
  const { scroll } = editor.view;
  const inLanes = scroll.contains(event.target);
  const zooms = inLanes && (event.ctrlKey || event.metaKey);
  const scrolls = inLanes && scroll.scrollWidth > scroll.clientWidth + 1;
  if (!zooms && !scrolls) return; // the canvas zooms, as elsewhere
  event.preventDefault();
  if (zooms) editor.zoomBy(Math.exp(-event.deltaY / 400), timeAt(editor, event));
  else scroll.scrollLeft += event.deltaX || event.deltaY;
}

/** Film seconds under the pointer, whatever scale the host draws the node at. */
function timeAt(editor, event) {
  const { lanes } = editor.view;
  const box = lanes.getBoundingClientRect();
  return ((event.clientX - box.left) * (lanes.offsetWidth / box.width || 1)) / editor.scale;
}

function onPointerDown(editor, event) {
  if (event.button !== 0) return;
  event.preventDefault();
  editor.view.keys.focus({ preventScroll: true });
  const shot = event.target.closest(".gf-shot");
  const block = event.target.closest(".gf-block");
  const at = timeAt(editor, event);
  if (!shot && !block) return editor.setMarker(at);
  const begins = event.target.matches(".gf-begin"); // the edge of what stands in front of it
  const place = Number(shot?.dataset.first ?? (begins ? before(editor, Number(block.dataset.index)) : block.dataset.index));
  if (event.shiftKey) return editor.select(shot ? place + lengthOfShot(editor, place) - 1 : place, true);
  const { first, count } = editor.range;
  const together = !shot && count > 1 && place >= first && place < first + count;
  const edge = begins || event.target.matches(".gf-edge");
  if (edge || !together) editor.select(place);
  if (edge) return dragEdge(editor, event, at);
  if (together) return dragOrder(editor, event, first, count, at, place);
  if (shot) editor.select(place + lengthOfShot(editor, place) - 1, true);
  return dragOrder(editor, event, place, editor.range.count, at, place);
}

/** Follow the pointer until it is let go (`done(true)`); Escape gives up (`done(false)`). */
function follow(editor, event, move, done) {
  const { lanes, keys } = editor.view;
  const listening = new AbortController();
  const on = (target, type, step) => target.addEventListener(type, step, { signal: listening.signal });
  const stop = (kept) => {
    listening.abort();
    done(kept);
  };
  lanes.setPointerCapture(event.pointerId);
  on(lanes, "pointermove", move);
  on(lanes, "pointerup", () => stop(true));
  on(lanes, "pointercancel", () => stop(false));
  on(keys, "keydown", ({ key }) => key === "Escape" && stop(false));
}

function dragEdge(editor, event, from) {
  const { seconds } = editor.chosen;
  let wanted = seconds;
  editor.heldScale = editor.scale; // so that the edge stays under the pointer
  const move = (moved) => {
    const step = moved.altKey ? FINE : STEP;
    wanted = Math.max(step, Math.round((seconds + timeAt(editor, moved) - from) / step) * step);
    editor.show(setSeconds(editor.history.present, editor.selected, wanted));
  };
  follow(editor, event, move, (kept) => {
    editor.heldScale = null;
    editor.show(editor.history.present);
    if (kept && wanted !== seconds) editor.edit("setSeconds", wanted);
  });
}

/** The segment that ends where segment `index` begins: a muted one has no length. */
const before = ({ plan: { segments } }, index) => segments.findLastIndex(({ muted }, at) => at < index && !muted);

/** Segments of the shot that segment `first` begins, muted ones in it included. */
function lengthOfShot({ board: { segments } }, first) {
  const next = segments.findIndex(({ verb }, at) => at > first && VERBS[verb].force);
  return (next < 0 ? segments.length : next) - first;
}

/** Drag `count` segments from `first` to another place; a press without a move selects `place` and puts the marker there. */
function dragOrder(editor, event, first, count, at, place) {
  const { drop, segments: { children: blocks } } = editor.view;
  const { segments, seconds: end } = editor.plan;
  let target = null;
  const move = (moved) => {
    if (target === null && Math.abs(moved.clientX - event.clientX) < SLACK) return;
    const time = timeAt(editor, moved);
    const after = segments.findIndex(({ muted, start, seconds }) => !muted && time < start + seconds / 2);
    target = after < 0 ? segments.length : after;
    drop.style.display = "block";
    drop.style.transform = `translateX(${(segments[target]?.start ?? end) * editor.scale}px)`;
    for (let index = first; index < first + count; index++) blocks[index].classList.add("gf-dragged");
  };
  follow(editor, event, move, (kept) => {
    drop.style.display = "none";
    for (const block of blocks) block.classList.remove("gf-dragged");
    if (kept && target !== null) editor.reorder(first, target, count);
    else if (kept) {
      if (!event.target.closest(".gf-shot")) {
        editor.view.showFields("segment"); // who presses a segment wants its fields, even while the film's are open
        editor.select(place);
      }
      editor.setMarker(at);
    }
  });
}
