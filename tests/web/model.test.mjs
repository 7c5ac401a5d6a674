// Edits of a storyboard: each changes what it says it changes and leaves every other character alone.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as edits from "../../web/timeline/model.js";
import { read } from "../../web/timeline/text.js";

const FILM = `# my film
@fps 16
@cast fox = a small red fox

{fox} on a lake     | 5s   # not a comment
  then: it looks up |seed 3| 4s |  blend 1.5s

# the night
cut:  a \\| bar      | mute
scene: a harbour
`;
const film = FILM.replace("   # not a comment", "");
const changed = (before, after) => {
  const [a, b] = [before.split("\n"), after.split("\n")];
  assert.equal(a.length, b.length);
  return b.filter((line, row) => line !== a[row]);
};

test("a new length replaces the old one, or stands after the prompt", () => {
  assert.deepEqual(changed(film, edits.setSeconds(film, 0, 6.25)), ["{fox} on a lake     | 6.25s"]);
  assert.deepEqual(changed(film, edits.setSeconds(film, 3, 2)), ["scene: a harbour | 2s"]);
  assert.deepEqual(changed(film, edits.setSeconds(film, 2, 2)), ["cut:  a \\| bar | 2s      | mute"]);
});

test("a length shorter than the blend shortens the blend", () => {
  const [line] = changed(film, edits.setSeconds(film, 1, 1));
  assert.equal(line, "  then: it looks up |seed 3| 1s |  blend 1s");
  assert.deepEqual(read(edits.setSeconds(film, 1, 1)).errors, []);
});

test("seed and mute are set and taken away", () => {
  assert.deepEqual(changed(film, edits.setSeed(film, 1, null)), ["  then: it looks up | 4s |  blend 1.5s"]);
  assert.deepEqual(changed(film, edits.setSeed(film, 0, 9)), ["{fox} on a lake     | 5s | seed 9"]);
  assert.deepEqual(changed(film, edits.setMute(film, 2, false)), ["cut:  a \\| bar"]);
  assert.deepEqual(changed(film, edits.setMute(film, 3, true)), ["scene: a harbour | mute"]);
});

test("prompts are escaped, one line, and never read as something else", () => {
  assert.equal(read(edits.setPrompt(film, 2, "a | b\\c\n d ")).segments[2].prompt, "a | b\\c d");
  for (const prompt of ["# x", "@fps 3", "then: y", "cut : z", "scene: q"]) {
    const board = read(edits.setPrompt(film, 0, prompt));
    assert.deepEqual([board.errors, board.segments[0].prompt], [[], prompt]);
  }
  assert.equal(edits.setPrompt(film, 0, "  \n "), film);
});

test("a verb other than then drops what only then may have", () => {
  assert.deepEqual(changed(film, edits.setVerb(film, 1, "cut")), ["  cut: it looks up |seed 3| 4s"]);
  assert.deepEqual(changed(film, edits.setVerb(film, 2, "then")), ["then: a \\| bar      | mute"]);
  assert.equal(edits.setVerb(film, 0, "cut"), film);
});

test("split keeps the length and gives the second part noise of its own", () => {
  const board = read(edits.split(film, 1, 1));
  const said = board.segments.slice(1, 3).map(({ verb, prompt, seconds, seed, blend }) => [verb, prompt, seconds, seed, blend]);
  assert.deepEqual(said, [["then", "it looks up", 1, 3, 1], ["then", "it looks up", 3, null, null]]);
  assert.deepEqual(board.errors, []);
  for (const seconds of [0, 4, 9, NaN]) assert.equal(edits.split(film, 1, seconds), film);
});

test("duplicate, insert and remove keep comments and a valid first line", () => {
  assert.deepEqual(read(edits.duplicate(film, 0)).segments.map((s) => s.verb), ["start", "cut", "then", "cut", "scene"]);
  assert.equal(read(edits.insert(film, 3)).segments.length, 5);
  const removed = edits.remove(film, 0);
  assert.ok(removed.includes("# my film") && removed.includes("# the night"));
  assert.deepEqual(read(removed).errors, []);
  assert.deepEqual(read(removed).segments[0].prompt, "it looks up");
  assert.equal(edits.remove("only one", 0), "only one");
  assert.equal(edits.remove("one\nthen: two", 1), "one");
  assert.equal(edits.insert("one", 0), "one\nthen: what happens next | 5s");
});

