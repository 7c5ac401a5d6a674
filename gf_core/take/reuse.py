"""What of a film lies in its Take already: found by the keys of its chunks, and checked before it is believed.

Two prefixes are found, because latents and pictures depend on different things. Latents are there for the first n
chunks whose keys some run has; pictures for the first m <= n of them, in a film that was decoded and encoded with the
settings now asked for. Chunks m..n-1 are only decoded and encoded, those from n on are sampled.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..video.boxes import read_layout
from .folder import Run, runs_in
from .journal import Record, scan_journal

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("grounded")

Settings = dict[str, Any]
"""What a run's `settings.json` holds."""

_FIELDS = {
    "chunk": frozenset(("index", "segment", "key", "frames", "latents", "anchor")),
    "latents": frozenset(("index", "segment", "key", "latents", "anchor")),
    "state": frozenset(("name", "digest")),
    "end": frozenset(("cancelled",)),
}
"""Kind of a journal's record -> what it must hold."""


@dataclass(frozen=True)
class Kept:
    """A chunk whose latents are in a run of the Take, checked."""

    run: Run
    record: Record

    def load(self) -> Tensor:
        """Its latents [f c h w], on the CPU. Raises TakeError when they cannot be read."""
        return self.run.load_latents(self.record["index"])


@dataclass(frozen=True)
class Reuse:
    """What need not be made again."""

    chunks: tuple[Kept, ...] = ()
    """Chunks with latents, from the film's first on."""
    decoded: int = 0
    """How many of them have their pictures in the film of `source`."""
    source: Run | None = None
    """The run whose film begins with these pictures."""
    goes_on: bool = False
    """`source` itself is the run to continue: it was stopped, and nothing else has changed."""
    finished: bool = False
    """The film of `source` is the whole one that is asked for."""
    changed: str = ""
    """Why the rest has to be made, in words."""
    digests: dict[str, str] = field(default_factory=dict)
    """Name of a state -> its digest, as the earlier runs recorded it."""

    @property
    def anchors(self) -> list[Any]:
        """The memory's evaluations in these chunks."""
        return [kept.record["anchor"] for kept in self.chunks if kept.record["anchor"]]

    @property
    def frames(self) -> int:
        """Pictures in the film prefix that is taken over."""
        return sum(kept.record["frames"] for kept in self.chunks[: self.decoded])


@dataclass(frozen=True)
class _Earlier:
    """An earlier run as far as it can be trusted."""

    run: Run
    settings: Settings
    records: list[Record]
    """Chunks from the film's first on."""
    sampled: list[Record]
    """Chunks behind these that have latents and no pictures: the render was stopped before it came to them."""
    states: list[Record]
    whole: bool
    """Nothing in the journal is damaged but a line torn by a kill."""
    ended: bool
    """It got to the end that was asked for."""

    def matching(self, keys: Sequence[str]) -> int:
        """How many leading chunks have these keys."""
        count = 0
        for record, key in zip(self.records, keys):
            if record["key"] != key:
                break
            count += 1
        return count


def find_reuse(take: Path, settings: Settings, keys: Sequence[str]) -> Reuse:
    """Search every run of the Take in folder `take` for the chunks with `keys`, those of the film to be made, in order.

    settings: the `settings.json` of that film.
    """
    runs = [earlier for run in reversed(runs_in(take)) if (earlier := _open(run)) is not None]
    if not runs:
        return Reuse()
    # Same film key: same latents wherever the chunk keys agree. Same pictures key too: same bytes of film.
    alike = [earlier for earlier in runs if earlier.settings.get("film_key") == settings["film_key"]]
    # The longest first, so that latents and pictures of one run are preferred; sorting keeps newer runs in front.
    alike.sort(key=lambda earlier: -earlier.matching(keys))
    films = [earlier for earlier in alike if earlier.settings.get("pictures_key") == settings["pictures_key"]]
    # A run of this very film goes first, stopped or finished: only it can be gone on with in place.
    same = [earlier for earlier in films if _is_same_film(earlier, settings, keys)]
    alike = same + [earlier for earlier in alike if earlier not in same]
    # Latents may come from several runs, pictures from one film only; both are read and checked here.
    chunks = _collect(alike, keys)
    film, pictures = _longest_film(same + films, keys, len(chunks))
    # It goes on in place if all that its journal speaks of is whole and its own; else a new run takes over.
    goes_on = film is not None and film in same and pictures == len(film.records)
    goes_on = goes_on and all(kept.run is film.run for kept in chunks[:pictures])  # type: ignore[union-attr]
    # Against which run the change is told: the one that the last chunk came from.
    nearest = next((e for e in alike if chunks and e.run is chunks[-1].run), (alike or runs)[0])
    return Reuse(
        chunks=chunks,
        decoded=pictures,
        source=film.run if film else None,
        goes_on=goes_on,
        finished=goes_on and film is not None and film.ended and pictures == len(keys),
        changed=what_changed(nearest.settings, settings, len(chunks), pictures, len(keys)),
        digests={record["name"]: record["digest"] for earlier in alike for record in earlier.states},
    )


