"""The reader: a small CNN that says what a frame of the built-in model's world shows, so that films can be
judged.

Two stages, because a whole-frame network reads small attributes badly: `FrameNet` finds the subject's box,
the place and the time of day on the whole frame; `CropNet` reads the subject's attributes in a crop that is
centred on the box; `ActionNet` reads the action from 12 consecutive frames seen through one window that
stands still in the scene. Group norms only, so that a reading never depends on the other frames of a batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files.atomic import write_atomic
from ..files.tensors import open_file
from .vocabulary import ACTIONS, ATTRIBUTES, PICTURED, SCENE

HEIGHT, WIDTH = 64, 96
CROP = 48
"""Side in pixels of the crop around the subject: body, hat and tail fit with a margin."""
WINDOW = 12
"""Frames that one action reading sees: one chunk."""
STRIDE = 3
"""Frames between the beginnings of two such readings."""
ACTION_CROP = 32
"""Side of the action window in half-resolution pixels (so 64 scene pixels)."""
READABLE = 0.6
"""A reading whose probability is below this counts as unreadable."""

CHARACTER = tuple(name for name in PICTURED if name not in SCENE)
"""What is read in the crop around the subject; the rest of `PICTURED` in the whole frame."""
BUILTIN_WEIGHTS = Path(__file__).resolve().parent.parent / "builtin" / "reader.safetensors"


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // 8, channels)


class Down(nn.Sequential):
    """Convolution of stride `stride`, norm, activation."""

    def __init__(self, cin: int, cout: int, stride: int = 2) -> None:
        super().__init__(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), _norm(cout), nn.SiLU())


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm = _norm(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.norm(self.first(x))))


class AttentiveHeads(nn.Module):
    """One classifier per attribute; each looks where it wants: logits averaged under its own attention
    map."""

    def __init__(self, channels: int, names: Sequence[str]) -> None:
        super().__init__()
        self.classes = {name: len(ATTRIBUTES[name]) for name in names}
        self.norm = _norm(channels)
        self.logits = nn.Conv2d(channels, sum(self.classes.values()), 1)
        self.attention = nn.Conv2d(channels, len(names), 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.silu(self.norm(x))
        logits = self.logits(x).flatten(2).float()  # b classes cells
        weights = self.attention(x).flatten(2).float().softmax(-1)  # b heads cells
        parts = logits.split(list(self.classes.values()), dim=1)
        return {
            name: (part * weights[:, i : i + 1]).sum(-1)
            for i, (name, part) in enumerate(zip(self.classes, parts))
        }


class FrameNet(nn.Module):
    """Whole frame -> subject box, subject mask on a 16x24 grid, place, time."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Down(12, 24, 1), Down(24, 48), Residual(48))
        self.deep = nn.Sequential(Down(48, 64), Residual(64))
        self.scene = AttentiveHeads(64, SCENE)
        self.mask = nn.Conv2d(48, 1, 1)
        self.lift = nn.Conv2d(64, 48, 1)
        self.box = nn.Conv2d(48, 5, 1)  # one vote per cell: weight, dx, dy, w, h

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """frames [b 3 64 96] in -1..1 -> place, time (logits), mask [b 16 24] (logits), box [b 4] = cx,
        cy, w, h in pixels."""
        fine = self.stem(F.pixel_unshuffle(frames, 2))
        deep = self.deep(fine)
        fine = fine + F.interpolate(self.lift(deep), scale_factor=2.0, mode="nearest")
        votes = self.box(F.silu(fine)).float()  # b 5 h w
        rows, columns = votes.shape[-2:]
        xs = (torch.arange(columns, device=votes.device) + 0.5) * 4
        ys = (torch.arange(rows, device=votes.device) + 0.5) * 4
        weight = votes[:, 0].flatten(1).softmax(-1)  # b cells
        fields = torch.stack(
            (votes[:, 1] * 4 + xs, votes[:, 2] * 4 + ys[:, None], votes[:, 3] * 4 + 28, votes[:, 4] * 4 + 32),
            dim=1,
        )
        box = (fields.flatten(2) * weight[:, None]).sum(-1)
        return {**self.scene(deep), "mask": self.mask(F.silu(fine)).float()[:, 0], "box": box}