test("moving puts segments into each other's lines and mends the first verb", () => {
  const prompts = (text) => read(text).segments.map((segment) => `${segment.verb} ${segment.prompt}`);
  assert.deepEqual(prompts(edits.move(film, 0, 2)),
    ["start it looks up", "cut {fox} on a lake", "cut a | bar", "scene a harbour"]);
  assert.deepEqual(prompts(edits.move(film, 3, 0)),
    ["start a harbour", "cut {fox} on a lake", "then it looks up", "cut a | bar"]);
  assert.deepEqual(prompts(edits.move(film, 0, 4, 2)),
    ["start a | bar", "scene a harbour", "cut {fox} on a lake", "then it looks up"]);
  const five = "1\ncut: 2\ncut: 3\ncut: 4\ncut: 5";
  const order = (...move) => edits.move(five, ...move).match(/\d/g).join("");
  assert.equal(order(0, 4, 2), "34125");
  assert.equal(order(0, 4, 3), "41235");
  assert.equal(order(1, 4, 2), "14235");
  assert.equal(order(3, 1, 2), "14523");
  assert.equal(edits.move(film, 1, 2), film);
  assert.equal(edits.move(film, 1, 9), film);
  assert.ok(edits.move(film, 0, 4).startsWith("# my film\n@fps 16\n"));
});

test("remarks right above a segment go with it, those at the top stay", () => {
  const text = "# my film\r\na | 1s\r\n# the night\r\n＃ dark\r\ncut: b | 2s\r\n\r\n# aside\r\n\r\n  # the end\r\ncut: c";
  assert.equal(edits.move(text, 1, 3), "# my film\r\na | 1s\r\n  # the end\r\ncut: c\r\n\r\n# aside\r\n\r\n# the night\r\n＃ dark\r\ncut: b | 2s");
  assert.equal(edits.move(text, 2, 0), "# my film\r\n  # the end\r\nc\r\ncut: a | 1s\r\n\r\n# aside\r\n\r\n# the night\r\n＃ dark\r\ncut: b | 2s");
  assert.equal(edits.move(edits.move(text, 1, 3), 2, 1), text);
});

test("while an option is typed the others stay as they are", () => {
  const seconds = (line) => read(`a | 1s\n${line}`).segments[1].seconds;
  for (const line of ["then: b | 12s | see", "then: b | 12s | blend", "then: b | see | 12s", "then: b | 12", "then: b | +12s | |"])
    assert.equal(seconds(line), 12, line);
});

test("full-width bars, and signs taken for bars, are taken away with their option", () => {
  assert.equal(edits.setSeed("a│3s￨seed 5¦mute", 0, null), "a│3s ¦mute");
  assert.equal(edits.setSeed("a｜3s｜seed 5｜mute", 0, null), "a｜3s ｜mute");
  assert.equal(edits.setSeconds("a｜3s｜seed 5", 0, 4), "a｜4s｜seed 5");
});

test("no edit of a long line of blanks takes long", () => {
  const blanks = " ".repeat(60_000);
  const began = performance.now();
  const text = `a${blanks}b |${blanks}5s${blanks}| seed${blanks}7\nthen: ${"x".repeat(400)}${blanks}y\n{${"n".repeat(400)}} | ${"o".repeat(400)}`;
  read(text);
  edits.setPrompt(text, 0, `c${blanks}d\n${blanks}e`);
  edits.setSeed(text, 0, null);
  edits.tidy(text);
  assert.ok(performance.now() - began < 2000);
});

test("line breaks of the text are kept", () => {
  const windows = "a | 2s\r\nthen: b | 2s\r\n";
  assert.equal(edits.setSeconds(windows, 0, 3), "a | 3s\r\nthen: b | 2s\r\n");
  assert.equal(edits.duplicate(windows, 1), "a | 2s\r\nthen: b | 2s\r\nthen: b | 2s\r\n");
  assert.equal(edits.remove(windows, 1), "a | 2s\r\n");
});

test("tidy aligns the bars and says the same", () => {
  const before = read(film);
  const after = read(edits.tidy(film));
  assert.deepEqual(after.errors, []);
  assert.deepEqual(after.segments.map((s) => [s.verb, s.prompt, s.seconds, s.seed, s.blend, s.mute]),
    before.segments.map((s) => [s.verb, s.prompt, s.seconds, s.seed, s.blend, s.mute]));
  assert.equal(edits.tidy(edits.tidy(film)), edits.tidy(film));
  assert.ok(edits.tidy(film).includes("# the night"));
  assert.equal(edits.tidy("a | 5"), "a | 5");
});

