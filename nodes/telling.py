"""From the engine's events to what the browser shows: progress bar, live pictures, segments, words."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..gf_core.take.folder import Run
from ..gf_core.words import clock, counted
from . import host
from .live import Channel
from .shown import SO_FAR, end_text

if TYPE_CHECKING:
    import numpy as np

    from ..gf_core.engine.events import ChunkDone, Event, Started
    from ..gf_core.timeline import Plan, PlannedSegment


def progress_text(event: ChunkDone, started: Started) -> str:
    """`shot 3 of 9, 0:21 of 1:10, 18.2 fps, 2:40 left`."""
    shot = f"shot {event.shot + 1} of {started.shots}"
    film = f"{clock(event.film_seconds)} of {clock(started.seconds)}"
    return f"{shot}, {film}, {event.fps:.1f} fps, {clock(event.seconds_left)} left"


class Teller:
    """The listener of one render. Give it to `Session.play`; `finished` and `started` are for afterwards.

    node: execution id.
    take: what the artist calls the Take.
    plan: of the film.
    size: (width, height) of the film.
    channel: the node's live view.
    check: raises when the artist has cancelled; asked at every event, so at least before every network call, and
        ten times a second while the sampler waits.
    """

    def __init__(
        self,
        node: str,
        take: str,
        plan: Plan,
        size: tuple[int, int],
        channel: Channel,
        check: Callable[[], None],
    ) -> None:
        self.node, self._take, self._plan, self._size = node, take, plan, size
        self._lead = 0  # pictures of a start image, which come before the plan's first
        self._channel, self._check = channel, check
        self._set_bar: Callable[[int], None] | None = None
        self._shown: set[int] = set()
        self._holds_film = False  # the Take does, of this render
        self.started: Started | None = None
        self.finished: Any = None

    def __call__(self, event: Event) -> None:
        self._check()
        tell = getattr(self, f"_on_{type(event).__name__.lower()}", None)
        if tell is not None:
            tell(event)

    def _on_started(self, event: Started) -> None:
        self.started = event
        self._lead = event.frames - self._plan.timing.pictures(event.chunks)
        self._send(
            "started",
            timeline=Run(event.folder).read_timeline(),
            seconds=event.seconds,
            fps=self._plan.timing.fps,
            frames=event.frames,
            width=self._size[0],
            height=self._size[1],
            segments=[self._segment(segment) for segment in self._plan.segments[: event.segments]],
        )

    def _on_reused(self, event: Any) -> None:
        seconds = f"{event.frames / self._plan.timing.fps:.2f} s"
        whole = f" ({counted(event.segments, 'whole segment')})" if event.segments else ""
        kept = f"{seconds}{whole} kept from an earlier render"
        said = f"{kept}; {event.changed}" if event.changed else kept
        host.log.info(said)
        self._holds_film = self._holds_film or event.frames > 0
        share = event.frames / self.started.frames if self.started and self.started.frames else 0.0
        self._send("noted", text=said, share=share)
        self._measure(share)

    def _on_segmentdone(self, event: Any) -> None:
        if event.segment not in self._shown:  # kept from an earlier render, so that no preview came
            self._shown.add(event.segment)
            self._channel.later(lambda: self._find_picture(event.segment, event.path, event.start_frame))

    def _on_stepdone(self, event: Any) -> None:
        self._measure(event.share)
        self._send("share", share=event.share)

    def _on_chunkdone(self, event: ChunkDone) -> None:
        self._holds_film = True
        if self.started is None:
            return
        self._send(
            "progress",
            index=self._plan.segments[event.segment].index,
            film_seconds=event.film_seconds,
            seconds=self.started.seconds,
            fps=event.fps,
            seconds_left=event.seconds_left,
            share=event.share,
            text=progress_text(event, self.started),
        )
        self._measure(event.share)

    def _on_preview(self, event: Any) -> None:
        self._channel.show(event.frames)
        if event.segment not in self._shown:
            self._show_segment(event.segment, event.frames[0])

    def _on_finished(self, event: Any) -> None:
        self.finished = event

    def ended(self) -> None:
        """Say that the node is done: finished, stopped or failed. What failed is told by the host's own message."""
        end = self.finished
        if end is not None:
            self._send("finished", cancelled=end.cancelled, text=end_text(end.report))
        elif self._holds_film:
            self._send("finished", cancelled=True, text=SO_FAR)
        else:
            self._send("finished", cancelled=True, text="stopped before anything was made", share=0)

    def _segment(self, segment: PlannedSegment) -> dict[str, Any]:
        first = self._first_frame(segment)
        last = segment.start_frame + segment.frames + self._lead
        fps = self._plan.timing.fps
        return {
            "index": segment.index,
            "verb": segment.verb,
            "prompt": segment.prompt,
            "start": first / fps,
            "seconds": (last - first) / fps,
        }

    def _first_frame(self, segment: PlannedSegment) -> int:
        """In the film; those of a start image belong to the first segment."""
        return segment.start_frame + self._lead if segment.first_chunk else 0

    def _show_segment(self, number: int, picture: np.ndarray) -> None:
        index = self._plan.segments[number].index
        self._shown.add(number)
        self._channel.keep_thumb(index, picture)
        url = f"/grounded/thumb/{self.node}/{index}?t={int(time.time() * 1000)}"
        self._send("segment", index=index, thumb=url)

    def _find_picture(self, number: int, film: Path, frame: int) -> None:
        """The picture of a segment out of the film; in the helper thread."""
        from ..gf_core.video import pick_frames
        from ..gf_core.video.pixels import preview

        for picture in pick_frames(film, [frame]).values():
            self._show_segment(number, preview(picture[None])[0])

    def _measure(self, share: float) -> None:
        """Set the host's own bar to what the gauge on the node shows."""
        if self._set_bar is None:
            self._set_bar = host.progress_bar(1000, self.node)
        self._set_bar(round(1000 * share))

    def _send(self, event: str, **data: Any) -> None:
        host.send(event, {"node": self.node, "take": self._take, **data})
