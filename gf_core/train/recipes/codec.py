"""The built-in model's autoencoder, trained on pictures of the small world.

The loss is pixel error with weight on the subject, gradient error, and classification of what each latent cell shows,
which keeps the meaning loud in the latents; noise on the latents makes the decoder forgive a generator.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...vae.builtin import STRIDE, BuiltinCodec, CodecConfig, load_codec, save_codec, stack_frames
from ..loop import Pace, Run
from ..objectives import Loss, Precision
from ..optim import Muon, adamw
from ..ranks import Ranks
from ..state import PRINT, find, replacing, told
from .codec_data import HEADS, IGNORED, Batch, Pictures, cell_targets

log = logging.getLogger("grounded")

CONFIG = CodecConfig(
    encoder_widths=(64, 128, 192),
    decoder_widths=(56, 112, 224),
    encoder_blocks=(1, 2, 2),
    decoder_blocks=(2, 2, 2),
)
PACE = Pace(minutes=25, decay_from=0.3, clip=0.5, report=100, save_seconds=60)
RATE = 1.5e-3
"""Learning rate of both optimisers."""
HALF_EVERY, WHOLE_EVERY = 8, 4
"""Every so many steps latents of half the size are decoded too; whole pictures are shown instead of crops."""


@dataclass(frozen=True)
class CodecPlan:
    """What a training of the codec does."""

    pace: Pace = PACE
    "length and learning rate"
    crops: int = 12
    "crops of 48x48 in a step of one rank; a third as many where they are whole pictures"
    frames: int = 13
    "pixel frames of a crop, 1 + 4 n"
    noise: float = 0.3
    "largest noise on the latents, in deviations of the channel"
    subject_weight: float = 4.0
    "extra weight of the subject's pixels"
    meaning: float = 0.04
    "weight of the classification of latent cells"
    statistics: int = 256
    "clips whose latents set the final normalisation"
    decoder_of: Path | None = None
    "a codec of which only the decoder is trained further, so that its latents stay what they are"
    config: CodecConfig = CONFIG
    "sizes of a new codec"


@dataclass(frozen=True)
class Score:
    """Peak signal-to-noise ratios in dB over the held-out clips."""

    everything: float
    "all pixels, latents untouched"
    subject: float
    "pixels of the subject, latents untouched"
    everything_noisy: float
    "all pixels, noise of 0.15 deviations on the latents"
    subject_noisy: float
    "pixels of the subject, noise of 0.15 deviations on the latents"


class Meaning(nn.Module):
    """Linear read-outs of every latent cell, one per entry of HEADS; used in training only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(channels, sum(HEADS.values()), 1)

    def forward(self, latents: Tensor, targets: dict[str, Tensor]) -> Tensor:
        """Latents `b f c h w` of unit deviation -> mean cross entropy over the heads that have a target."""
        logits = self.read(latents.flatten(0, 1)).float().split(list(HEADS.values()), dim=1)
        losses, there = [], []
        for part, name in zip(logits, HEADS):
            target = targets[name].flatten(0, 1)
            count = (target != IGNORED).sum()
            sums = F.cross_entropy(part, target, ignore_index=IGNORED, reduction="sum")
            losses.append(sums / count.clamp_min(1))
            there.append(count > 0)
        return torch.stack(losses).sum() / torch.stack(there).sum().clamp_min(1)


