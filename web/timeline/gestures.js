/** Pointer, wheel and keyboard on a storyboard, told to the editor as edits. */

const STEP = 0.25; // seconds; with alt FINE
const FINE = 0.05;
const SLACK = 5; // pixels before a press becomes a drag

/** Listen on the editor's view. The host's canvas hears none of it. */
export function listen(editor) {
  const { view } = editor;
  for (const type of ["pointerdown", "pointermove", "pointerup", "mousedown", "dblclick", "copy", "paste", "cut"]) {
    view.element.addEventListener(type, (event) => {
      const pans = event.button === 1 || event.buttons & 4; // the middle button moves the canvas, here too
      if (!pans) event.stopPropagation();
    });
  }
  for (const type of ["keydown", "keyup", "keypress"]) {
    view.element.addEventListener(type, (event) => {
      if (!(event.key === "Enter" && (event.ctrlKey || event.metaKey))) event.stopPropagation(); // that one queues
    });
  }
  view.element.addEventListener("wheel", (event) => onWheel(editor, event), { passive: false });
  view.lanes.addEventListener("pointerdown", (event) => onPointerDown(editor, event));
  view.lanes.addEventListener("dblclick", () => view.fields.prompt.focus());
  view.keys.addEventListener("keydown", (event) => onKey(editor, event));
  view.element.addEventListener("click", (event) => onClick(editor, event));
  view.fields.element.addEventListener("input", (event) => onField(editor, event.target));
  view.fields.element.addEventListener("focusout", () => queueMicrotask(() => editor.draw()));
  view.fields.element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) {
      event.preventDefault(); // a prompt is one line
      view.keys.focus({ preventScroll: true });
    }
  });
}

function onClick(editor, event) {
  const { action, verb, line, column } = event.target.closest("button")?.dataset ?? {};
  if (action) editor.act(action);
  if (verb) editor.act("setVerb", verb);
  if (line) editor.showPlace(Number(line), Number(column));
}

function onField(editor, { dataset, value }) {
  if (dataset.field === "prompt") editor.act("setPrompt", value, { typing: true });
  if (dataset.field === "seconds" && Number(value) > 0) editor.act("setSeconds", Number(value), { typing: true });
  if (dataset.field === "seed" && /^\s*[0-9]{0,16}\s*$/.test(value)) {
    editor.act("setSeed", value.trim() ? Number(value) : null, { typing: true });
  }
}

function onWheel(editor, event) {
  const { scroll } = editor.view;
  const inLanes = scroll.contains(event.target);
  if (event.target.closest("textarea")) {
    event.stopPropagation();
  } else if (inLanes && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    event.stopPropagation();
    editor.zoomBy(Math.exp(-event.deltaY / 400), timeAt(editor, event));
  } else if (inLanes && scroll.scrollWidth > scroll.clientWidth + 1) {
    event.preventDefault();
    event.stopPropagation();
    scroll.scrollLeft += event.deltaX || event.deltaY;
  } // else the canvas may zoom, as over any other part of a node
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
  if (shot) dragOrder(editor, event, ...editor.shotAt(Number(shot.dataset.first)));
  else if (block) {
    const index = Number(block.dataset.index);
    editor.select(index);
    if (event.target.classList.contains("gf-edge")) dragEdge(editor, event, index, at);
    else dragOrder(editor, event, index, 1, at);
  } else editor.setMarker(at);
}

/** Follow the pointer until it is let go; Escape gives up. `move(event)`, `done(kept)`. */
function follow(editor, event, move, done) {
  const { lanes, keys } = editor.view;
  const stop = (kept) => {
    lanes.removeEventListener("pointermove", move);
    lanes.removeEventListener("pointerup", finish);
    lanes.removeEventListener("pointercancel", cancel);
    keys.removeEventListener("keydown", escape);
    done(kept);
  };
  const finish = () => stop(true);
  const cancel = () => stop(false);
  const escape = ({ key }) => key === "Escape" && stop(false);
  lanes.setPointerCapture(event.pointerId);
  lanes.addEventListener("pointermove", move);
  lanes.addEventListener("pointerup", finish);
  lanes.addEventListener("pointercancel", cancel);
  keys.addEventListener("keydown", escape);
}

function dragEdge(editor, event, index, from) {
  const { seconds } = editor.board.segments[index];
  let wanted = seconds;
  editor.holdScale(true);
  follow(
    editor,
    event,
    (moved) => {
      const step = moved.altKey ? FINE : STEP;
      wanted = Math.max(step, Math.round((seconds + timeAt(editor, moved) - from) / step) * step);
      editor.preview("setSeconds", index, wanted);
    },
    (kept) => {
      editor.holdScale(false);
      editor.preview(null);
      if (kept && Math.abs(wanted - seconds) > 1e-6) editor.act("setSeconds", wanted);
    },
  );
}

/** Drag `count` segments from `first` to another place; a press without a move puts the marker there. */
function dragOrder(editor, event, first, count, at = null) {
  let target = null;
  const { drop } = editor.view;
  follow(
    editor,
    event,
    (moved) => {
      if (target === null && Math.abs(moved.clientX - event.clientX) < SLACK) return;
      target = editor.slotAt(timeAt(editor, moved));
      drop.style.display = "block";
      drop.style.transform = `translateX(${editor.slotTime(target) * editor.scale}px)`;
      editor.view.blocks.forEach(({ element }, index) =>
        element.classList.toggle("gf-dragged", index >= first && index < first + count));
    },
    (kept) => {
      drop.style.display = "none";
      editor.view.blocks.forEach(({ element }) => element.classList.remove("gf-dragged"));
      if (kept && target !== null) editor.reorder(first, target, count);
      else if (kept && at !== null) editor.setMarker(at);
      else if (kept) editor.select(first);
    },
  );
}

function onKey(editor, event) {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  const { selected } = editor;
  const actions = {
    arrowleft: () => (event.altKey ? editor.reorder(selected, selected - 1) : editor.select(selected - 1)),
    arrowright: () => (event.altKey ? editor.reorder(selected, selected + 2) : editor.select(selected + 1)),
    home: () => editor.select(0),
    end: () => editor.select(editor.board.segments.length - 1),
    delete: () => editor.act("remove"),
    backspace: () => editor.act("remove"),
    enter: () => editor.view.fields.prompt.focus(),
    d: () => editor.act("duplicate"),
    n: () => editor.act("insert"),
    s: () => editor.act("split"),
    m: () => editor.act("mute"),
    "[": () => editor.stretch(-STEP),
    "]": () => editor.stretch(STEP),
    "+": () => editor.act("zoomIn"),
    "=": () => editor.act("zoomIn"),
    "-": () => editor.act("zoomOut"),
    0: () => editor.act("fit"),
  };
  const commands = { z: () => editor.act(event.shiftKey ? "redo" : "undo"), y: () => editor.act("redo") };
  const action = (command ? commands : actions)[key];
  if (!action) return;
  event.preventDefault();
  action();
}
