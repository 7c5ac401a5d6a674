"""Films that tests are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from gf_core.config import Encoding, VideoSpec
from gf_core.video import FilmWriter, available_formats


def film_at(path: str | Path, *blocks: np.ndarray, fps: float = 16, **encoding: Any) -> Path:
    """A film of these pictures, each block uint8 [t H W 3] written at once; where it lies."""
    _, height, width, _ = blocks[0].shape
    with FilmWriter(path, VideoSpec(width, height, fps), Encoding(**encoding)) as film:
        for block in blocks:
            film.write(block)
    return Path(path)


def packets(path: str | Path) -> list[bytes]:
    """The coded pictures of a film."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


def encoded(*kinds: str | None) -> list[Any]:
    """Forms of a film for `parametrize`, skipped where this PyAV has no encoder for one."""
    there, lacks = (None, *available_formats()), pytest.mark.skip("this PyAV has no encoder for it")
    return [kind if kind in there else pytest.param(kind, marks=lacks) for kind in kinds]
