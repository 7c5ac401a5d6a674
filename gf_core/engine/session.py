"""A session turns a film's plan into pictures in a Take: preparation, one `Shoot`, the report.

    text -> [ cue -> noise -> denoise ] per chunk -> queue -> worker: save, decode, encode, journal

What the Take holds has been looked at before (`film.look`). Everything that can fail for want of settings or words is
tried before the run's folder is made.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ..devices import on_threads
from ..errors import GroundedError
from ..estimate.disk import disk_cost
from ..estimate.order import Order
from ..estimate.room import bundle_cost
from ..take.folder import RunWriter, Take
from ..take.reuse import Reuse
from ..take.states import STATES, StateStore
from .compiling import get_ready
from .events import Emit, Finished, Pulse, Reused, SegmentDone, Started
from .film import Found, Job
from .meter import Meter
from .recalled import recalled_name
from .relief import Relief, in_words
from .report import make_report

if TYPE_CHECKING:
    from torch import Tensor

    from ..sampling.sampler import Sampler

log = logging.getLogger("grounded")


class _NoTurn(Exception):
    """Ends the wait of a session that was cancelled."""


class Session:
    """One render of a film into a Take. Use it once.

    What the Take holds of the film is used: a run that was stopped is gone on with, the chunks in front of a change
    are taken over into a new run, and a film that is finished is returned as it is.

    take: open; the session does not close it.
    found: what `look` has found in it, since it was opened.
    state_budget: bytes of kept states that may lie in the Take.
    """

    def __init__(self, take: Take, found: Found, *, state_budget: int = STATES) -> None:
        self.take, self.film, self._found = take, found.film, found
        self._state_budget = state_budget
        self._cancel = threading.Event()
        self._begun = False

    def cancel(self) -> None:
        """Call the network no more; what is sampled is still put into the film. From any thread, at any time."""
        self._cancel.set()

    def play(self, emit: Emit, expected_fps: float = 0.0) -> Finished:
        """Render in the calling thread, giving each event to `emit`; an exception of `emit` breaks off at once. Returns
        the last event.

        On a processor it waits for a film that another thread of this Python renders (`devices.on_threads`), giving a
        `Pulse` ten times a second; one that is cancelled waits no more. `emit` must not wait for another render.

        expected_fps: how fast such films were made before, for the time that is left; 0 where that is not known.

        Raises GroundedError children: what went wrong, in words. The film up to the last `ChunkDone` stays and plays.
        """
        if self._begun:
            raise GroundedError("a session runs once", "make a new Session for another render")
        self._begun = True
        finished = self._found.reuse.finished
        with contextlib.ExitStack() as turn:
            if not finished:
                self._await(turn, emit)
            meter = Meter(expected_fps)
            meter.seconds["looking"] = self._found.seconds
            make = self._tell_finished if finished else self._play
            end = make(meter, emit)
            emit(end)
        return end

    def _await(self, turn: contextlib.ExitStack, emit: Emit) -> None:
        """Enter `turn` on the film's threads; not where it is cancelled meanwhile, as nothing is computed then."""

        with contextlib.suppress(_NoTurn):
            turn.enter_context(on_threads(self.film.threads, partial(self._ask, emit)))

    def _ask(self, emit: Emit) -> None:
        """Let the listener break the render off, and `cancel` end it."""
        emit(Pulse())
        if self._cancel.is_set():
            raise _NoTurn

    def _play(self, meter: Meter, emit: Emit) -> Finished:
        """Make what is missing."""
        import torch

        from .shoot import Shoot

        film, reuse = self.film, self._usable(self._found.reuse)
        relief = Relief()
        with torch.no_grad():
            embeds, start, pictures = self._encode(reuse, meter, relief)
        found = vars(replace(self._found, reuse=reuse))
        job = Job(**found, store=self._store(), embeds=embeds, start=start, pictures=pictures, relief=relief)
        with contextlib.ExitStack() as stack, in_words("preparing the memory"):
            # Closed from the last to the first: worker and film, the journal, what the host lent.
            if film.bundle.done is not None:
                stack.callback(film.bundle.done)
            with torch.no_grad():
                sampler = self._make_sampler(meter, emit) if embeds else None
            writer = self._open_run(reuse)
            stack.callback(writer.close)
            shoot = Shoot(job, writer, sampler, meter, emit, self._cancel)
            stack.callback(shoot.close)
            shoot.render()
            cancelled = self._cancel.is_set()
            report = make_report(self._found, meter, shoot.frames, cancelled, shoot.rejoined, shoot.anchors)
            report["reuse"]["mended"] = len(shoot.mended)
            if (team := film.bundle.team) is not None:
                report["ranks"] = {"count": team.count, "sent": team.sent, "chunks": shoot.sampled}
            report["relief"] = relief.told
            # Before the report: a film that has this line is finished, and a report can still be written.
            writer.commit({"kind": "end", "frames": shoot.frames, "cancelled": cancelled})
            writer.run.save_report(report)
        return Finished(writer.run.film, shoot.frames, shoot.frames / film.timing.fps, cancelled, report)

    def _store(self) -> StateStore:
        """Where the film's states are kept, beside all that it needs itself."""
        from .rejoin import state_names

        film = self.film
        order = Order(film.plan, bundle_cost(film.bundle), film.recipe, film.encoding, film.lead)
        held = {recalled_name(film, number) for number in film.plan.recalled}
        needed = disk_cost(order).needed
        return StateStore(self.take.states, state_names(film), self._state_budget, needed, held)

    def _usable(self, reuse: Reuse) -> Reuse:
        """`reuse` without the film, with a line in the log, where today's encoder would not go on with it.

        Whether it does shows in the header, which says how all the fragments are to be read. Found out now, it costs
        the pictures; after the first chunk it would stop this render, and the next one.
        """
        if reuse.source is None or reuse.decoded == self._found.stop:
            return reuse
        from .finish import film_header

        header = film_header(self.film.recipe.video, self.film.encoding)
        with open(reuse.source.film, "rb") as file:
            if file.read(len(header)) == header:
                return reuse
        log.warning("%s was encoded otherwise: its pictures are made again", reuse.source.film)
        return reuse.without_film()

    def _open_run(self, reuse: Reuse) -> RunWriter:
        """The run to write to, with everything in it that is taken over."""
        if reuse.goes_on and reuse.source is not None:
            writer = RunWriter(reuse.source, self.film.text, self.film.settings, goes_on=True)
        else:
            writer = self.take.begin(self.film.text, self.film.settings)
        try:
            writer.take_over(reuse)
        except BaseException:
            writer.close()
            raise
        return writer

    def _tell_finished(self, meter: Meter, emit: Emit) -> Finished:
        """The events of a film that lies finished in the Take; only what it is said to be made of may be written."""
        film, reuse, stop = self.film, self._found.reuse, self._found.stop
        run = reuse.source
        assert run is not None  # reuse.finished says so
        run.note(film.text, film.settings)
        emit(Started.of(film, run, stop))
        emit(Reused.of(film, reuse))
        for number in range(film.whole_segments(stop)):
            emit(SegmentDone.of(film, number, run.film))
        frames = film.frames(stop)
        report = make_report(self._found, meter, frames)
        return Finished(run.film, frames, frames / film.timing.fps, False, report)

    def _encode(
        self, reuse: Reuse, meter: Meter, relief: Relief
    ) -> tuple[list[Tensor], Tensor | None, dict[str, Tensor]]:
        """What is given, as the sampler takes it, where the model is: prompts, the start and the cast's pictures.

        As in `Job`: nothing when nothing is to be sampled, no start when the first chunk is there.
        """
        bundle, film = self.film.bundle, self.film
        if self._cancel.is_set() or (len(reuse.chunks) == self._found.stop and not reuse.holes):
            return [], None, {}

        def encoded(stage: str, what: str, work: Callable[[], list[Tensor]]) -> list[Tensor]:
            with meter.stage(stage), in_words(f"encoding {what}"):
                rows = relief.retried(stage, f"encoding {what}", work)
                return [row[None].to(bundle.computes_on, bundle.computes_in) for row in rows]

        def latents(pictures: Tensor, what: str) -> Tensor:
            return encoded("given pictures", what, lambda: [bundle.codec.encode(pictures)])[0]

        prompts = list(dict.fromkeys(segment.prompt for segment in film.plan.segments))
        embeds = dict(zip(prompts, encoded("text", "the prompts", lambda: bundle.text.encode(prompts))))
        start = None
        if film.start is not None and (not reuse.chunks or reuse.chunks[0] is None):
            start = latents(film.start, "the film's start")
        pictures = {file: latents(frames, "the cast's pictures") for file, frames in film.pictures.items()}
        return [embeds[segment.prompt] for segment in film.plan.segments], start, pictures

    def _make_sampler(self, meter: Meter, emit: Emit) -> Sampler:
        """A fresh one; where the render is cancelled meanwhile, one that nobody is to ask."""
        self.film.make_ready(with_memory=True)
        sampler = self.film.bundle.sampler(self.film.recipe)
        if self.film.bundle.compiled:
            with meter.stage("compiling"), in_words("compiling the network"), contextlib.suppress(_NoTurn):
                get_ready(sampler, (self.film.plan, self.film.lead), ask=partial(self._ask, emit))
        return sampler
