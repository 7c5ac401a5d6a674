"""What nodes show, in a form that comes back: the host replays it with a cached node, and it lies in the Take.

    <run>/shown/<kind>.json     what nodes of one kind have shown of this run, the newest last, with their pictures

What one node shows ("facts") is a small JSON object: `text`, `picture` and `film` (addresses on this server), and `of`,
the widget values that it holds for. A page that has just opened asks for the facts of a Take (`facts_of`); what a
sampler and a Take Report show follows from the run itself, so films made anywhere are shown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..gf_core.errors import TakeError
from ..gf_core.files.atomic import beside, put, write_json
from ..gf_core.foreign import read_json
from ..gf_core.take.own import is_file, listed, read_file
from ..gf_core.take.run import Run, runs_in
from ..gf_core.words import clock
from . import host
from .live import jpeg

if TYPE_CHECKING:
    from PIL import Image

    from ..gf_core.take.shelf import Alternative

SAMPLER, REPORT, TAKES = "GF_StreamSampler", "GF_TakeReport", "GF_SegmentTakes"
KEPT = 20
"""Facts of one kind that a run keeps; the oldest go first."""
MINUTE = 60
SO_FAR = "stopped; the film so far is kept in the Take"
GOING_ON = "being rendered; this is the film so far"
busy = set[Path]()
"""Folders of the Takes that this host renders into at the moment."""


def shown(facts: dict[str, Any], **known: Any) -> dict[str, Any]:
    """A node's `ui`: `facts` for this pack's page, and what other pages and scripts know, such as `text`.

    The facts go as text, because the host counts objects as files that a Run has made.
    """
    return {"grounded": [json.dumps(facts)], **known}


def keep(
    run: Run, kind: str, facts: dict[str, Any], picture: Image.Image | None = None, **of: Any
) -> dict[str, Any]:
    """`facts` for `shown`, with the address of `picture`, once they lie in the Take for the next page.

    of: the widget values that these facts hold for; the same values replace what was kept for them. A Take that
    cannot be written to keeps nothing, which costs a log line.
    """
    folder = run.folder / "shown"
    facts = {**facts, "take": take_name(run.folder.parent), "of": of}
    try:
        if folder.is_symlink():
            raise OSError(f"{folder} is a link")
        folder.mkdir(exist_ok=True)
        if picture is not None:
            page = folder / f"{'-'.join([kind, *map(str, of.values())])}.png"
            with beside(page, ".png") as part:
                picture.save(part)
                put(part, page)
            facts["picture"] = view(page)
        others = [one for one in _kept(run, kind) if one["of"] != of]
        write_json(folder / f"{kind}.json", {"film": age(run.film), "facts": [*others, facts][-KEPT:]})
    except OSError as error:
        host.log.info("what %s shows is not kept for the next page: %s", kind, error)
    return facts


def facts_of(take: str) -> dict[str, list[dict[str, Any]]]:
    """Facts by kind of node for the newest render in the Take called `take`; nothing where there is none.

    Raises TakeError: no Take can have that name, or a folder of it cannot be listed.
    """
    from ..gf_core.take.shelf import shelves

    run = next((run for run in reversed(runs_in(host.take_folder(take))) if run.committed()), None)
    if run is None:
        return {}
    kinds = [path.stem for path in listed(run.folder / "shown") if path.match("GF_*.json")]
    found = {kind: [one for one in _kept(run, kind) if _is_there(one)] for kind in kinds}
    report = _report(run)
    return {
        **found,
        SAMPLER: [sampler_facts(run)],
        REPORT: [] if report is None else [report_facts(run, report)],
        TAKES: [
            takes_facts(folder, number, entries)
            for number, (folder, entries) in shelves(run.folder.parent).items()
        ],
    }


def sampler_facts(run: Run, text: str | None = None) -> dict[str, Any]:
    """What a sampler and its timeline show of `run`.

    text: words of the render that has just ended; without them those of its report.

    Returns:
        `take` (its name), `text`, `share` (0 to 1, of the film as planned), `timeline` (the storyboard as rendered),
        `pictures` (place in the storyboard -> address), `picture` (the film's last one), `film`; and to look through
        it: `starts` (place -> first frame), `frames`, `fps`, and `any`, an address that wants a frame's number.

    Raises TakeError: the run's folder is damaged.
    """
    settings, records, report = run.read_settings(), run.committed(), _report(run)
    if text is None and run.folder.parent in busy:  # a page that was opened meanwhile
        text = GOING_ON
    fps, segments = settings["video"]["fps"], settings["segments"]
    first: dict[int, int] = {}
    for record in records:
        first.setdefault(record["segment"], record["first_frame"])
    frames = records[-1]["first_frame"] + records[-1]["frames"]
    planned = sum(segment["seconds"] for segment in segments)
    if not first.keys() <= set(range(len(segments))) or fps <= 0 or planned <= 0:
        raise TakeError(f"the settings of {run.folder} are of another film", "render again")
    return {
        "take": take_name(run.folder.parent),
        "text": text or (SO_FAR if report is None else end_text(report)),
        "share": min(1.0, frames / fps / planned),
        "timeline": run.read_timeline(),
        "pictures": {segments[at]["number"] - 1: picture_address(run, frame) for at, frame in first.items()},
        "picture": picture_address(run, frames - 1),
        "film": view(run.film),
        "starts": {segments[at]["number"] - 1: frame for at, frame in first.items()},
        "frames": frames,
        "fps": fps,
        "any": picture_address(run),
        "of": {},
    }


def report_facts(run: Run, report: dict[str, Any]) -> dict[str, Any]:
    """What a Take Report shows of `run`."""
    from ..gf_core.engine.report import report_lines

    return {"text": "\n".join(report_lines(report)), "take": take_name(run.folder.parent), "of": {}}


def takes_facts(folder: Path, number: int, entries: Sequence[Alternative]) -> dict[str, Any]:
    """What Segment Takes shows of the takes `entries` of segment `number`, whose clips lie in `folder`.

    Returns:
        `take` (name of the Take), `text`, `takes` (name, seed and film of each), for the widget `segment`.
    """
    names = ", ".join(entry.name for entry in entries)
    return {
        "take": take_name(folder.parent),
        "text": f"segment {number}: takes {names}",
        "takes": [
            {"name": entry.name, "seed": entry.seed, "film": view(folder / f"{entry.name}.mp4")}
            for entry in entries
        ],
        "of": {"segment": number},
    }


def end_text(report: dict[str, Any]) -> str:
    """A finished or stopped render: one line that says it all, what was kept from before, and the report."""
    from ..gf_core.engine.report import report_lines

    seconds, speed = report["film"]["seconds"], report["speed"]["fps"]
    length = f"{seconds:.2f} s" if seconds < MINUTE else clock(seconds)
    how = "as it was: nothing had to be made"
    if speed:
        how = f"in {clock(report['seconds']['total'])}, {speed:.1f} fps"
    lines = report_lines(report)
    reuse = [line for line in lines if line.startswith("reuse")]
    first = f"{length} of film {how}"
    said = f"stopped: {first}" if report["film"]["cancelled"] else first
    return "\n".join([said, *reuse, *(line for line in lines if line not in reuse)])


def take_name(folder: Path) -> str:
    """What the artist calls the Take at `folder`."""
    return folder.relative_to(host.output_folder() / host.TAKES).as_posix()


def view(path: Path) -> str:
    """Where the host serves a file of the output folder; another one when the file is another."""
    inside = path.relative_to(host.output_folder())
    asked = {
        "filename": inside.name,
        "subfolder": inside.parent.as_posix(),
        "type": "output",
        "t": _stamp(path),
    }
    return f"/view?{urlencode(asked)}"


def picture_address(run: Run, frame: int | None = None) -> str:
    """Where the routes serve one picture of the film; the page puts a frame's number behind one without."""
    asked = {
        "take": take_name(run.folder.parent),
        "run": run.folder.name,
        "t": _stamp(run.settings),
        "frame": "" if frame is None else frame,  # last, for the page that adds it
    }
    return f"/grounded/picture?{urlencode(asked)}"


def picture_of(take: str, run: str, frame: int) -> bytes | None:
    """A small JPEG of one picture of a film; None where there is none. Raises TakeError: no Take can have that name."""
    known = {one.folder.name: one for one in runs_in(host.take_folder(take))}
    if run not in known or not is_file(known[run].film):
        return None
    return _small(known[run].film, frame, known[run].film.stat().st_mtime_ns)


@lru_cache(maxsize=512)
def _small(film: Path, frame: int, _: int) -> bytes | None:
    from ..gf_core.video import pick_frames
    from ..gf_core.video.pixels import preview

    picture = pick_frames(film, [frame]).get(frame)
    return None if picture is None else jpeg(preview(picture[None])[0])


def _report(run: Run) -> dict[str, Any] | None:
    """The report of a run; None for one that was cancelled or killed, or is of another version."""
    try:
        report = run.read_report()
        end_text(report)
    except (TakeError, ValueError, LookupError, TypeError, ArithmeticError):
        return None
    return report


def _kept(run: Run, kind: str) -> list[dict[str, Any]]:
    """What was kept of this very film: a render that went on makes another."""
    try:
        told = read_json(read_file(run.folder / "shown" / f"{kind}.json"))
        facts = told["facts"] if told["film"] == age(run.film) else []
        return [one for one in facts if "of" in one and isinstance(one.get("path", ""), str)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none yet, or of another version
        return []


def _is_there(facts: dict[str, Any]) -> bool:
    """Whether the file that these facts are about still is."""
    return "path" not in facts or Path(facts["path"]).exists()


def age(film: Path) -> list[int]:
    """Changes with a film: its size, and when it was written last."""
    state = film.stat()
    return [state.st_size, state.st_mtime_ns]


def _stamp(path: Path) -> str:
    return f"{path.stat().st_mtime_ns:x}" if path.exists() else ""
