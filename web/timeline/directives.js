/** What is said of the whole film, on lines of its own: `@fps`, `@seed`, `@style` and the cast, read and written as text. */

import { splitLines } from "./lines.js";

const DIRECTIVE = /^\s*@([A-Za-z]+)[ \t\u00a0\u3000]*(.*?)\s*$/;

/** What stands after `@name` (case does not matter), one for each such line; `name` "cast" has several. */
export const directives = (text, name) =>
  splitLines(text).map(({ source }) => DIRECTIVE.exec(source)).filter((found) => found?.[1].toLowerCase() === name).map(([, , value]) => value);

/** `text` with these lines of `@name` and no others; a line that stays in its place keeps its remarks around it. */
export function setDirectives(text, name, values) {
  const lines = splitLines(text).map(({ source, ending }) => ({ source, ending }));
  const said = values.map((value) => value.replace(/\s*[\r\n]+\s*/g, " ").trim()).filter(Boolean).map((value) => `@${name} ${value}`);
  const own = ({ source }) => DIRECTIVE.exec(source)?.[1].toLowerCase() === name;
  const places = lines.flatMap((line, at) => (own(line) ? [at] : []));
  const after = places.at(-1) ?? lines.findLastIndex(({ source }) => DIRECTIVE.test(source));
  const more = said.slice(places.length).map((source) => ({ source, ending: lines[0].ending || "\n" }));
  places.forEach((at, number) => (lines[at].source = said[number] ?? null));
  if (more.length && after >= 0) lines[after].ending ||= more[0].ending;
  lines.splice(after + 1, 0, ...more);
  return lines.filter(({ source }) => source !== null).map(({ source, ending }) => source + ending).join("");
}