def _open(run: Run) -> _Earlier | None:
    """What can be trusted of a run; None, with a line in the log, when it cannot be read, or is of another version."""
    try:
        settings = json.loads(run.settings.read_text(encoding="utf-8"))
        scan = scan_journal(run.journal)
        _check_form(settings, scan.records)
    except (OSError, ValueError) as error:
        log.info("%s holds nothing to reuse: %s", run.folder.name, error)
        return None
    if scan.bad_line is not None:
        log.warning("journal of %s: line %d is damaged and dropped", run.folder.name, scan.bad_line)
    chunks = [record for record in scan.records if record["kind"] == "chunk"]
    in_order = [record for index, record in enumerate(chunks) if record["index"] == index]
    return _Earlier(
        run=run,
        settings=settings,
        records=in_order,
        sampled=[record for record in scan.records if record["kind"] == "latents"],
        states=[record for record in scan.records if record["kind"] == "state"],
        whole=(scan.bad_line is None or scan.torn) and len(in_order) == len(chunks),
        ended=bool(scan.records) and scan.records[-1]["kind"] == "end" and not scan.records[-1]["cancelled"],
    )


def _check_form(settings: Any, records: Sequence[Record]) -> None:
    """Raises ValueError unless settings and journal have the form that this version writes."""
    try:
        known = all(isinstance(segment["key"], str) for segment in settings["segments"])
        wanted = {record["kind"]: _FIELDS.get(record["kind"], frozenset()) for record in records}
        known &= all(wanted[record["kind"]] <= record.keys() for record in records)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it was made by another version") from error
    if not known:
        raise ValueError("it was made by another version")


def _is_same_film(earlier: _Earlier, settings: Settings, keys: Sequence[str]) -> bool:
    """Whether a run was begun for the very film that is asked for, and holds no more than is wanted of it."""
    segments = [[segment["key"] for segment in s.get("segments", [])] for s in (earlier.settings, settings)]
    fits = earlier.matching(keys) == len(earlier.records) <= len(keys)
    return earlier.whole and segments[0] == segments[1] and fits


def _collect(runs: Sequence[_Earlier], keys: Sequence[str]) -> tuple[Kept, ...]:
    """The first chunks whose latents are whole in some run; earlier ones of `runs` are preferred."""
    by_key: dict[str, list[Kept]] = {}
    for earlier in runs:
        for record in (*earlier.records, *earlier.sampled):
            by_key.setdefault(record["key"], []).append(Kept(earlier.run, record))
    chunks: list[Kept] = []
    for key in keys:
        found = next((kept for kept in by_key.get(key, ()) if _is_whole(kept)), None)
        if found is None:
            break
        chunks.append(found)
    return tuple(chunks)


def _is_whole(kept: Kept) -> bool:
    path = kept.run.latents(kept.record["index"])
    try:
        whole = hashlib.sha256(path.read_bytes()).hexdigest() == kept.record["latents"]
        why = "its bytes have changed"
    except OSError as error:
        whole, why = False, str(error)
    if not whole:
        log.warning("latents of chunk %d in %s dropped: %s", kept.record["index"], kept.run.folder.name, why)
    return whole


