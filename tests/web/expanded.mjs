// The full prompt of a segment, as Python sends it to the model: cast names replaced, style appended.

import { REFERENCE } from "../../web/timeline/text.js";

export function expanded(board, index) {
  const cast = new Map();
  const expand = (text) => text.replace(REFERENCE, (_, name) => cast.get(name));
  for (const [name, description] of board.cast) cast.set(name, expand(description));
  const { prompt } = board.segments[index];
  const style = board.style && (/[.,;:!?]$/.test(prompt) ? " " : ", ") + board.style;
  return expand(prompt + style);
}
