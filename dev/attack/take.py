"""Damages a Take, file by file, and renders again: the film must come out with the bytes of an undisturbed one.

    python dev/attack/take.py [--seed 0] [--seeds N] [--flips 60] [--deletions 20]

Per seed, a finished Take and one that was stopped in the middle are copied, and one bit of one file is turned over, or
one file is removed; every kind of file in turn. Then the film is rendered and placed, and after that an edit of it.
Prints a row per kind of file and each failure; ends with status 1 where there is one. The model is the tests' tiny one:
what is tried is how a Take is kept.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.engine.events import ChunkDone, Event, StepDone
from gf_core.engine.render import FilmResult, render_film

TINY = Path(__file__).parents[2] / "tests" / "engine" / "conftest.py"
TEXT = "@seed 4\na fox runs | 1.5s\nthen: it jumps | 0.75s\ncut: a hen | 0.75s"
EDIT = TEXT.replace("a hen", "an owl")
KINDS = {
    "film": "run-*/film.mp4",
    "journal": "run-*/journal.jsonl",
    "settings": "run-*/settings.json",
    "storyboard": "run-*/timeline.txt",
    "report": "run-*/report.json",
    "latents": "run-*/latents/*.safetensors",
    "states": "states/*.safetensors",
    "lock": "lock",
}
"""Kind of file -> where they lie in a Take."""


class Stopped(Exception):
    """Breaks a render off."""


@dataclass(frozen=True)
class Outcome:
    """What one damage has led to."""

    state: str
    """Of the Take: finished or stopped."""
    kind: str
    """A name of `KINDS`."""
    how: str
    """What was done to which file."""
    chunks: int
    """Chunks that the film was sampled again for, beyond those that were missing anyway."""
    fault: str
    """What is wrong with the film or its edit; empty where nothing is."""


def attack(bundle: ModelBundle, folder: Path, seed: int, flips: int, deletions: int) -> Iterator[Outcome]:
    """Damage copies of a finished and of a stopped Take, made in `folder`, and look at what comes of them."""
    dice = random.Random(seed)
    want = {text: _bytes(_render(bundle, text, folder / name)) for text, name in ((TEXT, "a"), (EDIT, "b"))}
    _stop(bundle, folder / "stopped")
    missing = {
        "finished": 0,
        "stopped": _sampled(bundle, TEXT, shutil.copytree(folder / "stopped", folder / "c")),
    }
    for state, source in (("finished", folder / "a"), ("stopped", folder / "stopped")):
        tries = [_flip] * flips + [_delete] * deletions
        for number, damage in enumerate(tries):
            place = shutil.copytree(source, folder / "try")
            kinds = [kind for kind, pattern in KINDS.items() if list((place / "take").glob(pattern))]
            kind = kinds[number % len(kinds)]
            path = dice.choice(sorted((place / "take").glob(KINDS[kind])))
            how = f"{damage(path, dice)} {path.relative_to(place / 'take')}"
            fault, sampled = "", 0
            for text in (TEXT, EDIT):
                seen: list[Event] = []
                try:
                    found = _bytes(_render(bundle, text, place, seen.append))
                except Exception as error:  # whatever it is, it is a failure
                    found = {f"{type(error).__name__}: {error}": b""}
                if text == TEXT:
                    sampled = len({event.index for event in seen if isinstance(event, StepDone)})
                wrong = [
                    name
                    for name in found.keys() | want[text].keys()
                    if found.get(name) != want[text].get(name)
                ]
                if wrong and not fault:
                    fault = f"{'edit' if text == EDIT else 'film'}: {', '.join(sorted(wrong))}"
            shutil.rmtree(place)
            yield Outcome(state, kind, how, sampled - missing[state], fault)


def _render(
    bundle: ModelBundle, text: str, place: Path, listener: Callable[[Event], None] | None = None
) -> FilmResult:
    for old in place.glob("film*.mp4"):
        old.unlink()
    out, take = place / "film.mp4", place / "take"
    return render_film(bundle, text, out, take_folder=take, sheet=False, listener=listener)


def _bytes(result: FilmResult) -> dict[str, bytes]:
    """All that must not depend on what has happened before: the film that is placed, and the latents."""
    latents = sorted(result.run.glob("latents/*.safetensors"))
    return {"film": result.path.read_bytes(), **{path.stem: path.read_bytes() for path in latents}}


def _stop(bundle: ModelBundle, place: Path) -> None:
    """Render until two chunks are in the film."""

    def listener(event: Event) -> None:
        if isinstance(event, ChunkDone) and event.index == 1:
            raise Stopped

    try:
        _render(bundle, TEXT, place, listener)
    except Stopped:
        return
    raise RuntimeError("the film was too short to be stopped")


def _sampled(bundle: ModelBundle, text: str, place: Path) -> int:
    """Chunks that are sampled for the film in a Take that nothing has happened to."""
    seen: list[Event] = []
    _render(bundle, text, place, seen.append)
    return len({event.index for event in seen if isinstance(event, StepDone)})


def _flip(path: Path, dice: random.Random) -> str:
    data = bytearray(path.read_bytes())
    at, bit = dice.randrange(len(data)), dice.randrange(8)
    data[at] ^= 1 << bit
    path.unlink()  # latents of several runs may be one file
    path.write_bytes(data)
    return f"bit {bit} of byte {at} in"


def _delete(path: Path, dice: random.Random) -> str:
    path.unlink()
    return "without"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="damage Takes, and hold what is rendered then to what it should be"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how often, each time elsewhere")
    parser.add_argument("--flips", type=int, default=60, help="bits to turn over per Take and seed")
    parser.add_argument("--deletions", type=int, default=20, help="files to remove per Take and seed")
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("tiny", TINY)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(TINY)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    bundle, outcomes = tiny.tiny_bundle(), []
    for seed in range(options.seed, options.seed + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            for outcome in attack(bundle, Path(folder), seed, options.flips, options.deletions):
                outcomes.append(outcome)
                if outcome.fault:
                    print(f"seed {seed}, {outcome.state}, {outcome.how}: {outcome.fault}", flush=True)
    tried, wrong = Counter(o.kind for o in outcomes), Counter(o.kind for o in outcomes if o.fault)
    print(f"{'file':<12}{'damaged':>8}{'failed':>8}{'sampled again, at most':>24}")
    for kind in KINDS:
        most = max((o.chunks for o in outcomes if o.kind == kind), default=0)
        print(f"{kind:<12}{tried[kind]:>8}{wrong[kind]:>8}{most:>24}")
    print(f"{'all':<12}{tried.total():>8}{wrong.total():>8}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
