"""Training of the reader (the metric network): resumable, on one CPU thread in about 25 minutes.

`grounded train builtin --stage reader` trains it; `python -m gf_core.train.recipes.reader FILE` measures one.
"""

from __future__ import annotations

import argparse
import logging
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...vae.builtin import load_codec
from ...world.reader import (
    BUILTIN_WEIGHTS,
    CHARACTER,
    CROP,
    READABLE,
    WINDOW,
    Reader,
    action_windows,
    cut_out,
    load_reader,
    read,
    save_reader,
)
from ...world.vocabulary import ATTRIBUTES, PICTURED, SCENE
from ..loop import Pace, Run
from ..objectives import Loss, Precision
from ..optim import adamw
from ..state import PRINT
from .reader_data import HELD_OUT, Clip, ClipPool, Recode, Windows, corrupt, draw_script, render_clip

log = logging.getLogger("grounded")

LABELS = tuple(ATTRIBUTES)

WINDOWS = 64
"""Windows of 12 frames in a step."""
CROPS = 2
"""Crops of each window in a step."""
WHOLE_EVERY = 4
"""The frame and action networks learn every fourth step: they cost more and are done sooner than the crop network."""
PACE = Pace(
    minutes=25, steps=2800, warm=60, decay_from=0.2, clip=2.0, average=0.995, report=50, save_seconds=60
)
RATE = 2.5e-3
FRESH = 10
"""New clips in a step; with one to three, the crop network learnt the pool's individuals by heart (patch 0.93)."""
POOL = 1200
"""Clips kept in memory (about 1.3 GB)."""
SMOOTH = 0.02
"""Label smoothing."""


