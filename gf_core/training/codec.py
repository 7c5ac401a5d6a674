"""Trains the built-in model's autoencoder on the procedural world: first stage of `grounded train builtin`.

`python -m gf_core.training.codec OUT --minutes 25 --ranks 2` trains all and writes OUT/codec.safetensors.
`python -m gf_core.training.codec OUT --minutes 10 --decoder-of CODEC` trains only the decoder of a finished
codec, so that its latents stay what they are. Both continue where they stopped when called again.

Each rank is one single-threaded process: on few cores one all-reduce a step costs far less than the waits
of a shared thread pool. The loss is pixel error with weight on the subject, gradient error, and
classification of what each latent cell shows, which keeps the meaning loud in the latents; noise on the
latents makes the decoder forgive a generator.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ResourceError
from ..vae.builtin import STRIDE, BuiltinCodec, load_codec, save_codec, stack_frames
from .codec_data import HEADS, IGNORED, Batch, Pool, cell_targets
from .codec_optim import ConvMuon, split_kernels

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class CodecTraining:
    """What one run of the stage does."""

    minutes: float = 25.0
    "training time, all calls together; the learning rate falls to zero at its end"
    ranks: int = 2
    "processes, one thread each"
    learning_rate: float = 1.5e-3
    "of both optimisers, after the warm-up"
    pool: int = 700
    "rendered clips that each rank holds (0.8 MB each)"
    crops: int = 12
    "crops of 48x48 in a step of one rank; every 4th step has a third as many whole pictures"
    frames: int = 13
    "pixel frames of a crop, 1 + 4 n"
    noise: float = 0.3
    "largest noise on the latents, in deviations of the channel"
    subject_weight: float = 4.0
    "extra weight of the subject's pixels"
    meaning: float = 0.04
    "weight of the classification of latent cells"
    statistics: int = 400
    "clips whose latents set the final normalisation"
    held_out: int = 48
    "clips that the final scores are measured on"
    seed: int = 7
    "of weights, clips and noise"
    save_seconds: float = 60.0
    "between checkpoints"


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
        """Latents `b f c h w` of unit deviation -> mean cross entropy over the heads."""
        logits = self.read(latents.flatten(0, 1)).float().split(list(HEADS.values()), dim=1)
        losses = [
            F.cross_entropy(part, targets[name].flatten(0, 1), ignore_index=IGNORED)
            for part, name in zip(logits, HEADS)
            if (targets[name] != IGNORED).any()
        ]
        return torch.stack(losses).mean()


def train_codec(out_dir: Path, plan: CodecTraining, decoder_of: Path | None = None) -> Path:
    """Train (or continue) and return the path of `codec.safetensors`. Starts `plan.ranks` processes.

    With `decoder_of` only the decoder of that codec is trained. Raises ResourceError when a process dies.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    # Otherwise the C library returns large activations to the system and pays page faults at every step.
    os.environ.update(
        MALLOC_MMAP_THRESHOLD_="4000000000", MALLOC_TRIM_THRESHOLD_="8000000000", OMP_NUM_THREADS="1"
    )
    rendezvous = out_dir / "rendezvous"
    rendezvous.unlink(missing_ok=True)
    context = torch.multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_rank, args=(rank, out_dir, plan, decoder_of)) for rank in range(plan.ranks)
    ]
    for worker in workers:
        worker.start()
    try:
        while any(w.is_alive() for w in workers) and not any(w.exitcode for w in workers):
            time.sleep(0.5)
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
            worker.join()
    if any(w.exitcode for w in workers):
        raise ResourceError(
            f"codec training stopped early (exit codes {[w.exitcode for w in workers]})",
            "see the log above; calling it again continues from the last checkpoint",
        )
    return out_dir / "codec.safetensors"


def _rank(rank: int, out_dir: Path, plan: CodecTraining, decoder_of: Path | None) -> None:
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING, format="%(asctime)s %(message)s"
    )
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{(out_dir / 'rendezvous').absolute()}", rank=rank, world_size=plan.ranks
    )
    trainer = Trainer(rank, out_dir, plan, decoder_of)
    trained = trainer.run()
    # After a finished call the statistics would change a little, and with them the latents: write nothing.
    if rank == 0 and (trained or not (out_dir / "codec.safetensors").exists()):
        trainer.finish()
    dist.barrier()
    dist.destroy_process_group()