class CropNet(nn.Module):
    """48x48 crop around the subject -> subject, colour, scarf, hat, patch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Down(12, 32, 1), Down(32, 48), Residual(48), Down(48, 72), Residual(72))
        self.heads = AttentiveHeads(72, CHARACTER)

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        """crops [n 3 48 48] in -1..1 -> logits by attribute."""
        return self.heads(self.body(F.pixel_unshuffle(crops, 2)))


class ActionNet(nn.Module):
    """12 half-resolution crops of one window + the box track -> action."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Down(3 * WINDOW, 40, 1), Down(40, 48), Residual(48), Down(48, 64), Down(64, 64, 1)
        )
        self.track = nn.Sequential(nn.Linear(4 * WINDOW, 64), nn.SiLU())
        self.head = nn.Sequential(nn.Linear(64 * 3, 64), nn.SiLU(), nn.Linear(64, len(ACTIONS)))

    def forward(self, windows: Tensor, boxes: Tensor) -> Tensor:
        """windows [n 36 32 32] in -1..1, boxes [n 12 4] pixels -> logits [n 6]."""
        x = self.body(windows).float()
        centre = boxes.mean(1, keepdim=True)
        track = self.track(((boxes - centre) / 4).flatten(1))
        return self.head(torch.cat((x.mean((2, 3)), x.amax((2, 3)), track), dim=-1))


