/** What buttons and keys do: keys, deed, and a button's label and tooltip. Without these it is a key only. */

const STRETCH = 0.25; // seconds

export const ACTIONS = {
  zoomOut: [["-"], (editor) => editor.zoomBy(1 / 1.5), "−", "Zoom out (ctrl + wheel)"],
  fit: [["0"], (editor) => editor.zoomBy(0), "Fit", "Show the whole film (0)"],
  zoomIn: [["+", "="], (editor) => editor.zoomBy(1.5), "+", "Zoom in (ctrl + wheel)"],
  undo: [["ctrl z"], (editor) => editor.undo(-1), "↶", "Undo (ctrl + Z)"],
  redo: [["ctrl y", "ctrl shift z"], (editor) => editor.undo(1), "↷", "Redo (ctrl + Y)"],
  film: [["f"], (editor) => editor.toggleFilm(), "Film", "What holds for the whole film: fps, seed, style, cast (F)"],
  tidy: [[], (editor) => editor.edit("tidy"), "Tidy", "Align the bars of the text; comments stay"],
  split: [["s"], (editor) => editor.edit("split", editor.splitSeconds()), "Split", "Split at the marker, else in the middle (S)"],
  duplicate: [["d"], (editor) => editor.duplicate(), "Duplicate", "The same once more (D); ctrl + C and V copy to other places and films"],
  insert: [["n"], (editor) => editor.edit("insert"), "Add", "A new segment after this one (N)"],
  remove: [["delete", "backspace"], (editor) => editor.remove(), "Delete", "Delete what is selected (Del); shift + click selects more"],
  mute: [["m"], (editor) => editor.editAll("setMute", !editor.chosen?.mute), "Mute", "Leave what is selected out of the film (M)"],
  shorter: [["["], (editor) => editor.edit("setSeconds", editor.chosen?.seconds - STRETCH)],
  longer: [["]"], (editor) => editor.edit("setSeconds", editor.chosen?.seconds + STRETCH)],
  previous: [["arrowleft"], (editor) => editor.select(editor.selected - 1)],
  next: [["arrowright"], (editor) => editor.select(editor.selected + 1)],
  previousToo: [["shift arrowleft"], (editor) => editor.select(editor.selected - 1, true)],
  nextToo: [["shift arrowright"], (editor) => editor.select(editor.selected + 1, true)],
  first: [["home"], (editor) => editor.select(0)],
  last: [["end"], (editor) => editor.select(Infinity)],
  earlier: [["alt arrowleft"], (editor) => moveBy(editor, -1)],
  later: [["alt arrowright"], (editor) => moveBy(editor, 1)],
  write: [["enter"], (editor) => editor.view.fields.prompt.focus()],
};

/** Move what is selected a place on or back; `reorder` puts it before what stands there now. */
function moveBy(editor, places) {
  const { first, count } = editor.range;
  editor.reorder(first, places < 0 ? first - 1 : first + count + 1, count);
}

const BY_KEY = new Map(Object.values(ACTIONS).flatMap(([keys, deed]) => keys.map((key) => [key, deed])));

/** The deed of a key press, if it has one. */
export function deedOfKey({ key, ctrlKey, metaKey, shiftKey, altKey }) {
  const command = ctrlKey || metaKey;
  const name = key.toLowerCase();
  const shifted = shiftKey && (command || name.startsWith("arrow")); // else it only writes a letter
  const held = [command && "ctrl", shifted && "shift", altKey && "alt"].filter(Boolean);
  return BY_KEY.get([...held, name].join(" "));
}