class Trainer:
    """One rank's weights, data and clock."""

    def __init__(self, rank: int, out_dir: Path, plan: CodecTraining, decoder_of: Path | None) -> None:
        torch.manual_seed(plan.seed)
        self.rank, self.out_dir, self.plan, self.decoder_only = rank, out_dir, plan, decoder_of is not None
        self.codec = load_codec(decoder_of) if decoder_of else BuiltinCodec()
        self.codec.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.meaning = Meaning(self.codec.channels)
        kernels, rest = split_kernels(self.codec.net_decoder if self.decoder_only else self.codec)
        rest += [] if self.decoder_only else list(self.meaning.parameters())
        self.parameters = kernels + rest
        adam = torch.optim.Adam(rest, lr=plan.learning_rate, betas=(0.9, 0.98))
        self.optimisers = [ConvMuon(kernels, plan.learning_rate), adam]
        self.step, self.seconds = 0, 0.0
        state = out_dir / "state.pt"
        resumed = state.exists()
        if resumed:
            self._load(state)
        self.pool = Pool(plan.seed * 1000 + 10 * self.step + rank, plan.pool)
        if not resumed and not self.decoder_only:
            start_from_principal_components(self.codec, Pool(plan.seed, 60))
        torch.manual_seed(plan.seed + 100 * self.step + rank + 1)

    def run(self) -> bool:
        """Train until the planned minutes are spent. False when they already were."""
        if self.seconds >= 60 * self.plan.minutes:
            return False
        started, before = time.monotonic(), self.seconds
        saved, mean = started, None
        while self.seconds < 60 * self.plan.minutes:
            rate = self._rate(self.seconds / (60 * self.plan.minutes))
            for parameter in self.parameters:
                parameter.grad = None
            loss, parts = self._loss()
            loss.backward()
            # The clock travels with the gradients, so that all ranks agree on the rate and on the last step.
            self.seconds = self._reduce(before + time.monotonic() - started)
            nn.utils.clip_grad_norm_(self.parameters, 0.5)
            for optimiser in self.optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.step()
            self.pool.refresh()
            self.step += 1
            mean = parts if mean is None else {k: 0.98 * v + 0.02 * parts.get(k, v) for k, v in mean.items()}
            if self.step % 100 == 0:
                log.info(
                    "codec step %d, %.0f s, rate %.1e, %s",
                    self.step,
                    self.seconds,
                    rate,
                    ", ".join(f"{k} {v:.4f}" for k, v in mean.items()),
                )
            if self.rank == 0 and time.monotonic() - saved > self.plan.save_seconds:
                self._save()
                saved = time.monotonic()
        return True

    def finish(self) -> None:
        """Fold the statistics of the latents into the codec and write it with its scores."""
        held_out = Pool(self.plan.seed + 10**6, self.plan.held_out, chunks=4)
        if not self.decoder_only:
            fold_statistics(self.codec, self.pool, rounds=max(1, self.plan.statistics // 8))
        score = evaluate(self.codec, held_out, rounds=max(1, self.plan.held_out // 6))
        log.info("codec after %d steps: %s", self.step, score)
        save_codec(
            self.codec, self.out_dir / "codec.safetensors", {"score": repr(score), "steps": str(self.step)}
        )
        self._save()

    def _rate(self, done: float) -> float:
        warm = min(1.0, (self.step + 1) / 50)
        return self.plan.learning_rate * warm * min(1.0, (1 - done) / 0.7)

    def _loss(self) -> tuple[Tensor, dict[str, float]]:
        plan = self.plan
        whole = self.step % 4 == 3
        batch = (
            self.pool.full(plan.crops // 3, plan.frames)
            if whole
            else self.pool.crops(plan.crops, plan.frames, 48)
        )
        with torch.autocast("cpu", torch.bfloat16):
            with torch.set_grad_enabled(not self.decoder_only):
                latents = self.codec.encode_batch(batch.frames).float()
            deviation = latents.detach().std((0, 1, 3, 4), keepdim=True) + 1e-4
            # A fifth of the clips stays clean, so that the clean picture is not given up for the noisy ones.
            sigma = plan.noise * (torch.rand(latents.shape[0], 1, 1, 1, 1) * 1.25 - 0.25).clamp_min(0)
            noisy = latents + sigma * deviation * torch.randn_like(latents)
            pictures = self.codec.decode_batch(noisy).float()
        loss = pixel_loss(pictures, batch, plan.subject_weight)
        parts = {"pixels": loss.item()}
        if not self.decoder_only:
            sense = self.meaning(latents / deviation, cell_targets(batch.mask, batch.labels))
            loss = loss + plan.meaning * sense + 0.001 * latents.square().mean()
            parts.update(meaning=sense.item(), deviation=deviation.mean().item())
            if self.step % 8 == 7:
                loss = loss + 0.25 * self._half_size(latents, batch)
        return loss, parts

    def _half_size(self, latents: Tensor, batch: Batch) -> Tensor:
        """Latents shrunk to half size must decode to the shrunken picture: keeps their fine detail quiet."""
        b, t = batch.frames.shape[:2]
        small = F.avg_pool2d(latents.flatten(0, 1), 2).unflatten(0, latents.shape[:2])
        target = (
            F.avg_pool2d(batch.frames.flatten(0, 1).movedim(-1, 1), 2).movedim(1, -1).unflatten(0, (b, t))
        )
        mask = F.avg_pool2d(batch.mask, 2)
        with torch.autocast("cpu", torch.bfloat16):
            pictures = self.codec.decode_batch(small).float()
        return pixel_loss(pictures, Batch(target, mask, batch.labels), self.plan.subject_weight)

    def _reduce(self, clock: float) -> float:
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        flat = torch.cat([g.reshape(-1) for g in grads] + [torch.tensor([clock])])
        dist.all_reduce(flat)
        flat /= self.plan.ranks
        offset = 0
        for p, g in zip(self.parameters, grads):
            p.grad = flat[offset : offset + g.numel()].view_as(g)
            offset += g.numel()
        return float(flat[-1])

    def _save(self) -> None:
        state = {
            "codec": self.codec.state_dict(),
            "meaning": self.meaning.state_dict(),
            "step": self.step,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "seconds": self.seconds,
        }
        part = self.out_dir / "state.part"
        torch.save(state, part)
        part.replace(self.out_dir / "state.pt")

    def _load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.codec.load_state_dict(state["codec"])
        self.meaning.load_state_dict(state["meaning"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]
        log.info("codec continues at step %d, %.0f s", self.step, self.seconds)


def pixel_loss(pictures: Tensor, batch: Batch, subject_weight: float) -> Tensor:
    """L1, squared and gradient error of `b t h w 3`, the subject's counting `1 + subject_weight` times."""
    error = 2 * (pictures - batch.frames)
    weight = (1 + subject_weight * batch.mask)[..., None]
    weight = weight / weight.mean()
    plain = (weight * (0.5 * error.abs() + 2 * error.square())).mean()
    across = (weight[..., 1:, :] * error.diff(dim=-2).abs()).mean()
    down = (weight[..., 1:, :, :] * error.diff(dim=-3).abs()).mean()
    return plain + 0.15 * (across + down)


@torch.no_grad()
def start_from_principal_components(codec: BuiltinCodec, pool: Pool) -> None:
    """Set the linear path to the main components of stacked 8x8 patches, mixed by a rotation.

    After the rotation all channels are alike, and one scale per channel cannot whiten them.
    """
    channels = codec.channels
    stacked = torch.cat(
        [stack_frames(pool.full(6, 13).frames * 2 - 1, first=True) for _ in range(20)]
    ).flatten(0, 1)
    patches = F.pixel_unshuffle(stacked, STRIDE).movedim(1, -1).flatten(0, 2)
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    basis = vectors[:, -channels:] @ torch.linalg.qr(torch.randn(channels, channels))[0]
    scale = math.sqrt(float(values[-channels:].sum()) / channels)
    encoder, decoder = codec.net_encoder.linear, codec.net_decoder.linear
    encoder.weight.copy_(basis.T[:, :, None, None] / scale)
    encoder.bias.copy_(-(mean @ basis) / scale)  # pyright: ignore[reportOptionalMemberAccess]
    decoder.weight.copy_(basis[:, :, None, None] * scale)
    decoder.bias.copy_(mean)  # pyright: ignore[reportOptionalMemberAccess]


@torch.no_grad()
def fold_statistics(codec: BuiltinCodec, pool: Pool, rounds: int = 50) -> None:
    """Set the normalisation to the mean and deviation of the latents over the world; may be repeated."""
    latents = torch.cat([codec.encode_batch(pool.full(8, 33).frames) for _ in range(rounds)])
    codec.latent_mean.add_(codec.latent_std * latents.mean((0, 1, 3, 4)))
    codec.latent_std.mul_(latents.std((0, 1, 3, 4)))


@torch.no_grad()
def evaluate(codec: BuiltinCodec, pool: Pool, rounds: int = 8) -> Score:
    """Scores over whole pictures of 33 frames; with a new `pool` of the same seed always the same."""
    generator = torch.Generator().manual_seed(0)
    sums = torch.zeros(2, 2, 2)
    for _ in range(rounds):
        batch = pool.full(4, 33)
        latents = codec.encode_batch(batch.frames)
        deviation = latents.std((0, 1, 3, 4), keepdim=True)
        for i, sigma in enumerate((0.0, 0.15)):
            noise = torch.randn(latents.shape, generator=generator)
            error = (
                (codec.decode_batch(latents + sigma * deviation * noise).clamp(0, 1) - batch.frames)
                .square()
                .mean(-1)
            )
            sums[i, 0] += torch.tensor([error.sum(), error.numel()])
            sums[i, 1] += torch.stack([(error * batch.mask).sum(), batch.mask.sum()])
    decibel = -10 * torch.log10(sums[..., 0] / sums[..., 1])
    return Score(*(round(float(v), 2) for v in decibel.flatten()))


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Train the built-in model's codec.")
    parser.add_argument("out", type=Path, help="folder of checkpoints and of codec.safetensors")
    parser.add_argument("--minutes", type=float, default=CodecTraining.minutes)
    parser.add_argument("--ranks", type=int, default=CodecTraining.ranks)
    parser.add_argument("--pool", type=int, default=CodecTraining.pool)
    parser.add_argument("--noise", type=float, default=CodecTraining.noise)
    parser.add_argument("--learning-rate", type=float, default=CodecTraining.learning_rate)
    parser.add_argument("--decoder-of", type=Path, default=None, help="train only the decoder of this codec")
    args = parser.parse_args()
    plan = CodecTraining(
        minutes=args.minutes,
        ranks=args.ranks,
        pool=args.pool,
        noise=args.noise,
        learning_rate=args.learning_rate,
    )
    train_codec(args.out, plan, args.decoder_of)


if __name__ == "__main__":
    main()
