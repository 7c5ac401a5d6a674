"""What compilers, sharding and gradients need of one network call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from gf_core.config import MemorySpec, ModelSpec, Recipe
from gf_core.memory.store import DualMemory
from gf_core.model.forward import Call, text_kv, time_conditioning
from gf_core.model.placement import Placement
from gf_core.model.wan import WanModel
from gf_core.team import Team
from gf_core.train.ranks import fsdp

from ..masked import whole_film
from ..ranks import lead

SPEC = ModelSpec(
    dim=48, ffn_dim=64, num_heads=2, num_layers=3, in_dim=4, out_dim=4, text_len=6, text_dim=8, freq_dim=16
)
LATENT = (4, 4, 4)


@pytest.fixture
def model() -> WanModel:
    torch.manual_seed(3)
    return WanModel(SPEC).eval().requires_grad_(False)


def memory_of(**settings: Any) -> DualMemory:
    spec = MemorySpec(**settings)
    return DualMemory(SPEC, Recipe(spec), Placement(latent_height=LATENT[1], latent_width=LATENT[2]))


def full_memory() -> DualMemory:
    """A memory after three chunks, so that every region is in use."""
    memory = memory_of(anchors=1, recent=3)
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

    asked = Call(model, latents, time, text, step, want_flow)
    plain = asked.run()
    written = memory.k.clone(), memory.v.clone()
    graphs = []

    def counted(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    step, _ = memory.open(3)  # one that nobody has used
    asked, place = Call(model, latents, time, text, step, want_flow), step.places[0]
    memory.k[:, :, place.start : place.stop].zero_()
    memory.v[:, :, place.start : place.stop].zero_()
    whole = torch.compile(asked.run, fullgraph=True, backend=counted)  # refuses what would break the graph
    compiled = [whole() for _ in range(2)][-1]
    assert len(graphs) == 1  # the next step of a chunk is no other call
    if want_flow:
        assert plain is not None and compiled is not None
        torch.testing.assert_close(compiled, plain, atol=1e-6, rtol=0)
    for now, was in zip((memory.k, memory.v), written):
        torch.testing.assert_close(now, was, atol=1e-6, rtol=0)


def test_gradients_cross_chunks(model):
    """Three chunks through the memory have the loss and the gradients of one masked forward over all nine frames."""
    model.requires_grad_(True)
    latents, weight = torch.randn(1, 9, *LATENT), torch.randn(1, 9, *LATENT)
    prompt = torch.randn(1, 4, SPEC.text_dim)

    def gradients(flow: Tensor) -> dict[str, Tensor]:
        model.zero_grad()
        (flow * weight).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    def given() -> tuple:
        time = time_conditioning(model, torch.tensor([[0.0]]), torch.float32)
        return time, text_kv(model, prompt, SPEC.text_len)

    whole = Call(model, latents, *given(), whole_film(9, 3, 2, 2, SPEC.head_dim)).run()
    assert whole is not None
    wanted = gradients(whole)
    memory = memory_of(anchors=0, recent=6, anchor_policy="none")
    time, text = given()
    flows = []
    for chunk in latents.split(3, 1):
        memory.evict(6)
        _, clean = memory.open_grad(3)
        flows.append(Call(model, chunk, time, text, clean).run())
        memory.commit(chunk)
    flow = torch.cat(flows, 1)
    torch.testing.assert_close(flow, whole, atol=1e-5, rtol=1e-5)
    got = gradients(flow)
    assert got.keys() == wanted.keys()
    for name, grad in wanted.items():
        torch.testing.assert_close(got[name], grad, atol=1e-4, rtol=1e-4, msg=name)
    assert all(memory.gradients.graph)
    memory.gradients.detach()
    memory.evict(6)
    _, clean = memory.open_grad(3)
    alone = Call(model, latents[:, :3], time, text, clean).run()
    assert alone is not None and alone.requires_grad
    made = [memory.gradients.past(layer, place) for layer, place in enumerate(clean.places)]
    assert all(made) and not any(k.requires_grad for frames in made for k, _ in frames)


def losses(model: nn.Module) -> Tensor:
    torch.manual_seed(5)
    memory = memory_of(anchors=1, recent=3)
    time = time_conditioning(model, torch.tensor([[300.0]]), torch.float32)
    text = text_kv(model, torch.randn(1, 4, SPEC.text_dim), SPEC.text_len)
    total = torch.zeros(())
    for _ in range(3):
        latents = torch.randn(1, 3, *LATENT)
        memory.evict(3)
        step, clean = memory.open_grad(3)
        flow = Call(model, latents, time, text, step).run()
        assert flow is not None
        total = total + flow.square().mean()
        Call(model, latents, time, text, clean, want_flow=False).run()
        memory.commit(latents)
    return total


def plain_beside_sharded(team: Team) -> float:
    """The largest difference of a gradient."""
    torch.manual_seed(1)
    plain = WanModel(SPEC)
    sharded = WanModel(SPEC)
    sharded.load_state_dict(plain.state_dict())
    fsdp(sharded, sharded.blocks)
    one, other = losses(plain), losses(sharded)
    one.backward()
    other.backward()
    assert abs(one.item() - other.item()) < 1e-5, (one, other)
    worst, compared = 0.0, 0
    for (name, mine), theirs in zip(plain.named_parameters(), sharded.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None and theirs.grad is not None:
            worst = max(worst, (mine.grad - cast(DTensor, theirs.grad).full_tensor()).abs().max().item())
            compared += 1
    assert compared and worst < 1e-5, worst
    return worst


def stand_by(team: Team) -> None:
    plain_beside_sharded(team)
    assert team.hear() is None  # or the first would wait to tell the end


def test_fsdp_on_two_ranks_equals_plain(tmp_path):
    """Every rank computes the same batch, so the mean of the ranks' gradients is the gradient of one."""
    assert lead(2, tmp_path, plain_beside_sharded, stand_by) < 1e-5
