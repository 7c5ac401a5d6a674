"""Training of the built-in video model: flow matching under the engine's own memory layouts.

Two stages share this loop. `teacher`: noise levels drawn at random, a few prompts dropped so that guidance works.
`student`: the four noise levels of the sampler; the target is where the teacher's guided ODE ends, so that the
guidance is in the weights and a film costs one forward a step. Both learn from contexts that are a little wrong
(noised, or the model's own guesses), because a film's memory always is.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import MemorySpec, ModelSpec, SampleSpec
from ..model.wan import WanModel
from ..sampling.schedule import timesteps as sampler_timesteps
from ..text.small import SmallTextEncoder
from .batch import ClipBatch
from .clips import LABELS, ClipStore
from .layout import EMPTY
from .optim import Average, Muon, split_parameters
from .parallel import average_gradients, share
from .streams import StreamOutput, run_streams
from .world import words
from .world.vocabulary import ACTIONS, COLOURS, HATS, PATCHES, PLACES, SCARVES, SUBJECTS, TIMES

log = logging.getLogger("grounded")

BUILTIN_SPEC = ModelSpec(dim=256, ffn_dim=1024, num_heads=2, num_layers=6)
BUILTIN_SAMPLE = SampleSpec(steps=(1000, 750, 500, 250), warp=True, shift=3.0)
BUILTIN_MEMORY = MemorySpec()
CLASSES = {
    "subject": len(SUBJECTS),
    "colour": len(COLOURS),
    "scarf": len(SCARVES),
    "hat": len(HATS),
    "patch": len(PATCHES),
    "place": len(PLACES),
    "time": len(TIMES),
    "action": len(ACTIONS),
}


@dataclass(frozen=True)
class VideoTraining:
    """One stage of training the video model."""

    stage: str = "teacher"
    """teacher or student."""
    minutes: float = 60.0
    """Wall time of the whole stage, over all resumes; the learning rate falls to zero at its end."""
    clips: int = 3
    """Clips per rank and micro-batch."""
    micro: int = 1
    """Micro-batches per step."""
    draws: int = 3
    """Noisy draws per clean chunk."""
    chunks: int = 7
    """Chunks per clip."""
    rate: float = 1.0
    """Scale of both learning rates."""
    decay_from: float = 0.4
    """Share of the stage after which the rate falls linearly to zero."""
    guidance: float = 2.0
    """Guidance of the teacher when it makes a student's targets."""
    solver_steps: int = 2
    """Euler steps from a student's noise level to the clean end."""
    forget: float = 0.35
    """Share of chunks that are made without memory (see `ClipStore`)."""
    guess: float = 0.0
    """Share of batches whose memory holds the model's own chunks instead of true latents."""
    generations: int = 3
    """Most generations that such a memory is away from the truth."""
    average: float = 0.998
    """Decay of the running average of weights."""
    seed: int = 0
    """Seed of batches and noise."""


class VideoNet(nn.Module):
    """What is trained together: transformer, text encoder, attribute heads on the middle layer (training only)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = WanModel(BUILTIN_SPEC)
        self.text = SmallTextEncoder(words())
        self.attributes = nn.ModuleDict({name: nn.Linear(BUILTIN_SPEC.dim, n) for name, n in CLASSES.items()})
        self._initialise()

    def _initialise(self) -> None:
        """Small gates and a zero head: every block starts near the identity."""
        for name, linear in self.model.named_modules():
            if not isinstance(linear, nn.Linear):
                continue
            nn.init.zeros_(linear.bias)
            if name.endswith("cross_attn.o"):
                nn.init.zeros_(linear.weight)
            elif name.startswith("blocks."):
                nn.init.xavier_uniform_(linear.weight)
            else:
                nn.init.normal_(linear.weight, std=0.02)
        width, rows = self.text.settings["dim"], self.model.get_parameter("text_embedding.0.weight")
        nn.init.normal_(rows[:, :width], std=width**-0.5)
        nn.init.zeros_(rows[:, width:])
        nn.init.zeros_(self.model.head.head.weight)
        nn.init.zeros_(self.model.head.head.bias)

    def attribute_loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of reading the attributes from hidden [b r chunks c] against labels [b chunks a]."""
        draws = hidden.shape[1]
        losses = []
        for number, name in enumerate(LABELS):
            target = labels[:, None, :, number].expand(-1, draws, -1)
            losses.append(F.cross_entropy(self.attributes[name](hidden).flatten(0, 2), target.flatten()))
        return torch.stack(losses).mean()


def per_frame(values: Tensor, size: int) -> Tensor:
    """[b r chunks] to [b r f 1 1 1]."""
    return values.repeat_interleave(size, 2)[..., None, None, None]


def random_sigmas(shape: tuple[int, ...], shift: float) -> Tensor:
    """Noise levels 0..1, uniform before the sampler's time shift."""
    u = torch.rand(shape)
    return shift * u / (1 + (shift - 1) * u)


