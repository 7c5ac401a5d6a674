"""Estimates against films of three lengths, built-in model: each in a new process, with nothing known, then again.

    python dev/bench/estimates.py            about two minutes on two idle cores

Prints a line per film: what was said before the first step, what it took, and how far off it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gf_core.arguments import Parser

FILMS = {
    "10 s": ["a red fox walks right in a meadow at noon | 6s", "then: it jumps | 4.5s"],
    "20 s": [
        "a red fox walks right in a meadow at noon | 6s",
        "then: it jumps | 4.5s",
        "then: it strolls to the left | 4.5s",
        "cut: the same red fox dances on a beach at sunset | 5.25s",
    ],
    "34 s": [
        "a blue owl stands still in the forest at night | 6s",
        "cut: a red fox jumps in a meadow at noon | 4.5s",
        "then: it strolls to the left | 4.5s",
        "cut: the same red fox dances on a beach at sunset | 5.25s",
        "cut: the same red fox sleeps in the snow at night | 5.25s",
        "scene: a green frog hops in the desert at noon | 9s",
    ],
}
TRIAL = """
import sys, time
from pathlib import Path
from gf_core.checkpoints.bundle import load_model
from gf_core.config import Encoding
from gf_core.engine.film import settle
from gf_core.engine.film import look
from gf_core.engine.making import preflight
film = settle(load_model("builtin"), Path(sys.argv[1]).read_text(), encoding=Encoding(upscale=8))
began = time.perf_counter()
preflight(look(film, Path("none")))
print(time.perf_counter() - began)
"""


def measure(folder: Path, name: str, round_: str) -> str:
    """One film; returns its line."""
    board, out = folder / f"{name}.txt", folder / round_ / f"{name}.mp4"
    command = [
        "-m",
        "gf_core",
        "render",
        str(board),
        "--out",
        str(out),
        "--take",
        str(out.with_suffix(".take")),
    ]
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    wall = time.perf_counter() - began
    report = json.loads(out.with_name(f"{out.stem}_report.json").read_text(encoding="utf-8"))
    parts = []
    for what, value in report["estimate"].items():
        expected, measured = value["expected"], value["measured"]
        scale, unit = (60, "s") if what == "minutes" else (1e-6, "MB")
        if expected is None or not measured:
            parts.append(f"{what} not known")
            continue
        off = f"{expected / measured - 1:+.0%}"
        parts.append(f"{what} {expected * scale:.1f} {unit}, took {measured * scale:.1f} ({off})")
    return f"{round_:<6} {name}  {'; '.join(parts)}; process {wall:.1f} s"


def main() -> None:
    """Two rounds over an empty cache of measurements, and the trial's own time."""
    Parser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, lines in FILMS.items():
            (folder / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
        os.environ["GROUNDED_CACHE"] = str(folder / "tried")
        done = subprocess.run(
            [sys.executable, "-c", TRIAL, str(folder / "34 s.txt")],
            check=True,
            capture_output=True,
            text=True,
        )
        print(f"pre-flight with a trial: {float(done.stdout):.2f} s")
        for round_ in ("first", "second"):
            (folder / round_).mkdir()
            for name in FILMS:
                os.environ["GROUNDED_CACHE"] = str(folder / "cache" / name)
                print(measure(folder, name, round_), flush=True)


if __name__ == "__main__":
    main()
