"""Several takes of one segment: the same storyboard, with another seed on that segment and a name for each.

A name stands for a seed. The storyboard's text is the truth: picking a take writes `seed N` into it, and since the run
of that take has the same keys, the next render goes on from it. They lie side by side in a folder:

    <take>/segment-004/
      a.mp4 b.mp4 ...          the segment alone, cut out of the runs' films
      sheet.png                a row of pictures per take
      takes.json               names, seeds, runs, and which storyboard they belong to

Takes of a storyboard that was changed up to the segment, or of another model or size, go into a folder of their own
(`segment-004-2`).
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import logging
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import GroundedError, TakeError, reason
from ..files.atomic import beside, make_folder, on_disk, put, write_atomic, write_json
from ..files.listing import FIX
from ..foreign import read_json
from ..timeline import PlannedSegment, Storyboard, make_plan, parse
from ..timeline.edits import reseed, segment_at, with_seed
from ..video import SheetRow, contact_sheet, cut_out, film_row
from ..video.place import free_name
from ..words import counted
from . import own
from .folder import Run

log = logging.getLogger("grounded")

_FOLDER = re.compile(r"segment-(\d{3,})(?:-(\d+))?")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MOST = 26
"""Takes of one segment, as many as letters."""
SHORT_SEEDS = 10**6
_NAME = re.compile(r"\w(?:[\w -]{0,38}\w)?")


@dataclass(frozen=True)
class Alternative:
    """One take of a segment."""

    name: str
    """What it is called, and its clip without `.mp4`."""
    seed: int
    """The segment's seed."""
    run: str = ""
    """The run that holds it; empty before it is rendered."""


def own_seed(board: Storyboard, number: int) -> int:
    """The seed that segment `number` (from 1) has in `board`, written there or derived.

    Raises StoryboardError: there is no such segment, or it is muted.
    """
    return _planned(board, segment_at(board, number)).seed


def other_seeds(board: Storyboard, number: int, count: int) -> list[int]:
    """`count` different seeds for segment `number`, the same for the same film seed and prompt every time.

    Of six digits at most, because they are to be read and written in the storyboard.
    """
    facts, seeds, tried = [board.seed or 0, board.expanded(number - 1)], dict[int, None](), 0
    while len(seeds) < count:
        digest = hashlib.sha256(json.dumps([*facts, tried]).encode()).digest()
        seeds[int.from_bytes(digest[:8], "big") % SHORT_SEEDS] = None
        tried += 1
    return list(seeds)


def identity(board: Storyboard, number: int) -> str:
    """Names everything in the storyboard up to segment `number` that decides its pictures, but its seed."""
    index = segment_at(board, number)
    return _planned(with_seed(board, index, 0), index).key


def _planned(board: Storyboard, index: int) -> PlannedSegment:
    """The segment at `index` of the text, which is not muted, as it is planned."""
    return next(segment for segment in make_plan(board).segments if segment.index == index)


def propose(
    board: Storyboard, number: int, count: int, names: Sequence[str] = (), known: Sequence[Alternative] = ()
) -> list[Alternative]:
    """`count` takes of segment `number`: those `known` first, then the storyboard's own seed, then new ones.

    names: in that order; where there are not enough, letters.

    Raises StoryboardError: no such segment. GroundedError: too many, or names that cannot be used.
    """
    own = own_seed(board, number)
    if not 1 <= count <= MOST:
        raise GroundedError(f"{count} takes of a segment are out of range", f"ask for 1 to {MOST}")
    _check_names(names, count)
    seeds = list(dict.fromkeys([*(take.seed for take in known), own, *other_seeds(board, number, count)]))
    chosen = dict(zip(seeds, names))
    given = {name.casefold() for name in names}  # a known take gives its name up to the seed that gets it now
    called = {take.seed: take.name for take in known if take.name.casefold() not in given}
    taken = given | {name.casefold() for name in called.values()}
    letters = _letters(taken)
    return [
        Alternative(chosen.get(seed) or called.get(seed) or next(letters), seed) for seed in seeds[:count]
    ]


def _letters(taken: Collection[str]) -> Iterator[str]:
    """Names for takes that have none, shortest first."""
    names = map("".join, itertools.chain.from_iterable(itertools.product(LETTERS, repeat=n) for n in (1, 2)))
    return (name for name in names if name not in taken)


