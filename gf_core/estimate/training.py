"""Bytes and time of a training by distribution matching (Self Forcing), by arithmetic: nothing here was measured.

A cycle is one step of the student and `CRITIC_STEPS` of the critic, each on a film of its own. Three networks share the
cards: student and critic learn, the teacher is frozen; all are sharded over all cards (FSDP), gathered block by block.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..config import STRIDE, MemorySpec, ModelSpec, VideoSpec
from ..words import amount, counted
from .room import count_parameters

CRITIC_STEPS = 5
"""For one of the student's (Self Forcing, LongLive and Context Forcing alike)."""
CARDS_OF_A_NODE = 8
STEPS = 4
"""Denoising steps; the one that a film is left at is drawn, so that half of them and a half are made in the mean."""
WEIGHT, GRADIENT, ADAM, AVERAGE = 4, 4, 8, 4
"""Bytes of a parameter that learns, all in float32."""
COMPUTE = 2
"""Bytes of a number that is computed with (bfloat16)."""
TEXT_ENCODER = 5.68e9
"""Parameters of UMT5-XXL's encoder, which every card holds whole: prompts are encoded as they come."""
AHEAD = 2
"""Blocks that are gathered at a time: the one in use, and the next."""
VECTORS, HIDDEN = 12, 3
"""Values of a token that a block keeps for its gradient, as multiples of the width and of the feed-forward's."""


