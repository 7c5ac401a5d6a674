"""Replay of Rolling Forcing: one call over a window of chunks at different noise levels."""

from __future__ import annotations

import torch
from torch import Tensor

from dev.parity.case import Case, Refusal, float_scalars
from dev.parity.methods import repo, sample_spec
from gf_core.config import MemorySpec, Recipe
from gf_core.model.forward import Call, text_kv
from gf_core.model.placement import Placement
from gf_core.rope import rotate, turns
from gf_core.sampling.director import Director, Trace
from gf_core.sampling.rolling import Rolling
from gf_core.sampling.sampler import Chunk


def serves(case: Case) -> bool:
    """Whether this is a rollout of joint windows."""
    return repo(case) == "TencentARC/RollingForcing" and "rollout" in case.doc


def _memory_spec(case: Case) -> MemorySpec:
    options = case.doc["rollout"]
    chunk, anchors = options["block_frames"], options["anchor_frames"]
    if anchors != chunk or options["max_attention_frames"] % chunk:
        raise Refusal("the recorded code knows whole blocks only")
    return MemorySpec(
        anchors=anchors,
        recent=options["kv_cache_frames"] - anchors - chunk,
        chunk=chunk,
        anchor_index="slot",
        anchor_policy="frozen",
        anchor_update="never",
        switch="cross_only",
        max_position=None,
        rolling=options["max_attention_frames"],
    )


class Recorder:
    """Gives every window's input and output, and the memory behind it, under the names of the case."""

    def __init__(self, case: Case, director: Director, prompt: Tensor, chunk: int, context: float) -> None:
        self.case, self.director, self.chunk, self.window = case, director, chunk, 0
        self._text = text_kv(director.model, prompt, director.spec.text_len)
        self._time = director.time(context)
        self._denoised: Tensor | None = None

    def __call__(self, trace: Trace) -> None:
        """One network call."""
        if trace.kind == "denoise" and trace.denoised is not None:
            self.window, self._denoised = trace.step, trace.denoised
            self.case.give(f"window{self.window}.noisy_input", trace.latents)
            self.case.give(f"window{self.window}.flow", trace.flow)
            self.case.give(f"window{self.window}.x0", trace.denoised)

    def give_memory(self) -> None:
        """After a window: the recorded code also writes its first block when that is not finished yet."""
        memory, size = self.director.memory, self.director.memory.tokens_per_frame
        frames = memory.layout.past
        if not frames and self._denoised is not None:
            _, clean = self.director.open(self.chunk)
            Call(
                self.director.model, self._denoised[:, : self.chunk], self._time, self._text, clean, False
            ).run()
            frames = self.chunk
        # Stored rotated where each stands in the film, but for the first block.
        numbers = torch.tensor(memory.ledger.numbers() or range(frames))
        turn = turns(numbers, *memory.grid, self.director.spec.head_dim)
        for layer, (raw_k, v) in enumerate(zip(memory.raw_k, memory.v)):
            k = rotate(raw_k[:, : frames * size], turn)
            k[:, : self.chunk * size] = raw_k[:, : self.chunk * size]
            self.case.give(f"window{self.window}.kv.layer{layer}.k", k)
            self.case.give(f"window{self.window}.kv.layer{layer}.v", v[:, : frames * size])


@torch.no_grad()
def replay(case: Case) -> None:
    """Feed the recorded noise block by block, flush, and give every output the case asks for."""
    memory, sample = _memory_spec(case), sample_spec(case)
    height, width = case.doc["rollout"]["latent_hw"]
    noise, prompt, blocks = case.inputs["noise"], case.inputs["prompt_embeds"], case.doc["rollout"]["blocks"]
    placement = Placement(latent_height=height, latent_width=width, batch=len(noise))
    director = Director(case.model(), case.model_spec(), Recipe(memory, sample), placement)
    sampler = Rolling(director)
    director.start(prompt)
    director.watch = recorder = Recorder(case, director, prompt, memory.chunk, sample.context_timestep)
    case.give("timesteps", float_scalars([level.timestep for level in sampler.levels]))
    latents: list[Tensor] = []
    for block in range(blocks):

        def draw(step: int, block: int = block) -> Tensor:
            if step:
                return case.inputs[f"renoise.window{block + step - 1}.block{block}"]
            return noise[:, block * memory.chunk : (block + 1) * memory.chunk]

        latents += [clean.latents for clean in sampler.feed(Chunk(block, draw))]
        recorder.give_memory()
    for clean in sampler.flush():
        latents.append(clean.latents)
        recorder.give_memory()
    case.give("latents", torch.cat(latents, 1))