test("random edits never break the text", () => {
  let state = 7;
  const random = (below) => (state = (state * 1103515245 + 12345) % 2147483648) % below;
  let text = film;
  for (let step = 0; step < 600; step++) {
    const count = read(text).segments.length;
    const at = random(count);
    const kinds = [
      () => edits.setSeconds(text, at, random(80) / 8 + 0.1),
      () => edits.setSeed(text, at, random(3) ? random(99) : null),
      () => edits.setMute(text, at, random(2) === 0),
      () => edits.setVerb(text, at, ["then", "cut", "scene"][random(3)]),
      () => edits.setPrompt(text, at, ["a|b", "then: x", "# y", "{fox} \\ z"][random(4)]),
      () => edits.split(text, at, random(40) / 8),
      () => (count < 14 ? edits.duplicate(text, at) : text),
      () => edits.remove(text, at),
      () => edits.move(text, at, random(count + 1), 1),
      () => edits.tidy(text),
    ];
    const before = text;
    const kind = random(kinds.length);
    text = kinds[kind]();
    assert.deepEqual(read(text).errors, [], `edit ${kind} at ${at}:\n${before}\n->\n${text}`);
    assert.ok(text.includes("# the night"));
  }
});

test("undo and redo go step by step, typing goes in one", () => {
  const history = new edits.History("a");
  history.push("b");
  history.push("bc", { typing: true, now: 1000 });
  history.push("bcd", { typing: true, now: 1500 });
  history.push("bcde", { typing: true, now: 9000 });
  assert.equal(history.push("bcde"), false);
  assert.deepEqual([-1, -1, -1, -1].map((steps) => history.go(steps)), ["bcd", "b", "a", "a"]);
  assert.deepEqual([history.go(1), history.go(1)], ["b", "bcd"]);
  history.push("x");
  assert.deepEqual([history.can(1), history.can(-1), history.go(1)], [false, true, "x"]);
});


test("every move of every stretch puts it before what was there, and only that", () => {
  const names = ["0", "1", "2", "3", "4", "5"];
  const six = names.map((name, place) => (place ? `cut: ${name}` : name)).join("\n");
  for (let from = 0; from < 6; from++)
    for (let count = 1; from + count <= 6; count++)
      for (let to = 0; to <= 6; to++) {
        const moved = names.slice(from, from + count);
        const inside = to >= from && to <= from + count;
        const rest = (part) => part.filter((name) => !moved.includes(name));
        const want = inside ? names : [...rest(names.slice(0, to)), ...moved, ...rest(names.slice(to))];
        const got = read(edits.move(six, from, to, count)).segments.map((segment) => segment.prompt);
        assert.deepEqual(got, want, `move(${from}, ${to}, ${count})`);
      }
});

test("as many texts are kept as can be gone back to, and no more", () => {
  const history = new edits.History("start");
  for (let step = 1; step <= 250; step++) history.push(`text ${step}`);
  assert.equal(history.texts.length, 200);
  let undone = 0;
  while (history.can(-1)) {
    history.go(-1);
    undone += 1;
  }
  assert.deepEqual([undone, history.present], [199, "text 51"]);
  history.push("typed", { typing: true, now: 0 });
  assert.deepEqual([history.can(1), history.go(-1)], [false, "text 51"]);
});

for (const [name, text, want] of [
  ["nothing", "", "FIRST"],
  ["blanks", "  ", "FIRST"],
  ["remarks only", "# later", "# later\nFIRST"],
  ["directives and a last line break", "@seed 7\r\n", "@seed 7\r\nFIRST"],
]) {
  test(`a storyboard of ${name} gets its first segment`, () => {
    const got = edits.insert(text, 0);
    const { segments, errors } = read(got);
    assert.deepEqual([segments.length, errors, segments[0].verb], [1, [], "start"]);
    assert.equal(got.replace(segments[0].source, "FIRST"), want);
  });
}

test("a text that has been there is found again, with what came before and after it", () => {
  const history = new edits.History("a");
  for (const text of ["b", "c"]) history.push(text);
  assert.deepEqual([history.find("b"), history.present, history.can(-1), history.can(1)], [true, "b", true, true]);
  assert.deepEqual([history.find("x"), history.present], [false, "b"]);
});

