"""The browser's storyboard code: its own tests under node, and the same answers as Python on odd texts.

`GROUNDED_TEXTS=300000 pytest --timeout 0 tests/web` tries as many spoilt texts as that.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from gf_core.errors import StoryboardError
from gf_core.timeline import format_storyboard, make_plan, parse
from gf_core.timeline.options import write_options
from gf_core.timeline.verbs import VERBS
from gf_core.words import plain

HERE = Path(__file__).parent
WEB = HERE.parent.parent / "web"
FIXTURES = HERE.parent / "fixtures" / "timeline"
BOARDS = HERE.parent.parent / "workflows" / "storyboards"
SPOILT, BATCH = int(os.environ.get("GROUNDED_TEXTS", "600")), 5000
PIECES = [
    *'|:\\@#{}=.,-+%/ \n\r\t0fms"', *"\u3000\u00a0\u200b\u200f\u2060\ufeff\u202e\0\x1b\x7f\x85\ud83e\udd8a",
    *"｜：，＠＃｛｝＝５．０１/éßİ狐٥०🦊", "cut：", "｜1s", "\\｜5s",
    "", "\r\n", "then:", "then ", "than:", "cut:", "scene:", "start:", "back:", "back to ", "\nback to 2: ",
    "back to 1: x | motion", "@fps ", "@seed ", "@style ", "@cast ", "@cast fox = a red fox\n", "fox = ", "{fox}",
    "{ fox }", "@cast owl = {fox} | owl.png\n", "| fox.png", "| ../x.webp", "| C:\\a.png", "| .png", "| a\u202eb.png",
    "| 5s", "| 3,5s", "| 90f", "| 1m30s", "| 00:01:30", "| 500 ms", "| 5 sec.", "| 1e9s", "| -3s",
    "| seed 7", "| seed 7.0", "| recache 0.3", "| recache 30%", "| blend 1s", "| blend 0,5", "| mute", "| lora x",
    "23.976", "24000/1001", "12.5", "9" * 40, "nan", '"0": "a fox",', "0: a", "- a", "[{",
]  # fmt: skip
"""What is put into a text in place of what stands there."""
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None, reason="node is not installed, so nothing can run the browser's code"
)


def test_the_browser_code_passes_its_own_tests():
    done = subprocess.run(
        [str(NODE), "--test", *map(str, sorted(HERE.glob("*.test.mjs")))],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("script", sorted(WEB.rglob("*.js")), ids=lambda path: path.name)
def test_every_script_can_be_read(script):
    done = subprocess.run([str(NODE), "--check", str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_page_has_the_same_verbs():
    script = "import { VERBS } from './web/timeline/verbs.js'; console.log(JSON.stringify(VERBS))"
    said = subprocess.check_output([str(NODE), "--input-type=module", "-e", script], cwd=WEB.parent)
    rows = [(verb, {**row._asdict(), "options": list(row.options)}) for verb, row in VERBS.items()]
    blank = {"written": "", "means": "", "options": []}
    page = [(verb, blank | row | {"colour": VERBS[verb].colour}) for verb, row in json.loads(said).items()]
    assert [(verb, {k: v for k, v in row.items() if k != "title"}) for verb, row in page] == rows


def test_node_and_python_say_the_same_about_every_text():
    texts = _texts()
    for at in range(0, len(texts), BATCH):
        _compare(texts[at : at + BATCH])


def _compare(texts: list[str]) -> None:
    done = subprocess.run(
        [str(NODE), str(HERE / "against_python.mjs")],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    for text, browser in zip(texts, json.loads(done.stdout), strict=True):
        if "error" in browser:  # Python says in letters what would steer a terminal
            browser["error"][2:] = map(plain, browser["error"][2:])
        assert browser == _said_by_python(text), text


def _said_by_python(text: str) -> dict:
    try:
        board = parse(text)
        placed = make_plan(board).segments
    except StoryboardError as error:
        if "every segment is muted" not in error.message:
            return {"error": [error.line, error.column, error.message, error.fix]}
        board, placed = parse(text), ()
    assert parse(format_storyboard(board)) == board
    segments = [
        [segment.verb, board.expanded(index), write_options(segment)]
        for index, segment in enumerate(board.segments)
    ]
    plan = [[seg.index, seg.verb, seg.start_seconds, seg.seconds] for seg in placed]
    pictures = [[name, picture.file] for name, picture in board.pictures.items()]
    return {"pictures": pictures, "segments": segments, "plan": plan}


def _texts() -> list[str]:
    """The fixtures, films of random lengths, and fixtures and shipped storyboards with a few places changed."""
    rng = random.Random(5)
    fixtures = [
        case["text"]
        for name in ("films", "errors")
        for case in json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    ]
    films = [_random_film(rng) for _ in range(150)]
    # Between two numbers of chunks, but for the last digit of a length in seconds.
    ties = [f"@fps {fps}\na fox | {frames}f" for fps in (18, 28, 52.5) for frames in range(3, 200, 12)]
    known = fixtures + [path.read_text(encoding="utf-8") for path in sorted(BOARDS.glob("*.txt"))]
    return fixtures + films + ties + [_spoil(rng.choice(known), rng) for _ in range(SPOILT)]


def _random_film(rng: random.Random) -> str:
    lines = [f"@fps {rng.choice([1, 12, 16, 24, 25, 30, 120, 23.976, '30000/1001', 12.5])}"]
    for index in range(rng.randint(1, 12)):
        back = f"back to {rng.randint(1, max(1, index))}: "
        verb = rng.choice(["then: ", "cut: ", "scene: ", back]) if index else ""
        seconds = rng.choice([0.1, 0.375, 0.7, 1, 2.5, 5, 12.34, round(rng.uniform(0.01, 30), 3)])
        mute = " | mute" if rng.random() < 0.2 else ""
        lines.append(f"{verb}shot {index} | {seconds}s{mute}")
    return "\n".join(lines)


def _spoil(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(PIECES) + text[at + rng.choice([0, 0, 1, 5]) :]
    # Two halves of a character beside each other are one, as they are in JSON.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
