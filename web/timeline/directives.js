/** What is said of the whole film, on lines of its own: `@fps`, `@seed`, `@style` and the cast, read and written as text. */

import { plain, splitLines } from "./lines.js";

/** `{name, value}` of a line that begins with @, else null. */
function directive({ source }) {
  const found = /^ *@([A-Za-z]+) */.exec(plain(source));
  return found && { name: found[1].toLowerCase(), value: source.slice(found[0].length).trim() };
}

/** What stands after `@name` (case does not matter), one for each such line; `name` "cast" has several. */
export const directives = (text, name) =>
  splitLines(text).map(directive).filter((found) => found?.name === name).map(({ value }) => value);

/** `text` with these lines of `@name` and no others; a line that stays in its place keeps its remarks around it. */
export function setDirectives(text, name, values) {
  const lines = splitLines(text).map(({ source, ending }) => ({ source, ending }));
  const inLine = (value) => value.split(/[\r\n]+/).map((part) => part.trim()).filter(Boolean).join(" ");
  const said = values.map(inLine).filter(Boolean).map((value) => `@${name} ${value}`);
  const own = (line) => directive(line)?.name === name;
  const places = lines.flatMap((line, at) => (own(line) ? [at] : []));
  const after = places.at(-1) ?? lines.findLastIndex(directive);
  const more = said.slice(places.length).map((source) => ({ source, ending: lines[0].ending || "\n" }));
  places.forEach((at, number) => (lines[at].source = said[number] ?? null));
  if (more.length && after >= 0) lines[after].ending ||= more[0].ending;
  lines.splice(after + 1, 0, ...more);
  return lines.filter(({ source }) => source !== null).map(({ source, ending }) => source + ending).join("");
}