def _renamed(
    takes: Sequence[Alternative], beside: Sequence[Alternative], lost: Collection[str]
) -> list[Alternative]:
    """`takes` under names that are not `lost` to others; a new one is nobody's in `beside`."""
    letters = _letters({take.name.casefold() for take in beside})
    return [replace(take, name=next(letters)) if take.name.casefold() in lost else take for take in takes]


def _check_names(names: Sequence[str], count: int) -> None:
    bad = [name for name in names if not _NAME.fullmatch(name)]
    if bad:
        raise GroundedError(
            f"'{bad[0]}' cannot be the name of a take", "use letters, digits, - and _, at most 40 of them"
        )
    if len({name.casefold() for name in names}) < len(names) or len(names) > count:
        raise GroundedError(
            f"{counted(len(names), 'name')} for {counted(count, 'take')}, or one of them twice",
            "give each take one name",
        )


def with_take(text: str, number: int, take: Alternative) -> str:
    """The storyboard `text` with that take of segment `number`: as it is, where it has that seed already."""
    return text if own_seed(parse(text), number) == take.seed else reseed(text, number, take.seed)


class Shelf:
    """The folder of one segment's takes.

    take: the Take's folder.
    number: the segment, from 1.
    storyboard: `identity` of the storyboard.
    film: the plan's base key (`settings.film_key`): model, memory, sampler, size, machine.
    """

    def __init__(self, take: Path, number: int, storyboard: str, film: str) -> None:
        self.take, self.number = take, number
        self._whose = {"storyboard": storyboard, "film": film}
        found = _folders(take).get(number, [])
        mine = [folder for folder in found if _whose(folder) == self._whose]
        self.folder = mine[-1] if mine else free_name(take / f"segment-{number:03d}")
        self.known = _takes(self.folder) if mine else []
        """Its takes so far, in order."""

    @property
    def sheet(self) -> Path:
        """The contact sheet."""
        return self.folder / "sheet.png"

    def clip(self, name: str) -> Path:
        """The clip of a take."""
        return self.folder / f"{name}.mp4"

    def fill(self, takes: Sequence[Alternative]) -> None:
        """Cut the clips out of the runs' films, draw the sheet, note names and seeds.

        takes: rendered ones. Those that were here before and are not among them stay in the list, under another name
        where one of these has theirs now. A clip under a name that its take has given up goes: the name may come to
        mean another one.

        Raises TakeError, ResourceError: a run lacks the segment, or the folder cannot be written.
        """
        seeds = {take.seed for take in takes}
        others = [take for take in self.known if take.seed not in seeds]
        renamed = _renamed(others, [*takes, *self.known], {take.name.casefold() for take in takes})
        whole = [*takes, *renamed]
        with on_disk(self.folder, "saving the takes of a segment"):
            make_folder(self.folder)
            # A name leads to no clip before it leads to its own: a kill leaves none with another's.
            for old, new in zip(others, renamed):
                if old.name != new.name and self.clip(old.name).is_file():
                    put(self.clip(old.name), self.clip(new.name))
            seed_of = {take.name.casefold(): take.seed for take in takes}
            for old in self.known:
                if seed_of.get(old.name.casefold(), old.seed) != old.seed:
                    self.clip(old.name).unlink(missing_ok=True)
            lines = {"segment": self.number, **self._whose, "takes": [asdict(take) for take in whole]}
            write_json(self.folder / "takes.json", lines)
            rows, prompts = zip(*map(self._row, takes))
            subtitle = f"{prompts[0]}   (pick {', '.join(take.name for take in takes)})"
            title = f"{self.take.name}, segment {self.number}"
            with beside(self.sheet, ".png") as part:
                contact_sheet(rows, part, title=title, subtitle=subtitle)
                put(part, self.sheet)
            # Last: a kill before this leaves a clip too many, none too few.
            named = {take.name.casefold() for take in whole}
            for old in self.known:
                if old.name.casefold() not in named:
                    self.clip(old.name).unlink(missing_ok=True)
        self.known = whole

    def _row(self, take: Alternative) -> tuple[SheetRow, str]:
        """Cut a take's clip, and choose pictures of it; these, and the segment's prompt."""
        run = Run(self.take / take.run)
        settings = run.read_settings()
        planned = {part["number"]: (place, part) for place, part in enumerate(settings["segments"])}
        place, part = planned.get(self.number, (None, {}))
        # The journal counts the planned segments, from 0; in the storyboard muted ones have numbers too.
        chunks = [record for record in run.committed() if record["segment"] == place]
        if not chunks or len(chunks) < part["chunks"]:
            raise TakeError(f"take {take.name} was not finished", "run again: it goes on where it was")
        clip, first = self.clip(take.name), chunks[0]["index"]
        # The chunks of a film are its fragments.
        write_atomic(clip, lambda part: cut_out(run.film, part, first, len(chunks)))
        frames, fps = sum(record["frames"] for record in chunks), settings["video"]["fps"]
        row = film_row(clip, range(frames), fps, f"seed {take.seed}", take.name, f"{frames / fps:.1f} s")
        return row, part["prompt"]