def codec_recoder(path: Path) -> Recode:
    """A function that passes frames through the built-in codec, with gaussian noise on its latents."""
    codec = load_codec(path)
    rng = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def recode(frames: np.ndarray, noise: float) -> np.ndarray:
        # The whole clip at once is several times faster than the streams; 49 frames are small.
        with torch.autocast("cpu", torch.bfloat16):
            latents = codec.encode_batch(torch.from_numpy(frames)[None].float() / 255)
            latents = latents + noise * torch.randn(latents.shape, generator=rng)
            decoded = codec.decode_batch(latents)[0].float()
        return (decoded.clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    return recode


def _image(frames: Tensor) -> Tensor:
    """uint8 [... h w 3] -> float [... 3 h w] in -1..1."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def _packed(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


class Reading:
    """The objective: read what a batch of windows shows, spoilt a little.

    rng: draws crops and corruption; on the device of the batches.
    """

    def __init__(self, reader: Reader, rng: torch.Generator, precision: Precision) -> None:
        self.reader, self.rng, self.precision = reader, rng, precision

    def __call__(self, batch: Windows) -> Loss:
        """The sum of all losses on one batch; those of the crop network alone where it is not `whole`."""
        n, rng, device = len(batch.frames), self.rng, self.rng.device
        pick = torch.stack([torch.randperm(WINDOW, generator=rng, device=device)[:CROPS] for _ in range(n)])
        row = torch.arange(n, device=device)[:, None]
        shots, told, box = _image(batch.frames[row, pick]), batch.labels[row, pick], batch.boxes[row, pick]
        parts = self._crops(shots, told, box)
        if batch.whole:
            parts |= self._frames(shots[:, :1], told[:, 0], box[:, 0], batch.mask[row[:, 0], pick[:, 0]])
            parts["action"] = self._action(batch)
        total = torch.stack(list(parts.values())).sum()
        return Loss(total, {name: value.detach() for name, value in parts.items()})

    def _crops(self, shots: Tensor, told: Tensor, box: Tensor) -> dict[str, Tensor]:
        """Crops around the true box with an error like FrameNet's, so that both can learn from the first step on."""
        shake = torch.randn(*box.shape[:2], 2, generator=self.rng, device=box.device) * 1.5
        centre = (box[..., :2] + shake).flatten(0, 1)
        crops = cut_out(shots.flatten(0, 1), centre[:, 0], centre[:, 1], CROP)
        crops = corrupt(crops.unflatten(0, shots.shape[:2]), self.rng).flatten(0, 1)
        with self.precision.autocast():
            out = self.reader.crop(_packed(crops))
        return {name: _classify(out[name], told.flatten(0, 1), name) for name in CHARACTER}

    def _frames(self, shots: Tensor, told: Tensor, box: Tensor, mask: Tensor) -> dict[str, Tensor]:
        with self.precision.autocast():
            out = self.reader.frame(_packed(corrupt(shots, self.rng).flatten(0, 1)))
        result = {name: _classify(out[name], told, name) for name in SCENE}
        result["box"] = F.smooth_l1_loss(out["box"], box, beta=2.0) * 0.3
        result["mask"] = F.binary_cross_entropy_with_logits(out["mask"], mask)
        return result

    def _action(self, batch: Windows) -> Tensor:
        shake = torch.randn(batch.boxes.shape, generator=self.rng, device=batch.boxes.device) * 0.7
        track = batch.boxes + shake
        windows = action_windows(_image(batch.halves), track).unflatten(1, (WINDOW, 3))
        windows = corrupt(windows, self.rng).flatten(1, 2)
        with self.precision.autocast():
            return _classify(self.reader.action(_packed(windows), track), batch.labels[:, 0], "action")


def _classify(logits: Tensor, told: Tensor, name: str) -> Tensor:
    return F.cross_entropy(logits.float(), told[:, LABELS.index(name)], label_smoothing=SMOOTH)


def accuracy(reader: Reader, clips: list[Clip]) -> dict[str, float]:
    """Share read right per attribute over all frames of the clips, action over windows inside one segment,
    box error in pixels."""
    right: dict[str, list[np.ndarray]] = {name: [] for name in (*ATTRIBUTES, "readable")}
    errors = []
    for clip in clips:
        reading = read(reader, clip.frames)
        for name in PICTURED:
            right[name].append(reading.labels[name] == clip.labels[:, LABELS.index(name)])
            right["readable"].append(reading.confidence[name] >= READABLE)
        starts = reading.action_starts
        truth = clip.labels[:, LABELS.index("action")]
        inside = np.array([any(a <= s and s + WINDOW <= b for a, b in clip.spans) for s in starts], bool)
        right["action"].append(reading.actions[inside] == truth[starts[inside]])
        errors.append(np.abs(reading.boxes - clip.boxes)[:, :2])
    result = {name: float(np.concatenate(parts).mean()) for name, parts in right.items()}
    result["box_px"] = float(np.concatenate(errors).mean())
    return result


def held_out_clips(count: int, recode: Recode | None = None, noise: float = 0.0) -> list[Clip]:
    """Clips of scripts that training never draws."""
    return [render_clip(draw_script(random.Random(HELD_OUT + i)), recode, noise) for i in range(count)]


def train_reader(
    folder: Path,
    pace: Pace = PACE,
    codec: Path | None = None,
    precision: Precision | None = None,
) -> Path:
    """Train (or go on training); returns the weights' path.

    `codec` may name a file that does not exist yet: clips pass through it from the moment that it is there. Raises
    CheckpointError where they passed through another before.
    """
    precision = precision or Precision()
    reader = Reader().to(precision.device).train()
    optimiser = adamw(reader.parameters(), RATE, decay=0.02)
    kept = folder / "reader.pt"
    begun = {"reader": "nothing"}
    if codec and codec.is_file():
        begun["codec"] = _print_of(codec)
    run = Run("reader", {"reader": reader}, [optimiser], pace, precision, kept, begun=begun)
    pool = ClipPool(run.step, POOL)
    pool.refresh(80)
    rng = torch.Generator(precision.device).manual_seed(run.step)

    def draw() -> Windows:
        if codec and pool.recode is None and codec.is_file() and run.step % 20 == 0:
            pool.recode, run.begun["codec"] = codec_recoder(codec), _print_of(codec)
            log.info("reader: step %d, clips now pass through the codec too", run.step)
        pool.refresh(FRESH)
        return pool.batch(WINDOWS, run.step % WHOLE_EVERY == 0).to(precision.device)

    run.run(Reading(reader, rng, precision), draw)
    reader.load_state_dict(run.average.values)
    path = folder / "reader.safetensors"
    save_reader(reader.cpu(), path, {"steps": run.step})
    return path


def _print_of(codec: Path) -> str:
    """What tells a codec in a checkpoint."""
    return PRINT + load_codec(codec).fingerprint


def report(path: Path, codec: Path | None, count: int = 120) -> str:
    """Accuracy per attribute on held-out clips: as rendered, and through the codec without and with latent
    noise."""
    reader = load_reader(path)
    cases: list[tuple[str, Recode | None, float]] = [("rendered", None, 0.0)]
    if codec is not None and codec.is_file():
        recode = codec_recoder(codec)
        cases += [("codec", recode, 0.0), ("codec, noise 0.2", recode, 0.2)]
    lines = []
    for title, recode, noise in cases:
        values = accuracy(reader, held_out_clips(count, recode, noise))
        lines.append(f"{title:>18}  " + "  ".join(f"{name} {value:.3f}" for name, value in values.items()))
    return "\n".join(lines)


def main() -> None:
    """Command line: how well a reader reads."""
    parser = argparse.ArgumentParser(description="measure the reader of the built-in world")
    parser.add_argument("reader", type=Path, nargs="?", default=BUILTIN_WEIGHTS)
    parser.add_argument("--codec", type=Path, default=BUILTIN_WEIGHTS.with_name("codec.safetensors"))
    options = parser.parse_args()
    print(report(options.reader, options.codec))


if __name__ == "__main__":
    main()
