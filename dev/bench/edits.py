"""What an edit costs: nine segments rendered once, then edited in several ways, each against a render from nothing.

    python dev/bench/edits.py [--json FILE] [--no-check]

Prints seconds per edit, chunks sampled and replayed, and whether latents, and the film in front of the edit and as a
whole, have the same bytes. The goal: an edit of segment 9 costs at most a ninth of the whole film and one second.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gf_core.arguments import Parser
from gf_core.checkpoints.bundle import ModelBundle, load_model
from gf_core.config import Encoding
from gf_core.engine.events import Event, Finished, Reused, Started, StepDone
from gf_core.engine.film import look, settle
from gf_core.engine.session import Session
from gf_core.take.folder import Run, Take
from gf_core.timeline import format_storyboard, parse
from gf_core.timeline.storyboard import Segment, Storyboard

STORYBOARD = Path(__file__).resolve().parents[2] / "workflows" / "storyboards" / "nine_segments.txt"
FILM = Encoding(upscale=8)


def edits(board: Storyboard) -> dict[str, tuple[Storyboard, Encoding, bool]]:
    """Name -> storyboard, encoding, and whether to delete the kept states first."""
    parts = list(board.segments)

    def told(place: int, prompt: str) -> Segment:
        return replace(parts[place], prompt=prompt)

    def film(segments: list[Segment]) -> Storyboard:
        return replace(board, segments=tuple(segments))

    new = replace(parts[1], prompt="it sleeps")
    last = film([*parts[:8], told(8, "it sleeps")])
    return {
        "nothing changed": (board, FILM, False),
        "segment 9": (last, FILM, False),
        "segment 9, states deleted": (last, FILM, True),
        "segment 5": (film([*parts[:4], told(4, "it sleeps"), *parts[5:]]), FILM, False),
        "insert before 5": (film([*parts[:4], new, *parts[4:]]), FILM, False),
        "swap 6 and 7": (film([*parts[:5], parts[6], parts[5], *parts[7:]]), FILM, False),
        "codec only": (board, replace(FILM, codec="hevc"), False),
    }


@dataclass(frozen=True)
class Made:
    """One render, measured."""

    run: Run
    seconds: float
    sampled: int
    """Chunks."""
    reused: int
    """Chunks."""
    report: dict[str, Any]


def render(bundle: ModelBundle, board: Storyboard, folder: Path, encoding: Encoding) -> Made:
    """Render into the Take at `folder`; seconds count from opening it to the last event."""
    film = settle(bundle, format_storyboard(board), encoding=encoding)
    steps, reused = 0, 0
    events: list[Event] = []

    def listen(event: Event) -> None:
        nonlocal steps, reused
        steps += isinstance(event, StepDone)
        if isinstance(event, Reused):
            reused = event.chunks
        if isinstance(event, (Started, Finished)):
            events.append(event)

    begun = time.perf_counter()
    with Take.open(folder) as take:
        Session(take, look(film, folder)).play(listen)
    end = events[-1]
    assert isinstance(end, Finished)
    seconds = time.perf_counter() - begun
    return Made(Run(end.path.parent), seconds, steps // len(bundle.recipe.sample.steps), reused, end.report)


def same_bytes(made: Made, fresh: Made) -> dict[str, bool]:
    """Whether latents and film are those of a render from nothing."""
    mine, theirs = made.run.committed(), fresh.run.committed()
    return {
        "latents": [r["latents"] for r in mine] == [r["latents"] for r in theirs],
        "film": made.run.film.read_bytes() == fresh.run.film.read_bytes(),
    }


def prefix_kept(made: Made, whole: Made) -> bool | None:
    """Whether the film in front of the edit has the first film's bytes; None when nothing was copied."""
    records = [record for record in made.run.committed() if "from" in record]
    if not records:
        return None
    end = records[-1]["film_bytes"]
    return made.run.film.read_bytes()[:end] == whole.run.film.read_bytes()[:end]


def measure(bundle: ModelBundle, board: Storyboard, home: Path, check: bool) -> dict[str, Any]:
    """Every edit, each into a copy of the first film's Take."""
    whole = render(bundle, board, home / "first", FILM)
    rows: dict[str, Any] = {}
    print(f"{'whole film':28} {whole.seconds:7.2f} s  {whole.sampled} chunks", flush=True)
    for number, (name, (changed, film, forget)) in enumerate(edits(board).items()):
        shutil.copytree(home / "first", home / f"edit{number}")
        if forget:
            shutil.rmtree(home / f"edit{number}" / "states")
        made = render(bundle, changed, home / f"edit{number}", film)
        rows[name] = {
            "seconds": made.seconds,
            "share": made.seconds / whole.seconds,
            "sampled": made.sampled,
            "reused": made.reused,
            "replayed": made.report["reuse"]["replayed"],
            "exact": made.report["reuse"]["exact"],
            "changed": made.report["reuse"]["changed"],
            "stages": made.report["seconds"],
            "prefix": prefix_kept(made, whole),
        }
        if check:
            rows[name] |= same_bytes(made, render(bundle, changed, home / f"fresh{number}", film))
        row = rows[name]
        print(
            f"{name:28} {row['seconds']:7.2f} s  {row['share']:5.1%}  {row['sampled']} sampled, {row['replayed']} "
            f"replayed  {row['changed']!r}  prefix {row['prefix']}  "
            + " ".join(f"{part} {row[part]}" for part in ("latents", "film") if part in row),
            flush=True,
        )
    return {
        "whole": {"seconds": whole.seconds, "chunks": whole.sampled, "stages": whole.report["seconds"]}
    } | rows


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument(
        "--no-check", action="store_true", help="do not render each edit from nothing as well"
    )
    args = parser.parse_args()
    bundle, board = load_model("builtin"), parse(STORYBOARD.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as home:
        rows = measure(bundle, board, Path(home), not args.no_check)
    nine, whole = rows["segment 9"]["seconds"], rows["whole"]["seconds"]
    print(f"edit of segment 9: {nine:.2f} s; a ninth and one second: {whole / 9 + 1:.2f} s")
    if args.json:
        told = {"threads": torch.get_num_threads(), "torch": str(torch.__version__), **rows}
        args.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