def find_pick(take: Path, board: Storyboard, number: int, name: str) -> Alternative:
    """The take called `name` of segment `number`; of several models or sizes, the one tried last.

    Raises StoryboardError: no such segment. TakeError: no such take, or the storyboard has changed since.
    """
    whose, found = identity(board, number), _folders(take).get(number, [])
    mine = [folder for folder in found if _whose(folder).get("storyboard") == whose]
    if not mine:
        why, fix = "has no takes yet", f"make some: grounded takes ... --segment {number}"
        if found:
            why = "or what comes before it was changed since its takes were made"
            fix = f"take that back, give the --seed and --fps that they had, or {fix}"
        raise TakeError(f"segment {number} {why} (in {take})", fix)
    # Of several folders with one name in them the newest is asked last, and its take stays.
    mine.sort(key=lambda folder: (folder / "takes.json").stat().st_mtime)
    names: dict[str, Alternative] = {}
    for folder in mine:
        names |= {entry.name.casefold(): entry for entry in _takes(folder)}
    if name.casefold() not in names:
        known = ", ".join(entry.name for entry in names.values())
        raise TakeError(f"segment {number} has no take called '{name}'", f"choose one of: {known}")
    return names[name.casefold()]


def shelves(take: Path) -> dict[int, tuple[Path, list[Alternative]]]:
    """Each segment (from 1) of the Take `take` that has takes: their newest folder, and those whose clips lie there."""
    found: dict[int, tuple[Path, list[Alternative]]] = {}
    for number, folders in _folders(take).items():
        filled = [folder for folder in folders if (folder / "takes.json").is_file()]
        if not filled:
            continue
        folder = max(filled, key=lambda folder: (folder / "takes.json").stat().st_mtime)
        try:
            takes = _takes(folder)
        except TakeError as error:  # the others can be shown
            log.warning("%s", error.message)
            continue
        there = [entry for entry in takes if (folder / f"{entry.name}.mp4").is_file()]
        if there:
            found[number] = (folder, there)
    return found


def named_runs(take: Path) -> set[str]:
    """Names of the runs in the Take `take` that some segment's take is made of.

    Raises TakeError: they cannot be told.
    """
    return {entry.run for folder in own.segments(take) for entry in _takes(folder)}


def _folders(take: Path) -> dict[int, list[Path]]:
    """Folders of takes by their segment, each's in the order of their making. Raises TakeError: `take` cannot be
    listed."""
    named = [(_FOLDER.fullmatch(path.name), path) for path in own.segments(take)]
    folders: dict[int, list[Path]] = {}
    for number, _, path in sorted((int(m[1]), int(m[2] or 1), path) for m, path in named if m):
        folders.setdefault(number, []).append(path)
    return folders


def _note(folder: Path) -> dict[str, Any]:
    """What `takes.json` says; empty where there is none, or a damaged one.

    Raises TakeError: the system does not let it be read. Its takes would be made again, or their films removed.
    """
    try:
        found = read_json(own.read_file(folder / "takes.json"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) not in (None, errno.ENOENT, errno.ENOTDIR):
            raise TakeError(f"the takes in {folder} cannot be read: {reason(error)}", FIX) from error
        log.warning("the takes in %s cannot be read: %s", folder, reason(error))
        return {}


def _whose(folder: Path) -> dict[str, str]:
    note = _note(folder)
    return {name: note[name] for name in ("storyboard", "film") if name in note}


def _takes(folder: Path) -> list[Alternative]:
    try:
        found = [
            Alternative(str(entry["name"]), int(entry["seed"]), str(entry["run"]))
            for entry in _note(folder).get("takes", [])
        ]
    except (KeyError, TypeError, ValueError) as error:
        log.warning("the takes in %s cannot be read: %s", folder, reason(error))
        return []
    return [take for take in found if _NAME.fullmatch(take.name)]  # a name becomes a file's
