/** Small helpers for elements of a page. */

import { ACTIONS } from "./actions.js";

/** An element with classes, attributes and children. */
export function make(tag, className, attributes = {}, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The button of an action. */
export function button(action) {
  const [, , label, title] = ACTIONS[action];
  return make("button", "gf-button", { type: "button", "data-action": action, title }, label);
}

/** Write only what differs: a write that changes nothing still costs layout. */
export function put(target, values) {
  for (const [name, value] of Object.entries(values)) if (target[name] !== value) target[name] = value;
}

const LABEL = 9; // letters, to which a report pads what a line is about

/** The label of a line of a report, padding and all, and what stands behind it. */
export function labelled(line) {
  const [label] = /^[a-z]+ +|^/.exec(line);
  return label.length === LABEL ? [label, line.slice(LABEL)] : ["", line];
}

/** Lines of text on `target`; the labels of a report stand in a column of their own, whatever the letters' widths. */
export function report(target, text) {
  target.replaceChildren(...text.split("\n").filter(Boolean).map((line) => {
    const [label, rest] = labelled(line);
    return label ? make("div", "gf-line", {}, make("span", "gf-label", {}, label), rest) : make("div", "", {}, line);
  }));
}

/** Give `parent` as many children as `count`, new ones from `create(index)`; the children. */
export function keep(parent, count, create) {
  while (parent.children.length > count) parent.lastChild.remove();
  while (parent.children.length < count) parent.append(create(parent.children.length));
  return [...parent.children];
}

/** What the host would take for presses on its canvas and for keys of its own. */
const EVENTS = ["pointerdown", "pointermove", "pointerup", "mousedown", "dblclick", "copy", "paste", "cut", "keydown", "keyup", "keypress"];

/** Keep events on `element` from the host, but for the middle button, which moves the canvas, and commands as Run or save. */
export function shield(element) {
  for (const type of EVENTS) {
    element.addEventListener(type, (event) => {
      const { button, buttons, ctrlKey, metaKey, key } = event;
      const commands = (ctrlKey || metaKey) && key && !"acvxyz".includes(key.toLowerCase());
      if (button !== 1 && !(buttons & 4) && !commands) event.stopPropagation();
    });
  }
}
