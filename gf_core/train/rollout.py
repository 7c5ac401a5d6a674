"""The films that training learns from, made by the engine's own sampler and memory (Self Forcing).

One denoising step is drawn, at which all chunks are taken as they are, and only that prediction has a gradient.
The window that a loss sees are the newest frames. What gradients do with the past is `ContextGradient`.

Chunks that are denoised together (Rolling Forcing) go on to the last step as in films. A remainder is drawn, and every
call whose number leaves it, divided by the steps, has a gradient; a loss sees what these calls predict of all their
chunks, each at another step. Together they hold every chunk once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..config import ContextGradient, Recipe
from ..model.layers import Tree
from ..sampling.chunkwise import make_sampler
from ..sampling.film import carry_out
from ..sampling.rolling import Rolling
from ..sampling.sampler import Chunk, Clean, Sampler
from .films import Draws, FilmBatch
from .past import Past

Watch = Callable[[str, Tensor], None]
"""Is told what is computed on the way, by name."""
FirstFrame = Callable[[Tensor], Tensor]
"""Latents [b f c h w] up to a window's first frame -> that frame as latents [b 1 c h w] of a clip that begins with
it."""


def nobody(name: str, value: Tensor) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class RolloutSpec:
    """How films of training are made; the defaults are Self Forcing's (arXiv 2506.08009 and its public settings)."""

    recipe: Recipe = field(default_factory=Recipe)
    """Memory and sampler, those of films."""
    frames: int = 21
    """Most latent frames of a film; its length is drawn between the window and this."""
    window: int = 21
    """Newest latent frames, which the loss sees."""
    context: int = 0
    """Oldest latent frames of the window that are there to be seen: made with all steps and without a gradient,
    and shown to teacher and critic as they are (contextual DMD)."""
    one_exit: bool = True
    """All chunks that are made one by one are taken at one step; else each at its own."""
    joint: float = 0.5
    """Where the memory is one for chunks that are denoised together, the share of films that are made so; the others
    are made chunk by chunk, and a loss sees these as ever (Rolling Forcing tosses a coin)."""
    context_gradient: ContextGradient = "none"
    context_noise: bool = True
    """The clean pass reads chunks under a little noise, which films do not: Self Forcing's training does, and Rolling
    Forcing's of chunks that are made one by one."""
    past: Past | None = None
    """What score networks are shown of a film before the window, beside it and clean. Films that go on from step to
    step have one; `context` is the same for those that are made anew."""
    first_frame: FirstFrame | None = None
    """A window inside a film begins with a frame that stands for four pictures; teachers know clips whose first
    stands for one. None leaves it as it is."""
    device: torch.device | None = None
    dtype: torch.dtype | None = None
    """What the network computes in; None: where and as the weights are."""

    @property
    def chunk(self) -> int:
        """Latent frames of a chunk."""
        return self.recipe.memory.chunk


@dataclass(frozen=True)
class Window:
    """What a loss sees of a film."""

    latents: Tensor
    """[b f c h w]; the frames that `learned` marks may have a gradient."""
    learned: Tensor | None
    """[f] bool; None is every frame."""
    context: int = 0
    """Oldest frames of it that teacher and critic see as they are."""

    @property
    def judged(self) -> Tensor | None:
        """`learned` of the frames behind the context."""
        return None if self.learned is None else self.learned[self.context :]


def sampler_for(
    net: Tree, film: RolloutSpec, samples: int, latent: tuple[int, ...], one_by_one: bool = False
) -> Sampler:
    """The engine's sampler for films of (channels, height, width) frames, through which gradients flow.

    one_by_one: chunk by chunk, whatever the memory."""
    _, height, width = latent
    return make_sampler(
        net, net.spec, film.recipe, one_by_one=one_by_one, latent_height=height, latent_width=width, batch=samples,
        device=film.device, dtype=film.dtype, grad=film.context_gradient,
    )  # fmt: skip


