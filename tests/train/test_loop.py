"""The one loop: it ends by clock or steps, goes on from its checkpoint, and ranks and shards change nothing."""

import math
import time

import pytest
import torch
from torch import nn

from gf_core.errors import ResourceError
from gf_core.train.loop import Pace, Run
from gf_core.train.objectives import Loss, Precision
from gf_core.train.optim import Muon, adamw, split_parameters
from gf_core.train.order import Order
from gf_core.train.ranks import Ranks, fsdp, launch
from gf_core.train.state import find, replacing

EXACT = Precision(dtype=torch.float32)


class Toy(nn.Module):
    """Two blocks that are modules of their own, as sharding wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


def start(pace: Pace, path=None, ranks=None, sharded: bool = False) -> tuple[Run, Toy]:
    torch.manual_seed(0)
    net = Toy()
    if sharded:
        fsdp(net, net.blocks)
    hidden, rest = split_parameters(net)
    assert len(hidden) == 2
    return Run("toy", {"net": net}, [Muon(hidden, 0.02), adamw(rest, 1e-2)], pace, EXACT, path, ranks), net


def objective(net: Toy):
    def loss(x: torch.Tensor) -> Loss:
        value = (net(x) - x[:, :4].sin()).square().mean()
        return Loss(value, {"error": value.detach()})

    return loss


def batches(run: Run, rank: int = 0, ranks: int = 1):
    """16 rows a step, shared out."""

    def draw() -> torch.Tensor:
        rows = torch.randn(16, 8, generator=torch.Generator().manual_seed(run.step))
        return rows.chunk(ranks)[rank]

    return draw


def weights(net: nn.Module) -> torch.Tensor:
    values = net.state_dict().values()
    return torch.cat([(v.full_tensor() if hasattr(v, "full_tensor") else v).flatten() for v in values])


def test_it_learns_and_says_so(caplog):
    run, net = start(Pace(steps=60, report=20))
    with caplog.at_level("INFO", "grounded"):
        assert run.run(objective(net), batches(run))
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 3 and lines[0].startswith("toy step 20  error 0.") and "100 %" in lines[-1]
    errors = [float(line.split("error ")[1].split()[0]) for line in lines]
    assert errors[-1] < 0.6 * errors[0]
    assert not run.run(objective(net), batches(run))


def test_it_ends_by_the_clock():
    run, net = start(Pace(minutes=0.5 / 60))
    begun = time.monotonic()
    run.run(objective(net), batches(run))
    assert 0.4 < time.monotonic() - begun < 5 and run.step > 5


def test_the_rate_warms_up_and_falls_to_zero():
    pace = Pace(steps=100, rate=0.5, warm=10, decay_from=0.5)
    assert pace.factor(0, 0) == 0.05 and pace.factor(30, 0) == 0.5
    assert pace.factor(75, 0) == pytest.approx(0.25) and pace.factor(100, 0) == 0
    assert Pace(minutes=1, steps=math.inf).progress(10**6, 30) == 0.5
    assert Pace(minutes=0).progress(0, 0) >= 1


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    whole, net = start(Pace(steps=12, average=0.9), tmp_path / "whole.pt")
    whole.run(objective(net), batches(whole))
    pace = Pace(steps=12, average=0.9, save_seconds=0)
    first, half = start(pace, tmp_path / "toy.pt")

    def stop() -> None:
        if first.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(objective(half), batches(first), stop)
    second, again = start(pace, tmp_path / "toy.pt")
    assert second.step == 6 and second.seconds > 0
    second.run(objective(again), batches(second))
    assert torch.equal(weights(again), weights(net))
    assert torch.equal(second.average.values["head.weight"], whole.average.values["head.weight"])
    assert not list(tmp_path.glob("*.part"))


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "deep" / "state.pt"
    with replacing(path) as part:
        part.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and find(path) == path and find(tmp_path / "none.pt") is None


def test_the_place_in_the_data_is_kept_with_the_weights(tmp_path):
    seen = []

    def run(steps: int, order: Order) -> None:
        torch.manual_seed(0)
        net = Toy()
        made = Run("toy", {"net": net}, [adamw(net.parameters(), 1e-2)], Pace(steps=steps), EXACT, tmp_path / "t.pt",
                   carried={"order": order})  # fmt: skip
        made.run(objective(net), lambda: torch.eye(8)[seen.append(order.take(2)) or seen[-1]])

    run(3, Order(8, seed=5))
    run(9, Order(8))
    whole = Order(8, seed=5)
    assert seen == [whole.take(2) for _ in range(9)]


def _train(ranks: Ranks, folder, steps: int) -> None:
    torch.set_num_threads(1)
    for name, sharded in (("whole", False), ("sharded", True)):
        run, net = start(Pace(steps=steps), folder / f"{name}.pt", ranks, sharded)
        run.run(objective(net), batches(run, ranks.rank, ranks.count))
        values = weights(net)
        if ranks.first:
            torch.save(values, folder / f"{name} weights.pt")


def test_two_ranks_do_what_one_does(tmp_path):
    """With gradient means, and with a module in shards, whose checkpoint is a folder; both resumed half way."""
    alone, net = start(Pace(steps=3))
    for steps in (3, 6):
        launch(_train, 2, "cpu", tmp_path, steps)
        alone.pace = Pace(steps=steps)
        alone.run(objective(net), batches(alone))
    assert (tmp_path / "whole.pt").is_file() and (tmp_path / "sharded.pt").is_dir()
    for name in ("whole", "sharded"):
        found = torch.load(tmp_path / f"{name} weights.pt")
        torch.testing.assert_close(found, weights(net), atol=2e-4, rtol=1e-3)


def _die(ranks: Ranks) -> None:
    raise RuntimeError("out of paint")


def test_a_rank_that_dies_ends_all():
    with pytest.raises(ResourceError, match="out of paint"):
        launch(_die, 2, "cpu")
