"""The moving parts of one render: sampler, worker and film, and the events between them.

What the Take holds is told and passed over; the rest is decoded from stored latents, or sampled. While chunk n is being
denoised, chunk n-1 is decoded in a thread of the worker's, and chunk n-2 encoded in another. At most four chunks exist
at a time, so memory does not depend on the length of the film. A card is asked for the first step of chunk n before
chunk n-1 is waited for, which it goes on with while that one is handed over.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from ..devices import computed
from ..sampling.film import Cues, film_chunks
from ..sampling.sampler import Chunk, Clean, Sampler
from ..take.folder import RunWriter
from ..take.states import State, pays
from ..words import size
from .events import ChunkDone, Emit, Event, Pulse, Replayed, Reused, SegmentDone, Started, StepDone
from .film import Job
from .finish import CommittedChunk, Finisher, SampledChunk
from .meter import Meter, free_memory
from .recalled import OnDisk
from .rejoin import Rejoined, rejoin_decoder, rejoin_sampler
from .relief import in_words
from .worker import PAUSE, Worker

log = logging.getLogger("grounded")


class _Cancelled(Exception):
    """Unwinds the chunk that was being denoised when the render was cancelled."""


class Shoot:
    """Makes a film chunk by chunk and tells what has happened. `close` must be called in the end.

    writer: where everything is written; it holds what `job.reuse` found.
    sampler: fresh, of the bundle's model; None when nothing is to be sampled.
    emit: gets the events, in the thread that calls `render`.
    cancel: once set, no call of the network begins any more; the pictures of what is sampled are still made.

    An exception, of `emit` or another, breaks the render off: pictures are not waited for, and of what is sampled and
    not in the film the latents are kept.
    """

    def __init__(
        self,
        job: Job,
        writer: RunWriter,
        sampler: Sampler | None,
        meter: Meter,
        emit: Emit,
        cancel: threading.Event,
    ) -> None:
        self._job, self._film, self._plan, self._writer = job, job.film, job.film.plan, writer
        self._sampler, self._meter, self._listener, self._cancel = sampler, meter, emit, cancel
        self.sampled = self._since_state = 0
        """Chunks that were sampled."""
        self.frames = job.reuse.frames
        """Pictures on disk, as far as told."""
        self.rejoined: list[Rejoined] = []
        """How sampler and decoder were brought to where the film goes on."""
        self.mended: dict[int, dict[str, Any]] = {}
        """Chunks that were sampled again because their latents were damaged, and their journal lines."""
        self._anchors = list[dict[str, Any]]()
        self._begin = Started.of(job.film, writer.run, job.stop)
        self._made = job.film.frames(len(job.reuse.chunks)) / self._begin.frames
        self._finisher = Finisher(job, writer)
        try:
            self._worker = Worker(self._finisher.decode, self._finisher.commit, "grounded-finishing")
        except BaseException:
            self._finisher.film.close()
            raise
        self._memories = OnDisk(job.film, job.store, writer.commit)
        self._in_hand: list[SampledChunk] = []
        self._asked_for: Callable[[], None] | None = None
        """Waits for the newest chunk that a card was asked for."""

    def render(self) -> None:
        """Make every chunk that is missing and see it committed; returns early when cancelled."""
        job, reuse = self._job, self._job.reuse
        if self._sampler is not None:
            self._sampler.director.before_call = self._ask
        try:
            self._emit(self._begin)
            if reuse.chunks or reuse.changed:
                self._emit(Reused.of(job.film, reuse))
            with contextlib.suppress(_Cancelled):
                self._make_chunks()
            with self._meter.stage("waiting"):
                for committed in self._worker.finish(self._pulse):
                    self._tell(committed)
        except BaseException:
            self._finisher.hurry()
            raise
        self._meter.seconds.update(self._finisher.seconds)

    def _make_chunks(self) -> None:
        """Tell what is there, then hand every other chunk to the worker."""
        job, reuse = self._job, self._job.reuse
        for number in range(job.film.whole_segments(reuse.decoded)):
            self._emit(SegmentDone.of(job.film, number, self._writer.run.film))
        self._ask()
        self._rejoin()
        if reuse.decoded < job.stop:
            self._prepare()
        self._meter.start_sampling(reuse.frames)
        for index in range(reuse.decoded, len(reuse.chunks)):
            self._hand_over(self._stored(index))
        if len(reuse.chunks) < job.stop:
            for chunk in self._sampled_chunks(len(reuse.chunks), job.stop):
                self._anchors += [chunk.anchor] if chunk.anchor else []
                memory = self._state(chunk.segment) if chunk.ends_segment else None
                self._hand_over(replace(chunk, memory=memory))

    def _prepare(self) -> None:
        """Have the worker get ready, which has nothing to do until the first chunk is sampled."""
        ready = self._worker.prepare(self._finisher.get_ready)
        # A compiler is waited for: beside one at work no call is recorded.
        if self._film.bundle.compiled:
            with self._meter.stage("compiling"):
                while wait([ready], PAUSE).not_done:
                    self._ask()

    @property
    def anchors(self) -> list[dict[str, Any]]:
        """What the memory weighed for chunks whose journal lines the film had not: one of each, as is kept of it."""
        begun = self._job.reuse.decoded
        mended = [line["anchor"] for index, line in self.mended.items() if index >= begun]
        return [anchor for anchor in mended if anchor] + self._anchors

    def close(self) -> None:
        """End the worker, which keeps all that is sampled, and close the film."""
        self._worker.close(self._in_hand)
        self._finisher.film.close()
        if self._sampler is not None:
            self._sampler.director.before_call = None  # or the two keep each other, and the memory, alive

    def _rejoin(self) -> None:
        """Bring decoder and sampler to where the film goes on."""
        job, reuse, stored = self._job, self._job.reuse, self._writer.run.load_latents

        def tick(index: int, upto: int) -> None:
            self._emit(Replayed(index, upto))
            self._ask()

        with self._meter.stage("rebuilding memory"), in_words("rebuilding the memory"):
            if self._sampler is not None and reuse.chunks:
                rejoined = rejoin_sampler(self._sampler, job, self._memories, stored, self._mend, tick)
                self.rejoined.append(rejoined)
                self._since_state = rejoined.replayed
            if 0 < reuse.decoded < job.stop:
                self.rejoined.append(rejoin_decoder(self._finisher.decoder, job, stored, tick))
            device = job.film.bundle.decodes_on
            if device.type == "cuda":  # the worker goes on with the decoder on a stream of its own
                torch.cuda.synchronize(device)

    def _mend(self, index: int) -> None:
        """Sample chunk `index` again, whose latents are damaged or gone, and keep them where they were."""
        for chunk in self._sampled_chunks(index, index + 1):
            self._settle()
            digest = self._writer.save_latents(index, chunk.latents)
            self.mended[index] = chunk.record("latents", digest)
            self._writer.commit(self.mended[index])
            if index < self._job.reuse.decoded and self._job.reuse.film[index]["latents"] != digest:
                log.warning(
                    "chunk %d came out otherwise than before: what follows may differ by a hair", index
                )

    def _stored(self, index: int) -> SampledChunk:
        """Chunk `index` from its latents in the Take, to be decoded and encoded only."""
        self._ask()
        kept = self._job.reuse.chunks[index]
        record = self.mended[index] if kept is None else kept.record
        latents = self._writer.run.load_latents(index)
        return self._chunk(index, latents, record["anchor"], record["latents"])

    def _chunk(
        self, index: int, latents: Tensor, anchor: dict | None, stored: str | None = None
    ) -> SampledChunk:
        """Chunk `index` as the worker wants it."""
        number, chunk = self._plan.places[index]
        segment = self._plan.segments[number]
        last = index + 1 == segment.end
        return SampledChunk(index, number, segment.chunk_key(chunk), latents, anchor, stored, last)

    def _sampled_chunks(self, start: int, stop: int) -> Iterator[SampledChunk]:
        """Make the film's chunks `start` to `stop`."""
        job, sampler = self._job, self._sampler
        assert sampler is not None  # made whenever chunks are missing
        director, seen = sampler.director, 0

        def ready(index: int) -> None:
            self._ask()
            self._film.make_ready()

        cues = Cues(self._plan, job.embeds, job.pictures, self._memories)
        made = film_chunks(
            sampler, cues, start=start, stop=stop, lead=job.start, before=ready, feed=self._feed
        )
        index = start
        while True:
            seen = len(director.memory.log)
            with self._meter.stage("sampling"), in_words(f"sampling chunk {index}"), torch.no_grad():
                clean = next(made, None)
                self._wait_for_card()  # where no step has: it is a chunk ahead at most
                if clean is None:
                    return
                index = clean.index + 1
                latents = clean.latents[0]  # f c h w
                if job.start is not None and clean.index == 0:
                    latents = torch.cat([job.start[0], latents])
                self._asked_for = computed(latents)  # the worker reads them on a stream of its own
                # A copy that waits for the card, where there is something.
                under_way = sampler.under_way() if sampler.holds(index) else None
            self.sampled += 1
            self._since_state += 1
            weighed = director.memory.log[seen:]
            # Where a blend weighs several frames for one chunk, the one that took a place is told.
            anchor = next((asdict(one) for one in reversed(weighed) if one.replaced), None)
            anchor = asdict(weighed[-1]) if weighed and anchor is None else anchor
            chunk = self._chunk(clean.index, latents, anchor)
            yield replace(chunk, under_way=under_way, computed=self._asked_for)

    def _wait_for_card(self) -> None:
        """Wait for the chunk before this one, so that what is told of steps is true and a stop is heard."""
        if self._asked_for is not None:
            self._asked_for()
            self._asked_for = None

    def _settle(self) -> None:
        """Wait for the card where whoever comes next would, or would be told: its time is sampling's."""
        if self._asked_for is not None:
            with self._meter.stage("sampling"):
                self._wait_for_card()

    def _feed(self, chunk: Chunk) -> Iterator[Clean]:
        """`Sampler.feed`, once more where memory ran out.

        A failed chunk has committed nothing, so the second try gives the same one. A switch that was under way may have
        changed half of the memory: then the error stands, and the next run replays from the disk.
        """
        sampler, relief = self._sampler, self._job.relief
        assert sampler is not None

        def on_step(step: int, steps: int) -> None:
            self._wait_for_card()
            self._meter.note_memory()
            number, _ = self._plan.places[chunk.index]
            # What is left to do for it counts as a step, too.
            share = self._share(chunk.index, (step + 1) / (steps + 1))
            self._emit(StepDone(chunk.index, self._job.stop, number, step + 1, steps, share))
            self._drain()

        def feed() -> list[Clean]:
            with relief.sampling():
                return list(sampler.feed(chunk, on_step))

        if sampler.director.switching:
            return iter(feed())
        return iter(relief.retried("sampling", f"sampling chunk {chunk.index}", feed))

    def _state(self, number: int) -> State | None:
        """The sampler's state, where keeping it spares time against replaying the chunks since the last one.

        At the end of a segment `number` that a later one goes back to, `_memories` keeps it.
        """
        sampler = self._sampler
        assert sampler is not None
        if number in self._plan.recalled:
            self._since_state = 0
            return None
        memory = sampler.director.memory
        needed = memory.sizes.state(memory.layout.past)
        if needed > self._job.store.budget:
            return None

        def worth(chunks: int) -> bool:
            # A replay is one call, the clean pass; a chunk is `calls` of them.
            call_seconds = self._meter.seconds["sampling"] / chunks / sampler.calls
            return pays(needed, self._since_state, call_seconds)

        # What the newest took is known once it is there, which is waited for where it may make a difference.
        if self.sampled > 1 and not worth(self.sampled - 1):
            return None
        self._settle()
        if not worth(self.sampled):
            return None
        if needed > free_memory() // 2:
            log.warning("the memory's state is not kept: %s are too much for this computer", size(needed))
            return None
        self._since_state = 0
        with self._meter.stage("keeping memory"):
            return sampler.snapshot()

    def _hand_over(self, chunk: SampledChunk) -> None:
        """Queue a chunk for the worker, telling what it finishes while there is no room."""
        # Until the worker has it, `close` keeps it.
        self._in_hand = [chunk]
        with self._meter.stage("waiting"):
            pause = 0.0
            while not self._worker.offer(chunk, pause):
                self._settle()  # a card may still compute it
                pause = PAUSE
                self._drain()
                self._pulse()
        self._in_hand = []
        self._drain()

    def _pulse(self) -> None:
        """Let the listener stop the render, and see what is decoded."""
        self._emit(Pulse())
        self._show()

    def _ask(self) -> None:
        """Let the listener break the render off, and `cancel` end it."""
        self._pulse()
        if self._cancel.is_set():
            self._settle()
            raise _Cancelled

    def _drain(self) -> None:
        self._show()
        for committed in self._worker.results():
            self._tell(committed)

    def _show(self) -> None:
        """The pictures of chunks that are being encoded: nobody waits for that to see them."""
        while self._finisher.decoded:
            self._emit(self._finisher.decoded.popleft())

    def _share(self, index: int, part: float) -> float:
        """How much of the film is made when `part` of chunk `index` is; the sampler is ahead of the film."""
        first, end = self._film.frames(index), self._film.frames(index + 1)
        self._made = max(self._made, (first + part * (end - first)) / self._begin.frames)
        return self._made

    def _emit(self, event: Event) -> None:
        """Hand an event over; the listener's time is a stage of its own, or a slow screen would look like slow work."""
        with self._meter.stage("showing"):
            self._listener(event)

    def _tell(self, done: CommittedChunk) -> None:
        """The events of a committed chunk."""
        self._show()  # a chunk's pictures come before it is done
        begin, meter, fps = self._begin, self._meter, self._plan.timing.fps
        self.frames = done.frames
        meter.committed(done.frames)
        self._emit(
            ChunkDone(
                index=done.index,
                total=self._job.stop,
                segment=done.segment,
                shot=self._film.shot_of(done.segment),
                frames=done.frames,
                film_seconds=done.frames / fps,
                fps=meter.pace,
                seconds_left=meter.seconds_left(begin.frames - done.frames),
                share=self._share(done.index, 1.0),
                anchor=done.anchor,
            )
        )
        if done.index + 1 == self._plan.segments[done.segment].end:
            self._emit(SegmentDone.of(self._film, done.segment, self._writer.run.film))
