"""What an edit of the last of nine segments costs until its film lies there, contact sheet and report included.

    python dev/bench/saves.py [--rounds N]

By `grounded render`, a process for each; and under `grounded watch`, from the save on, whose model stays open.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gf_core.arguments import Parser

ROOT = Path(__file__).resolve().parents[2]
STORYBOARD = ROOT / "workflows" / "storyboards" / "nine_segments.txt"
PROMPTS = ("it sleeps", "it stands still", "it walks left", "it walks right", "it dances")
GROUNDED = [sys.executable, "-m", "gf_core"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def edited(prompt: str) -> str:
    """The storyboard with another last prompt."""
    lines = STORYBOARD.read_text(encoding="utf-8").rstrip("\n").split("\n")
    return "\n".join([*lines[:-1], f"then: {prompt} | 4.5s", ""])


def by_render(home: Path, rounds: int) -> Iterator[float]:
    """Seconds of the whole film, then of each edit."""
    for prompt in ("it jumps", *PROMPTS[:rounds]):
        (home / "film.txt").write_text(edited(prompt), encoding="utf-8")
        begun = time.perf_counter()
        subprocess.run(
            [*GROUNDED, "render", "film.txt"], cwd=home, env=ENVIRONMENT, capture_output=True, check=True
        )
        yield time.perf_counter() - begun


def under_watch(home: Path, rounds: int) -> Iterator[float]:
    """The same, from the start of the process and from each save."""
    (home / "film.txt").write_text(edited("it jumps"), encoding="utf-8")
    begun = time.perf_counter()
    with subprocess.Popen(
        [*GROUNDED, "watch", "film.txt"],
        cwd=home, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as watch:  # fmt: skip
        assert watch.stderr is not None
        for prompt in (*PROMPTS[:rounds], None):
            while not (line := watch.stderr.readline()).startswith("waiting for film.txt"):
                if not line:
                    raise SystemExit("grounded watch has ended")
            yield time.perf_counter() - begun
            if prompt is not None:
                (home / "film.txt").write_text(edited(prompt), encoding="utf-8")
                begun = time.perf_counter()
        watch.send_signal(signal.SIGINT)


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, len(PROMPTS) + 1), help="edits")
    rounds = parser.parse_args().rounds
    for name, measure in (("grounded render", by_render), ("grounded watch", under_watch)):
        with tempfile.TemporaryDirectory() as home:
            whole, *edits = measure(Path(home), rounds)
        told = ", ".join(f"{seconds:.2f}" for seconds in edits)
        print(f"{name:16} whole film {whole:5.2f} s; its last segment edited {told} s", flush=True)


if __name__ == "__main__":
    main()