class Reconstruction:
    """The objective: latents with noise on them must decode to the picture, and say what it shows."""

    def __init__(self, codec: BuiltinCodec, meaning: Meaning, plan: CodecPlan, precision: Precision) -> None:
        self.codec, self.meaning, self.plan, self.precision = codec, meaning, plan, precision

    def __call__(self, batch: Batch) -> Loss:
        plan, learn = self.plan, self.plan.decoder_of is None
        with self.precision.autocast():
            with torch.set_grad_enabled(learn):
                latents = self.codec.encode_batch(batch.frames).float()
            deviation = latents.detach().std((0, 1, 3, 4), keepdim=True) + 1e-4
            # A fifth of the clips stays clean, so that the clean picture is not given up for the noisy ones.
            amount = torch.rand(len(latents), 1, 1, 1, 1, device=latents.device)
            sigma = plan.noise * (amount * 1.25 - 0.25).clamp_min(0)
            noisy = latents + sigma * deviation * torch.randn_like(latents)
            pictures = self.codec.decode_batch(noisy).float()
        total = pixel_loss(pictures, batch, plan.subject_weight)
        parts = {"pixels": total.detach()}
        if learn:
            sense = self.meaning(latents / deviation, cell_targets(batch.mask, batch.labels))
            total = total + plan.meaning * sense + 0.001 * latents.square().mean()
            parts |= {"meaning": sense.detach(), "deviation": deviation.mean()}
            if batch.half:
                total = total + 0.25 * self._half_size(latents, batch)
        return Loss(total, parts)

    def _half_size(self, latents: Tensor, batch: Batch) -> Tensor:
        """Latents shrunk to half size must decode to the shrunken picture: keeps their fine detail quiet."""

        def halved(x: Tensor) -> Tensor:  # b t c h w
            return F.avg_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])

        small, mask = halved(latents), F.avg_pool2d(batch.mask, 2)
        target = halved(batch.frames.movedim(-1, 2)).movedim(2, -1)
        with self.precision.autocast():
            pictures = self.codec.decode_batch(small).float()
        return pixel_loss(pictures, Batch(target, mask, batch.labels), self.plan.subject_weight)


def pixel_loss(pictures: Tensor, batch: Batch, subject_weight: float) -> Tensor:
    """L1, squared and gradient error of `b t h w 3`, the subject's counting `1 + subject_weight` times."""
    error = 2 * (pictures - batch.frames)
    weight = (1 + subject_weight * batch.mask)[..., None]
    weight = weight / weight.mean()
    plain = (weight * (0.5 * error.abs() + 2 * error.square())).mean()
    across = (weight[..., 1:, :] * error.diff(dim=-2).abs()).mean()
    down = (weight[..., 1:, :, :] * error.diff(dim=-3).abs()).mean()
    return plain + 0.15 * (across + down)


