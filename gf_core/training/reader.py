"""Training of the reader (the metric network): resumable, on one CPU thread in about 25 minutes.

python -m gf_core.training.reader --out runs/reader --minutes 25 [--codec codec.safetensors]
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluation.reader import (
    ATTRIBUTES,
    BUILTIN_WEIGHTS,
    CROP,
    SCENE_HEADS,
    SUBJECT_HEADS,
    WINDOW,
    Reader,
    action_windows,
    cut_out,
    load_reader,
    read,
    save_reader,
)
from .reader_data import HELD_OUT, LABELS, Clip, ClipPool, Recode, Windows, corrupt, draw_script, render_clip

log = logging.getLogger("grounded")

WINDOWS = 64
"""Windows of 12 frames in a step."""
CROPS = 2
"""Crops of each window in a step."""
WHOLE_EVERY = 4
"""The frame and action networks learn every fourth step: they cost more and are done sooner than the crop network."""
STEPS = 2800
"""Steps of the learning rate's schedule."""
PEAK_RATE = 2.5e-3
FRESH = 10
"""New clips in a step; with one to three, the crop network learnt the pool's individuals by heart (patch 0.93)."""
POOL = 1200
"""Clips kept in memory (about 1.3 GB)."""
EMA = 0.995
SMOOTH = 0.02
"""Label smoothing."""


def codec_recoder(path: Path) -> Recode:
    """A function that passes frames through the built-in codec, with gaussian noise on its latents."""
    from ..vae.builtin import load_codec

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


def losses(reader: Reader, batch: Windows, rng: torch.Generator, whole: bool = True) -> dict[str, Tensor]:
    """All losses on one batch; those of the crop network alone without `whole`."""
    n = len(batch.frames)
    pick = torch.stack([torch.randperm(WINDOW, generator=rng)[:CROPS] for _ in range(n)])
    row = torch.arange(n)[:, None]
    shots, told, box = _image(batch.frames[row, pick]), batch.labels[row, pick], batch.boxes[row, pick]
    result = _crop_losses(reader, shots, told, box, rng)
    if whole:
        mask = batch.mask[torch.arange(n), pick[:, 0]]
        result |= _frame_losses(reader, shots[:, :1], told[:, 0], box[:, 0], mask, rng)
        result["action"] = _action_loss(reader, batch, rng)
    return result


def _classify(logits: Tensor, told: Tensor, name: str) -> Tensor:
    return F.cross_entropy(logits.float(), told[:, LABELS.index(name)], label_smoothing=SMOOTH)


