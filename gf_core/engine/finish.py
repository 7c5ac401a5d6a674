"""From clean latents to a committed chunk: store and decode in one worker thread, encode and journal in the other."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import Encoding, VideoSpec
from ..errors import GroundedError
from ..files.atomic import on_disk, sync_folder
from ..take.folder import RunWriter
from ..take.journal import Record
from ..take.own import checksum
from ..take.reuse import pictures_mark
from ..take.states import State, decoder_name, memory_name, pays, state_bytes, window_name
from ..vae.base import to_uint8
from ..vae.decoders import begin_apart, chunks_within_reach, remembers
from ..video.boxes import read_layout
from ..video.pixels import preview
from ..video.writer import FilmWriter
from .events import Preview
from .film import Job
from .relief import in_words

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class SampledChunk:
    """A chunk as it leaves the sampler, or as it was found in the Take."""

    index: int
    """Chunk of the film, from 0."""
    segment: int
    """Number of its segment in the plan."""
    key: str
    """Names everything that made it."""
    latents: Tensor
    """Clean latents [f c h w]; those of the start come first in chunk 0."""
    anchor: dict | None
    """The memory's last evaluation for this chunk."""
    stored: str | None = None
    """SHA-256 of its latents' file, when that is in the run already."""
    ends_segment: bool = False
    """It is its segment's last: the decoder's state after it may be kept."""
    memory: State | None = None
    """The sampler's state after it, when that is to be kept."""
    under_way: State | None = None
    """What the sampler has on the way behind it, where there is something."""
    computed: Callable[[], None] = lambda: None
    """Waits until its latents are there: a card may still be computing them."""

    def record(self, kind: str, digest: str) -> Record:
        """Its line in the journal, as far as latents go; digest: SHA-256 of their file."""
        named = {"kind": kind, "index": self.index, "segment": self.segment, "key": self.key}
        return {**named, "latents": digest, "anchor": self.anchor}


@dataclass
class Decoded:
    """A chunk on its way from the decoder into the film."""

    chunk: SampledChunk
    digest: str = ""
    """SHA-256 of its latents' file; empty where there is none, for `error`."""
    pictures: np.ndarray | None = None
    """uint8 [t H W 3]."""
    error: BaseException | None = None
    """Why there are none."""
    state: State = field(default_factory=dict)
    """The decoder's after it, where that is to be kept."""
    saving: float = 0.0
    """Seconds that storing its latents took."""

    def taken(self) -> np.ndarray:
        """The pictures, or their error: once, and neither stays here, as they hold the chunk's memory."""
        pictures, error = self.pictures, self.error
        self.pictures = self.error = None
        try:
            if error is not None:
                raise error
        finally:
            del error
        assert pictures is not None  # there is one or the other
        return pictures


@dataclass(frozen=True)
class CommittedChunk:
    """A chunk that is on disk."""

    index: int
    segment: int
    frames: int
    """Pixel frames in the film, this chunk's included."""
    anchor: dict | None


class _PutOff(Exception):
    """Unwinds the chunk that is being decoded or encoded when nobody waits for its pictures any more."""


