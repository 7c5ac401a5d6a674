"""What a run says about itself at the end: as JSON in the Take, as a few lines for people."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..devices import card_peak, threads
from ..errors import GroundedError, TakeError
from ..estimate.budget import Budget
from ..files.listing import below, inside
from ..take.folder import Run
from ..take.states import state_name
from ..words import counted, size, span
from .events import Reused
from .film import Found
from .given.start import start_of
from .meter import Meter

if TYPE_CHECKING:
    from .rejoin import Rejoined

log = logging.getLogger("grounded")

STAGES = (
    "looking", "text", "given pictures", "compiling", "rebuilding memory", "sampling", "keeping memory", "decode",
    "encode", "save", "waiting", "showing",
)  # fmt: skip
"""In the order of the work: looking searches the Take for what is there; given pictures are the start's and the cast's.
Decode, encode and save run beside sampling; waiting is sampling held up by them, showing the time of whoever receives
the events."""


def make_report(
    found: Found, meter: Meter, frames: int, cancelled: bool = False,
    rejoined: Sequence[Rejoined] = (), anchors: Sequence[Any] = (),
) -> dict[str, Any]:  # fmt: skip
    """Everything measured in a run that put `frames` pictures on disk.

    found: the film, and what of it needed no sampling. rejoined: how its states were reached; `exact` says whether
    replayed ones had the recorded bits. anchors: what the memory weighed for the chunks that were sampled.
    """
    film, reuse = found.film, found.reuse
    settings, fps, video = film.settings, film.timing.fps, film.recipe.video
    busy = meter.seconds.get("sampling", 0.0)
    reused = Reused.of(film, reuse)
    begun = {"start": settings["start"]} if "start" in settings else {}
    last = film.plan.segments[max(0, film.whole_segments(found.stop) - 1)]
    checked = [how.exact for how in rejoined if how.exact is not None]
    return {
        "film": {
            "frames": frames,
            "seconds": frames / fps,
            "width": video.width * film.encoding.upscale,
            "height": video.height * film.encoding.upscale,
            "fps": fps,
            "segments": film.whole_segments(found.stop),
            "planned segments": len(film.plan.segments),
            "until": last.index + 1,
            "whole segments": film.whole_segments(film.chunks_of(frames)),
            "cancelled": cancelled,
        },
        **begun,
        "model": {"name": settings["model"]["name"], "fingerprint": settings["model"]["fingerprint"]},
        "machine": {**settings["machine"], "threads": settings["machine"].get("threads") or threads()},
        "reuse": {
            **asdict(reused),
            "replayed": sum(how.replayed for how in rejoined),
            "exact": all(checked) if checked else None,
        },
        "seconds": {"total": meter.elapsed, "first chunk": meter.first_chunk_seconds, **meter.seconds},
        "speed": {"fps": meter.fps, "sampling fps": (frames - reused.frames) / busy if busy else 0.0},
        "memory": {"peak held bytes": meter.peak, "peak card bytes": card_peak()},
        "anchors": [*reuse.anchors, *anchors],
    }


def compared(budget: Budget, report: dict[str, Any], run: Run) -> dict[str, Any]:
    """What was expected beside what happened: bytes of memory; minutes and bytes of disk where all was made anew."""
    memory = report["memory"]["peak held bytes" if budget.cost.resident else "peak card bytes"]
    whole = not report["reuse"]["chunks"] and not report["film"]["cancelled"]
    return {
        "memory": {"expected": budget.peak, "measured": memory},
        "minutes": {
            "expected": budget.minutes,
            "measured": report["seconds"]["total"] / 60 if whole else None,
        },
        "disk": {
            "expected": budget.disk.needed + budget.disk.states,
            "measured": _disk_taken(run) if whole else None,
            "known": budget.disk.known,
        },
    }


def _disk_taken(run: Run) -> int | None:
    """Bytes of the run's files, of the states that it kept, and of the film that is placed from it; None where a folder
    of these cannot be listed."""
    names = {record["name"] for record in run.records() if record["kind"] == "state"}
    try:
        files = [path for path in below(run.folder) if path.is_file()]
        states = [path for path in inside(run.folder.parent / "states") if path.match("*.safetensors")]
    except GroundedError as error:  # the film is made
        log.warning("how much disk it took is not known: %s", error.message)
        return None
    kept = [path for path in states if state_name(path) in names]
    return sum(path.stat().st_size for path in [*files, *kept, run.film])


def _estimate_line(estimate: dict[str, Any]) -> list[str]:
    """One line of what was expected and what was measured; nothing where nothing can be compared."""
    memory, minutes = estimate["memory"], estimate["minutes"]
    parts = []
    if memory["measured"]:
        parts.append(f"memory {size(memory['expected'])} (took {size(memory['measured'])})")
    if minutes["expected"] and minutes["measured"]:
        parts.append(f"time {span(60 * minutes['expected'])} (took {span(60 * minutes['measured'])})")
    disk = estimate["disk"]
    if disk["measured"]:
        most = "" if disk["known"] else "at most "
        parts.append(f"disk {most}{size(disk['expected'])} (took {size(disk['measured'])})")
    return [f"estimate {', '.join(parts)}"] if parts else []


def _how_far(film: dict[str, Any]) -> str:
    """`6 segments`, `3 of 6 segments (until 3)`, or `stopped after segment 4 of 6`."""
    if not film["cancelled"]:
        made, planned = film["segments"], film.get("planned segments")  # not in one of an earlier version
        if planned is not None and made < planned:
            return f"{made} of {counted(planned, 'segment')} (until {film['until']})"
        return counted(made, "segment")
    whole = film.get("whole segments")
    if whole is None:  # a report of an earlier version
        return f"stopped, of {counted(film['segments'], 'segment')}"
    return f"stopped {f'after segment {whole}' if whole else 'in segment 1'} of {film['segments']}"


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report as text lines.

    Raises:
        TakeError: another version wrote it, or somebody has changed it.
    """
    try:
        return _lines(report)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise TakeError("the report of this film is of another version", "render again") from error