test("blend and recache of a then:, and of nothing else", () => {
  const film = "a | 2s\nthen: b | 2s | recache 0.5\ncut: c | 2s";
  const line = (text) => text.split("\n")[1];
  assert.equal(line(edits.setBlend(film, 1, 1.5)), "then: b | 2s | recache 0.5 | blend 1.5s");
  assert.equal(line(edits.setBlend(film, 1, 9)), "then: b | 2s | recache 0.5 | blend 2s");
  assert.equal(edits.setBlend(edits.setBlend(film, 1, 1), 1, null), film);
  assert.equal(edits.setBlend(edits.setBlend(film, 1, 1), 1, 0), film);
  assert.equal(line(edits.setRecache(film, 1, 0)), "then: b | 2s | recache 0");
  assert.equal(line(edits.setRecache(film, 1, null)), "then: b | 2s");
  for (const index of [0, 2, 7]) assert.equal(edits.setBlend(edits.setRecache(film, index, 0.3), index, 1), film);
  for (const wrong of [-1, 2, NaN]) assert.equal(edits.setRecache(film, 1, wrong), film);
  for (const wrong of [-1, NaN]) assert.equal(line(edits.setBlend(film, 1, wrong)), "then: b | 2s | recache 0.5");
});

test("segments are copied and pasted as the text that they are", () => {
  const film = "# mine\na | 2s\nthen: b | 1s | seed 3\ncut: c | 2s\n";
  assert.equal(edits.copy(film, 0, 2), "cut: a | 2s\nthen: b | 1s | seed 3");
  assert.equal(edits.paste(film, 1, edits.copy(film, 0, 2)), "# mine\na | 2s\nthen: b | 1s | seed 3\ncut: a | 2s\nthen: b | 1s | seed 3\ncut: c | 2s\n");
  assert.equal(edits.duplicate(film, 1, 2), "# mine\na | 2s\nthen: b | 1s | seed 3\ncut: c | 2s\nthen: b | 1s | seed 3\ncut: c | 2s\n");
  assert.equal(edits.duplicate("a | 2s", 0), "a | 2s\ncut: a | 2s");
  for (const wrong of ["", "no verb | 1s", "than: x | 1s", "then: x | 1s | seed", "then: {nobody} | 1s"]) {
    assert.equal(edits.paste(film, 1, wrong), film, wrong);
  }
  assert.equal(edits.paste(film, 9, "then: x | 1s"), film);
});

const BACK = "a fox | 3s\nthen: it jumps | 3s\ncut: an owl\n  back to ２: the fox | 4s | motion\nback to 1: it";
const backs = (text) => read(text).segments.filter(({ verb }) => verb === "back").map(({ back }) => back);

test("what goes back follows its segment through edits", () => {
  const after = (text) => [backs(text), read(text).errors.length];
  assert.deepEqual(after(edits.insert(BACK, 0)), [[3, 1], 0]);
  assert.deepEqual(after(edits.insert(BACK, 1)), [[2, 1], 0]);
  assert.deepEqual(after(edits.split(BACK, 1, 1)), [[3, 1], 0]);
  assert.deepEqual(after(edits.duplicate(BACK, 0, 2)), [[2, 1], 0]);
  assert.deepEqual(after(edits.duplicate(BACK, 3, 2)), [[2, 1, 2, 1], 0]);
  assert.deepEqual(after(edits.remove(BACK, 0)), [[1], 0]);
  assert.deepEqual(after(edits.remove(BACK, 2)), [[2, 1], 0]);
  assert.deepEqual(after(edits.move(BACK, 0, 2)), [[1, 2], 0]);
  assert.deepEqual(after(edits.move(BACK, 1, 3)), [[3, 1], 0]);
  assert.deepEqual(after(edits.paste(BACK, 0, "cut: a ship | 2s\ncut: the sea | 2s")), [[4, 1], 0]);
});

test("what goes back to a segment that is taken out becomes a cut", () => {
  const [line] = edits.remove(BACK, 1).split("\n").slice(2);
  assert.equal(line, "  cut: the fox | 4s");
});

test("a segment goes back, to another one, with motion, and stops doing so", () => {
  const film = edits.setBack(BACK, 2, null);
  assert.equal(film.split("\n")[2], "back to 1: an owl");
  assert.equal(edits.setBack(film, 2, 2).split("\n")[2], "back to 2: an owl");
  for (const number of [0, 3, 1.5, NaN]) assert.equal(edits.setBack(film, 2, number), film);
  assert.equal(edits.setBack(film, 0, 1), film);
  assert.equal(edits.setMotion(film, 2, true).split("\n")[2], "back to 1: an owl | motion");
  assert.equal(edits.setMotion(film, 1, true), film);
  assert.equal(edits.setVerb(BACK, 3, "then").split("\n")[3], "  then: the fox | 4s");
  assert.deepEqual(read(edits.split(BACK, 3, 1)).segments.slice(3, 5).map(({ verb, motion }) => [verb, motion]), [["back", true], ["then", false]]);
});