def corrupt(latents: Tensor) -> Tensor:
    """Latents [b f c h w] with up to 15 % noise in half of the clips."""
    amount = torch.rand(len(latents)) * 0.15 * (torch.rand(len(latents)) < 0.5)
    return torch.lerp(latents, torch.randn_like(latents), amount[:, None, None, None, None])


def flow_loss(flow: Tensor, target: Tensor, batch: ClipBatch) -> Tensor:
    """Squared error [b r f c h w], the character's cells counted four times."""
    weight = 1 + 3 * batch.weight[:, None, :, None]
    return ((flow.float() - target) ** 2 * weight).mean() / weight.mean()


class Objective:
    """Losses of the two stages for one net (and the teacher it learns from)."""

    def __init__(self, net: VideoNet, plan: VideoTraining, teacher: VideoNet | None) -> None:
        self.net, self.plan, self.teacher = net, plan, teacher
        self.levels = torch.tensor([level.timestep for level in sampler_timesteps(BUILTIN_SAMPLE)]) / 1000

    def __call__(self, batch: ClipBatch) -> tuple[Tensor, dict[str, float]]:
        shape = (len(batch.latents), self.plan.draws, batch.prompt.shape[1])
        context = corrupt(batch.latents)
        if self.plan.guess and torch.rand(()).item() < self.plan.guess:
            context = self._guesses(batch, context)
        if self.teacher is None:
            sigma = random_sigmas(shape, BUILTIN_SAMPLE.shift)
        else:
            sigma = self.levels[torch.randint(len(self.levels), shape)]
        noise = torch.randn(len(batch.latents), self.plan.draws, *batch.latents.shape[1:])
        size = batch.latents.shape[1] // shape[2]
        noisy = torch.lerp(batch.latents[:, None], noise, per_frame(sigma, size))
        drop = torch.rand(shape) < (0.1 if self.teacher is None else 0.0)
        if self.teacher is None:
            target = noise - batch.latents[:, None]
        else:
            # The teacher sees the true memory: the student learns to come back to it.
            end = self._solve(batch, batch.latents, noisy, sigma, size)
            target = (noisy - end) / per_frame(sigma, size)
        out = self._run(self.net, batch, context, noisy, sigma, drop)
        flow = flow_loss(out.flow, target, batch)
        attributes = self.net.attribute_loss(out.hidden.float(), batch.labels)
        return flow + 0.03 * attributes, {"flow": flow.item(), "attributes": attributes.item()}

    @staticmethod
    def _run(
        net: VideoNet, batch: ClipBatch, context: Tensor, noisy: Tensor, sigma: Tensor, drop: Tensor
    ) -> StreamOutput:
        with torch.autocast("cpu", torch.bfloat16):
            return run_streams(net.model, net.text, batch, context, noisy, sigma * 1000, drop)

    @torch.no_grad()
    def _guided(self, batch: ClipBatch, context: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The teacher's guided flow: both prompts run as draws of one forward."""
        assert self.teacher is not None
        drop = torch.cat([torch.zeros_like(sigma), torch.ones_like(sigma)], 1).bool()
        twice = self._run(
            self.teacher, batch, context, noisy.repeat(1, 2, 1, 1, 1, 1), sigma.repeat(1, 2, 1), drop
        )
        told, free = twice.flow.float().chunk(2, 1)
        return free + self.plan.guidance * (told - free)

    def _solve(self, batch: ClipBatch, context: Tensor, noisy: Tensor, sigma: Tensor, size: int) -> Tensor:
        """Euler steps of the teacher from `noisy` down to clean latents."""
        x, here = noisy, sigma
        for step in range(self.plan.solver_steps):
            there = sigma * (1 - (step + 1) / self.plan.solver_steps)
            x = x + self._guided(batch, context, x, here) * per_frame(there - here, size)
            here = there
        return x

    @torch.no_grad()
    def _guesses(self, batch: ClipBatch, context: Tensor) -> Tensor:
        """Latents [b f c h w] as a long film's memory holds them: several generations of the net's own chunks.

        Each generation denoises a noised truth in two steps while looking at the one before, so what only memory can
        tell (a scarf, a hat) is handed on by the net and gets lost as in a film, and the truth under the noise keeps
        place and motion comparable with the target. A chunk without memory has nobody to tell it and stays close.
        """
        shape = (len(context), 1, batch.prompt.shape[1])
        size, last = context.shape[1] // shape[2], self.levels[-1]
        alone = (batch.layout.slots == EMPTY).all(-1)[:, None]
        sigmas = (torch.where(alone, last, self.levels[1]), last.expand(shape))
        keep = torch.zeros(shape, dtype=torch.bool)
        for _ in range(int(torch.randint(1, self.plan.generations + 1, ()))):
            clean = batch.latents[:, None]
            for sigma in sigmas:
                level = per_frame(sigma, size)
                noisy = torch.lerp(clean, torch.randn_like(clean), level)
                clean = noisy - level * self._run(self.net, batch, context, noisy, sigma, keep).flow.float()
            context = clean[:, 0]
        return context


def train_video(
    rank: int, ranks: int, plan: VideoTraining, clips: Path, out: Path, start: Path | None
) -> None:
    """One stage on this rank; checkpoints to out/<stage>.pt every two minutes and resumes from there.

    `start` holds the weights to begin from (the student's is also its teacher).
    """
    torch.manual_seed(plan.seed)
    net = VideoNet()
    teacher = None
    if start is not None:
        net.load_state_dict(torch.load(start, weights_only=True)["average"])
    if plan.stage == "student":
        teacher = VideoNet().requires_grad_(False)
        teacher.load_state_dict(net.state_dict())
    run = _Run(net, plan, out, rank)
    share(net)
    # The step is part of the seed: a resumed run must not draw the noise of its beginning again.
    torch.manual_seed(hash((plan.seed, rank, run.step)) % 2**63)
    store = ClipStore(
        clips,
        net.text,
        BUILTIN_MEMORY,
        seed=hash((plan.seed, rank, run.step)),
        chunks=plan.chunks,
        forget=plan.forget,
    )
    objective = Objective(net, plan, teacher)
    while not run.finished:
        losses = {}
        for _ in range(plan.micro):
            loss, losses = objective(store.draw(plan.clips))
            (loss / plan.micro).backward()
        average_gradients(net.parameters())
        run.advance(losses)
    run.save()


class _Run:
    """Optimisers, clock, log and checkpoint of one stage."""

    def __init__(self, net: VideoNet, plan: VideoTraining, out: Path, rank: int) -> None:
        self.net, self.plan, self.rank = net, plan, rank
        self.path = out / f"{plan.stage}.pt"
        hidden, rest = split_parameters(net)
        self.optimisers = [
            (Muon(hidden, 0.02), 0.02),
            (torch.optim.AdamW(rest, 1.5e-3, betas=(0.9, 0.98), weight_decay=0.0), 1.5e-3),
        ]
        self.average = Average(net, plan.average)
        self.step, self.elapsed = 0, 0.0
        if self.path.exists():
            self._load()
        self.tick = time.monotonic()
        self.saved = self.elapsed
        self.window: list[dict[str, float]] = []
        out.mkdir(parents=True, exist_ok=True)

    @property
    def progress(self) -> float:
        return self.elapsed / (self.plan.minutes * 60)

    @property
    def finished(self) -> bool:
        return self.progress >= 1

    def advance(self, losses: dict[str, float]) -> None:
        """One optimiser step at the present rate; log and save when it is time."""
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        warm = min(1.0, (self.step + 1) / 50)
        fall = min(1.0, (1 - self.progress) / (1 - self.plan.decay_from))
        for optimiser, rate in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * self.plan.rate * warm * max(fall, 0.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.average.update(self.net)
        self.step += 1
        # Every rank must agree on the clock, or one would stop while the other waits.
        clock = torch.tensor([time.monotonic() - self.tick])
        self.tick = time.monotonic()
        dist.all_reduce(clock, op=dist.ReduceOp.MAX)
        self.elapsed += clock.item()
        self.window.append(losses)
        if self.rank == 0 and self.step % 20 == 0:
            self._report()
        if self.elapsed - self.saved > 120:
            self.save()

    def _report(self) -> None:
        means = {key: sum(x[key] for x in self.window) / len(self.window) for key in self.window[0]}
        self.window.clear()
        text = "  ".join(f"{key} {value:.4f}" for key, value in means.items())
        left = self.plan.minutes - self.elapsed / 60
        log.info(
            "%s step %d  %s  %.2f s/step  %.0f min left",
            self.plan.stage,
            self.step,
            text,
            self.elapsed / self.step,
            left,
        )

    def save(self) -> None:
        self.saved = self.elapsed
        if self.rank:
            return
        temporary = self.path.with_suffix(".tmp")
        torch.save(
            {
                "net": self.net.state_dict(),
                "average": self.average.values,
                "average_steps": self.average.steps,
                "optimisers": [o.state_dict() for o, _ in self.optimisers],
                "step": self.step,
                "elapsed": self.elapsed,
                "plan": json.dumps(asdict(self.plan)),
            },
            temporary,
        )
        temporary.rename(self.path)

    def _load(self) -> None:
        saved = torch.load(self.path, weights_only=True)
        self.net.load_state_dict(saved["net"])
        self.average.values, self.average.steps = saved["average"], saved["average_steps"]
        for (optimiser, _), state in zip(self.optimisers, saved["optimisers"]):
            optimiser.load_state_dict(state)
        self.step, self.elapsed = saved["step"], saved["elapsed"]
        log.info("%s resumes at step %d, %.1f min", self.plan.stage, self.step, self.elapsed / 60)