def split_kernels(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Kernels of the hidden layers, for Muon, and all others (linear, stems, heads, norms) for Adam."""
    kernels, rest = [], []
    for name, parameter in module.named_parameters():
        outer = any(part in ("linear", "stem", "head") for part in name.split("."))
        (rest if outer or parameter.ndim != 4 else kernels).append(parameter)
    return kernels, rest


def train_codec(
    folder: Path,
    plan: CodecPlan,
    pictures: Pictures,
    refresh: Callable[[], None],
    precision: Precision,
    ranks: Ranks,
) -> Path:
    """Train (or go on) and return the path of `codec.safetensors`.

    pictures: material, with clips in it. refresh: called after every step, to bring new ones.
    """
    device = precision.device
    codec = load_codec(plan.decoder_of) if plan.decoder_of else BuiltinCodec(plan.config)
    codec.to(device)
    codec.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    meaning = Meaning(codec.channels).to(device)
    kept = folder / "codec.pt"
    if not plan.decoder_of and find(kept) is None:
        start_from_principal_components(codec, pictures)
    kernels, rest = split_kernels(codec.net_decoder if plan.decoder_of else codec)
    rest += [] if plan.decoder_of else list(meaning.parameters())
    optimisers = [Muon(kernels, RATE, decay=0.0, conv=True), adamw(rest, RATE)]
    modules = {"codec": codec, "meaning": meaning}
    run = Run("codec", modules, optimisers, plan.pace, precision, kept, ranks, begun=_decisive(plan))
    torch.manual_seed(7 + 100 * run.step + ranks.rank)

    def draw() -> Batch:
        if run.step % WHOLE_EVERY == WHOLE_EVERY - 1:
            batch = pictures.whole(max(1, plan.crops // 3), plan.frames)
        else:
            batch = pictures.crops(plan.crops, plan.frames, 48)
        return Batch(batch.frames, batch.mask, batch.labels, run.step % HALF_EVERY == HALF_EVERY - 1)

    path = folder / "codec.safetensors"
    trained = run.run(Reconstruction(codec, meaning, plan, precision), draw, refresh)
    # After a finished call the statistics would change a little, and with them the latents: write nothing.
    if ranks.first and (trained or not path.exists()):
        final = copy.deepcopy(codec).eval().requires_grad_(False)
        final.load_state_dict(run.average.values)
        if not plan.decoder_of:
            fold_statistics(final, pictures, rounds=max(1, min(plan.statistics, 4 * pictures.count) // 8))
        score = evaluate(final, pictures)
        log.info("codec after %d steps: %s", run.step, score)
        with replacing(path) as part:
            save_codec(final, part, {"score": repr(score), "steps": str(run.step)})
    return path


def _decisive(plan: CodecPlan) -> dict[str, str]:
    """What of a plan may not change while a run lasts: all but how long it is and how much a step takes."""
    given = plan.decoder_of
    begun = PRINT + hashlib.sha256(given.read_bytes()).hexdigest() if given else "nothing"
    free = ("pace.", "crops", "statistics", "decoder_of")
    return {"codec": begun, **{name: value for name, value in told(plan, "") if not name.startswith(free)}}


@torch.no_grad()
def start_from_principal_components(codec: BuiltinCodec, pictures: Pictures) -> None:
    """Set the linear path to the main components of stacked 8x8 patches, mixed by a rotation.

    After the rotation all channels are alike, and one scale per channel cannot whiten them.
    """
    channels = codec.channels
    stacked = stack_frames(pictures.whole(96, 13).frames * 2 - 1).flatten(0, 1)
    patches = F.pixel_unshuffle(stacked, STRIDE).movedim(1, -1).flatten(0, 2)
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    mix = torch.linalg.qr(torch.randn(channels, channels, device=mean.device))[0]
    basis = vectors[:, -channels:] @ mix
    scale = math.sqrt(float(values[-channels:].sum()) / channels)
    encoder, decoder = codec.net_encoder.linear, codec.net_decoder.linear
    encoder.weight.copy_(basis.T[:, :, None, None] / scale)
    encoder.bias.copy_(-(mean @ basis) / scale)  # pyright: ignore[reportOptionalMemberAccess]
    decoder.weight.copy_(basis[:, :, None, None] * scale)
    decoder.bias.copy_(mean)  # pyright: ignore[reportOptionalMemberAccess]


@torch.no_grad()
def fold_statistics(codec: BuiltinCodec, pictures: Pictures, rounds: int = 50) -> None:
    """Set the normalisation to the mean and deviation of the latents over the world; may be repeated."""
    latents = torch.cat([codec.encode_batch(pictures.whole(8, 33).frames) for _ in range(rounds)])
    codec.latent_mean.add_(codec.latent_std * latents.mean((0, 1, 3, 4)))
    codec.latent_std.mul_(latents.std((0, 1, 3, 4)))


@torch.no_grad()
def evaluate(codec: BuiltinCodec, pictures: Pictures) -> Score:
    """Scores over the held-out clips, whole pictures of 33 frames; for the same clips always the same."""
    generator = torch.Generator().manual_seed(0)
    sums = torch.zeros(2, 2, 2)
    for batch in pictures.held_out(33):
        latents = codec.encode_batch(batch.frames)
        deviation = latents.std((0, 1, 3, 4), keepdim=True)
        for i, sigma in enumerate((0.0, 0.15)):
            noise = torch.randn(latents.shape, generator=generator).to(latents.device)
            shown = codec.decode_batch(latents + sigma * deviation * noise).clamp(0, 1)
            error = (shown - batch.frames).square().mean(-1)
            sums[i, 0] += torch.tensor([error.sum().item(), error.numel()])
            sums[i, 1] += torch.tensor([(error * batch.mask).sum().item(), batch.mask.sum().item()])
    decibel = -10 * torch.log10(sums[..., 0] / sums[..., 1])
    return Score(*(round(float(v), 2) for v in decibel.flatten()))
