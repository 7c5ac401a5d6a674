"""Prompts and memory of one latent stream: the storyboard's verbs, and the calls that read and write the memory.

Which noise becomes which chunk is a sampler's business (`sampler`); it asks the director to make room, to predict, and
to remember. Order at the start of a chunk (paper 4.3, LongLive for `recache_before_evict`): the oldest recent frames
leave, then a pending switch acts on those that stay, then the chunk is denoised, then the clean pass writes it and it
is committed. What gradients do with the past is said once (`grad`); whether any are wanted is the caller's
(`torch.no_grad`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..attention.backends import film_call, loaded, pick
from ..config import FLUSH_KEEP, ModelSpec, Recipe
from ..errors import GroundedError
from ..memory import snapshots
from ..memory.given import give
from ..memory.recache import recache, recache_all, refresh
from ..memory.store import DualMemory
from ..model.forward import Call, Caller, SelfAttention, TextKV, text_kv, time_conditioning, trimmed
from ..model.layers import Time, Tree
from ..model.placement import Placement
from .split import Split, Views, together


@dataclass(frozen=True)
class Trace:
    """What one network call took and gave, for previews and comparisons; tensors are only valid during the callback."""

    kind: Literal["denoise", "clean", "recache"]
    """Which call this was."""
    step: int
    """Number of the denoising step; 0 for the other kinds."""
    latents: Tensor
    """Input of the call [b f c h w]."""
    flow: Tensor
    """Output of the call [b f c h w]."""
    denoised: Tensor | None
    """Clean latents predicted by a denoising step [b f c h w]."""


class Director:
    """One film (or `batch` films in step) being generated."""

    def __init__(self, model: Tree, spec: ModelSpec, recipe: Recipe, placement: Placement) -> None:
        """Raises GroundedError: the patch size does not divide the latents, or nobody computes such attention."""
        cells = height, width = placement.latent_height, placement.latent_width
        _, ph, pw = spec.patch_size
        if height % ph or width % pw:
            raise GroundedError(
                f"latents of {height} x {width} cells cannot be cut into patches of {ph} x {pw}",
                fix="choose a width and height that are multiples of 16 pixels",
            )
        self.model, self.spec, self.sample, self.grad = model, spec, recipe.sample, placement.grad
        memory = recipe.memory
        self.writer = model if placement.writer is None else placement.writer
        # A weight is looked at only where it is not said: a host may keep it elsewhere, or packed.
        device, dtype = placement.device, placement.dtype
        self.device = model.patch_embedding.weight.device if device is None else torch.device(device)
        self.dtype = model.patch_embedding.weight.dtype if dtype is None else dtype
        full = None if self.grad else film_call(spec, memory, cells, self.device, self.dtype)
        host, wanted = placement.kernel, placement.attention
        row = pick(self.device, self.dtype, spec.head_dim, host=host, wanted=wanted, call=full)
        self._kernel = loaded(row, full)
        self._pieces, self._latent = placement.pieces, (spec.in_dim, *cells)
        self.team, self._split = placement.team, None
        if self.team is not None and not memory.wave:  # in a wave every rank has all of every frame
            in_place = self.device.type == "cpu" and spec.small(memory.chunk, *cells)
            self._split = Split(self.team, spec, *cells, in_place=in_place)
        alone: Caller = placement.caller or Call.run
        self._call = alone if self._split is None else self._split.call
        here = replace(placement, device=self.device, dtype=self.dtype, kernel=self._kernel)
        self.memory = DualMemory(spec, recipe, here, self._split and self._split.share)
        self.watch: Callable[[Trace], None] | None = None
        """Called after every network call, for previews and comparisons; costs the full length of the clean pass.
        With a team it is not called after clean passes."""
        self.before_call: Callable[[], None] | None = None
        """Called before every network call; may raise to stop. The chunk is not committed then, but a switch that was
        under way may have changed part of the memory, so a sampler that was stopped is not gone on with."""
        self._times: dict[tuple[int, tuple[float, ...]], Time] = {}
        self._prompt_embeds: Tensor | None = None
        self._text: TextKV = []
        self._writing_text: TextKV = []
        self._alpha: float | None = None  # share of a switch that waits for the next chunk

    def time(self, *timesteps: float) -> Time:
        """Time conditioning of a call, one value for all frames or one for each; a checkpoint's levels never change."""
        return self._timed(self.model, timesteps)

    def times(self, timesteps: Tensor) -> Time:
        """The same of values [b f], [b 1] or [1 f] that samples do not share."""
        return time_conditioning(self.model, timesteps.to(self.device), self.dtype)

    def _writing_time(self, timestep: float) -> Time:
        """The same of a call that writes the memory."""
        return self._timed(self.writer, (timestep,))

    def _timed(self, network: Tree, timesteps: tuple[float, ...]) -> Time:
        """Computed once; while weights are learned, anew for every call."""
        # The writer may be another network, whose conditioning is its own.
        key = id(network), timesteps
        if key in self._times:
            return self._times[key]
        made = time_conditioning(network, torch.tensor([timesteps], device=self.device), self.dtype)
        return made if self.learns else self._times.setdefault(key, made)

    def shape(self, frames: int) -> tuple[int, ...]:
        """Shape [b f c h w] of `frames` latent frames."""
        return (self.memory.batch, frames, *self._latent)

    @property
    def switching(self) -> bool:
        """A switch waits for the next chunk, which begins with changing the memory for it."""
        return self._alpha is not None

    @property
    def learns(self) -> bool:
        """Gradients go to the weights, which change from film to film."""
        return self.grad is not None

    def bring(self, *values: Tensor) -> Sequence[Tensor]:
        """Values of one shape where and as the network computes; to a card all go in one copy, beside its work."""
        values = tuple(value.to(self.dtype) for value in values)
        if all(value.device == self.device for value in values):
            return values  # each as it is: who trains asks for the gradient of every one
        together = torch.stack(values)
        if self.device.type == "cuda":
            together = together.pin_memory()
        return together.to(self.device, non_blocking=True).unbind()

    # -- verbs --------------------------------------------------------------------------------------------------

    @together
    def blend(self, prompt_embeds: Tensor) -> None:
        """Replace the text that chunks attend to, [b or 1, rows, text_dim]; memory and switch bookkeeping stay."""
        rows, width = prompt_embeds.shape[-2:]
        if prompt_embeds.ndim != 3 or width != self.spec.text_dim or rows > self.spec.text_len:
            raise GroundedError(
                f"prompt embeddings of shape {tuple(prompt_embeds.shape)} are not [b, up to {self.spec.text_len} rows, "
                f"{self.spec.text_dim}]",
                fix="encode the prompt with the text encoder that belongs to this model",
            )
        embeds = prompt_embeds.to(self.device, self.dtype).expand(self.memory.batch, -1, -1)
        # Narrower floats attend to every zero row anyway (`forward.embed_prompt`).
        if self.dtype == torch.float32:
            embeds = trimmed(embeds)
        self._prompt_embeds = embeds
        self._text = self._writing_text = text_kv(self.model, embeds, self.spec.text_len, self._kernel)
        if self.writer is not self.model:
            self._writing_text = text_kv(self.writer, embeds, self.spec.text_len, self._kernel)

    def start(self, prompt_embeds: Tensor) -> None:
        """Set the film's first prompt."""
        self.blend(prompt_embeds)

    @together
    def switch(self, prompt_embeds: Tensor, alpha_max: float | None = None) -> None:
        """Continue the shot under a new prompt; the memory's switch policy acts when the next chunk starts."""
        self.blend(prompt_embeds)
        self.memory.ledger.then()
        self._alpha = self.memory.spec.alpha_max if alpha_max is None else alpha_max

    @together
    def cut(self, prompt_embeds: Tensor) -> None:
        """New shot, same cast: recent frames leave as if evicted (filling or updating the anchors), anchors stay."""
        self.memory.cut()
        self.blend(prompt_embeds)
        self._alpha = None

    @together
    def scene(self, prompt_embeds: Tensor) -> None:
        """New cast and place: anchors and recent frames are forgotten."""
        self.blend(prompt_embeds)
        self.memory.clear()
        self._alpha = None

    @together
    def back(self, prompt_embeds: Tensor, state: dict[str, Tensor], motion: bool = False) -> None:
        """New shot with the cast of an earlier `snapshot`: a cut from its memory, or with `motion` a switch."""
        # First: the verb then acts on that memory as on one that was never left.
        snapshots.recall(self.memory, self._memory_of(state))
        if motion:
            self.switch(prompt_embeds)
        else:
            self.cut(prompt_embeds)

    # -- chunks -------------------------------------------------------------------------------------------------

    @together
    def skip(self, frames: int, prompts: int) -> None:
        """Begin behind so many latent frames and prompts of the film, of which nothing is in memory."""
        self.memory.ledger.skip(frames, prompts)

    @together
    def open(self, frames: int) -> tuple[SelfAttention, SelfAttention]:
        """What the denoising steps and the clean pass of the next `frames` latent frames see."""
        if self.grad is None:
            return self._opened(self.memory.open(frames))
        return self.memory.open_grad(frames, leaky=self.grad == "leaky")

    def _opened(self, views: Views) -> Views:
        return views if self._split is None else self._split.opened(views)

    @together
    def open_blind(self, frames: int) -> tuple[int, SelfAttention | None]:
        """How many first steps of the next chunk do not see the anchors, and what these see."""
        memory = self.memory
        if not memory.spec.cut_blind or not memory.ledger.cutting or self.learns:
            return 0, None
        return memory.spec.cut_blind, self._opened((memory.open_blind(frames),))[0]

    @together
    def open_joint(self, frames: int) -> SelfAttention:
        """What a call over several chunks, `frames` in all, sees; it leaves nothing behind."""
        if self.grad is not None:
            return self.memory.open_joint_grad(frames, leaky=self.grad == "leaky")
        return self._opened((self.memory.open_joint(frames),))[0]

    @together
    def predict(self, x: Tensor, time: Time, view: SelfAttention) -> Tensor:
        """Flow [b f c h w] of noisy latents [b f c h w] under the prompt in force."""
        self.ask()
        flow = self._call(Call(self.model, x, time, self._text, view, pieces=self._pieces))
        assert flow is not None  # asked for
        return flow

    @together
    def remember(
        self,
        latents: Tensor,
        view: SelfAttention,
        time: Time | None = None,
        *,
        written: Tensor | None = None,
    ) -> None:
        """Let the clean pass write latents [b f c h w] and commit them.

        time: None is the context timestep's. written: what the pass reads in their place.
        """
        # A memory that is refreshed is computed from its latents: there is nothing to write.
        if not self.memory.spec.refresh:
            latents = latents.detach()
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.grad in (None, "replay")):
                self._clean(latents if written is None else written, view, "clean", time)
        self.memory.commit(latents)

    @together
    def prefill(self, latents: Tensor, timestep: float | None = None) -> None:
        """Commit given clean latents [b f c h w] as one chunk: of a start image or video, or of a replayed Take.

        timestep: None is the context timestep, at which the model's own chunks enter memory; Self Forcing lets
        frames that it has not made enter at 0.
        """
        self.prepare(latents.shape[1])
        latents = latents.to(self.device, self.dtype)
        _, clean = self.open(latents.shape[1])
        self.remember(latents, clean, None if timestep is None else self._writing_time(timestep))

    @together
    def give(self, latents: Tensor) -> None:
        """Lay a picture, clean latents [b or 1, 1, c, h, w], among the anchors; it is written at timestep 0."""
        latents = latents.to(self.device, self.dtype).expand(self.memory.batch, -1, -1, -1, -1)
        self._clean(latents, give(self.memory, latents), "clean", self._writing_time(0.0))

    def write(self, latents: Tensor, view: SelfAttention) -> None:
        """The clean pass of latents [b f c h w] that others will commit."""
        self._clean(latents, view, "clean")

    def _clean(
        self,
        latents: Tensor,
        view: SelfAttention,
        kind: Literal["clean", "recache"],
        time: Time | None = None,
    ) -> None:
        """One call that leaves keys and values behind."""
        watch = self.watch
        time = self._writing_time(self.sample.context_timestep) if time is None else time
        told = watch is not None and self.team is None
        self.ask()
        flow = self._call(Call(self.writer, latents, time, self._writing_text, view, told, self._pieces))
        if watch is not None and flow is not None:
            watch(Trace(kind, 0, latents, flow, None))

    def ask(self) -> None:
        """Give `before_call` its turn; where there are several ranks before they do something, not in its midst."""
        if self.before_call is not None and (self.team is None or not self.team.busy):
            self.before_call()

    @together
    def prepare(self, written: int = 0) -> None:
        """Make room for a chunk and carry out a pending switch. written: frames that enter memory first."""
        if not self._text:
            raise GroundedError("no prompt has been given", fix="call start() before the first chunk")
        memory, spec = self.memory, self.memory.spec
        alpha, self._alpha = self._alpha, None

        def recompute(latents: Tensor, view: SelfAttention) -> None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.learns):  # it writes in place
                self._clean(latents, view, "recache")

        if alpha is not None and spec.switch == "recache" and spec.recache_before_evict:
            recache_all(memory, recompute)
        memory.evict(max(0, spec.recent - written) if spec.wave else spec.recent)
        if alpha is not None and spec.switch == "flush":
            memory.evict(min(FLUSH_KEEP, spec.recent))
        if spec.refresh:
            refresh(memory, recompute)
        if alpha is None:
            return
        # Eq. 11, 12.
        if spec.switch == "apr":
            recache(memory, recompute, alpha)
        elif spec.switch == "recache" and not spec.recache_before_evict:
            recache(memory, recompute, None)

    @contextmanager
    def calling(self, other: Caller) -> Iterator[None]:
        """Have `other` called in place of `Call.run` for a while, of a film that is then as it was before."""
        begun, own = self.snapshot(), self._call
        self._call = other
        try:
            yield
        finally:
            self._call = own
            self.restore(begun)
            self.memory.log.clear()
            # A fresh film has no prompt, and a snapshot without one takes none away.
            self._prompt_embeds, self._text, self._writing_text = None, [], []

    # -- snapshots ----------------------------------------------------------------------------------------------

    @together
    def snapshot(self) -> dict[str, Tensor]:
        """Everything that decides the chunks to come, as copies of plain tensors; on the first rank, which asks."""
        if self.team is not None and self._split is None and not self.team.first:
            return {}  # that has all of it
        memory = snapshots.snapshot(self.memory)
        if self._split is not None:
            memory = self._split.whole(memory)
        # A prefix, as a sampler lays what it has on the way beside these.
        state = {f"memory.{name}": value for name, value in memory.items()}
        waiting = [] if self._alpha is None else [self._alpha]
        state["waiting_switch"] = torch.tensor(waiting, dtype=torch.float64)
        if self._prompt_embeds is not None:
            state["prompt_embeds"] = self._prompt_embeds.to("cpu", copy=True)
        return state

    @together
    def restore(self, state: dict[str, Tensor]) -> None:
        """Return to a `snapshot` of a director with the same model, sizes and settings."""
        snapshots.restore(self.memory, self._memory_of(state))
        self._alpha = next(iter(state["waiting_switch"].tolist()), None)
        if "prompt_embeds" in state:
            self.blend(state["prompt_embeds"])

    def _memory_of(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The memory's part of a director's snapshot."""
        mine = {n.removeprefix("memory."): value for n, value in state.items() if n.startswith("memory.")}
        return mine if self._split is None else self._split.part(mine)
