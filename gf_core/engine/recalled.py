"""Memories that a storyboard goes back to, kept on disk as the states that a film goes on from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import TakeError
from ..take.states import State, StateStore, memory_name
from .film import Film


class OnDisk:
    """The `Memories` of a film in a Take: of a film of any length none is in the computer's memory.

    note: puts a line into the run's journal.
    """

    def __init__(self, film: Film, store: StateStore, note: Callable[[dict[str, Any]], None]) -> None:
        self._film, self._store, self._note = film, store, note
        self._there: dict[int, bool] = {}

    def keep(self, number: int, state: State) -> None:
        """Write what a sampler is at the end of segment `number` of the plan.

        Raises TakeError: it cannot be written.
        """
        segment = self._film.plan.segments[number]
        name, chunks = recalled_name(self._film, number), segment.end
        state_digest = self._store.save(name, chunks, state)
        if state_digest is None:
            raise TakeError(
                f"the memory at the end of segment {segment.index + 1}, to which a later one goes back, cannot be kept "
                f"in {self._store.folder}",
                "make room on the disk, and let nothing but a folder lie there; or choose another place for the Take. "
                "Render again: the film goes on",
            )
        self._note({"kind": "state", "name": name, "chunks": chunks, "digest": state_digest})

    def recall(self, number: int, to: int) -> State:
        """What was kept there. Raises TakeError: it was damaged or removed since the render began."""
        state = self._store.load(recalled_name(self._film, number))
        if state is None:
            here, there = (self._film.plan.segments[place].index + 1 for place in (to, number))
            raise TakeError(
                f"segment {here} goes back to segment {there}, whose memory is gone from {self._store.folder}",
                "render again: it is made anew from the latents",
            )
        return state

    def lost(self, at: int, stop: int) -> list[int]:
        """Segments that ended before chunk `at`, which those that begin from there to `stop` need and are not kept."""
        segments = self._film.plan.segments
        wanted = {s.back for s in segments if s.back is not None and at <= s.first_chunk < stop}
        ended = [n for n in sorted(wanted) if segments[n].end <= at]
        return [n for n in ended if not self._is_there(n)]

    def _is_there(self, number: int) -> bool:
        """Whether it was kept and is whole, which is read once."""
        if number not in self._there:
            self._there[number] = self._store.load(recalled_name(self._film, number)) is not None
        return self._there[number]


def recalled_name(film: Film, number: int) -> str:
    """Name of the state at the end of segment `number` of the plan."""
    return memory_name(film.plan.segments[number].last_key)
