"""What compilers, sharding and gradients need of one network call."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gf_core.config import MemorySpec, ModelSpec
from gf_core.memory.store import DualMemory
from gf_core.model.forward import call, text_kv, time_conditioning
from gf_core.model.wan import WanModel

SPEC = ModelSpec(
    dim=48, ffn_dim=64, num_heads=2, num_layers=3, in_dim=4, out_dim=4, text_len=6, text_dim=8, freq_dim=16
)
LATENT = (4, 4, 4)


@pytest.fixture
def model() -> WanModel:
    torch.manual_seed(3)
    return WanModel(SPEC).eval().requires_grad_(False)


def full_memory() -> DualMemory:
    """A memory after three chunks, so that every region is in use."""
    memory = DualMemory(
        SPEC,
        MemorySpec(anchors=1, recent=3),
        LATENT,
        batch=1,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    for _ in range(3):
        memory.evict(3)
        memory.open(3)
        memory.raw_k.normal_()
        memory.v.normal_()
        memory.commit(torch.randn(1, 3, *LATENT))
    memory.evict(3)
    return memory


@torch.no_grad()
@pytest.mark.parametrize("want_flow", [True, False])
def test_one_network_call_compiles_whole(model, want_flow):
    memory = full_memory()
    step, _ = memory.open(3)
    latents = torch.randn(1, 3, *LATENT)
    time = time_conditioning(model, torch.tensor([[500.0]]), torch.float32)
    text = text_kv(model, torch.randn(1, 4, SPEC.text_dim), SPEC.text_len)

    def run(latents: Tensor) -> Tensor | None:
        return call(model, latents, time, text, step, want_flow)

    plain = run(latents)
    written = memory.k.clone(), memory.v.clone()
    torch._dynamo.reset()
    told = torch._dynamo.explain(run)(latents)
    assert (told.graph_count, told.graph_break_count) == (1, 0), told.break_reasons
    memory.k[:, :, step.start : step.stop].zero_()
    memory.v[:, :, step.start : step.stop].zero_()
    compiled = torch.compile(run, fullgraph=True, backend="eager")(latents)
    if want_flow:
        assert plain is not None and compiled is not None
        torch.testing.assert_close(compiled, plain, atol=1e-6, rtol=0)
    for now, was in zip((memory.k, memory.v), written):
        torch.testing.assert_close(now, was, atol=1e-6, rtol=0)