def _lines(report: dict[str, Any]) -> list[str]:
    film, machine, seconds, speed = (report[part] for part in ("film", "machine", "seconds", "speed"))
    stages = ", ".join(f"{name} {seconds[name]:.1f} s" for name in STAGES if seconds.get(name, 0.0) >= 0.05)
    card = report["memory"]["peak card bytes"]
    lines = [
        f"film     {film['seconds']:.2f} s, {counted(film['frames'], 'picture')}, {film['width']}x{film['height']} at "
        f"{film['fps']:.5g} fps, {_how_far(film)}",
        *([f"start    {start}"] if (start := start_of(report.get("start"))) else []),
        f"model    {report['model']['name']} ({report['model']['fingerprint'][:12]}), {machine['dtype']} on "
        f"{machine['device']}",
    ]
    if seconds["first chunk"]:
        lines += [
            f"time     {seconds['total']:.1f} s in all, first chunk after {seconds['first chunk']:.1f} s",
            f"stages   {stages} (some at the same time)",
            f"speed    {speed['fps']:.1f} pictures/s with decode and encode, "
            f"{speed['sampling fps']:.1f} sampling alone",
            f"memory   {size(report['memory']['peak held bytes'])} at most"
            + (f", {size(card)} on the card" if card else ""),
        ]
    else:
        lines.append(f"time     {seconds['total']:.1f} s: nothing had to be made")
    if (ranks := report.get("ranks")) is not None and ranks["chunks"]:
        sent = size(ranks["sent"] // ranks["chunks"])
        lines.append(f"ranks    {ranks['count']}, the first of which sent {sent} for every chunk")
    lines += [f"relief   {step}" for step in report.get("relief", [])]
    lines += _estimate_line(report["estimate"]) if "estimate" in report else []
    reuse = report["reuse"]
    if reuse["chunks"]:
        changed = f"; {reuse['changed']}" if reuse["changed"] else ""
        exact = "; the rebuilt memory differs from the recorded one" if reuse["exact"] is False else ""
        whole = f"{counted(reuse['segments'], 'whole segment')}, {counted(reuse['chunks'], 'chunk')}"
        mended = reuse.get("mended")
        again = f"; {mended} of them damaged and made again" if mended else ""
        lines.append(f"reuse    {whole} as they were{again}{changed}{exact}")
    lines += [f"note     {note}" for note in report.get("notes", [])]
    replaced = [entry for entry in report["anchors"] if entry.get("replaced")]
    if report["anchors"]:
        weighed = counted(len(report["anchors"]), "chunk")
        lines.append(
            f"anchors  frames kept for the whole film, to hold the cast: {len(replaced)} of {weighed} gave one"
        )
    return lines
