"""A tiny model behind the command line, and what its tests share; a process of its own may import it alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.config import MemorySpec, ModelSpec, Recipe, SampleSpec, VideoSpec
from gf_core.model.wan import WanModel

ROOT = Path(__file__).parents[2]


FILM = "@seed 4\na fox runs | 1.5s\nthen: it jumps | 1.5s\ncut: a hen | 0.75s\n"


SPEC = ModelSpec(dim=32, ffn_dim=48, num_heads=2, num_layers=2, text_len=8, text_dim=12, freq_dim=16)


class Text:
    fingerprint = "text"

    def encode(self, prompts):
        return [torch.full((2, SPEC.text_dim), len(prompt) / 50) for prompt in prompts]


class Decoder:
    started = False

    def decode(self, latents):
        count = 4 * latents.shape[0] - (0 if self.started else 3)
        self.started = True
        height, width = (8 * side for side in latents.shape[2:])
        return torch.full((count, height, width, 3), float(latents.float().mean().sigmoid()))

    def snapshot(self):
        return {"started": torch.tensor(self.started)}

    def restore(self, state):
        self.started = bool(state["started"])


class Codec:
    channels, spatial_stride, time_stride, fingerprint = 16, 8, 4, "codec"
    decoder = Decoder

    def encode(self, frames):
        return torch.zeros(1, 16, frames.shape[1] // 8, frames.shape[2] // 8)


CALLED: dict[str, Any] = {"name": "builtin", "fingerprint": "model"}


def bundle() -> ModelBundle:
    torch.manual_seed(0)
    return ModelBundle(
        **CALLED,
        model=WanModel(SPEC).eval().requires_grad_(False),
        spec=SPEC,
        text=Text(),
        codec=Codec(),
        recipe=Recipe(MemorySpec(anchors=1, recent=3), SampleSpec(steps=(1000, 500)), VideoSpec(32, 32)),
    )


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False
    )
