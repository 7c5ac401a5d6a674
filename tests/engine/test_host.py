"""What the engine asks of a host whose weights come and go: to be ready before each chunk, told when it is over."""

import pytest
import torch

from gf_core.attention import attend, using
from gf_core.engine.session import Session
from gf_core.engine.settings import kernels
from gf_core.engine.take import Take

TEXT = "a fox runs | 1.5s\nthen: it rests | 0.75s"


def play(bundle, plan, folder, emit=lambda event: None):
    with Take.open(folder) as take:
        Session(bundle, plan, take).play(emit)


def test_ready_comes_before_the_memory_and_before_every_chunk(bundle, planned, tmp_path):
    asked, over = [], []
    bundle.ready, bundle.done = asked.append, lambda: over.append(len(asked))
    plan = planned(bundle, TEXT)
    play(bundle, plan, tmp_path)
    assert len(asked) == 1 + plan.chunks
    assert asked[0] > asked[1] > 0  # the first leaves room for the memory, which is there afterwards
    assert over == [len(asked)]


def test_done_comes_after_a_failure_too(bundle, planned, tmp_path):
    over = []

    def fail(need):
        raise ZeroDivisionError

    bundle.ready, bundle.done = fail, lambda: over.append(True)
    with pytest.raises(ZeroDivisionError):
        play(bundle, planned(bundle, TEXT), tmp_path)
    assert over == [True]


def test_a_lent_kernel_is_used_inside_its_block_only():
    calls = []

    def kernel(q, k, v):
        calls.append(q.shape)
        return q

    q = torch.randn(1, 2, 1, 4)
    with using(kernel):
        assert attend(q, q, q) is q
        attend(q, q, q, torch.zeros(1, 1, 1, 2))  # a bias is not the kernel's business
    attend(q, q, q)
    assert len(calls) == 1


def test_the_session_lends_the_bundles_kernel(bundle, planned, tmp_path):
    calls = []

    def kernel(q, k, v):
        calls.append(k.shape)
        return q

    assert "attention" not in kernels(bundle)
    bundle.kernel = kernel
    assert kernels(bundle)["attention"] == "kernel"  # other arithmetic, so other chunks
    play(bundle, planned(bundle, TEXT), tmp_path)
    assert calls