def make_chunks(
    sampler: Sampler, film: RolloutSpec, batch: FilmBatch, chunks: int, learn_from: int
) -> Tensor:
    """Latents [b f c h w] of the next `chunks` chunks, whose blocks are counted from 0 in cues and names of draws.

    learn_from: the first block that has a gradient, where gradients are wanted at all; of a call over several blocks
    the newest counts. Blocks of the context before the last are made with all steps.
    """
    draws, size = batch.draws, film.chunk
    joint = isinstance(sampler, Rolling)
    exits = _exits(draws, film, chunks, joint)
    # The first block that a loss judges; those before it are context.
    target = chunks - (film.window - film.context) // size if film.context else 0
    shape = (len(batch.prompt), size, *batch.latent)
    noise = draws.normal("noise", (len(batch.prompt), chunks * size, *batch.latent)).split(size, 1)
    made, wanted = list[Clean](), torch.is_grad_enabled()
    for block in range(chunks):
        if block in batch.cues:
            # What is on the way lies before the verb, and learns if the block before it does.
            with torch.set_grad_enabled(wanted and block > learn_from):
                made += sampler.flush()
            cue = batch.cues[block]
            carry_out(sampler.director, cue.verb, cue.prompt, cue.recache)
        noisy = film.context_noise and not joint
        more = draws.normal(f"context_noise.block{block}", shape) if noisy else None
        with torch.set_grad_enabled(wanted and block >= learn_from):
            taken = exits[block] if joint or block >= target else len(sampler.levels) - 1
            made += sampler.feed(Chunk(block, _noise(draws, noise[block], block), taken, more))
    with torch.set_grad_enabled(wanted and chunks > learn_from):
        made += sampler.flush()
    return torch.cat([one.latents.detach() if one.index < target else one.learned for one in made], 1)


def _exits(draws: Draws, film: RolloutSpec, chunks: int, joint: bool) -> list[int]:
    """The step at which each chunk is taken: of chunks that are denoised together, by the call that they are in."""
    steps = len(film.recipe.sample.steps)
    if joint:
        remainder = draws.whole("remainder", 0, steps)
        # Call m has block b at step m - b: all its blocks are at their exits where m leaves the remainder.
        return [(remainder - block) % steps for block in range(chunks)]
    if film.one_exit:
        return [draws.whole("exit", 0, steps)] * chunks
    return [draws.whole(f"exit.block{block}", 0, steps) for block in range(chunks)]


def _noise(draws: Draws, first: Tensor, block: int) -> Callable[[int], Tensor]:
    shape = tuple(first.shape)
    return lambda step: draws.normal(f"renoise.block{block}.step{step - 1}", shape) if step else first


def roll_out(net: Tree, film: RolloutSpec, batch: FilmBatch, watch: Watch = nobody) -> Window:
    """A whole film from nothing, as a loss sees it; with a gradient unless that is switched off."""
    together = (
        film.recipe.memory.rolling is not None and batch.draws.whole("joint", 0, 1000) < 1000 * film.joint
    )
    sampler, size = sampler_for(net, film, len(batch.prompt), batch.latent, not together), film.chunk
    sampler.director.start(batch.prompt)
    window, longest = film.window // size, film.frames // size
    chunks = batch.draws.whole("chunks", window, longest + 1)
    inside = chunks > window or film.context > 0  # what is learned does not begin the film
    before = chunks - window + film.context // size
    latents = make_chunks(sampler, film, batch, chunks, before + (film.context > 0))
    seen = newest(latents, film)
    # Where the film began before it, the first chunk behind the context counts for nothing.
    learned = torch.arange(film.window, device=latents.device) >= film.context + size if inside else None
    watch("rollout", seen)
    return Window(seen, learned, film.context)


def with_past(latents: Tensor, film: RolloutSpec, learned: Tensor | None = None) -> Window:
    """The window at the end of a film [b f c h w], behind the frames of its past that score networks are shown.

    learned: [f] of the window's frames.
    """
    before = latents.shape[1] - film.window
    places = [] if film.past is None or before <= 0 else film.past.of(before)
    seen = torch.cat([latents[:, places].detach(), newest(latents, film)], 1)  # b f c h w
    if learned is not None:
        learned = torch.cat([learned.new_zeros(len(places)), learned])
    return Window(seen, learned, len(places))


def newest(latents: Tensor, film: RolloutSpec) -> Tensor:
    """The window [b f c h w] at the end of a film, which begins as a clip does."""
    before = latents.shape[1] - film.window
    if before <= 0:
        return latents
    window = latents[:, before:]
    if film.first_frame is None:
        return window
    with torch.no_grad():
        first = film.first_frame(latents[:, : before + 1])
    return torch.cat([first.to(window), window[:, 1:]], 1)
