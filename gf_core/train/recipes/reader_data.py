"""Batches for the reader: rendered clips, some of them through the codec, mildly corrupted, with exact
labels.

What is judged later are pictures that a diffusion model made and a small codec decoded, so the reader must
see soft edges, coarse blocks, shifted colours and latent noise while it learns; otherwise it would measure
sharpness.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...world.reader import WINDOW
from ...world.render import render
from ...world.script import Script, sample_script

HELD_OUT = 1_000_000_000
"""Script seeds from here on are for testing only."""
Recode = Callable[[np.ndarray, float], np.ndarray]
"""Frames uint8 [t 64 96 3] and a latent noise level -> frames decoded by a codec."""


@dataclass(frozen=True)
class Clip:
    """A rendered clip and what is true in it."""

    frames: np.ndarray
    """uint8 [t 64 96 3]."""
    halves: np.ndarray
    """The same at half resolution, uint8 [t 32 48 3]."""
    labels: np.ndarray
    """Class ids in the order of ATTRIBUTES, int64 [t 8]."""
    boxes: np.ndarray
    """cx, cy, w, h in pixels, float32 [t 4]."""
    mask: np.ndarray
    """Share of subject pixels per 4x4 cell, float32 [t 16 24]."""
    spans: tuple[tuple[int, int], ...]
    """First and past-the-last frame of each segment."""


def render_clip(script: Script, recode: Recode | None = None, noise: float = 0.0) -> Clip:
    """Render a script; with `recode` the pictures pass through a codec with that much latent noise."""
    truth = render(script)
    rows = [segment.labels for segment in script.segments]
    corners = truth.boxes.astype(np.float32)
    boxes = np.concatenate(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), axis=1)
    covered = (truth.mask > 0).astype(np.float32)
    cells = covered.reshape(len(covered), 16, 4, 24, 4).mean((2, 4))
    frames = truth.frames if recode is None else recode(truth.frames, noise)
    spans = tuple((s.first_frame, s.first_frame + s.frames) for s in script.segments)
    halves = frames.reshape(len(frames), 32, 2, 48, 2, 3).mean((2, 4), dtype=np.float32).astype(np.uint8)
    return Clip(frames, halves, np.asarray(rows, np.int64)[truth.segment_of], boxes, cells, spans)


def draw_script(rng: random.Random) -> Script:
    """Mostly short clips of one prompt (many individuals), some long ones (walkers at the margin), some
    with events."""
    kind = rng.random()
    if kind < 0.7:
        return sample_script(rng, rng.randint(2, 3), "single")
    if kind < 0.82:
        return sample_script(rng, rng.randint(8, 11), "single")
    return sample_script(rng, rng.randint(6, 8), rng.choice(("switch", "cut", "return", "mixed")))


class Windows(NamedTuple):
    """A batch of windows of 12 frames."""

    frames: Tensor
    """uint8 [n 12 64 96 3]."""
    halves: Tensor
    """uint8 [n 12 32 48 3]."""
    labels: Tensor
    """int64 [n 12 8] in the order of ATTRIBUTES."""
    boxes: Tensor
    """float [n 12 4]: cx, cy, w, h in pixels."""
    mask: Tensor
    """float [n 12 16 24]."""
    whole: bool = True
    """Whether the frame and action networks learn from it too."""

    def to(self, device: torch.device) -> Windows:
        """The same on a device."""
        tensors = (self.frames, self.halves, self.labels, self.boxes, self.mask)
        return Windows(*(x.to(device) for x in tensors), whole=self.whole)


class ClipPool:
    """A rolling store of clips: rendering is slower than learning, so each clip serves several batches."""

    def __init__(self, seed: int, size: int) -> None:
        self.rng = random.Random(seed)
        self.size = size
        self.clips: list[Clip] = []
        self.recode: Recode | None = None
        """Set once a codec is there; from then on about half of the new clips pass through it."""

    def refresh(self, count: int) -> None:
        """Render `count` new clips; the oldest leave a full pool."""
        for _ in range(count):
            script = draw_script(self.rng)
            coded = self.recode is not None and self.rng.random() < 0.55
            noise = self.rng.choice((0.0, self.rng.uniform(0, 0.35)))
            self.clips.append(render_clip(script, self.recode if coded else None, noise))
        del self.clips[: max(0, len(self.clips) - self.size)]

    def batch(self, count: int, whole: bool = True) -> Windows:
        """`count` windows of 12 frames, each inside one segment."""
        parts = []
        while len(parts) < count:
            clip = self.rng.choice(self.clips)
            first, last = self.rng.choice(clip.spans)
            if last - first < WINDOW:
                continue
            start = self.rng.randint(first, last - WINDOW)
            columns = (clip.frames, clip.halves, clip.labels, clip.boxes, clip.mask)
            parts.append([column[start : start + WINDOW] for column in columns])
        return Windows(*(torch.from_numpy(np.stack(column)) for column in zip(*parts)), whole=whole)


def _blocks(x: Tensor, keep: int) -> Tensor:
    """Keep the `keep` x `keep` lowest frequencies of each 8x8 block: what a coarse codec leaves of x [n c
    h w]."""
    k = torch.arange(8, device=x.device)
    matrix = torch.cos(math.pi / 8 * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / 8)  # orthonormal DCT-II
    matrix[0] /= math.sqrt(2)
    low = matrix[:keep].T @ matrix[:keep]  # a projection on the low frequencies
    n, c, h, w = x.shape
    tiles = x.reshape(n, c, h // 8, 8, w // 8, 8)
    return torch.einsum("ij,ncyjxk,kl->ncyixl", low, tiles, low).reshape(n, c, h, w)


def corrupt(x: Tensor, rng: torch.Generator) -> Tensor:
    """Mild corruption of frames [n k 3 h w] in -1..1, one kind and strength for the k frames of an item; a
    third stays clean."""
    n = x.shape[0]

    def chance(share: float) -> Tensor:
        return (torch.rand(n, generator=rng, device=rng.device) < share).float()[:, None, None, None, None]

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=rng, device=rng.device)

    flat = x.flatten(0, 1)
    blurred = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1).view_as(x)
    x = x + chance(0.35) * between(0.3, 1.0, 1, 1, 1, 1) * (blurred - x)
    keep = int(torch.randint(3, 6, (), generator=rng, device=rng.device))
    x = x + chance(0.3) * between(0.4, 1.0, 1, 1, 1, 1) * (_blocks(x.flatten(0, 1), keep).view_as(x) - x)
    gain, offset = between(0.9, 1.1, 1, 3, 1, 1), between(-0.08, 0.08, 1, 3, 1, 1)
    x = x + chance(0.5) * (x * gain + offset - x)
    noise = torch.randn(x.shape, generator=rng, device=rng.device)
    x = x + chance(0.4) * between(0.0, 0.1, 1, 1, 1, 1) * noise
    return x.clamp(-1, 1)
