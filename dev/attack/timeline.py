"""Random and mutated storyboards against everything that reads one: a table of failures by kind.

    python dev/attack/timeline.py --texts 300000 --seed 1

Each text is parsed; what reads is written, read again, planned, edited; what does not must be refused inside the text.
With node at hand every text goes through the browser's reader too, which must say the same word for word. Ends with
status 1 where something failed.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gf_core.errors import StoryboardError
from gf_core.timeline import Storyboard, format_storyboard, make_plan, parse
from gf_core.timeline.edits import insert_shot, reseed
from gf_core.timeline.options import write_options
from gf_core.words import plain

ROOT = Path(__file__).parents[2]
BATCH = 5000
SLOW = 2.0
"""Seconds of one text that count as a failure."""
PIECES = [
    *"|\\:@#{}=.,-+%/\n\r\t \u3000\u00a0",
    *"｜：，＠＃｛｝＝５．０１/",
    *"\u200b\u200f\u2060\ufeff\u202e\0\x1b\x7f\x85\ud83e\udd8a",
    *[
        "🦊",
        "é",
        "ß",
        "İ",
        "狐",
        "٥",
        "०",
        "\r\n",
        "then:",
        "cut:",
        "scene:",
        "back to 1:",
        "\nback to 2: ",
        "back to ",
        "back to 1: x | motion",
        "back:",
        "| motion",
        "start:",
        "than:",
        "cut：",
        "then ",
    ],
    *["@fps ", "@seed ", "@style ", "@cast ", "fox", "{fox}", "{ fox }", "fox = ", "@cast fox = a red fox\n"],
    *[
        "| fox.png",
        "| a/b.jpg",
        "| ../x.webp",
        "| C:\\a.png",
        "| a\u202eb.png",
        "| .png",
        "@cast owl = {fox} | owl.png\n",
    ],
    *[
        "5s",
        "| 5s",
        "| 3,5s",
        "| 90f",
        "| 1m30s",
        "| 1:30",
        "| 00:01:30",
        "| 500 ms",
        "| 5 sec.",
        "| 1e9s",
        "| -3s",
    ],
    *[
        "| seed 7",
        "| seed 7.0",
        "| recache 0.3",
        "| recache 30%",
        "| blend 1s",
        "| blend 0,5",
        "| mute",
        "| lora x",
    ],
    *[
        "23.976",
        "24000/1001",
        "12.5",
        "16",
        "9" * 40,
        "nan",
        '"0": "a fox",',
        "0: a",
        "- a",
        "[{",
        "｜1s",
        "\\｜5s",
    ],
]


def texts(count: int, rng: random.Random) -> Iterator[str]:
    """Pieces in any order, and storyboards with a few places changed."""
    fixtures = ROOT / "tests" / "fixtures" / "timeline"
    known = [
        case["text"]
        for name in ("films", "errors")
        for case in json.loads((fixtures / f"{name}.json").read_text())
    ]
    known += [path.read_text(encoding="utf-8") for path in (ROOT / "workflows" / "storyboards").glob("*.txt")]
    for _ in range(count):
        if rng.random() < 0.2:
            yield "".join(rng.choices(PIECES, k=rng.randint(0, 25)))
            continue
        text = rng.choice(known)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text) + 1)
            piece = (
                rng.choice(PIECES)
                if rng.random() < 0.7
                else chr(rng.choice([rng.randrange(0x250), rng.randrange(0x3000)]))
            )
            text = text[:at] + piece + text[at + rng.choice([0, 0, 1, 5]) :]
        yield text


def attack(text: str, rng: random.Random) -> tuple[dict[str, Any], str]:
    """What Python says about `text`, in the form of tests/web/against_python.mjs; and the failure, if any."""
    try:
        board = parse(text)
    except StoryboardError as error:
        rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        inside = 1 <= error.line <= len(rows) and 1 <= error.column <= len(rows[error.line - 1]) + 1
        said = {"error": [error.line, error.column, error.message, error.fix]}
        return said, "" if inside and error.message and error.fix else "refused outside the text"
    pictures = [[name, picture.file] for name, picture in board.pictures.items()]
    said = {"pictures": pictures, "segments": [], "plan": []}
    try:
        said["segments"] = [
            [part.verb, board.expanded(index), write_options(part)]
            for index, part in enumerate(board.segments)
        ]
        said["plan"] = [[s.index, s.verb, s.start_seconds, s.seconds] for s in make_plan(board).segments]
    except StoryboardError as error:
        if "every segment is muted" not in error.message:
            return said, "planning refuses"
    written = format_storyboard(board)
    if parse(written) != board:
        return said, "written text says something else"
    if format_storyboard(parse(written)) != written:
        return said, "writing twice differs"
    return said, _edit(text, board, rng)


def _edit(text: str, board: Storyboard, rng: random.Random) -> str:
    number = rng.randrange(len(board.segments))
    if not board.segments[number].mute and parse(reseed(text, number + 1, 5)).segments[number].seed != 5:
        return "the new seed is not in the text"
    longer = insert_shot(board, rng.choice(["end", "1"]), "a hen", 1.0)
    return "" if parse(format_storyboard(longer)) == longer else "the new shot cannot be written"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, failures, tried = random.Random(options.seed), Counter(), Counter()
    samples: dict[str, str] = {}
    worst, batch, node = 0.0, [], shutil.which("node")

    def fail(kind: str, text: str) -> None:
        failures[kind] += 1
        samples.setdefault(kind, text)

    def compare() -> None:
        if node and batch:
            script = str(ROOT / "tests" / "web" / "against_python.mjs")
            given = json.dumps([text for text, _ in batch])
            done = subprocess.run([node, script], input=given, capture_output=True, text=True, check=True)
            for (text, said), answer in zip(batch, json.loads(done.stdout), strict=True):
                if "error" in answer:
                    answer["error"][2:] = map(plain, answer["error"][2:])
                tried["compared with the browser's reader"] += 1
                if answer != said:
                    fail("the browser says something else", text)
        batch.clear()

    for text in texts(options.texts, rng):
        # Two halves of a character beside each other are one, as they are in JSON.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        began = time.perf_counter()
        tried["parsed"] += 1
        try:
            said, failure = attack(text, rng)
        except Exception as error:  # whatever comes out is what is looked for
            fail(f"{type(error).__name__}: {str(error)[:60]}", text)
            continue
        tried["refused" if "error" in said else "read, written, planned, edited"] += 1
        took = time.perf_counter() - began
        worst = max(worst, took)
        if failure or took > SLOW:
            fail(failure or "slow", text)
        batch.append((text, said))
        if len(batch) == BATCH:
            compare()
    compare()
    for name, count in tried.items():
        print(f"{count:>9}  {name}")
    print(f"{worst * 1000:>6.0f} ms  the slowest text")
    for kind, count in failures.most_common():
        print(f"{count:>9}  FAILED: {kind}\n           {samples[kind][:300]!r}")
    print(f"{sum(failures.values())} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