@dataclass(frozen=True)
class Setup:
    """What is trained, with what."""

    student: ModelSpec
    teacher: ModelSpec
    video: VideoSpec = field(default_factory=VideoSpec)
    memory: MemorySpec = field(default_factory=MemorySpec)
    frames: int = 21
    """Latent frames of the longest film."""
    window: int | None = None
    """Those that are judged, the newest, and of the shortest film; None: all."""
    steps: int = STEPS
    """Denoising steps."""
    joint: float = 0.0
    """Share of films whose chunks are denoised together (Rolling Forcing)."""
    batch: int = 64
    """Films in a step of all cards together."""
    lora: int = 0
    """Rank of the adapters of student and critic; 0 trains all of their weights."""

    @property
    def judged(self) -> int:
        """Latent frames of the clip that is judged."""
        return min(self.frames, self.window or self.frames)

    @property
    def seen(self) -> int:
        """Latent frames that a call sees at most, its own counted."""
        return self.memory.rolling or self.memory.window

    @property
    def at_once(self) -> int:
        """Most chunks of a call."""
        return self.steps if self.joint else 1

    @property
    def tokens(self) -> int:
        """Of a latent frame."""
        return self.student.tokens_per_frame(self.video.height // STRIDE, self.video.width // STRIDE)


@dataclass(frozen=True)
class Card:
    """What a card can do; the defaults are an H100's in bfloat16, at the share of its peak that is assumed."""

    memory: float = 80e9
    """Bytes."""
    flops: float = 989e12
    """Peak per second."""
    share: float = 0.4
    """Of the peak that is reached."""


@dataclass(frozen=True)
class TrainingPlan:
    """One number of cards."""

    cards: int
    parts: dict[str, float]
    """Bytes on each card, by what they are for."""
    accumulate: int
    """Films that a card makes one after the other for a step."""
    seconds: float
    """Of a cycle."""

    @property
    def peak(self) -> float:
        """Bytes on each card."""
        return sum(self.parts.values())

    @property
    def cycles_a_day(self) -> float:
        """Steps of the student; the critic makes CRITIC_STEPS times as many."""
        return 86400 / self.seconds


def plan_training(setup: Setup, cards: int, card: Card) -> TrainingPlan:
    """What each of `cards` cards holds, and how long a cycle takes."""
    accumulate = -(-setup.batch // cards)
    seconds = accumulate * cycle_flops(setup) / (card.flops * card.share)
    return TrainingPlan(cards, memory_parts(setup, cards), accumulate, seconds)


def memory_parts(setup: Setup, cards: int) -> dict[str, float]:
    """Bytes on each card, by what they are for, at the worst moment."""
    student, teacher = setup.student, setup.teacher
    learning = 2 * (adapters(student, setup.lora) if setup.lora else count_parameters(student))
    frozen = count_parameters(teacher) + (2 * count_parameters(student) if setup.lora else 0)
    largest = max(_gathered(student), _gathered(teacher))
    return {
        "weights that learn": WEIGHT * learning / cards,
        "frozen weights": COMPUTE * frozen / cards,
        "gradients": GRADIENT * learning / cards,
        "optimiser": ADAM * learning / cards,
        "average": AVERAGE * learning / 2 / cards,
        "blocks in use": 0.0 if cards == 1 else largest,
        "activations": max(_student_activations(setup), _critic_activations(setup)),
        "memory of the film": _memory(setup),
        "text encoder": COMPUTE * TEXT_ENCODER,
    }


def adapters(spec: ModelSpec, rank: int) -> int:
    """Parameters of adapters on every linear layer of every block."""
    sides = 8 * (spec.dim + spec.dim) + 2 * (spec.dim + spec.ffn_dim)
    return spec.num_layers * rank * sides


def cycle_flops(setup: Setup) -> float:
    """Operations of a cycle, one film a step."""
    whole = setup.judged * setup.tokens
    score, real = (call_flops(spec, whole, whole) for spec in (setup.student, setup.teacher))
    film, learned = film_flops(setup)
    back = 3  # twice a forward, and the forward again: blocks compute their activations twice
    student = film + back * learned + score + 2 * real
    critic = film + (1 + back) * score
    return student + CRITIC_STEPS * critic


def film_flops(setup: Setup) -> tuple[float, float]:
    """Operations of the student in a film's calls, and in those of them that have a gradient, in the mean over draws:
    its length, the step that it is left at or which calls learn, and whether its chunks are denoised together."""
    shortest, longest = setup.judged // setup.memory.chunk, setup.frames // setup.memory.chunk
    films = [_film_flops(setup, chunks, shortest) for chunks in range(shortest, longest + 1)]
    made, learned = (sum(side) / len(films) for side in zip(*films))
    return made, learned


def _film_flops(setup: Setup, chunks: int, judged: int) -> tuple[float, float]:
    """The same of a film of so many chunks."""
    steps, size = setup.steps, setup.memory.chunk * setup.tokens

    def call(first: int, stop: int) -> float:
        seen = min(stop * setup.memory.chunk, setup.seen) * setup.tokens
        return call_flops(setup.student, (stop - first) * size, seen)

    singly = [call(n, n + 1) for n in range(chunks)]
    windows = [(max(0, n + 1 - steps), min(chunks, n + 1)) for n in range(chunks + steps - 1)]
    together = [(call(*window), window[1] > chunks - judged) for window in windows]
    one, share = sum(singly), setup.joint
    calls = (1 - share) * one * (steps + 1) / 2 + share * sum(flops for flops, _ in together)
    reach = sum(flops for flops, last in together if last)
    learned = (1 - share) * sum(singly[-judged:]) + share * reach / steps
    return calls + one, learned  # and the clean passes


def call_flops(spec: ModelSpec, tokens: int, seen: int) -> float:
    """Operations of one network call on `tokens` that attend to `seen`; a multiplication and an addition are two."""
    linear = 6 * spec.dim**2 + 2 * spec.dim * spec.ffn_dim  # keys and values of the prompt are made once
    return spec.num_layers * tokens * (2 * linear + 4 * spec.dim * (seen + spec.text_len))


def _gathered(spec: ModelSpec) -> float:
    """Bytes of the blocks that are whole on a card, and of what is outside blocks."""
    return COMPUTE * count_parameters(replace(spec, num_layers=AHEAD))


def _kept(setup: Setup, tokens: int, seen: int) -> float:
    """Bytes that one block keeps for its gradient."""
    spec = setup.student
    return COMPUTE * (tokens * (VECTORS * spec.dim + HIDDEN * spec.ffn_dim) + 4 * seen * spec.dim)


def _student_activations(setup: Setup) -> float:
    """Bytes of the student's activations: the exit call of every chunk, of which one may hold several."""
    chunk, spec, chunks = setup.memory.chunk, setup.student, setup.judged // setup.memory.chunk
    at_once = min(setup.at_once, setup.frames // chunk)
    one = _kept(setup, at_once * chunk * setup.tokens, setup.seen * setup.tokens)
    # The oldest call may begin in front of the window.
    held = min(chunks + at_once - 1, setup.frames // chunk)
    return held * chunk * setup.tokens * spec.num_layers * COMPUTE * spec.dim + one


def _critic_activations(setup: Setup) -> float:
    """Bytes of the critic's activations: one call over the clip."""
    spec, tokens = setup.student, setup.judged * setup.tokens
    one = _kept(setup, tokens, tokens)
    return spec.num_layers * COMPUTE * tokens * spec.dim + one


def _memory(setup: Setup) -> float:
    """Bytes of keys and values: three buffers of the slots, and the two of every frame that gradients look back on."""
    frame = COMPUTE * setup.student.num_layers * setup.tokens * setup.student.dim
    ahead = (setup.at_once - 1) * setup.memory.chunk
    return frame * (3 * (setup.memory.slots + ahead) + 2 * setup.frames)


def plan_lines(setup: Setup, plans: list[TrainingPlan], card: Card, launch: str | None) -> list[str]:
    """The plans as a table, with what was assumed and how each is started.

    launch: arguments of `grounded train`; None where no recipe is what was planned.
    """
    counts = [f"{amount(count_parameters(spec))} parameters" for spec in (setup.student, setup.teacher)]
    lines = [
        f"student and critic {counts[0]}{f', LoRA of rank {setup.lora}' if setup.lora else ''}; teacher {counts[1]}",
        f"{counted(setup.frames, 'latent frame')} of {setup.video.width}x{setup.video.height}, "
        f"{counted(setup.batch, 'film')} in a step"
        + (f", {100 * setup.joint:.0f} % of them with chunks denoised together" if setup.joint else ""),
        "",
        f"{'on each card':<22}" + "".join(f"{counted(plan.cards, 'card'):>12}" for plan in plans),
    ]
    for name in plans[0].parts:
        lines.append(f"{name:<22}" + "".join(f"{plan.parts[name] / 1e9:>9.1f} GB" for plan in plans))
    lines.append(f"{'together':<22}" + "".join(f"{plan.peak / 1e9:>9.1f} GB" for plan in plans))
    fits = ("yes" if plan.peak < card.memory else "no" for plan in plans)
    lines.append(f"{f'fits {card.memory / 1e9:.0f} GB':<22}" + "".join(f"{word:>12}" for word in fits))
    lines.append(f"{'films one by one':<22}" + "".join(f"{plan.accumulate:>12}" for plan in plans))
    lines.append(f"{'student steps a day':<22}" + "".join(f"{plan.cycles_a_day:>12.0f}" for plan in plans))
    lines += [
        "",
        f"Arithmetic, not measured: {card.flops / 1e12:.0f} TFLOP/s a card at {100 * card.share:.0f} % of that, "
        f"{CRITIC_STEPS} critic steps to one of the student,",
        "weights that learn, gradients and AdamW in float32, everything else in bfloat16. "
        "Exchange between cards is not counted.",
        "",
    ]
    return lines + [launch_line(plan.cards, launch) for plan in plans if launch]


def launch_line(cards: int, launch: str) -> str:
    """How a training on so many cards is started."""
    if cards == 1:
        return f"grounded train {launch} --device cuda"
    nodes = -(-cards // CARDS_OF_A_NODE)
    while cards % nodes:  # every node starts equally many
        nodes += 1
    group = f"--nnodes {nodes} --rdzv-backend c10d --rdzv-endpoint FIRST_NODE:29500 " if nodes > 1 else ""
    return f"torchrun {group}--nproc-per-node {cards // nodes} -m gf_core train {launch} --device cuda"
