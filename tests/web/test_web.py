"""The browser's storyboard code: its own tests under node, and the same answers as Python on odd texts."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from gf_core.errors import StoryboardError
from gf_core.timeline import make_plan, parse
from gf_core.timeline.options import write_options
from gf_core.words import plain

HERE = Path(__file__).parent
WEB = HERE.parent.parent / "web"
FIXTURES = HERE.parent / "fixtures" / "timeline"
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


def test_node_and_python_say_the_same_about_every_text():
    texts = _texts()
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
    segments = [
        [segment.verb, board.expanded(index), write_options(segment)]
        for index, segment in enumerate(board.segments)
    ]
    plan = [[seg.index, seg.verb, seg.start_seconds, seg.seconds] for seg in placed]
    pictures = [[name, picture.file] for name, picture in board.pictures.items()]
    return {"pictures": pictures, "segments": segments, "plan": plan}


def _texts() -> list[str]:
    """The fixtures, films of random lengths, and the fixtures with one character changed at random."""
    rng = random.Random(5)
    fixtures = [
        case["text"]
        for name in ("films", "errors")
        for case in json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    ]
    films = [_random_film(rng) for _ in range(150)]
    # Between two numbers of chunks, but for the last digit of a length in seconds.
    ties = [f"@fps {fps}\na fox | {frames}f" for fps in (18, 28, 52.5) for frames in range(3, 200, 12)]
    return fixtures + films + ties + [_spoil(rng.choice(fixtures), rng) for _ in range(600)]


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
    at = rng.randrange(len(text) + 1)
    with_what = rng.choice(
        [
            *'|:\\ s{@9.-,"0fm\n',
            "",
            "é",
            "🦊",
            *"｜：，＠＃５｛０",
            "\u200b",
            "\u200f",
            "\ufeff",
            "\0",
            "\ud83e",
        ]
    )
    return text[:at] + with_what + text[at + rng.randint(0, 1) :]
