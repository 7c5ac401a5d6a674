"""A video that a film goes on from: its last pictures, at the film's speed, cropped to the film's shape, scaled."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ...config import MemorySpec, Recipe, latents_of, pictures_of
from ...errors import GroundedError, TakeError
from ...video.reader import frame_times, open_film, read_frames
from ...words import exact_rate

log = logging.getLogger("grounded")

MOST_FRAMES = 21
"""Latent frames that models have seen in training; no film goes on from more."""


def pictures_to_start(there: int, memory: MemorySpec, time_stride: int = 4) -> int:
    """How many of `there` pictures a film goes on from: 1 + `time_stride` n, the newest.

    As many latent frames as anchors and recent memory hold, in whole chunks where there is one: chunks are what the
    model has learned to see. Nothing older could be remembered.
    """
    frames = max(1, min(latents_of(there, time_stride), memory.capacity + memory.recent, MOST_FRAMES))
    if frames > memory.chunk:
        frames -= frames % memory.chunk
    return pictures_of(frames, time_stride)


def open_start_video(path: Path, recipe: Recipe, time_stride: int = 4) -> Tensor:
    """The last pictures of the video at `path` as frames [t H W 3] in 0..1 of the film's size, oldest first.

    They are the pictures that are shown at the film's speed, whatever the video's own: of 32 pictures a second every
    second one in a film of 16. Of the rest only the times are read; its sound is left alone.

    Raises GroundedError: no video that can be read there.
    """
    try:
        times, tick = frame_times(path)
        if not times:
            raise TakeError(f"{path.name} has no picture", "choose a video file")
        shown = _shown(times, tick, exact_rate(recipe.video.fps), pictures_of(MOST_FRAMES, time_stride))
        chosen = shown[-pictures_to_start(len(shown), recipe.memory, time_stride) :]
        read = _fitted(path, chosen, (recipe.video.width, recipe.video.height))
    except TakeError as error:
        raise GroundedError(
            f"the start video cannot be used: {error.message}", "choose a video file that plays"
        ) from error
    if len(read) < len(set(chosen)):
        raise GroundedError(
            f"the start video cannot be used: the end of {path.name} is damaged",
            "convert it to H.264, or cut it",
        )
    with open_film(path) as container:
        sound = "; its sound is left alone" if container.streams.audio else ""
    log.info(
        "the film begins with the last %.2f s of %s, %d pictures of it%s",
        len(chosen) / recipe.video.fps, path.name, len(chosen), sound,
    )  # fmt: skip
    return torch.from_numpy(np.stack([read[index] for index in chosen]).astype(np.float32) / 255)


def _shown(times: tuple[int, ...], tick: Fraction, fps: Fraction, most: int) -> list[int]:
    """Numbers of the last `most` pictures that are seen at the film's speed, the last one last."""
    chosen, at = [], len(times) - 1
    for back in range(most):
        # In ticks, back from where the last picture begins.
        moment = times[-1] - back / fps / tick
        if moment < times[0]:
            break
        # The picture that is on the screen then.
        while times[at] > moment:
            at -= 1
        chosen.append(at)
    return chosen[::-1]


def _fitted(path: Path, chosen: list[int], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Those pictures uint8 [H W 3] of the film's size by number; one of the video's own size is held at a time."""
    wanted, read = set(chosen), {}
    for index, picture in enumerate(read_frames(path, chosen[0], chosen[-1] + 1), chosen[0]):
        if index in wanted:
            image = Image.fromarray(picture)
            read[index] = np.asarray(ImageOps.fit(image, size, Image.Resampling.LANCZOS))
    return read
