"""Damages a Take, file by file, and renders again: the film must come out with the bytes of an undisturbed one.

    python dev/attack/take.py [--seed 0] [--seeds N] [--flips 60] [--deletions 20] [--others 90] [--searches 6000]
                              [--kinds film,journal]

Per seed, a finished Take and one that was stopped in the middle are copied, and one bit of one file is turned over, or
one file is removed, cut, emptied, or is something else; every kind of file in turn. Then the film is rendered and
placed, and after that an edit of it. Last, the finished Take is searched with its journal cut at every byte, and with
bytes of journal and settings changed: what is believed must be true.
Prints a row per kind of file and each failure; ends with status 1 where there is one. The model is the tests' tiny one:
what is tried is how a Take is kept.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import runpy
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.attack.tries import damaged
from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.engine.events import ChunkDone, Event, StepDone
from gf_core.engine.film import look, settle
from gf_core.engine.render import FilmResult, render_film
from gf_core.take.journal import encode_record
from gf_core.take.run import Run

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


def attack(
    bundle: ModelBundle,
    folder: Path,
    seed: int,
    flips: int,
    deletions: int,
    others: int = 0,
    only: Collection[str] = tuple(KINDS),
) -> Iterator[Outcome]:
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
        tries += [OTHERS[number // len(only) % len(OTHERS)] for number in range(others)]
        for number, damage in enumerate(tries):
            place = shutil.copytree(source, folder / "try")
            kinds = [kind for kind in only if list((place / "take").glob(KINDS[kind]))]
            kind = kinds[number % len(kinds)]
            path = dice.choice(sorted((place / "take").glob(KINDS[kind])))
            if kind == "lock" and damage in NO_FILES:  # that is refused in words
                damage = _cut
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


def _cut(path: Path, dice: random.Random) -> str:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: dice.randrange(len(data))])
    return "a piece of"


def _empty(path: Path, dice: random.Random) -> str:
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(bytes(dice.choice([0, size])))
    return "zeros in"


def _noise(path: Path, dice: random.Random) -> str:
    path.unlink()
    path.write_bytes(dice.randbytes(dice.choice([1, 5000])))
    return "noise in"


def _folder(path: Path, dice: random.Random) -> str:
    path.unlink()
    (path / "more").mkdir(parents=True)
    return "a folder for"


def _loop(path: Path, dice: random.Random) -> str:
    path.unlink()
    path.symlink_to(path.name)
    return "a ring of links for"


def _pipe(path: Path, dice: random.Random) -> str:
    path.unlink()
    os.mkfifo(path)
    return "a pipe for"


NO_FILES = (_folder, _loop, _pipe)
OTHERS = (_cut, _empty, _noise, *NO_FILES)


def search(bundle: ModelBundle, folder: Path, seed: int, count: int) -> Iterator[tuple[str, str]]:
    """(kind of file, what is wrong) of searches of a finished Take whose journal or settings are not what they were."""
    dice, film = random.Random(seed), settle(bundle, TEXT)
    run = Run(_render(bundle, TEXT, folder).run)
    whole, records = look(film, run.folder.parent).reuse, run.committed()
    journal, settings = run.journal.read_bytes(), (run.folder / "settings.json").read_bytes()
    cuts = [(run.journal, journal, journal[:size]) for size in range(len(journal))]
    changed = [
        (path, was, damaged(was, dice))
        for path, was in ((run.journal, journal), (run.folder / "settings.json", settings))
        for _ in range(count)
    ]
    for path, was, now in cuts + changed:
        path.write_bytes(now)
        lines = set(now.splitlines(keepends=True))
        true = [r for r in records if path != run.journal or encode_record(r) in lines]
        kind = "journal, cut" if len(now) < len(was) and was.startswith(now) else f"{path.stem}, changed"
        try:
            found = look(film, run.folder.parent).reuse
        except Exception as error:  # whatever it is, it is a failure
            yield kind, f"{type(error).__name__}: {error}"
        else:
            believed = [kept.record for kept in found.chunks if kept is not None]
            right = all(record in true for record in (*believed, *found.film))
            lost = len(believed) < len(true) and path != run.journal
            yield kind, "" if right and not lost and len(believed) <= len(whole.chunks) else f"{now!r}"[:300]
        path.write_bytes(was)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="damage Takes, and hold what is rendered then to what it should be"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how often, each time elsewhere")
    parser.add_argument("--flips", type=int, default=60, help="bits to turn over per Take and seed")
    parser.add_argument("--deletions", type=int, default=20, help="files to remove per Take and seed")
    parser.add_argument("--others", type=int, default=90, help="files to make something else of")
    parser.add_argument(
        "--searches", type=int, default=6000, help="changed journals, and settings, to search with"
    )
    parser.add_argument("--kinds", default=",".join(KINDS), help="of files, with commas between")
    options = parser.parse_args()
    only = options.kinds.split(",")
    bundle, outcomes = runpy.run_path(str(TINY))["tiny_bundle"](), []
    searched, lost = Counter[str](), Counter[str]()
    for seed in range(options.seed, options.seed + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            asked = options.flips, options.deletions, options.others, only
            for outcome in attack(bundle, Path(folder), seed, *asked):
                outcomes.append(outcome)
                if outcome.fault:
                    print(f"seed {seed}, {outcome.state}, {outcome.how}: {outcome.fault}", flush=True)
        logging.disable(logging.WARNING)  # a line for each search
        with tempfile.TemporaryDirectory() as folder:
            for kind, fault in search(bundle, Path(folder), seed, options.searches):
                searched[kind] += 1
                if fault:
                    lost[kind] += 1
                    print(f"seed {seed}, searched with another {kind}: {fault}", flush=True)
        logging.disable(logging.NOTSET)
    tried, wrong = Counter(o.kind for o in outcomes), Counter(o.kind for o in outcomes if o.fault)
    print(f"{'file':<12}{'damaged':>8}{'failed':>8}{'sampled again, at most':>24}")
    for kind in KINDS:
        most = max((o.chunks for o in outcomes if o.kind == kind), default=0)
        print(f"{kind:<12}{tried[kind]:>8}{wrong[kind]:>8}{most:>24}")
    print(f"{'all':<12}{tried.total():>8}{wrong.total():>8}")
    for kind, count in searched.items():
        print(f"{count:>8} searches, {kind}: {lost[kind]} failed")
    return 1 if wrong or lost else 0


if __name__ == "__main__":
    sys.exit(main())
