"""Training material of the built-in codec: rendered clips, crops around the subject, labels of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..vae.builtin import FRAMES_PER_LATENT, STRIDE
from .world.render import render
from .world.script import sample_script

KINDS = ("single", "switch", "cut", "scene")
KIND_WEIGHTS = (0.5, 0.25, 0.15, 0.1)
HEADS = {"subject": 7, "colour": 6, "scarf": 6, "hat": 4, "patch": 3, "place": 6, "time": 3}
"What the latents must say plainly, with the number of classes; class 6 of `subject` is the background."
BACKGROUND = 6
IGNORED = -100


@dataclass(frozen=True)
class Clip:
    """One rendered clip with the class ids of every frame."""

    frames: np.ndarray
    "uint8 t h w 3"
    mask: np.ndarray
    "uint8 t h w, non-zero on the subject"
    boxes: np.ndarray
    "int16 t 4, x0 y0 x1 y1 of the subject"
    labels: np.ndarray
    "int64 t 7, class ids in the order of HEADS"


@dataclass(frozen=True)
class Batch:
    """Crops of equal size."""

    frames: Tensor
    "float b t h w 3 in 0..1"
    mask: Tensor
    "float b t h w, 1 on the subject"
    labels: Tensor
    "int64 b t 7"


def render_clip(rng: np.random.Generator, chunks: int) -> Clip:
    """A random clip of the world, `chunks` chunks long."""
    script = sample_script(rng, chunks, str(rng.choice(KINDS, p=KIND_WEIGHTS)))
    shown = render(script)
    rows = [
        (
            s.character.subject,
            s.character.colour,
            s.character.scarf,
            s.character.hat,
            s.character.patch,
            s.place.place,
            s.place.time,
        )
        for s in script.segments
    ]
    labels = np.asarray(rows, np.int64)[np.asarray(shown.segment_of, np.int64)]
    return Clip(shown.frames, shown.mask, shown.boxes, labels)


class Pool:
    """Rendered clips in memory, of which one at a time is replaced, so that training hardly repeats."""

    def __init__(self, seed: int, clips: int, chunks: int = 3) -> None:
        self._rng = np.random.default_rng(seed)
        self._chunks = chunks
        self._clips = [render_clip(self._rng, chunks) for _ in range(clips)]
        self._next = 0

    def refresh(self) -> None:
        """Replace the oldest clip."""
        self._clips[self._next] = render_clip(self._rng, self._chunks)
        self._next = (self._next + 1) % len(self._clips)

    def crops(self, count: int, frames: int, size: int) -> Batch:
        """Square crops, most around the subject, at any pixel offset: the codec must not know a grid."""
        return _batch([self._cut(frames, size) for _ in range(count)])

    def full(self, count: int, frames: int) -> Batch:
        """Whole pictures."""
        return _batch([self._cut(frames, None) for _ in range(count)])

    def _cut(self, frames: int, size: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = self._rng
        clip = self._clips[rng.integers(len(self._clips))]
        start = int(rng.integers(len(clip.frames) - frames + 1))
        when = slice(start, start + frames)
        if size is None:
            return clip.frames[when], clip.mask[when], clip.labels[when]
        height, width = clip.mask.shape[1:]
        x0, y0, x1, y1 = (int(v) for v in clip.boxes[start + frames // 2])
        x = (x0 + x1 - size) // 2 + int(rng.integers(-10, 11))
        y = (y0 + y1 - size) // 2 + int(rng.integers(-10, 11))
        if rng.random() < 0.2:
            x, y = int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1))
        x, y = min(max(x, 0), width - size), min(max(y, 0), height - size)
        where = (when, slice(y, y + size), slice(x, x + size))
        return clip.frames[where], clip.mask[where], clip.labels[when]


def cell_targets(mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Mask `b t h w` and labels `b t 7` -> class ids `b f h/8 w/8` per head, or IGNORED."""
    b, _, height, width = mask.shape
    padded = torch.cat([mask[:, :1].expand(b, FRAMES_PER_LATENT - 1, height, width), mask], dim=1)
    cover = F.avg_pool3d(padded[:, None], (FRAMES_PER_LATENT, STRIDE, STRIDE))[:, 0]
    ids = labels[:, ::FRAMES_PER_LATENT, :, None, None]
    on, off = cover > 0.3, cover < 0.05
    targets = {}
    for index, name in enumerate(HEADS):
        wanted = ids[:, :, index].expand_as(cover)
        if name == "subject":
            target = torch.where(on, wanted, torch.where(off, BACKGROUND, IGNORED))
        elif name in ("place", "time"):
            target = wanted
        else:
            target = torch.where(on, wanted, IGNORED)
        targets[name] = target
    return targets


def _batch(cuts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Batch:
    frames = torch.from_numpy(np.stack([c[0] for c in cuts])).float() / 255
    mask = (torch.from_numpy(np.stack([c[1] for c in cuts])) > 0).float()
    return Batch(frames, mask, torch.from_numpy(np.stack([c[2] for c in cuts])))