class Finisher:
    """Commits chunks in film order: latents, then film, then journal line; and keeps states at the ends of segments.

    Decoder and film stand where the film goes on, after what the Take holds of it. `seconds` counts the time spent in
    each stage; it may be read while the worker runs.

    After `hurry`, or an error, the film is left as it is: of the chunk in work and of those that follow only the
    latents are kept, and the next run makes their pictures.
    """

    def __init__(self, job: Job, run: RunWriter) -> None:
        bundle, recipe, encoding = job.film.bundle, job.film.recipe, job.film.encoding
        self._run, self._store, self._relief = run, job.store, job.relief
        self._codec, self._look = remembers(bundle.codec), pictures_mark(job.film.settings)
        self._apart = job.film.apart
        # What settles the decoder's state.
        self._reach = chunks_within_reach(bundle.codec, recipe.memory.chunk)
        self.decoder, self._cells = bundle.codec.decoder(), bundle.cells(recipe.video)
        path, video = run.run.film, recipe.video
        with on_disk(path, "starting the film"):
            self.film = FilmWriter(path, video, encoding, keep=job.reuse.frames)
            sync_folder(path.parent)
        self._in_pieces, self._piece = False, recipe.memory.chunk  # a start may be many times as long
        self._first = job.film.lead + job.film.timing.latent_frames(0)
        self._device, self._streams = bundle.decodes_on, dict[torch.device, torch.cuda.Stream]()
        self._decoded = self._since_state = 0
        self._hurried, done = threading.Event(), len(job.reuse.chunks)
        # What the film goes on with: used up by the first chunk that is sampled.
        self._window = window_name(job.film.plan.chunk_keys[done - 1]) if recipe.latency and done else ""
        self.decoded: deque[Preview] = deque()
        """Chunks to be shown; whoever shows them takes them out, from any thread."""
        self.frames = self.film.frames
        self._film_bytes = job.reuse.film[-1]["film_bytes"] if job.reuse.film else 0
        self.seconds = {"decode": 0.0, "encode": 0.0, "save": 0.0}

    def hurry(self) -> None:
        """Make no more pictures; from any thread. The chunk in work gets to its next safe point, a picture away."""
        self._hurried.set()

    def get_ready(self) -> None:
        """What the decoder tries or compiles once for a size, so that the first pictures do not wait for it."""
        if (ready := getattr(self.decoder, "get_ready", None)) is not None:
            with self._beside_the_sampler(torch.empty(0, device=self._device)):
                whole, rest = divmod(self._first, self._piece)
                # As `_decode` splits the first chunk, and one of all that follow.
                ready(*self._cells, [self._piece] * min(whole, 1) + [rest] * min(rest, 1) + [self._piece])

    @torch.no_grad()
    def decode(self, chunk: SampledChunk) -> Decoded:
        """Store the latents of a chunk and decode them; what goes wrong with that is met by `commit`, in film order."""
        with in_words(f"finishing chunk {chunk.index}"), self._beside_the_sampler(chunk.latents):
            decoded = Decoded(chunk)
            try:
                chunk.computed()
                start = time.perf_counter()
                _check_numbers(chunk)
                # Stored before it is decoded: whatever fails from here on, it is not sampled again.
                decoded.digest = chunk.stored or self._run.save_latents(chunk.index, chunk.latents)
                decoded.saving = time.perf_counter() - start
                self._check_hurry()
                self._decode_chunk(decoded)
                self._check_hurry()
            except BaseException as error:
                decoded.error = error
            return decoded

    @torch.no_grad()
    def commit(self, decoded: Decoded) -> CommittedChunk | None:
        """Put a chunk into the film and the journal; None when only its latents were kept.

        Raises GroundedError children in words for a full disk or memory and latents that are no numbers, others as met.
        """
        chunk = decoded.chunk
        with in_words(f"finishing chunk {chunk.index}"), self._beside_the_sampler(chunk.latents):
            if not decoded.digest:
                self.hurry()  # the film cannot go on behind a gap
                decoded.taken()
            start = time.perf_counter()
            if chunk.under_way:  # before the journal's line, behind which a film may have to go on
                self._store.save(window_name(chunk.key), chunk.index + 1, chunk.under_way)
            self.seconds["save"] += time.perf_counter() - start + decoded.saving
            try:
                self._commit(chunk, decoded.digest, decoded.taken())
            except _PutOff:
                self._put_off(chunk, decoded.digest)
                return None
            except BaseException:
                self.hurry()  # the film cannot go on behind a gap
                try:
                    self._put_off(chunk, decoded.digest)
                except GroundedError as error:  # told only: another one is on its way
                    log.warning("the latents of chunk %d are not kept: %s", chunk.index, error.message)
                raise
            start = time.perf_counter()
            # Only behind the journal's line: before it the film might have to go on from there.
            self._drop_window(chunk)
            with contextlib.suppress(_PutOff):  # a state is a convenience, and may be gigabytes
                self._keep_states(chunk, decoded.state)
            self.seconds["save"] += time.perf_counter() - start
        return CommittedChunk(chunk.index, chunk.segment, self.frames, chunk.anchor)

    def _decode_chunk(self, decoded: Decoded) -> None:
        """The pictures of a chunk, and the decoder's state behind it where that is worth keeping."""
        chunk, start = decoded.chunk, time.perf_counter()
        pictures = self._relief.retried(
            "decoding",
            f"decoding chunk {chunk.index}",
            lambda: self._decode(chunk.index, chunk.latents),
            lambda: self._decode_anew(chunk),
        )
        decoded.pictures = pictures
        self._check_hurry()
        self.decoded.append(Preview(chunk.index, chunk.segment, preview(pictures)))
        self.seconds["decode"] += time.perf_counter() - start
        self._decoded += 1
        self._since_state += 1
        if chunk.ends_segment:
            state = self._decoder_state()
            # A decoder forgets, so what its state saves is never more than its reach.
            replayed = int(min(self._since_state, self._reach))
            if state and pays(state_bytes(state), replayed, self.seconds["decode"] / self._decoded):
                decoded.state = state
                self._since_state = 0

    def _commit(self, chunk: SampledChunk, digest: str, pictures: np.ndarray) -> None:
        """Encode and note a chunk whose latents are stored."""
        self._check_hurry()
        start = time.perf_counter()
        place = self._write(chunk.index, pictures)
        encoded = time.perf_counter()
        # No way out any more: what is in the film comes into the journal. Last, for the line promises the other two;
        # `film_bytes` is where the next run may cut the film, `film_sum` is of all since the line before.
        apart = {"apart": True} if chunk.index in self._apart else {}
        placed = {
            "first_frame": self.frames,
            "frames": len(pictures),
            "pictures": self._look,
            **apart,
            **place,
        }
        self._run.commit({**chunk.record("chunk", digest), **placed})
        self.frames += len(pictures)
        self.seconds["encode"] += encoded - start
        self.seconds["save"] += time.perf_counter() - encoded

    def _decode(self, index: int, latents: Tensor) -> np.ndarray:
        """Pictures uint8 [t H W 3] of chunk `index`; how they are split into calls does not change them."""
        if index in self._apart:
            begin_apart(self.decoder)
        with self._relief.decoding():
            pieces = latents.to(self._device).split(1 if self._in_pieces else self._piece)
            return np.concatenate([to_uint8(self.decoder.decode(piece)) for piece in pieces])

    def _decode_anew(self, chunk: SampledChunk) -> np.ndarray:
        """The same after a call that failed, which may have left any state: brought back from the stored latents."""
        # What goes together where pictures are small would be summed otherwise, and spares nothing.
        self._in_pieces = not getattr(self.decoder, "together", False)
        self.decoder.restore({})
        # What lies further back has no part in its state.
        for index in range(int(max(0, chunk.index - self._reach)), chunk.index):
            self._check_hurry()
            self._decode(index, self._run.run.load_latents(index))
        return self._decode(chunk.index, chunk.latents)

    def _put_off(self, chunk: SampledChunk, digest: str) -> None:
        """Note that a chunk has latents and no pictures, unless an earlier run has said so."""
        if chunk.stored is None:
            self._run.commit(chunk.record("latents", digest))
        self._drop_window(chunk)

    def _drop_window(self, chunk: SampledChunk) -> None:
        """Keep what was on the way behind the chunk before this one no longer: it is used up.

        Not for a chunk that an earlier run has sampled: the film still goes on with what lies behind the last of those.
        """
        if chunk.stored is not None:
            return
        if self._window:
            self._store.drop(self._window)
        self._window = window_name(chunk.key) if chunk.under_way else ""

    def _check_hurry(self) -> None:
        if self._hurried.is_set():
            raise _PutOff

    def _write(self, index: int, pictures: np.ndarray) -> dict[str, Any]:
        """Put pictures into the film; returns its size, and the sum of what has come to it."""
        film, begin = self._run.run.film, self._film_bytes

        def write() -> None:
            self.film.write(pictures, self._check_hurry)

        with on_disk(film, f"writing chunk {index} to the film"):
            self._relief.retried("encoding", f"encoding chunk {index}", write)
            self._film_bytes = film.stat().st_size
            return {"film_bytes": self._film_bytes, "film_sum": checksum(film, begin, self._film_bytes)}

    def _keep_states(self, chunk: SampledChunk, decoder: State) -> None:
        """Keep what the next version of the film may go on from, where reading it is quicker than making it again."""
        if self._hurried.is_set():
            return
        # Both are copies: the sampler itself may be chunks ahead by now, and the decoder one.
        kept = {memory_name(chunk.key): chunk.memory, decoder_name(chunk.key, self._codec): decoder}
        # The file first, then the line with its digest; a replay to the same place is held against it.
        for name, state in kept.items():
            digest = self._store.save(name, chunk.index + 1, state, self._check_hurry) if state else None
            if digest is not None:
                self._run.commit({"kind": "state", "name": name, "chunks": chunk.index + 1, "digest": digest})

    def _decoder_state(self) -> State:
        """The decoder's state as copies on the CPU; empty, with one log line, where there is no memory for them.

        Copies, because a decoder's tensors may be parts of one another, which a file cannot hold.
        """
        try:
            state = self.decoder.snapshot()
            return {name: value.to("cpu", copy=True).contiguous() for name, value in state.items()}
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            log.warning("the decoder's state is not kept: %s", error)
            return {}

    @contextlib.contextmanager
    def _beside_the_sampler(self, latents: Tensor) -> Iterator[None]:
        """CUDA streams of our own, else decoding would queue up behind the next chunk's denoising.

        Whoever works on it has waited for the chunk (`SampledChunk.computed`), and ends with a copy to the host.
        """
        with contextlib.ExitStack() as stack:
            # The decoder's last: it computes most.
            for device in dict.fromkeys((latents.device, self._device)):
                if device.type == "cuda":
                    if device not in self._streams:
                        self._streams[device] = torch.cuda.Stream(device)
                    stack.enter_context(torch.cuda.stream(self._streams[device]))
            yield


def film_header(video: VideoSpec, encoding: Encoding) -> bytes:
    """What a film of this size, speed and encoding begins with, on this computer, in front of its first fragment.

    Raises ResourceError: it cannot be encoded.
    """
    # Any picture will do: the header says how fragments are read, not what they show.
    black = np.zeros((1, video.height, video.width, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        with FilmWriter(path, video, encoding) as film:
            film.write(black)
        with open(path, "rb") as file:
            return file.read(read_layout(path).header_end)


def _check_numbers(chunk: SampledChunk) -> None:
    """Raises GroundedError: a chunk that was sampled now holds NaN or infinity, of which only black is left."""
    if chunk.stored is None and not chunk.latents.isfinite().all():
        raise GroundedError(
            f"chunk {chunk.index} came out with numbers that are none (NaN or infinite): nothing would be seen",
            "compute in float32 or bfloat16, use less of its LoRAs, or download the model again: it may be damaged",
        )
