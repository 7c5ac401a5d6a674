"""What is sharded on cards computes in bfloat16 as weights of that type do, from noise levels that are not rounded."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from gf_core.train.draws import SampleDraws
from gf_core.train.films import ClipsGiven
from gf_core.train.objectives import CPU
from gf_core.train.objectives.dmd import critic, dmd
from gf_core.train.objectives.scores import Matching, Nets
from gf_core.train.objectives.teacher import teacher
from gf_core.train.ranks import fsdp

WIDE, NARROW = torch.float32, torch.bfloat16


@pytest.fixture
def alone():
    """A group of one rank, as a card alone has it."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # pyright: ignore[reportPrivateImportUsage]
    yield
    dist.destroy_process_group()


def whole(p):
    return (p.grad.full_tensor() if hasattr(p.grad, "full_tensor") else p.grad).float()


def learned(objective, nets, films, dtype):
    """Loss, and the gradient of every weight that has one."""
    film = replace(films.spec(), dtype=dtype)
    if objective is teacher:
        latents = torch.randn(1, 15, 4, 2, 4, generator=torch.Generator().manual_seed(3))
        batch = ClipsGiven(films.prompts[0], latents, SampleDraws(0, 0, range(1), CPU))
    else:
        batch = films.batch()
    total = objective(nets, batch, film, Matching()).total
    total.backward()
    pupil = nets.fake if objective is critic else nets.generator
    return total.item(), {name: whole(p) for name, p in pupil.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("objective", [dmd, critic, teacher])
def test_shards_compute_as_narrow_weights_do(nets, films, alone, objective):
    """Learners are float32 in shards, the teacher is narrow; each gives what a network of narrow weights gives."""
    plain, kept = (copy.deepcopy(nets) for _ in range(2))
    exact, wanted = learned(objective, kept, films, WIDE)
    narrow = Nets(*(net.to(NARROW) for net in (plain.generator, plain.fake, plain.real)))
    loss, grads = learned(objective, narrow, films, NARROW)
    nets.real.to(NARROW)
    for net in (nets.generator, nets.fake, nets.real):
        fsdp(net, net.blocks, NARROW)
    shared, found = learned(objective, nets, films, NARROW)
    assert shared == loss and found.keys() == grads.keys() == wanted.keys()
    for name, grad in found.items():
        torch.testing.assert_close(grad, grads[name], rtol=1e-2, atol=1e-2 * float(grads[name].abs().max()))
    assert abs(shared - exact) < 0.05 * abs(exact) and shared != exact
