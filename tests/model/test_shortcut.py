"""Compiled code called past dynamo: the code of each kind of call, and dynamo where a call is of no known kind."""

from __future__ import annotations

import threading
import weakref

import pytest
import torch
from torch._dynamo.backends.registry import lookup_backend

from gf_core.model.shortcut import Shortcut


def mixed(x, norm, place):
    """Something of everything: parts in a tuple, numbers, what may be None, a place that is written to."""
    weight, bias, eps = norm
    y = x * weight + eps
    if bias is not None:
        y = y + bias
    if place is not None:
        place.copy_(y)
    return y, x - weight


@pytest.fixture
def piece():
    torch._dynamo.reset()
    made = Shortcut(mixed, lookup_backend("eager"))
    asked, made.asked = made._asked, []
    made._asked = lambda *given: made.asked.append(given[0].shape) or asked(*given)
    yield made
    torch._dynamo.reset()


def given(rows, *, bias=True, place=True, eps=0.5):
    x, weight = torch.randn(rows, 4), torch.nn.Parameter(torch.randn(4))
    return x, (weight, torch.randn(4) if bias else None, eps), torch.zeros(rows, 4) if place else None


def right(piece, some):
    x, norm, place = some
    expected = [one.detach() for one in mixed(x, norm, None)]
    got = piece(x, norm, place)
    written = place is None or torch.equal(place, expected[0])
    return type(got) is tuple and all(map(torch.equal, got, expected)) and written


def test_dynamo_is_asked_once_for_a_kind_of_call(piece):
    kinds = [given(3), given(5), given(3, bias=False), given(3, place=False), given(3, eps=0.25)]
    across = given(4)
    kinds += [across, (across[0].T, *across[1:]), given(3)]
    with torch.no_grad():
        assert all(right(piece, some) for some in kinds)
        asked = len(piece.asked)
        assert asked == len(kinds) - 1, "the last is of the first's kind"
        assert all(right(piece, some) for some in [*kinds, given(3), given(5)])
    assert len(piece.asked) == asked


def test_one_tensor_given_twice_is_not_taken_for_two(piece):
    """Code takes it once, so that what was made for one must not serve two, nor the other way round."""
    with torch.no_grad():
        for _ in range(2):
            x, other = torch.randn(2, 4, 4).unbind()
            for weight, bias in ((x, other), (x, x), (other, x), (other, other), (other, torch.randn(4, 4))):
                got, _ = piece(x, (weight, bias, 0.5), None)
                assert torch.equal(got, x * weight + 0.5 + bias)
    assert len(piece.asked) == 5


def test_gradients_are_dynamo_s(piece):
    x, norm, _ = given(3, place=False)
    with torch.no_grad():
        piece(x, norm, None)
    piece(x, norm, None)[0].sum().backward()
    assert torch.allclose(norm[0].grad, x.sum(0)) and len(piece.asked) == 2


def test_numbers_that_are_equal_are_not_taken_for_each_other():
    torch._dynamo.reset()
    added = Shortcut(lambda x, number: x + number, lookup_backend("eager"))
    x = torch.arange(3)
    with torch.no_grad():
        for number in (1, 1.0, True, 1, 1.0):
            assert added(x, number).dtype == (x + number).dtype


def test_what_is_like_no_other_call_is_not_kept(piece):
    with torch.no_grad():
        for _ in range(3):
            piece(*given(3, eps=float("nan"))[:2], None)
    assert not piece._codes


def test_where_torch_chooses_number_types_code_is_not_that_of_elsewhere():
    torch._dynamo.reset()
    product = Shortcut(torch.mm, lookup_backend("inductor"))
    x = torch.randn(4, 4)
    with torch.no_grad():
        for wanted in (False, True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=wanted):
                assert product(x, x.clone()).dtype == (torch.bfloat16 if wanted else torch.float32)


@pytest.fixture
def on_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_dynamo_is_asked_again_for_other_threads_and_a_tensor_where_a_parameter_was(piece, on_threads):
    """Code for a processor is made for so many threads; code for parameters, for what stays where it lies."""
    x, (weight, bias, eps), place = given(3)
    with torch.no_grad():
        for threads in (1, 2, 1, 2):
            on_threads(threads)
            assert right(piece, given(3))
        assert len(piece.asked) == 2
        for one in (weight, weight.detach(), weight, weight.detach()):
            assert right(piece, (x, (one, bias, eps), place))
    assert len(piece.asked) == 3


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_inference_mode_and_none_give_their_own_kinds_of_tensors(backend):
    """ComfyUI's nodes run in it, the command does not; memory that was made outside is written to inside."""
    modes = (torch.no_grad, torch.inference_mode)
    for first in modes:
        torch._dynamo.reset()
        piece = Shortcut(mixed, lookup_backend(backend))
        for made, called in [
            (first, first),
            (modes[0], modes[0]),
            (modes[0], modes[1]),
            (modes[1], modes[1]),
        ] * 2:
            with made():
                x, norm, place = given(3)
            with called():
                assert right(piece, (x, norm, place))
                assert piece(x, norm, place)[0].is_inference() == (called is torch.inference_mode)


def fill(x):
    x.fill_(7)


def test_one_tensor_or_none_is_given():
    torch._dynamo.reset()
    doubled, filled = (Shortcut(f, lookup_backend("eager")) for f in (lambda x: x * 2, fill))
    with torch.no_grad():
        for rows in (2, 2, 3):
            x = torch.ones(rows)
            assert torch.equal(doubled(x), x * 2) and filled(x) is None and bool((x == 7).all())


def test_nothing_of_a_call_is_held(piece):
    def call():
        x, norm, place = given(3)
        with torch.no_grad():
            made = piece(x, norm, place)
        return [weakref.ref(one) for one in (x, *norm[:2], place, *made)]

    assert not any(ref() is not None for ref in [*call(), *call()])


def test_a_call_that_fails_leaves_the_next_one_as_it_was(piece):
    with torch.no_grad():
        assert right(piece, given(3))
        with pytest.raises(Exception, match="broadcast"):
            piece(torch.randn(3, 5), *given(3)[1:])
        assert right(piece, given(3)) and right(piece, given(6))


def test_threads_do_not_take_each_other_s(piece):
    """A film is decoded in a thread of its own, beside the one that samples."""
    wrong = []

    def many(first):
        with torch.no_grad():
            wrong.extend(rows for rows in [first, 4] * 40 if not right(piece, given(rows)))

    threads = [threading.Thread(target=many, args=(first,)) for first in (5, 6, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
