/** What buttons and keys do: keys, deed, and a button's label and tooltip. Without these it is a key only. */

const STRETCH = 0.25; // seconds

export const ACTIONS = {
  zoomOut: [["-"], (editor) => editor.zoomBy(1 / 1.5), "−", "Zoom out (ctrl + wheel)"],
  fit: [["0"], (editor) => editor.zoomBy(0), "Fit", "Show the whole film (0)"],
  zoomIn: [["+", "="], (editor) => editor.zoomBy(1.5), "+", "Zoom in (ctrl + wheel)"],
  undo: [["ctrl z"], (editor) => editor.undo(-1), "↶", "Undo (ctrl + Z)"],
  redo: [["ctrl y", "ctrl shift z"], (editor) => editor.undo(1), "↷", "Redo (ctrl + Y)"],
  tidy: [[], (editor) => editor.edit("tidy"), "Tidy", "Align the bars of the text; comments stay"],
  split: [["s"], (editor) => editor.edit("split", editor.splitSeconds()), "Split", "Split at the marker, else in the middle (S)"],
  duplicate: [["d"], (editor) => editor.edit("duplicate"), "Duplicate", "The same segment once more (D)"],
  insert: [["n"], (editor) => editor.edit("insert"), "Add", "A new segment after this one (N)"],
  remove: [["delete", "backspace"], (editor) => editor.edit("remove"), "Delete", "Delete this segment (Del)"],
  mute: [["m"], (editor) => editor.edit("setMute", !editor.chosen?.mute), "Mute", "Leave the segment out of the film (M)"],
  shorter: [["["], (editor) => editor.edit("setSeconds", editor.chosen?.seconds - STRETCH)],
  longer: [["]"], (editor) => editor.edit("setSeconds", editor.chosen?.seconds + STRETCH)],
  previous: [["arrowleft"], (editor) => editor.select(editor.selected - 1)],
  next: [["arrowright"], (editor) => editor.select(editor.selected + 1)],
  first: [["home"], (editor) => editor.select(0)],
  last: [["end"], (editor) => editor.select(Infinity)],
  earlier: [["alt arrowleft"], (editor) => editor.reorder(editor.selected, editor.selected - 1)],
  later: [["alt arrowright"], (editor) => editor.reorder(editor.selected, editor.selected + 2)],
  write: [["enter"], (editor) => editor.view.fields.prompt.focus()],
};

const BY_KEY = new Map(Object.values(ACTIONS).flatMap(([keys, deed]) => keys.map((key) => [key, deed])));

/** The deed of a key press, if it has one. */
export function deedOfKey({ key, ctrlKey, metaKey, shiftKey, altKey }) {
  const command = ctrlKey || metaKey;
  const held = [command && "ctrl", command && shiftKey && "shift", altKey && "alt"].filter(Boolean);
  return BY_KEY.get([...held, key.toLowerCase()].join(" "));
}
