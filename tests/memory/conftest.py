"""A memory without a model: frames carry their own number, so that what was kept can be read back."""

import pytest
import torch

from gf_core.config import MemorySpec, ModelSpec, Recipe
from gf_core.memory.store import DualMemory
from gf_core.model.placement import Placement

MODEL = ModelSpec(dim=12, num_heads=2, num_layers=2, in_dim=2, out_dim=2)
LATENT = (2, 2, 4)  # two tokens per frame


class Film:
    """Commits chunks whose latents, raw keys and values are constants equal to the frame number plus one."""

    def __init__(self, spec: MemorySpec, batch: int = 1, dtype=torch.float32):
        placement = Placement(latent_height=LATENT[1], latent_width=LATENT[2], batch=batch, dtype=dtype)
        self.memory = DualMemory(MODEL, Recipe(spec), placement)

    def chunk(self, frames: int = 3, latents: torch.Tensor | None = None) -> None:
        memory, size = self.memory, self.memory.tokens_per_frame
        memory.evict(memory.spec.recent)
        _, clean = memory.open(frames)
        numbers = torch.arange(memory.ledger.frame, memory.ledger.frame + frames) + 1.0
        tokens = numbers.repeat_interleave(size)[None, :, None, None].repeat(memory.batch, 1, 2, 6)
        for layer in range(MODEL.num_layers):
            clean.write(layer, tokens.to(memory.v.dtype), tokens.to(memory.v.dtype))
        if latents is None:
            latents = numbers[None, :, None, None, None].expand(memory.batch, -1, *LATENT)
        memory.commit(latents.to(memory.v.dtype))

    def chunks(self, count: int, latents: torch.Tensor | None = None) -> None:
        for _ in range(count):
            self.chunk(latents=latents)

    def anchors(self) -> list[list[int]]:
        """Frame numbers of every sample's anchors, as the ledger says."""
        return [[frame.number for frame in anchors] for anchors in self.memory.ledger.anchors]

    def stored(self, sample: int = 0) -> list[int]:
        """Frame numbers found in the keys themselves, in slot order."""
        memory, size = self.memory, self.memory.tokens_per_frame
        used = memory.layout.past * size
        for store in (memory.raw_k, memory.v):
            per_token = store[:, sample, :used, 0, 0]
            assert torch.equal(per_token, memory.raw_k[:1, sample, :used, 0, 0].expand_as(per_token))
        return [round(n) - 1 for n in memory.raw_k[0, sample, :used:size, 0, 0].tolist()]


@pytest.fixture
def film():
    return Film
