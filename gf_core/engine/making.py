"""From a film to its render: estimate, check, make, and learn from it for the next estimate."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..devices import on_threads, require_memory
from ..errors import TakeError
from ..estimate.budget import Budget, check_budget, estimate
from ..estimate.measured import Pace, recall_pace, remember_bits, remember_pace, size_key, speed_key
from ..estimate.order import Order
from ..estimate.room import bundle_cost, decode_bytes
from ..take.folder import Run
from ..take.tidy import FILMS, KEPT_FILMS, tidy
from ..timeline import Plan
from .compiling import get_ready
from .events import Event, Finished
from .film import Film, Found
from .relief import in_words
from .report import compared
from .session import Session

if TYPE_CHECKING:
    from ..sampling.sampler import Sampler

log = logging.getLogger("grounded")

MEASURABLE_CHUNKS = 3
"""A shorter film says nothing about speed."""
WORTH_TRYING_CHUNKS = 8
"""A shorter film is made sooner than its speed is tried."""


def preflight(found: Found, *, sheet: bool = False) -> Budget:
    """The estimate of a film, less what its Take holds of it.

    Speed and size that no film has told yet are tried, where the film is long enough for that.
    """
    film, whole = found.film, len(found.reuse.chunks) == found.stop
    prompts = [] if whole else [segment.prompt for segment in film.plan.segments]
    cost = bundle_cost(film.bundle, prompts)
    order = Order(film.plan, cost, film.recipe, film.encoding, film.lead, found.stop, found.reuse)

    def estimated() -> Budget:
        return replace(estimate(order, sheet=sheet), own=film.bundle.recipe.video)

    with in_words("estimating what the film will take"):
        budget = estimated()
    worth = found.stop - budget.kept >= WORTH_TRYING_CHUNKS
    # What does not fit `check` refuses.
    if budget.pace is None and worth and budget.to_come <= film.bundle.free_memory():
        prompt = film.plan.segments[0].prompt if cost.decoder == "builtin" else None  # of one small family
        took = list[float]()

        def ready(sampler: Sampler, plan: Plan) -> None:
            # Of the film's verbs as well: else it takes longer than is said of it now.
            took.append(get_ready(sampler, (plan, 0), (film.plan, film.lead)))

        from ..estimate.trial import try_out

        with on_threads(film.threads):
            trial = try_out(film.bundle, prompt, film.recipe, film.encoding, ready)
        if trial is not None:
            remember_pace(pace_name(film), trial.pace)
            if trial.bits is not None and not budget.disk.known:
                remember_bits(bits_name(film), trial.bits, trial.frames)
            budget = estimated()
        budget = replace(budget, compiling=sum(took))
    return budget


def pace_name(film: Film) -> str:
    """Where the pace of such films is remembered."""
    return speed_key(bundle_cost(film.bundle), film.recipe)


def bits_name(film: Film) -> str:
    """Where the size of such films is remembered."""
    return size_key(film.bundle.fingerprint, film.recipe.video, film.encoding)


def check(film: Film, budget: Budget, folder: Path) -> None:
    """Refuse a film that cannot fit. Raises ResourceError: with the change that would."""
    with in_words("estimating what the film will take"):
        check_budget(budget, free_memory=film.bundle.free_memory(), folder=folder)
        if budget.cost.apart:
            room = decode_bytes(budget.cost, film.recipe.video)
            require_memory(
                room, film.bundle.decodes_on, "decoding", "give --parts-on a device with more room"
            )


def make(session: Session, budget: Budget, listener: Callable[[Event], None] | None = None) -> Finished:
    """Render; the report compares `budget` with what it took, and speed and size are kept for the next estimate.

    Raises GroundedError children: what went wrong, in words.
    """
    end = session.play(listener or (lambda event: None), budget.pace.fps if budget.pace else 0.0)
    if budget.compiling:
        end.report["seconds"]["compiling"] = budget.compiling + end.report["seconds"].get("compiling", 0.0)
    run = Run(end.path.parent)
    end.report["estimate"] = compared(budget, end.report, run)
    end.report["notes"] = list(session.film.bundle.notes)
    if end.report["seconds"]["first chunk"] or not _has_report(run):
        run.save_report(end.report)  # else nothing was made, and what lies there tells of the making
    learn(session.film, end)
    try:
        tidy(session.take, keep=KEPT_FILMS, limit=FILMS, using=run.folder.name)
    except TakeError as error:  # the new one is finished
        log.warning("films of old runs stay: %s", error.message)
    return end


def _has_report(run: Run) -> bool:
    try:
        run.read_report()
    except TakeError as error:
        log.info("%s", error.message)
        return False
    return True


def learn(film: Film, end: Finished) -> None:
    """Remember how fast the film was made and how large it is; of a part of one too little can be told."""
    report = end.report
    kept = report["reuse"]["frames"]
    fresh = end.frames - kept
    if fresh < MEASURABLE_CHUNKS * film.timing.chunk_pictures:
        return
    fps = report["speed"]["fps"]
    before = recall_pace(pace_name(film))
    # What does not grow with the film, such as its beginning and its end.
    extra = report["seconds"]["total"] - fresh / fps if fps else 0.0
    if kept or end.cancelled:  # what joining and stopping took says nothing about the next film's ends
        extra = before.extra if before else 0.0
    remember_pace(pace_name(film), Pace(fps, extra))
    video = film.recipe.video
    pixels = video.width * video.height * film.encoding.upscale**2
    remember_bits(bits_name(film), end.path.stat().st_size * 8 / (end.frames * pixels), end.frames)