def _longest_film(runs: Sequence[_Earlier], keys: Sequence[str], most: int) -> tuple[_Earlier | None, int]:
    """The run whose film holds the most of the first `most` chunks, and how many; the first of equals."""
    best: tuple[_Earlier | None, int] = (None, 0)
    for earlier in runs:
        wanted = min(earlier.matching(keys), most)
        if wanted > best[1]:
            count = _film_chunks(earlier.run.film, earlier.records[:wanted])
            if count > best[1]:
                best = earlier, count
    return best


def _film_chunks(film: Path, records: Sequence[Record]) -> int:
    """How many of these chunks lie in the film as the journal says: one fragment each, at its place."""
    if not film.exists():  # an old one that made room
        return 0
    try:
        fragments = read_layout(film).fragments
    except OSError as error:
        log.warning("film %s cannot be reused: %s", film, error)
        return 0
    for count, record in enumerate(records):
        fits = count < len(fragments) and fragments[count].frames == record["frames"]
        if not fits or fragments[count].end != record.get("film_bytes"):
            log.warning("film %s is damaged after chunk %d: the rest is encoded again", film, count)
            return count
    return len(records)


# -- why not more ----------------------------------------------------------------------------------------------

_FACTS = {
    "engine": "the program's version",
    "model": "the model",
    "text": "the text encoder",
    "size": "the size",
    "start": "the start image",
    "codec": "the decoder",
    "fps": "frames per second",
    "encoder": "the video encoder's version",
    "options": "the video encoder's settings",
    "geometry": "the chunks",
}
_TOLD = ("verb", "seed", "recache", "blend")
"""Differences of a segment that are told with both values."""


def what_changed(old: Settings, new: Settings, chunks: int, pictures: int, wanted: int) -> str:
    """The reason why only `chunks` of `wanted` chunks (and pictures of `pictures`) could be taken from a run.

    old, new: `settings.json` of that run and of the film to be made. Empty when all is there.
    """
    if chunks < wanted:
        return _facts(old.get("facts", {}), new["facts"]) or _segments(old, new)
    if pictures < wanted:
        return _facts(old.get("pictures", {}), new["pictures"]) or "the film was not finished"
    return ""


def _facts(old: Any, new: Any, path: tuple[str, ...] = ()) -> str:
    """The first difference between two trees of JSON values: `memory: recent 6 -> 4`."""
    if old == new:
        return ""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            found = _facts(old.get(name), new.get(name), (*path, name))
            if found:
                return found
    if "options" in path:
        return _FACTS["options"]
    name = _FACTS.get(path[-1], path[-1]) if path else "the settings"
    where = f"{path[0]}: " if len(path) > 1 else ""
    hidden = path and path[-1] in ("model", "text", "start", "codec")
    return f"{where}{name}" + ("" if hidden else f" {_value(old)} -> {_value(new)}")


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ("x" if all(isinstance(item, int) for item in value) else ", ").join(map(str, value))
    return "none" if value is None else str(value)


def _segments(old: Settings, new: Settings) -> str:
    """What the first segment with another key differs in."""
    before: list[dict[str, Any]] = old.get("segments", [])
    after: list[dict[str, Any]] = new["segments"]
    known_keys = [segment["key"] for segment in before]
    place = next((i for i, s in enumerate(after) if s["key"] not in known_keys[i : i + 1]), None)
    if place is None:
        return "the film was not finished"
    segment = after[place]
    name = f"segment {segment['number']}"
    if place >= len(before):
        return f"{name}: new"
    was = before[place]
    known, still = [_text(s) for s in before], [_text(s) for s in after]
    mine = _text(segment)
    if mine != _text(was):
        if mine in known:
            return f"{name}: moved" if _text(was) in still else f"a segment before {name} was removed"
        if _text(was) in still[place + 1 :]:
            return f"{name}: new"
    return f"{name}: {_difference(was, segment)}"


def _text(segment: dict[str, Any]) -> tuple[str, int]:
    """What makes a segment itself, wherever it stands."""
    return segment["prompt"], segment["seed"]


def _difference(was: dict[str, Any], now: dict[str, Any]) -> str:
    if was["prompt"] != now["prompt"]:
        return "prompt"
    for name in _TOLD:
        if was.get(name) != now.get(name):
            return f"{name} {_value(was.get(name))} -> {_value(now.get(name))}"
    if was["chunks"] != now["chunks"]:
        return f"{was['seconds']:g} s -> {now['seconds']:g} s"
    return "what comes before it"
