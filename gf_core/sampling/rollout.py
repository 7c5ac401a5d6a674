"""A model and its dual memory on one latent stream: chunk after chunk, with the timeline's verbs between them.

Order at the start of a chunk (paper 4.3, LongLive for `recache_before_evict`): the oldest recent frames leave, then a
pending switch acts on those that stay, then the chunk is denoised, then the clean pass writes it and it is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ..attention import Kernel
from ..attention.backends import choose
from ..config import MemorySpec, ModelSpec, SampleSpec
from ..errors import GroundedError
from ..memory.cache import DualMemory
from ..memory.policy import Evaluation
from ..model.forward import SelfAttention, TextKV, call, text_kv, time_conditioning, trimmed
from ..model.layers import Time, Tree
from ..recache import recache, recache_all
from .denoise import Trace, denoise
from .schedule import timesteps

FLUSH_KEEP = 2
"""Recent frames that survive `switch="flush"`, as in Infinity-RoPE."""


def _placed(
    model: Tree, device: torch.device | None, dtype: torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """What to compute in; a weight is looked at only where it is not said."""
    if device is not None and dtype is not None:
        return device, dtype
    weight = model.blocks[0].self_attn.q.weight
    return device or weight.device, dtype or weight.dtype


class Rollout:
    """One film (or `batch` films in step) being generated: verbs set the prompt, `denoise_chunk` makes a chunk."""

    def __init__(
        self,
        model: Tree,
        spec: ModelSpec,
        memory: MemorySpec,
        sample: SampleSpec,
        *,
        latent_height: int,
        latent_width: int,
        batch: int = 1,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """latent_height, latent_width: latent cells; both multiples of the patch size.

        device, dtype: what to compute in; None is where and as the weights are. A host that keeps weights elsewhere or
        packed says both. kernel: attention of a host; None is ours.
        """
        _, ph, pw = spec.patch_size
        if latent_height % ph or latent_width % pw:
            raise GroundedError(
                f"latents of {latent_height} x {latent_width} cells cannot be cut into patches of {ph} x {pw}",
                fix="choose a width and height that are multiples of 16 pixels",
            )
        self.device, self.dtype = _placed(model, device, dtype)
        self._kernel = choose(self.device, self.dtype, spec.head_dim, kernel)
        self.model, self.spec = model, spec
        shape = (spec.in_dim, latent_height, latent_width)
        self.memory = DualMemory(
            spec, memory, shape, batch=batch, device=self.device, dtype=self.dtype, kernel=self._kernel
        )
        self.levels = timesteps(sample)
        self.first_levels = timesteps(replace(sample, steps=sample.first_steps or sample.steps))
        """Levels of a chunk that has no memory, as at a film's or a scene's start; for most models the same."""
        self.watch: Callable[[Trace], None] | None = None
        """Called after every network call; a preview or a comparison. Costs the full length of the clean pass."""
        self.before_call: Callable[[], None] | None = None
        """Called before every network call; may raise to stop. The chunk is not committed then, but a switch that was
        under way may have changed part of the memory, so a rollout that was stopped is not gone on with."""
        with torch.no_grad():
            told = {level.timestep for level in (*self.levels, *self.first_levels)}
            self._times = {timestep: self._time(timestep) for timestep in told}
            self._clean_time = self._time(sample.context_timestep)
        self._prompt_embeds: Tensor | None = None
        self._text: TextKV = []
        self._alpha: float | None = None  # share of a switch that waits for the next chunk

    def _time(self, timestep: float) -> Time:
        """Time conditioning shared by all frames of a call; the levels of a checkpoint never change."""
        value = torch.tensor([[timestep]], device=self.device)
        return time_conditioning(self.model, value, self.dtype)

    @property
    def frame(self) -> int:
        """Latent frames committed so far."""
        return self.memory.frame

    @property
    def log(self) -> list[Evaluation]:
        """Every measured anchor candidate, oldest first."""
        return self.memory.log

    @property
    def switching(self) -> bool:
        """A switch waits for the next chunk, which begins with changing the memory for it."""
        return self._alpha is not None

    # -- verbs --------------------------------------------------------------------------------------------------

    @torch.no_grad()
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
        if self.dtype == torch.float32:
            embeds = trimmed(embeds)
        self._prompt_embeds = embeds
        self._text = text_kv(self.model, embeds, self.spec.text_len, self._kernel)

    def start(self, prompt_embeds: Tensor) -> None:
        """Set the film's first prompt."""
        self.blend(prompt_embeds)

    def switch(self, prompt_embeds: Tensor, alpha_max: float | None = None) -> None:
        """Continue the shot under a new prompt; the memory's switch policy acts when the next chunk starts."""
        self.blend(prompt_embeds)
        self.memory.prompt += 1
        self._alpha = self.memory.spec.alpha_max if alpha_max is None else alpha_max

    def cut(self, prompt_embeds: Tensor) -> None:
        """New shot, same cast: recent frames leave as if evicted (filling or updating the anchors), anchors stay."""
        self.memory.evict(keep=0)
        self.blend(prompt_embeds)
        self.memory.prompt += 1
        self._alpha = None

    def scene(self, prompt_embeds: Tensor) -> None:
        """New cast and place: anchors and recent frames are forgotten."""
        self.blend(prompt_embeds)
        self.memory.prompt += 1
        self.memory.clear()
        self._alpha = None

    # -- chunks -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def denoise_chunk(
        self,
        noise: Tensor,
        renoise: Callable[[int], Tensor],
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """Generate one chunk from noise [b f c h w] and commit it; returns its clean latents [b f c h w].

        renoise(i) gives the noise of step i >= 1 in the same shape. on_step(i, n) runs after step i of n and may raise
        to cancel: nothing has been committed then, and the same call later gives the same chunk.
        """
        self._prepare()
        levels = self.levels if self.memory.layout.past else self.first_levels
        step_view, clean_view = self.memory.open(noise.shape[1])

        def predict(x: Tensor, i: int) -> Tensor:
            self._announce()
            flow = call(self.model, x, self._times[levels[i].timestep], self._text, step_view)
            assert flow is not None  # asked for
            return flow

        x = noise.to(self.device, self.dtype, non_blocking=True)
        latents = denoise(predict, x, renoise, levels, on_step=on_step, watch=self.watch)
        self._clean(latents, clean_view, "clean", self._clean_time)
        self.memory.commit(latents)
        return latents

    @torch.no_grad()
    def prefill(self, latents: Tensor, timestep: float | None = None) -> None:
        """Commit given clean latents [b f c h w] as one chunk: a start image, a start video, or a replayed Take.

        timestep: None is the context timestep, at which the model's own chunks enter memory; Self Forcing lets
        frames that it has not made enter at 0.
        """
        self._prepare()
        latents = latents.to(self.device, self.dtype)
        _, clean_view = self.memory.open(latents.shape[1])
        self._clean(
            latents, clean_view, "clean", self._clean_time if timestep is None else self._time(timestep)
        )
        self.memory.commit(latents)

    def _clean(
        self, latents: Tensor, view: SelfAttention, kind: Literal["clean", "recache"], time: Time
    ) -> None:
        """One call that leaves keys and values behind."""
        watch = self.watch
        self._announce()
        flow = call(self.model, latents, time, self._text, view, want_flow=watch is not None)
        if watch is not None and flow is not None:
            watch(Trace(kind, 0, latents, flow, None))

    def _announce(self) -> None:
        if self.before_call is not None:
            self.before_call()

    def _prepare(self) -> None:
        """Make room for a chunk and carry out a pending switch."""
        if not self._text:
            raise GroundedError("no prompt has been given", fix="call start() before the first chunk")
        memory, spec = self.memory, self.memory.spec
        alpha, self._alpha = self._alpha, None

        def recompute(latents: Tensor, view: SelfAttention) -> None:
            self._clean(latents, view, "recache", self._clean_time)

        if alpha is not None and spec.switch == "recache" and spec.recache_before_evict:
            recache_all(memory, recompute)
        memory.evict(spec.recent)
        if alpha is None:
            return
        if spec.switch == "flush":
            memory.evict(min(FLUSH_KEEP, spec.recent))
        elif spec.switch == "apr":
            recache(memory, recompute, alpha)
        elif spec.switch == "recache" and not spec.recache_before_evict:
            recache(memory, recompute, None)

    # -- snapshots ----------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Tensor]:
        """Everything that decides the chunks to come, as copies of plain tensors."""
        state = {f"memory.{name}": value for name, value in self.memory.snapshot().items()}
        waiting = [] if self._alpha is None else [self._alpha]
        state["waiting_switch"] = torch.tensor(waiting, dtype=torch.float64)
        if self._prompt_embeds is not None:
            state["prompt_embeds"] = self._prompt_embeds.to("cpu", copy=True)
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Return to a `snapshot` of a rollout with the same model, sizes and settings."""
        own = {
            name.removeprefix("memory."): value for name, value in state.items() if name.startswith("memory.")
        }
        self.memory.restore(own)
        self._alpha = next(iter(state["waiting_switch"].tolist()), None)
        if "prompt_embeds" in state:
            self.blend(state["prompt_embeds"])
