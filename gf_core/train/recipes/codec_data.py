"""Training material of the built-in codec: pictures on the device, crops around the subject, labels of cells."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...vae.builtin import FRAMES_PER_LATENT, STRIDE
from ...world import ATTRIBUTES, PICTURED
from ...world.vocabulary import SCENE
from ..data import Shard
from .clips import PICTURES

BACKGROUND = len(ATTRIBUTES["subject"])
HEADS = {name: len(ATTRIBUTES[name]) + (name == "subject") for name in PICTURED}
"What the latents must say plainly, with the number of classes; the last class of `subject` is the background."
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Crops of equal size."""

    frames: Tensor
    "float b t h w 3 in 0..1"
    mask: Tensor
    "float b t h w, 1 on the subject"
    labels: Tensor
    "int64 b t 7, classes of PICTURED"
    half: bool = False
    "whether the step also decodes latents of half the size"


class Pictures:
    """Rendered clips on the device: the first `held` are for scores only; a full store loses its oldest others."""

    def __init__(self, size: int, held: int, device: torch.device) -> None:
        self.size, self.held, self.device = size, held, device
        self.count = 0
        self._next = 0
        self.tensors: Shard = {}

    @property
    def full(self) -> bool:
        """Whether the next clips would push others out."""
        return self.count >= self.size

    def add(self, shard: Shard) -> None:
        """Take clips in."""
        for name in PICTURES if not self.tensors else ():
            value = shard[name]
            self.tensors[name] = value.new_empty(self.size, *value.shape[1:], device=self.device)
        clips, done = len(shard["frames"]), 0
        while done < clips:
            first = self._next
            more = min(clips - done, self.size - first)
            for name, store in self.tensors.items():
                store[first : first + more] = shard[name][done : done + more]
            done, self.count = done + more, max(self.count, first + more)
            self._next = first + more if first + more < self.size else self.held

    def crops(self, count: int, frames: int, size: int) -> Batch:
        """Square crops, most around the subject, at any pixel offset: the codec must not know a grid."""
        return self._cut(self._rows(count), frames, size)

    def whole(self, count: int, frames: int) -> Batch:
        """Whole pictures."""
        return self._cut(self._rows(count), frames, None)

    def held_out(self, frames: int) -> list[Batch]:
        """The first frames of all clips that training never sees, four at a time."""
        rows = torch.arange(min(self.held, self.count), device=self.device)
        return [self._at(part[:, None], torch.arange(frames, device=self.device)) for part in rows.split(4)]

    def _rows(self, count: int) -> Tensor:
        return torch.randint(self.held, self.count, (count,), device=self.device)

    def _at(self, rows: Tensor, t: Tensor, *where: Tensor) -> Batch:
        store = self.tensors
        at = tuple(x[..., None, None] for x in (rows, t)) + where if where else (rows, t)
        labels = store["seen"][rows, t].long()
        return Batch(store["frames"][at].float() / 255, (store["mask"][at] > 0).float(), labels)

    def _cut(self, rows: Tensor, frames: int, size: int | None) -> Batch:
        device, n = self.device, len(rows)
        total, height, width = self.tensors["mask"].shape[1:]
        start = torch.randint(total - frames + 1, (n,), device=device)
        t = start[:, None] + torch.arange(frames, device=device)
        if size is None:
            return self._at(rows[:, None], t)
        box = self.tensors["boxes"][rows, start + frames // 2].long()
        free = torch.rand(n, device=device) < 0.2
        corner = []
        for axis, most in ((0, width - size), (1, height - size)):
            near = (box[:, axis] + box[:, axis + 2] - size) // 2 + torch.randint(-10, 11, (n,), device=device)
            anywhere = torch.randint(most + 1, (n,), device=device)
            corner.append(
                torch.where(free, anywhere, near).clamp(0, most)[:, None] + torch.arange(size, device=device)
            )
        xs, ys = corner
        return self._at(rows[:, None], t, ys[:, None, :, None], xs[:, None, None, :])


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
        if name in SCENE:
            targets[name] = wanted
            continue
        elsewhere = torch.where(off, BACKGROUND, IGNORED) if name == "subject" else IGNORED
        targets[name] = torch.where(on, wanted, elsewhere)
    return targets
