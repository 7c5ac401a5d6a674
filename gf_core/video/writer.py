"""A film that grows on disk: every `write` ends as one whole mp4 fragment, so a killed run leaves a film.

Each write is encoded by a fresh encoder that is drained to its end. A running encoder would hold frames back
(look-ahead, a muxer that waits for the next key frame); turning those off costs more than twice the bytes, a
fresh one 20 to 40 percent more. It also makes the bytes of a chunk depend on its frames alone, so a film cut back to
a chunk can be continued.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from ..config import Encoding, VideoSpec
from ..errors import ResourceError, TakeError
from ..files.atomic import disk_error
from ..words import counted, exact_rate
from .boxes import place_fragment, read_layout, split_header
from .codecs import find_codec
from .encoder import add_pictures, encoded, timescale_of
from .pixels import even_size
from .reader import probe

FRAGMENTED = "frag_custom+empty_moov+default_base_moof+skip_trailer"


class FilmWriter(AbstractContextManager["FilmWriter"]):
    """Writes uint8 RGB frames to a fragmented film.

    path: the film; `.mp4` (`.mov` for ProRes).
    video: size of the frames given to `write`, and speed.
    encoding: codec, quality and enlargement; other codecs map H.264's scale of quality to a like look.
    keep: frames of the film already at `path` that stay, to continue it.

    Raises ResourceError: the codec cannot be encoded here, or the disk is full. TakeError: `keep` frames are not there,
    do not end a fragment, or were written with other settings.
    """

    def __init__(
        self, path: str | Path, video: VideoSpec, encoding: Encoding | None = None, *, keep: int = 0
    ) -> None:
        self.path, self._encoding = Path(path), encoding or Encoding()
        self.fps, enlarged = exact_rate(video.fps), self._encoding.upscale
        self._shape = (video.height, video.width, 3)
        self._size = even_size(video.width * enlarged, video.height * enlarged)
        self._encoder, self._choice = find_codec(self._encoding.codec)
        self._timescale, self._ticks = timescale_of(self.fps)
        if self.path.suffix != f".{self._choice.container}":
            raise ResourceError(
                f"{self._encoding.codec} film named {self.path.name}",
                f"end the name with .{self._choice.container}",
            )
        self.frames = 0
        """Frames on disk."""
        self._fragments = 0
        self._header = b""
        self._file = self._open(keep)

    def _open(self, keep: int) -> io.FileIO:
        """Open the film for appending, cut back to `keep` frames."""
        if keep == 0:
            return io.FileIO(self.path, "w+")
        if not self.path.exists():
            raise TakeError(
                f"{self.path.name} is missing, of which {counted(keep, 'picture')} had to stay",
                "render it again",
            )
        layout, end = read_layout(self.path), 0
        for fragment in layout.fragments:
            if self.frames + fragment.frames > keep:
                break
            self.frames, self._fragments = self.frames + fragment.frames, self._fragments + 1
            end = fragment.end
        if self.frames != keep:
            raise TakeError(
                f"{self.path.name} cannot be cut after picture {keep}: "
                f"a chunk ends at {self.frames} of {layout.frames}",
                "keep a number of pictures that ends a chunk, or render the film again",
            )
        file = io.FileIO(self.path, "r+")
        # What every later fragment's header must be (`write`).
        self._header = file.read(layout.header_end)
        file.truncate(end)
        file.seek(0, 2)
        return file

    def write(self, frames: np.ndarray, check: Callable[[], None] = lambda: None) -> None:
        """Append `frames` uint8 [t H W 3]; when this returns, they are in the file and play.

        check: called after every picture that is encoded; what it raises leaves the film as it was before the call.

        Raises ResourceError: no space left. TakeError: other trouble with the disk. MemoryError: too little for the
        encoder. The film stays as it was before the call.
        """
        frames = np.asarray(frames)
        if frames.ndim != 4 or frames.shape[1:] != self._shape or frames.dtype != np.uint8:
            raise ValueError(
                f"expected uint8 pictures [t, {self._shape}], got {frames.dtype} {list(frames.shape)}"
            )
        if not len(frames):
            return
        try:
            header, fragment, written = split_header(self._encode(frames, check))
        except FFmpegError as error:
            # It cannot begin a thread, or have a picture's bytes.
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                raise MemoryError(f"{self._encoder}: {error}") from error
            raise ResourceError(
                f"{self._encoder} cannot encode {self._size[0]}x{self._size[1]} at {float(self.fps):g} fps: {error}",
                "choose another codec or size",
            ) from error
        if written != len(frames):
            raise ResourceError(
                f"{self._encoder} made {counted(written, 'picture')} of {len(frames)}", "choose another codec"
            )
        if self._header and header != self._header:
            raise TakeError(
                f"{self.path.name} was begun with another size, speed, codec or quality",
                "write to a new file, or use the settings it was begun with",
            )
        data = place_fragment(fragment, self._fragments + 1, self.frames * self._ticks)
        self._append(data if self._header else header + data)
        # Counted only now: a write that failed leaves the film, and the counts, as they were.
        self._header = header
        self._fragments += 1
        self.frames += len(frames)

    def _encode(self, frames: np.ndarray, check: Callable[[], None]) -> bytes:
        """The frames as a film of their own, header and one fragment, from an encoder drained to its end."""

        def checked() -> Iterator[np.ndarray]:
            for frame in frames:
                yield frame
                check()

        memory = io.BytesIO()
        options = {"movflags": FRAGMENTED, "video_track_timescale": str(self._timescale)}
        with av.open(memory, "w", format=self._choice.container, options=options) as container:
            stream = add_pictures(
                container, self._encoder, self._choice, self._encoding.quality,
                size=self._size, fps=self.fps, enlarged=self._encoding.upscale > 1,
            )  # fmt: skip
            for packet in encoded(stream, checked(), self.fps, factor=self._encoding.upscale):
                container.mux(packet)
                check()
        return memory.getvalue()

    def _append(self, data: bytes) -> None:
        """Write `data` at the end; on failure the file is cut back to where it was."""
        start = self._file.seek(0, 2)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), start)
            raise disk_error(
                error, self.path, f"writing to the film after {counted(self.frames, 'picture')}"
            ) from error

    def close(self) -> None:
        """Close the file; the film needs no end mark to play. Safe to call twice."""
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def cut_out(source: str | Path, out: str | Path, first: int, count: int) -> Path:
    """Write fragments `first`, ..., `first + count - 1` of the growing film `source` to `out` and return it.

    A fragment is what one `FilmWriter.write` left; it decodes alone, so nothing is encoded. An old `out` is replaced.

    Raises TakeError: there is no such film, or it has not that many fragments.
    """
    source, out = Path(source), Path(out)
    ticks = timescale_of(probe(source).fps)[1]
    layout = read_layout(source)
    wanted = layout.fragments[first : first + count]
    if first < 0 or count < 1 or len(wanted) < count:
        raise TakeError(f"{source.name} is too short to cut this part out of it", "render it again")
    frames = 0
    with open(source, "rb") as film, open(out, "wb") as clip:
        clip.write(film.read(layout.header_end))
        for number, fragment in enumerate(wanted):
            film.seek(fragment.offset)
            data = film.read(fragment.end - fragment.offset)
            clip.write(place_fragment(data, number + 1, frames * ticks))
            frames += fragment.frames
    return out
