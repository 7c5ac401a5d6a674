"""From the growing film to the file an artist keeps: indexed, with sound, chapters and metadata.

Pictures are copied as they are unless another codec or quality is asked for; then they are encoded again, one at a
time, from frames that the caller decodes or from the film's own pictures.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError

from ..errors import ResourceError, TakeError
from ..files.atomic import beside, put
from .audio import Audio, fitted, read_audio
from .chapters import Chapter
from .codecs import CODECS, SUFFIXES, available_codecs, suffix_for
from .metadata import as_text, read_metadata
from .mux import Encode, Extras, write_film
from .pictures import STILLS, Still, can_write, write_pictures
from .pixels import UpscaleFilter, upscaled
from .reader import film_length, probe, read_frames

log = logging.getLogger("grounded")

AS_RENDERED = "as rendered"
DEFAULT_QUALITY = 18


def available_formats() -> list[str]:
    """What `place_film` can be asked for here: `as rendered`, video codecs, folders of pictures."""
    return [AS_RENDERED, *available_codecs(), *(kind for kind in STILLS if can_write(kind))]


def place_film(
    run_film: str | Path,
    out: str | Path,
    *,
    codec: str | None = None,
    quality: int | None = None,
    audio: Audio | str | Path | None = None,
    metadata: Mapping[str, Any] | None = None,
    chapters: Sequence[Chapter] = (),
    frames: Iterable[np.ndarray] | None = None,
    upscale_filter: UpscaleFilter = "lanczos",
    overwrite: bool = False,
) -> Path:
    """Place the film `run_film` at `out` and return where it is; a file in the way is never replaced.

    Args:
        out: `.mp4`, `.mov` or `.mkv`; a name without suffix gets that of the codec. For `png` and `exr` a folder.
        codec: a name in `available_formats()`. None or `as rendered` copies the pictures; `as rendered` ignores
            `quality`, None with a `quality` encodes in the film's own codec.
        quality: H.264 scale, 0 to 51; 18 where another codec is asked for without one.
        audio: sound, or a file that has some; cut or padded to the film. Without it the film keeps what it has.
        metadata: put over what the film carries; values that are not text are stored as JSON.
        chapters: in the order of time; without them the film keeps what it has.
        frames: blocks uint8 [t H W 3] of the whole film to encode from, enlarged to the film's size. Without them
            the film's own pictures are encoded again, and a log line says so.
        overwrite: put the new file in the place of an old one instead of giving it a number.

    Raises:
        TakeError: no readable frame in `run_film`, or `out` cannot hold what is asked.
        ResourceError: a codec that cannot be encoded here, or a full disk.
    """
    source, out = Path(run_film), Path(out)
    if film_length(source)[0] == 0:
        raise TakeError(f"{source.name} holds no whole frame", "render at least one chunk first")
    if codec == AS_RENDERED:
        codec = quality = None
    if codec in STILLS:
        return _place_stills(source, out, codec, metadata or {}, audio, frames, upscale_filter)
    # No encode is a copy of the coded pictures: quick, and not a bit is lost.
    own = probe_codec(source)
    out = _suffixed(out, codec or own)
    encode = None
    if codec not in (None, own) or quality is not None:
        name = codec or own
        level = DEFAULT_QUALITY if quality is None else quality
        encode = Encode(name, level, _pictures(source, frames, upscale_filter))
    sound = _sound(source, audio)
    extras = Extras(sound, tuple(chapters), as_text(metadata or {}))
    return _through_temporary(out, lambda part: write_film(source, part, encode, extras), overwrite)


def probe_codec(path: str | Path) -> str:
    """The name in `CODECS` of what a film is in, or what its stream calls itself."""
    info = probe(path)
    bits = " 10-bit" if "10" in info.pix_fmt and f"{info.codec} 10-bit" in CODECS else ""
    return info.codec + bits


def _suffixed(out: Path, codec: str) -> Path:
    if not out.suffix:
        return out.with_suffix(suffix_for(codec))
    container = CODECS[codec].container if codec in CODECS else "mp4"
    if out.suffix.lower() not in SUFFIXES[container]:
        raise TakeError(
            f"{out.name} cannot be saved: a film in {codec} does not go into a file called {out.suffix}",
            f"use {', '.join(SUFFIXES[container])}",
        )
    return out


def _sound(source: Path, audio: Audio | str | Path | None) -> Audio | None:
    """`audio` as long as the film."""
    if audio is None:
        return None
    frames, fps = film_length(source)
    seconds = float(frames / fps)
    return fitted(audio if isinstance(audio, Audio) else read_audio(audio, seconds + 1), seconds)


def _pictures(source: Path, frames: Iterable[np.ndarray] | None, how: UpscaleFilter) -> Iterator[np.ndarray]:
    """Single pictures uint8 [H W 3] of the film's size."""
    if frames is None:
        log.info("%s: its own pictures are encoded again, there are no latents to decode", source.name)
        yield from read_frames(source)
        return
    info = probe(source)
    for block in frames:
        for frame in block:
            # Decoded latents have the model's size; the film may be a whole number of times that, and even.
            factor = max(1, info.width // frame.shape[1])
            picture = upscaled(frame, factor, how)
            height, width = (side + side % 2 for side in picture.shape[:2])
            if (width, height) != (info.width, info.height):
                raise TakeError(
                    f"pictures of {frame.shape[1]}x{frame.shape[0]} for a film of {info.width}x{info.height}",
                    "decode the latents of the same film",
                )
            yield picture


def _place_stills(
    source: Path, out: Path, kind: Still, metadata: Mapping[str, Any], audio: Audio | str | Path | None,
    frames: Iterable[np.ndarray] | None, how: UpscaleFilter,
) -> Path:  # fmt: skip
    """A new folder of pictures."""
    if audio is not None:
        log.warning("sound left out: a folder of pictures has none")
    # Filled under a hidden name and renamed when whole: a folder that is seen has all of its pictures.
    texts = {**read_metadata(source), **as_text(metadata)}
    folder = out if out.suffix.lower() not in SUFFIXES["mp4"] else out.with_suffix("")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        write_pictures(_pictures(source, frames, how), part, kind, texts, film_length(source)[1])
        os.chmod(part, 0o755)
        place, number = folder, 1
        while place.exists():
            number += 1
            place = folder.with_name(f"{folder.name}-{number}")
        os.rename(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return place


def _through_temporary(out: Path, write: Callable[[Path], None], overwrite: bool) -> Path:
    """Let `write` fill a temporary file beside `out`, then give it its name."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with beside(out, out.suffix) as part:
        part.touch()  # a folder that takes no files is not the fault of the film's suffix
        try:
            write(part)
        except (FFmpegError, ValueError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise ResourceError(
                    f"no space left on the disk of {out}", "free some space and save again"
                ) from error
            raise TakeError(
                f"{out.name} cannot be saved: {error}", "use .mp4 for H.264, HEVC and AV1, .mov for ProRes"
            ) from error
        # The name is taken when the file is whole, so that a failure leaves no empty one; it is ours from then on.
        place = out if overwrite else reserve_name(out)
        put(part, place)
    return place


def reserve_name(path: Path) -> Path:
    """Create an empty file at `path`, or at `name-2`, `name-3`, ... where that is taken, and return which."""
    candidate, number = path, 1
    while True:
        try:
            # O_EXCL: of two renders that end together, each gets a name of its own.
            os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
