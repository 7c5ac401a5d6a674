"""A tiny random world for the engine: a real Wan of 2 layers, a codec and a text encoder that are only arithmetic."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor

from gf_core.checkpoints.bundle import ModelBundle
from gf_core.config import MemorySpec, ModelSpec, SampleSpec, VideoSpec
from gf_core.model.wan import WanModel
from gf_core.timeline import Plan, Timing, make_plan, parse

SPEC = ModelSpec(dim=32, ffn_dim=48, num_heads=2, num_layers=2, text_len=8, text_dim=12, freq_dim=16)
STRIDE = 8


class TinyText:
    """Rows drawn from the prompt's own hash, one per word."""

    fingerprint = "tiny-text"

    def encode(self, prompts: list[str]) -> list[Tensor]:
        return [self._rows(prompt) for prompt in prompts]

    def _rows(self, prompt: str) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:6], "big")
        words = min(len(prompt.split()), SPEC.text_len)
        return torch.randn(words, SPEC.text_dim, generator=torch.Generator().manual_seed(seed))


class TinyDecoder:
    """Three channels enlarged; each picture leans on the latent before, so state matters."""

    def __init__(self) -> None:
        self.last: Tensor | None = None

    def decode(self, latents: Tensor) -> Tensor:
        frames = []
        for latent in latents.float():
            # Grey, because the film's colour is stored at half size and these blocks are small.
            picture = (
                latent[:3]
                .mean(0, keepdim=True)
                .expand(3, -1, -1)
                .sigmoid()
                .repeat_interleave(STRIDE, 1)
                .repeat_interleave(STRIDE, 2)
            )
            picture = picture.permute(1, 2, 0)
            if self.last is None:
                frames.append(picture)
            else:
                frames += [torch.lerp(self.last, picture, share) for share in (0.25, 0.5, 0.75, 1.0)]
            self.last = picture
        return torch.stack(frames)

    def snapshot(self) -> dict[str, Tensor]:
        return {} if self.last is None else {"last": self.last.clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.last = state.get("last")


class TinyCodec:
    channels, spatial_stride, time_stride, fingerprint = 16, STRIDE, 4, "tiny-codec"
    kind = "builtin"  # what the estimate takes it for

    def decoder(self) -> TinyDecoder:
        return TinyDecoder()

    def encode(self, frames: Tensor) -> Tensor:
        small = frames[::4, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].permute(0, 3, 1, 2)
        latents = torch.zeros(small.shape[0], self.channels, *small.shape[2:])
        latents[:, :3] = small.clamp(0.01, 0.99).logit()
        return latents


def tiny_bundle() -> ModelBundle:
    torch.manual_seed(0)
    model = WanModel(SPEC).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, 0.05)
    return ModelBundle(
        name="tiny",
        model=model,
        spec=SPEC,
        text=TinyText(),
        codec=TinyCodec(),
        sample=SampleSpec(steps=(1000, 500)),
        memory=MemorySpec(anchors=2, recent=3, chunk=3),
        video=VideoSpec(width=32, height=32, fps=16),
        fingerprint="tiny-model",
    )


def plan_for(bundle: ModelBundle, text: str, base_key: str = "") -> Plan:
    board = parse(text)
    return make_plan(
        board, Timing(bundle.video.fps, bundle.memory.chunk, 4, bundle.sample.first_chunk_frames), base_key
    )


@pytest.fixture
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="session")
def make_bundle():
    """`make_bundle()`: a new bundle, always with the same weights."""
    return tiny_bundle


@pytest.fixture(scope="session")
def planned():
    """`planned(bundle, text)`: the plan of a storyboard for that bundle."""
    return plan_for
