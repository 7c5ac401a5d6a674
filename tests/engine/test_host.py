"""What the engine asks of a host whose weights come and go: to be ready before each chunk, told when it is over."""

import pytest
import torch

from gf_core.attention import Where, attend, backends, sdpa
from gf_core.attention.backends import BACKENDS, Backend, pick
from gf_core.take.facts import kernels

TEXT = "a fox runs | 1.5s\nthen: it rests | 0.75s"


def test_ready_comes_before_the_memory_and_before_every_chunk(bundle, films, tmp_path):
    asked, over = [], []
    bundle.ready, bundle.done = asked.append, lambda: over.append(len(asked))
    plan = films.plan(bundle, TEXT)
    films.render(bundle, tmp_path, TEXT)
    assert len(asked) == 1 + plan.chunks
    assert asked[0] > asked[1] > 0  # the first leaves room for the memory, which is there afterwards
    assert over == [len(asked)]


def test_done_comes_after_a_failure_too(bundle, films, tmp_path):
    over = []

    def fail(need):
        raise ZeroDivisionError

    bundle.ready, bundle.done = fail, lambda: over.append(True)
    with pytest.raises(ZeroDivisionError):
        films.render(bundle, tmp_path, TEXT)
    assert over == [True]


def test_a_kernel_is_asked_where_it_takes_what_is_asked():
    calls = []

    def kernel(q, k, v, *, where=None):
        calls.append(where)
        return q

    q = torch.randn(1, 2, 1, 4)
    where = Where(3, (("anchors", 1), ("recent", 2), ("current", 3)), (1, 2))
    assert attend(q, q, q, kernel=kernel, where=where) is q
    attend(q, q, q, kernel=kernel, bias=torch.zeros(1, 1, 1, 2))  # a bias is not the kernel's business
    attend(q, q, q)
    assert calls == [where]


def test_the_first_row_that_can_is_picked(monkeypatch):
    def row(name, can):
        return Backend(name, lambda *_: can, lambda: sdpa)

    cpu, rows = torch.device("cpu"), (row("a", False), row("b", True), row("c", True))
    assert pick(cpu, torch.float32, 128).name == BACKENDS[-1].name == "sdpa"
    monkeypatch.setattr(backends, "BACKENDS", rows)
    assert pick(cpu, torch.float32, 128).name == "b"
    assert pick(cpu, torch.float32, 128, host=lambda q, k, v, *, where=None: q).name == "<lambda>"


def test_the_session_lends_the_bundles_kernel(bundle, films, tmp_path):
    calls = []

    def kernel(q, k, v, *, where=None):
        calls.append((k.shape, where))
        return q

    assert "attention" not in kernels(bundle, bundle.recipe)
    bundle.kernel = kernel
    assert kernels(bundle, bundle.recipe)["attention"] == "kernel"  # other arithmetic, so other chunks
    films.render(bundle, tmp_path, TEXT)
    first = (("anchors", 0), ("recent", 0), ("current", 3))
    assert calls[0][1] == Where(0, first, (2, 2))  # prompts have a bias here and are not its business