def _crop_losses(
    reader: Reader, shots: Tensor, told: Tensor, box: Tensor, rng: torch.Generator
) -> dict[str, Tensor]:
    """Crops around the true box with an error like FrameNet's, so that both can learn from the first step on."""
    centre = (box[..., :2] + torch.randn(*box.shape[:2], 2, generator=rng) * 1.5).flatten(0, 1)
    crops = cut_out(shots.flatten(0, 1), centre[:, 0], centre[:, 1], CROP)
    crops = corrupt(crops.unflatten(0, shots.shape[:2]), rng).flatten(0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        out = reader.crop(_packed(crops))
    return {name: _classify(out[name], told.flatten(0, 1), name) for name in SUBJECT_HEADS}


def _frame_losses(
    reader: Reader, shots: Tensor, told: Tensor, box: Tensor, mask: Tensor, rng: torch.Generator
) -> dict[str, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        out = reader.frame(_packed(corrupt(shots, rng).flatten(0, 1)))
    result = {name: _classify(out[name], told, name) for name in SCENE_HEADS}
    result["box"] = F.smooth_l1_loss(out["box"], box, beta=2.0) * 0.3
    result["mask"] = F.binary_cross_entropy_with_logits(out["mask"], mask)
    return result


def _action_loss(reader: Reader, batch: Windows, rng: torch.Generator) -> Tensor:
    track = batch.boxes + torch.randn(batch.boxes.shape, generator=rng) * 0.7
    windows = action_windows(_image(batch.halves), track).unflatten(1, (WINDOW, 3))
    windows = corrupt(windows, rng).flatten(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        return _classify(reader.action(_packed(windows), track), batch.labels[:, 0], "action")


def accuracy(reader: Reader, clips: list[Clip]) -> dict[str, float]:
    """Share read right per attribute over all frames of the clips, action over windows inside one segment,
    box error in pixels."""
    right: dict[str, list[np.ndarray]] = {name: [] for name in (*ATTRIBUTES, "action", "readable")}
    errors = []
    for clip in clips:
        reading = read(reader, clip.frames)
        for name in ATTRIBUTES:
            right[name].append(reading.labels[name] == clip.labels[:, LABELS.index(name)])
            right["readable"].append(reading.confidence[name] >= 0.6)
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


class _Run:
    """Everything that a resumed training needs, in one file."""

    def __init__(self, folder: Path, minutes: float, steps: int, start: Path | None) -> None:
        self.file = folder / "state.pt"
        self.minutes, self.steps = minutes, steps
        self.reader = load_reader(start) if start else Reader()
        self.ema = copy.deepcopy(self.reader)
        self.optimiser = torch.optim.AdamW(
            self.reader.parameters(), PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.02
        )
        self.step, self.elapsed = 0, 0.0
        if self.file.is_file():
            state = torch.load(self.file, weights_only=True)
            self.reader.load_state_dict(state["reader"])
            self.ema.load_state_dict(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.elapsed = state["step"], state["elapsed"]
            log.info("reader: resumed at step %d, %.1f min", self.step, self.elapsed / 60)

    def save(self) -> None:
        state = {
            "reader": self.reader.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        temporary = self.file.with_suffix(".part")
        torch.save(state, temporary)
        temporary.replace(self.file)

    def rate(self) -> float:
        """Warm-up over 60 steps, then a cosine to 1 % at the last step or minute, whichever comes first."""
        share = min(max(self.step / self.steps, self.elapsed / (self.minutes * 60)), 1.0)
        return (
            PEAK_RATE * min(1.0, (self.step + 1) / 60) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
        )

    def update(self, total: Tensor) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.reader.parameters(), 2.0)
        self.optimiser.step()
        keep = min(EMA, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for old, new in zip(self.ema.parameters(), self.reader.parameters()):
                old.lerp_(new, 1 - keep)
        self.step += 1


def train_reader(
    out_dir: Path | str,
    minutes: float = 25.0,
    codec: Path | str | None = None,
    seed: int = 0,
    steps: int = STEPS,
    start: Path | None = None,
) -> Path:
    """Train (or go on training) for `steps` steps, at most `minutes` of wall time in all; returns the
    weights' path. A new run begins from the reader in the file `start`, or from nothing.

    `codec` may name a file that does not exist yet: clips pass through it from the moment that it is there.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(folder, minutes, steps, start)
    pool = ClipPool(seed * 1_000_003 + run.step, POOL)
    rng = torch.Generator().manual_seed(seed + run.step)
    codec = Path(codec) if codec else None
    pool.refresh(80)
    shown: dict[str, float] = {}
    begun = saved = time.monotonic()
    while run.elapsed < minutes * 60 and run.step < steps:
        if codec is not None and pool.recode is None and codec.is_file() and run.step % 20 == 0:
            pool.recode = codec_recoder(codec)
            log.info("reader: step %d, clips now pass through the codec too", run.step)
        pool.refresh(FRESH)
        whole = run.step % WHOLE_EVERY == 0
        parts = losses(run.reader, pool.batch(WINDOWS), rng, whole)
        run.update(torch.stack(list(parts.values())).sum())
        for name, value in parts.items():
            now_at = value.item()
            shown[name] = shown.get(name, now_at) * 0.97 + now_at * 0.03
        now = time.monotonic()
        run.elapsed, begun = run.elapsed + now - begun, now
        if run.step % 50 == 0:
            text = " ".join(f"{name} {value:.3f}" for name, value in shown.items())
            log.info("reader: step %d, %.1f min, lr %.5f, %s", run.step, run.elapsed / 60, run.rate(), text)
        if now - saved > 60:
            run.save()
            saved = now
    run.save()
    path = folder / "reader.safetensors"
    save_reader(run.ema, path, {"steps": run.step})
    return path


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
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="train the reader of the built-in world")
    parser.add_argument("--out", type=Path, default=Path("runs/reader"))
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--codec", type=Path, default=BUILTIN_WEIGHTS.with_name("codec.safetensors"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="a reader's weights to begin from")
    parser.add_argument("--report", action="store_true", help="only measure the reader in --out")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    path = options.out / "reader.safetensors"
    if not options.report:
        path = train_reader(
            options.out, options.minutes, options.codec, options.seed, options.steps, options.start
        )
    print(report(path, options.codec))


if __name__ == "__main__":
    main()
