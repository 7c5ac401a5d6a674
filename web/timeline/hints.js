/** What a storyboard's text says that is no mistake, and was hardly meant: the strip tells it, and nothing is refused. */

import { PLAIN, bare } from "./options.js";

const LENGTH = /(?:^|(?<!\bthe) )(([0-9]+(?:[.,][0-9]+)?) ?(?:s|sec|secs|seconds?))[. ]*$/i;

/** Hints for a board from `read`, in the form of its errors: a length that is written as words of the picture. */
export function hintsOf({ segments }) {
  return segments.flatMap(({ error, places, promptPlace }) => {
    const [, said, number] = (!error && !places.seconds && LENGTH.exec(bare(promptPlace))) || [];
    if (!said) return [];
    const at = promptPlace.text.lastIndexOf(said);
    const message = `'${said}' is read as part of the picture, which takes ${PLAIN.seconds} s`;
    return [promptPlace.error(message, `put a bar before a length: | ${number.replace(",", ".")}s`, Math.max(0, at))];
  });
}