class Reader(nn.Module):
    """The three networks and the cropping between them (0.5 M parameters)."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = FrameNet()
        self.crop = CropNet()
        self.action = ActionNet()


def cut_out(images: Tensor, cx: Tensor, cy: Tensor, size: int) -> Tensor:
    """Crops of `size` x `size` pixels centred on (cx, cy) [n] pixels out of images [n c h w]; edges are
    repeated."""
    height, width = images.shape[-2:]
    steps = torch.arange(size, device=images.device, dtype=torch.float32) - (size - 1) / 2
    xs = (cx[:, None] + steps) / width * 2 - 1  # n size
    ys = (cy[:, None] + steps) / height * 2 - 1
    grid = torch.stack((xs[:, None].expand(-1, size, -1), ys[:, :, None].expand(-1, -1, size)), dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def halve(frames: Tensor) -> Tensor:
    """Frames [... 3 64 96] at half resolution, which is enough for motion: [... 3 32 48]."""
    return F.avg_pool2d(frames.flatten(0, -4), 2).unflatten(0, frames.shape[:-3])


def action_windows(halves: Tensor, boxes: Tensor) -> Tensor:
    """Half-size frames [n 12 3 32 48], boxes [n 12 4] -> [n 36 32 32]: one still window per item, centred
    on the mean box."""
    centre = boxes.mean(1) / 2
    return cut_out(halves.flatten(1, 2), centre[:, 0], centre[:, 1], ACTION_CROP)


def to_input(frames: np.ndarray | Tensor) -> Tensor:
    """uint8 [t 64 96 3] -> float [t 3 64 96] in -1..1."""
    tensor = torch.as_tensor(np.ascontiguousarray(frames) if isinstance(frames, np.ndarray) else frames)
    return tensor.permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class Reading:
    """What the reader saw in a film."""

    labels: dict[str, np.ndarray]
    """Attribute -> class id per frame, int [t]."""
    confidence: dict[str, np.ndarray]
    """Attribute -> probability of that class, float [t]."""
    boxes: np.ndarray
    """Subject box per frame: cx, cy, w, h in pixels, float [t 4]."""
    presence: np.ndarray
    """Highest mask probability per frame, float [t]: low where no subject is seen."""
    action_starts: np.ndarray
    """First frame of each action window of 12 frames, int [n]."""
    actions: np.ndarray
    """Action class id per window, int [n]."""
    action_confidence: np.ndarray
    """Probability of that action, float [n]."""

    @property
    def frames(self) -> int:
        return len(self.boxes)


@torch.no_grad()
def read(
    reader: Reader, frames: np.ndarray, *, batch: int = 96, tick: Callable[[], None] = lambda: None
) -> Reading:
    """Read uint8 frames [t 64 96 3]; action windows start every `STRIDE` frames.

    tick: called before every batch; may raise to stop.
    """
    reader.eval()
    images = to_input(frames)
    probabilities: dict[str, list[Tensor]] = {name: [] for name in PICTURED}
    boxes, presence = [], []
    for part in images.split(batch):
        tick()
        part = part.contiguous(memory_format=torch.channels_last)
        seen = reader.frame(part)
        crops = cut_out(part, seen["box"][:, 0], seen["box"][:, 1], CROP)
        seen |= reader.crop(crops.contiguous(memory_format=torch.channels_last))
        for name in PICTURED:
            probabilities[name].append(seen[name].softmax(-1))
        boxes.append(seen["box"])
        presence.append(seen["mask"].flatten(1).amax(-1).sigmoid())
    track = torch.cat(boxes)
    halves = halve(images)
    starts = torch.tensor(range(0, len(images) - WINDOW + 1, STRIDE), dtype=torch.long)
    actions = []
    for part in starts.split(max(batch // 4, 1)):
        tick()
        index = part[:, None] + torch.arange(WINDOW)
        windows = action_windows(halves[index], track[index])
        windows = windows.contiguous(memory_format=torch.channels_last)
        actions.append(reader.action(windows, track[index]).softmax(-1))
    acted = torch.cat(actions) if actions else torch.zeros(0, len(ACTIONS))
    joined = {name: torch.cat(parts).max(-1) for name, parts in probabilities.items()}
    best = acted.max(-1) if len(acted) else None
    return Reading(
        labels={name: value.indices.numpy() for name, value in joined.items()},
        confidence={name: value.values.numpy() for name, value in joined.items()},
        boxes=track.numpy(),
        presence=torch.cat(presence).numpy(),
        action_starts=starts.numpy(),
        actions=best.indices.numpy() if best else np.zeros(0, np.int64),
        action_confidence=best.values.numpy() if best else np.zeros(0, np.float32),
    )


def save_reader(reader: Reader, path: Path, notes: dict | None = None) -> None:
    """Write the weights as fp16 safetensors; `notes` go into the header as JSON."""
    from safetensors.torch import save

    state = {name: value.half().contiguous() for name, value in reader.state_dict().items()}
    classes = {name: list(values) for name, values in ATTRIBUTES.items()}
    header = json.dumps({"classes": classes, **(notes or {})})
    # Bytes first: safetensors' own file writer lets nobody but the owner read.
    data = save(state, metadata={"grounded_reader": header})
    write_atomic(path, lambda part: part.write_bytes(data))


def load_reader(path: Path | str | None = None) -> Reader:
    """Load a reader (the shipped one by default) in float32, ready to read.

    Raises CheckpointError when the file is missing, is no reader, or was trained for another vocabulary.
    """
    path = Path(path or BUILTIN_WEIGHTS)
    if not path.is_file():
        raise CheckpointError(
            f"the reader's weights are not there: {path}", "train them: grounded train builtin --stage reader"
        )
    file = open_file(path)
    header = file.metadata.get("grounded_reader")
    if header is None:
        raise CheckpointError(
            f"{path} is not a reader file", "give the file that grounded train builtin --stage reader wrote"
        )
    classes = json.loads(header)["classes"]
    if {name: tuple(values) for name, values in classes.items()} != ATTRIBUTES:
        raise CheckpointError(
            f"{path} was trained for another vocabulary", "train the reader again for this world"
        )
    reader = Reader()
    reader.load_state_dict({name: tensor.load() for name, tensor in file.tensors.items()})
    return reader.eval()
