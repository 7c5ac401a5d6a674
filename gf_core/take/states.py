"""States at the ends of segments, kept on disk so that an edit starts where the change is.

    <take>/states/000048-<what made it>.memory.safetensors     what the sampler goes on from after 48 chunks
    <take>/states/000048-<what made it>.decoder.safetensors    what the decoder goes on from

The name holds the key of the last chunk, and that key names everything that decides the state, so every run of the
Take finds the same file. A state is a convenience: without it the sampler replays the stored latents, one clean pass
per chunk, and the decoder decodes them again, to the same bits (docs/benchmarks, dev/bench/snapshots.py).

Nothing here imports torch: the estimate asks this module what a state costs.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import TakeError, reason
from ..files.atomic import make_folder, write_atomic
from ..files.pieces import digest, read_tensors, write_tensors
from ..words import size
from . import own

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("grounded")

State = dict[str, "Tensor"]

_FILE = re.compile(r"\d{6}-[0-9a-f]{24}\.(memory|decoder|window)\.safetensors")
STATES_FOLDER = "states"
"""In a Take."""
STATES = 20 * 10**9
"""Bytes of kept states that may lie in a Take."""
READ_SPEED = 1e9
"""Bytes per second at which a state is read and checked, on the slow side for a solid-state disk."""
WRITE_SPEED = 7e8
"""Bytes per second at which a state is fetched, summed and written; measured with 9.2 GB from a card."""


def state_bytes(state: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors."""
    return sum(value.nbytes for value in state.values())


def pays(size: int, chunks: int, call_seconds: float) -> bool:
    """Whether keeping a state of `size` bytes, to be read once, takes less than `chunks` replays of `call_seconds`.

    Writing counts as much as reading: every film waits for it, and the state behind a segment helps only the edit that
    leaves everything up to there as it is.
    """
    return size / WRITE_SPEED + size / READ_SPEED < chunks * call_seconds


def memory_name(key: str) -> str:
    """Name of the sampler's state after the chunk with this key."""
    return f"{key[:24]}.memory"


def decoder_name(key: str, codec: str) -> str:
    """Name of the state of the decoder with fingerprint `codec` after the chunk with this key."""
    return f"{hashlib.sha256(f'{key} {codec}'.encode()).hexdigest()[:24]}.decoder"


def window_name(key: str) -> str:
    """Name of what is on the way when the chunk with this key is finished."""
    return f"{key[:24]}.window"


class StateStore:
    """The `states` folder of a Take.

    folder: made when the first state is kept.
    needed: names of states of the film being made; these leave last.
    budget: bytes that may lie here.
    reserve: bytes of the disk that the film itself may need.
    held: names of states that the film goes back to; these are kept whatever they take, and do not leave.

    Two threads may save.
    """

    def __init__(
        self,
        folder: Path,
        needed: Collection[str],
        budget: int = STATES,
        reserve: int = 0,
        held: Collection[str] = (),
    ) -> None:
        self.folder, self._needed, self.budget, self._reserve = folder, set(needed), budget, reserve
        self._held, self._lock = set(held), threading.Lock()

    def save(
        self, name: str, chunks: int, state: State, check: Callable[[], None] = lambda: None
    ) -> str | None:
        """Keep a state of a film's first `chunks` chunks; returns its digest, or None, with one log line, if it cannot.

        The film does not need it, so nothing that goes wrong here stops the film. `check` is called between pieces of
        it; what it raises leaves nothing behind.
        """
        try:
            with self._lock:
                if not self._make_room(name, needed := state_bytes(state)):
                    log.info(
                        "state after chunk %d not kept: %s are more than may lie here", chunks, size(needed)
                    )
                    return None
                if self.folder.is_symlink():
                    raise OSError(f"{self.folder} is a link")
                make_folder(self.folder)
                told = digest(state, check)
                notes = {"name": name, "digest": told}
                write_atomic(self._path(name, chunks), lambda part: write_tensors(part, state, notes, check))
        except OSError as error:
            log.warning("state after chunk %d not kept: %s", chunks, reason(error))
            return None
        return told

    def drop(self, name: str) -> None:
        """Remove a state that nothing goes on from any more."""
        path = self._find(name)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    def names(self) -> set[str]:
        """Names of all states that lie here."""
        return {state_name(path) for path in self._files()}

    def load(self, name: str) -> State | None:
        """A state, held against its own name and digest; None where there is none, or it is damaged (one log line)."""
        from safetensors import SafetensorError

        path = self._find(name)
        if path is None:
            return None
        try:
            state, notes = read_tensors(path)
            if digest(state) != notes.get("digest"):
                raise ValueError("its bytes have changed")
            if (said := notes.get("name", name)) != name:  # older ones do not say
                raise ValueError(f"it is {said}, under another name")
            # Used now: of what nothing needs any more, the longest unused leaves first.
            os.utime(path)
        except (OSError, SafetensorError, ValueError) as error:
            log.warning("state %s dropped, its part of the film is replayed: %s", path.name, reason(error))
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        return state

    def _path(self, name: str, chunks: int) -> Path:
        return self.folder / f"{chunks:06d}-{name}.safetensors"

    def _find(self, name: str) -> Path | None:
        return next((path for path in self._files() if state_name(path) == name), None)

    def _files(self) -> list[Path]:
        """States, and nothing else that may lie there: these may be removed."""
        try:
            found = own.listed(self.folder) if own.is_folder(self.folder) else ()
        except TakeError as error:  # they are made again
            log.warning("kept states are not used: %s", error.message)
            return []
        return [path for path in found if _FILE.fullmatch(path.name) and own.is_file(path)]

    def _make_room(self, name: str, size: int) -> bool:
        """Remove what is least useful until `size` more bytes fit; half of what the film leaves free is the most.

        A state of that name is not counted: it is replaced.
        """
        files = [path for path in self._files() if state_name(path) != name]
        used = sum(path.stat().st_size for path in files)
        # The folder itself may not have been made yet.
        free = shutil.disk_usage(self.folder.parent).free
        allowed = min(self.budget, used + max(0, free - self._reserve) // 2)
        loose = [path for path in files if state_name(path) not in self._held]
        # What lies here when all has left that may, with the new one.
        least = used - sum(path.stat().st_size for path in loose) + size
        if least > allowed and name not in self._held:
            return False
        while loose and used + size > allowed:
            path = self._least_useful(loose)
            loose.remove(path)
            used -= path.stat().st_size
            path.unlink()
        return True

    def _least_useful(self, files: list[Path]) -> Path:
        """A state of another version of the film, the longest unused; else the one whose loss is replayed soonest.

        The second is the state that follows closest on another of its kind.
        """
        other = [path for path in files if state_name(path) not in self._needed]
        if other:
            return min(other, key=lambda path: path.stat().st_mtime)

        def gap(path: Path) -> tuple[int, int]:
            chunks, kind = int(path.name[:6]), path.suffixes[-2]
            before = [int(p.name[:6]) for p in files if p.suffixes[-2] == kind and int(p.name[:6]) < chunks]
            return chunks - max(before, default=0), chunks

        return min(files, key=gap)


def state_name(path: Path) -> str:
    """`<what made it>.memory` of `000048-<what made it>.memory.safetensors`."""
    return path.name.partition("-")[2].removesuffix(".safetensors")
