"""Every sample once an epoch over all ranks, and after a resume the same samples as without one."""

import pytest

from gf_core.errors import GroundedError
from gf_core.train.order import Order
from gf_core.train.ranks import Ranks


def drawn(orders, times, size=2):
    return [[order.take(size) for order in orders] for _ in range(times)]


def flat(rows):
    return [number for step in rows for rank in step for number in rank]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_every_epoch_without_overlap(ranks):
    orders = [Order(30, Ranks(rank, ranks), seed=4) for rank in range(ranks)]
    row = flat(drawn(orders, 60 // (2 * ranks)))
    assert sorted(row[:30]) == sorted(row[30:]) == list(range(30)) and row[:30] != row[30:]
    assert row == flat(drawn([Order(30, seed=4)], 30)), "the row is the same for any number of ranks"


def test_a_resumed_run_sees_what_it_would_have_seen():
    whole = flat(drawn([Order(7, seed=1)], 20))
    first = Order(7, seed=1)
    begun = flat(drawn([first], 9))
    for ranks in (1, 2):
        again = [Order(7, Ranks(rank, ranks)) for rank in range(ranks)]
        for order in again:
            order.load_state_dict(first.state_dict())
        rest = flat(drawn(again, 11 // ranks))
        assert begun + rest == whole[: len(begun) + len(rest)]


def test_fewer_samples_than_a_step_takes_are_enough():
    order = Order(3)
    assert sorted(order.take(3)) == [0, 1, 2] and len(order.take(8)) == 8


def test_other_data_are_refused():
    with pytest.raises(GroundedError, match="7 samples, and had 8"):
        Order(7).load_state_dict(Order(8).state_dict())
