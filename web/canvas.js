/**
 * The mouse over a view belongs to the canvas, but for what the view itself is for: wheel and middle button zoom and
 * move, as over the host's own widgets.
 */

import { app } from "../../scripts/app.js";

const MIDDLE = 1;
const MIDDLE_HELD = 4;
const PASTE = 500; // milliseconds in which a paste comes from a middle button, as on Linux

export const VIEWS = ".gf-board, .gf-live, .gf-shown"; // elements that this pack puts on nodes

let pressed = -Infinity; // when the middle button was used over a view

/** Give `element`'s wheel and middle button to the canvas. Listen to its own wheel before: `defaultPrevented` keeps it. */
export function handOver(element) {
  const on = (type, step) => element.addEventListener(type, step, { passive: false });
  on("wheel", (event) => {
    if (event.defaultPrevented || scrolls(event)) return event.stopPropagation();
    if (window.LiteGraph?.vueNodesMode) return undefined; // rises to the canvas; in the older design it is no ancestor
    event.preventDefault();
    return app.canvas.processMouseWheel(event);
  });
  const steps = { pointerdown: "processMouseDown", pointermove: "processMouseMove", pointerup: "processMouseUp" };
  for (const [type, step] of Object.entries(steps)) {
    on(type, (event) => {
      const middle = type === "pointermove" ? event.buttons & MIDDLE_HELD : event.button === MIDDLE;
      if (!middle) return;
      event.preventDefault();
      event.stopPropagation();
      app.canvas[step](event);
    });
  }
  for (const type of ["mousedown", "mouseup", "auxclick"]) {
    on(type, (event) => {
      if (event.button === MIDDLE) event.preventDefault(); // else it scrolls by itself, or pastes
    });
  }
}

/** Whether something under the pointer takes this wheel itself. */
function scrolls({ target, currentTarget, ctrlKey, metaKey, deltaY }) {
  if (ctrlKey || metaKey) return false;
  for (let one = target; one; one = one === currentTarget ? null : one.parentElement) {
    const room = deltaY < 0 ? one.scrollTop : one.scrollHeight - one.clientHeight - one.scrollTop;
    if (room > 1 && /auto|scroll/.test(getComputedStyle(one).overflowY)) return true;
  }
  return false;
}

// Nodes 2.0 may keep the press to itself, before it comes to a view.
for (const type of ["pointerdown", "pointerup"]) {
  window.addEventListener(
    type,
    (event) => {
      if (event.button === MIDDLE && event.target.closest?.(VIEWS)) pressed = event.timeStamp;
    },
    { capture: true },
  );
}

// On Linux a press of the middle button pastes: into a prompt, and on the canvas a copy of a node.
document.addEventListener(
  "paste",
  (event) => {
    if (event.timeStamp - pressed > PASTE) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  },
  { capture: true },
);
