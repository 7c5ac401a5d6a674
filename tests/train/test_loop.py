"""The one loop: it ends by clock or steps, goes on from its checkpoint, and ranks and shards change nothing."""

import errno
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import start_processes

from gf_core.errors import CheckpointError, GroundedError, ResourceError
from gf_core.train.loop import Pace, Run
from gf_core.train.objectives import Loss, Precision
from gf_core.train.optim import Muon, adamw, split_parameters
from gf_core.train.order import Order
from gf_core.train.ranks import Ranks, fsdp, launch
from gf_core.train.state import find, gathered, load, replacing, same_run, save

from ..ranks import KIND

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


def start(pace: Pace, path=None, ranks=None, nodes: int = 0, **more) -> tuple[Run, Toy]:
    """nodes: 0 holds the network whole on every rank."""
    torch.manual_seed(0)
    net = Toy()
    if nodes:
        fsdp(net, net.blocks, nodes=nodes)
    hidden, rest = split_parameters(net)
    assert len(hidden) == 2
    optimisers = [Muon(hidden, 0.02), adamw(rest, 1e-2)]
    return Run("toy", {"net": net}, optimisers, pace, EXACT, path, ranks, **more), net


def objective(net: Toy):
    def loss(x: torch.Tensor) -> Loss:
        value = (net(x) - x[:, :4].sin()).square().mean()
        return Loss(value, {"error": value.detach()})

    return loss


def _rows(step: int) -> torch.Tensor:
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(step))


def batches(run: Run, rank: int = 0, ranks: int = 1):
    """16 rows a step, shared out."""

    def draw() -> torch.Tensor:
        return _rows(run.step).chunk(ranks)[rank]

    return draw


def flat(values: dict) -> torch.Tensor:
    return torch.cat([value.flatten() for value in values.values()])


def weights(net: nn.Module) -> torch.Tensor:
    return flat(gathered(net.state_dict()))


def test_it_learns_and_says_so(caplog):
    run, net = start(Pace(steps=60, report=20))
    with caplog.at_level("INFO", "grounded"):
        assert run.run(objective(net), batches(run))
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 3 and lines[0].startswith("toy step 20  error 0.") and "100 %" in lines[-1]
    errors = [float(line.split("error ")[1].split()[0]) for line in lines]
    assert errors[-1] < 0.6 * errors[0]
    assert not run.run(objective(net), batches(run))


def test_slow_steps_do_not_wait_for_the_next_report(caplog, monkeypatch):
    monkeypatch.setattr("gf_core.train.loop.SILENCE", 0.0)
    run, net = start(Pace(steps=4, report=3))
    with caplog.at_level("INFO", "grounded"):
        run.run(objective(net), batches(run))
    starts = [" ".join(r.getMessage().split()[:4]) for r in caplog.records]
    assert [line.split()[2] for line in starts] == ["1", "2", "3", "4", "4"] and "error" in starts[2]


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


@pytest.fixture
def heeded():
    """Ctrl-C acts: a test run that was begun in the background inherits that it does not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_acts_behind_the_step_and_loses_nothing(tmp_path, caplog, heeded):
    whole, net = start(Pace(steps=12, average=0.9), tmp_path / "whole.pt")
    whole.run(objective(net), batches(whole))
    first, half = start(Pace(steps=12, average=0.9), tmp_path / "toy.pt")

    def drawn() -> torch.Tensor:
        if first.step == 5:
            signal.raise_signal(signal.SIGINT)
        return batches(first)()

    with caplog.at_level("INFO", "grounded"), pytest.raises(KeyboardInterrupt):
        first.run(objective(half), drawn)
    assert caplog.messages[-1] == "toy is kept at step 6; the same command goes on from there"
    second, again = start(Pace(steps=12, average=0.9), tmp_path / "toy.pt")
    assert second.step == 6
    second.run(objective(again), batches(second))
    assert torch.equal(weights(again), weights(net))


def test_ctrl_c_twice_does_not_wait_for_the_step(tmp_path, heeded):
    run, net = start(Pace(steps=12), tmp_path / "toy.pt")
    before = signal.getsignal(signal.SIGINT)

    def drawn() -> torch.Tensor:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")

    with pytest.raises(KeyboardInterrupt):
        run.run(objective(net), drawn)
    assert find(tmp_path / "toy.pt") is None and signal.getsignal(signal.SIGINT) is before


def test_in_the_background_ctrl_c_is_not_for_the_training(tmp_path, heeded):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run, net = start(Pace(steps=3), tmp_path / "toy.pt")

    def drawn() -> torch.Tensor:
        signal.raise_signal(signal.SIGINT)
        return batches(run)()

    run.run(objective(net), drawn)
    assert run.step == 3 and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.parametrize("report", [1, 100])
def test_weights_that_are_no_numbers_are_not_kept_over_those_that_are(tmp_path, report):
    path, told = tmp_path / "toy.pt", []
    run, net = start(Pace(steps=2), path)
    run.run(objective(net), batches(run))
    kept = path.read_bytes()
    more = {"report": lambda step, means: told.append(step)}
    run, net = start(Pace(steps=9, report=report), path, **more)
    good = batches(run)
    with pytest.raises(GroundedError, match="toy came to weights that are no numbers by step") as error:
        run.run(objective(net), lambda: good() * (math.nan if run.step == 4 else 1))
    assert path.read_bytes() == kept and "toy.pt is as it was last kept" in error.value.fix
    assert told == ([3, 4] if report == 1 else [])


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "deep" / "state.pt"
    with replacing(path) as part:
        part.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as part:
        part.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and find(path) == path and find(tmp_path / "none.pt") is None


def test_what_kills_left_of_a_checkpoint_goes_with_the_next_one(tmp_path):
    """Not what somebody may still write, nor what is of another file."""
    path = tmp_path / "state.pt"
    left, fresh, other = (tmp_path / f".{name}.part" for name in (
        "state.pt.0123abcd", "state.pt.abcd0123", "other.pt.0123abcd"
    ))  # fmt: skip
    for part in (left, fresh, other):
        part.write_bytes(b"half")
    for part in (left, other):
        os.utime(part, (time.time() - 4000,) * 2)
    save(path, {"step": 1})
    assert sorted(tmp_path.iterdir()) == sorted([fresh, other, path])


def wider(part):
    """A state in which every matrix has other columns."""
    if isinstance(part, dict):
        return {name: wider(value) for name, value in part.items()}
    return part.repeat(1, 2) if isinstance(part, torch.Tensor) and part.ndim == 2 else part


@pytest.mark.parametrize("damage", ["cut", "empty", "junk", "wider", "list"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    path = tmp_path / "toy.pt"
    run, net = start(Pace(steps=2), path)
    run.run(objective(net), batches(run))
    whole = path.read_bytes()
    if damage in ("wider", "list"):
        state = torch.load(path, weights_only=True)
        torch.save(wider(state) if damage == "wider" else [1], path)
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "junk": b"hello"}[damage])
    with pytest.raises(CheckpointError, match="toy cannot go on from") as refused:
        start(Pace(steps=4), path)
    assert str(path) in refused.value.message and "begins anew" in refused.value.fix


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


class Stream:
    """Something that a rank is in the middle of: every batch leaves a trace in the next."""

    def __init__(self, rank: int) -> None:
        self.trace = torch.full((8,), 0.1 * (1 + rank))

    def through(self, draw):
        def drawn() -> torch.Tensor:
            x = draw() + self.trace
            self.trace = torch.tanh(x.mean(0))
            return x

        return drawn

    def state_dict(self) -> dict:
        return {"trace": self.trace}

    def load_state_dict(self, state: dict) -> None:
        self.trace = state["trace"]


def _train(ranks: Ranks, folder, steps: int) -> None:
    torch.set_num_threads(1)
    for name, nodes in (("whole", 0), ("sharded", 1), ("nodes", 2), ("stream", 1), ("unbroken stream", 1)):
        own = Stream(ranks.rank) if "stream" in name else None
        unbroken = name.startswith("unbroken")
        path = None if unbroken else folder / f"{name}.pt"
        run, net = start(Pace(steps=3), path, ranks, nodes, own=own, begun={"seed": "0"})
        draw = batches(run, ranks.rank, ranks.count)
        for until in (3, steps) if unbroken else (steps,):
            run.pace = Pace(steps=until)
            run.run(objective(net), own.through(draw) if own else draw)
        values = {"weights": weights(net), "average": flat(gathered(run.average.values))}
        if ranks.first:
            torch.save(values, folder / f"{name} values.pt")


def copies(*given, **named):
    return start_processes(*given, **{**named, "start_method": KIND})


def test_two_ranks_do_what_one_does(tmp_path, monkeypatch):
    """With gradient means, and with a module in shards, whose checkpoint is a folder; all resumed half way.

    What each is in the middle of then goes on to the bit. Ranks that are spawned die in the last test of this file.
    """
    monkeypatch.setattr("gf_core.train.ranks.start_processes", copies)
    alone, net = start(Pace(steps=3))
    for steps in (3, 6):
        launch(_train, 2, "cpu", tmp_path, steps)
        alone.pace = Pace(steps=steps)
        alone.run(objective(net), batches(alone))
    assert (tmp_path / "whole.pt").is_file() and (tmp_path / "sharded.pt").is_dir()
    for name in ("whole", "sharded", "nodes"):
        found = torch.load(tmp_path / f"{name} values.pt")
        torch.testing.assert_close(found["weights"], weights(net), atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(found["average"], flat(alone.average.values), atol=2e-4, rtol=1e-3)
    stream, unbroken = (torch.load(tmp_path / f"{name} values.pt") for name in ("stream", "unbroken stream"))
    assert torch.equal(stream["weights"], unbroken["weights"])
    assert torch.equal(stream["average"], unbroken["average"])
    for path in (tmp_path / "whole.pt", tmp_path / "sharded.pt"):
        same_run(path, "toy", {"seed": "0", "what older programs did not say": "1"})
        with pytest.raises(CheckpointError, match="seed 0, which is 1 now"):
            same_run(path, "toy", {"seed": "1"})
    with pytest.raises(CheckpointError, match=r"written by 2 ranks.*here are 1"):
        load(tmp_path / "stream.pt", {"own": {"trace": torch.zeros(8)}})


def test_a_checkpoint_that_cannot_be_listed_is_not_of_no_ranks(tmp_path, unlisted):
    unlisted(tmp_path)
    with pytest.raises(GroundedError, match="cannot be listed"):
        load(tmp_path, {"own": {"trace": torch.zeros(8)}})


def _resume(ranks: Ranks, folder) -> None:
    """Six steps, from what one process left after three."""
    torch.set_num_threads(1)
    run, net = start(Pace(steps=6), folder / "toy.pt", ranks, nodes=1)
    assert run.step == 3
    run.run(objective(net), batches(run, ranks.rank, ranks.count))


def test_a_run_goes_on_in_shards_and_whole_again(tmp_path, monkeypatch):
    """One process, two that share the network, one: as if it had been one all along; nothing old is left behind."""
    monkeypatch.setattr("gf_core.train.ranks.start_processes", copies)
    path = tmp_path / "toy.pt"
    for steps in (3, 9):
        whole, net = start(Pace(steps=steps), path)
        whole.run(objective(net), batches(whole))
        assert path.is_file() and whole.step == steps
        if steps == 3:
            launch(_resume, 2, "cpu", tmp_path)
            assert path.is_dir()
        assert not (tmp_path / "toy.pt.old").exists()
    alone, other = start(Pace())
    for steps in (3, 6, 9):  # the rate falls to each of the ends
        alone.pace = Pace(steps=steps)
        alone.run(objective(other), batches(alone))
    torch.testing.assert_close(weights(net), weights(other), atol=2e-4, rtol=1e-3)
    values = flat(whole.average.values)
    torch.testing.assert_close(values, flat(alone.average.values), atol=2e-4, rtol=1e-3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said(tmp_path, monkeypatch):
    """What lay there stays; torch says of it that a position was unexpected."""
    path = tmp_path / "toy.pt"
    run, net = start(Pace(steps=2), path)
    run.run(objective(net), batches(run))
    before = path.read_bytes()
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *mode: real(Path("/dev/full"), *mode))
    with pytest.raises(ResourceError, match=r"the disk is full: .*toy\.pt"):
        run.save()
    monkeypatch.undo()
    assert path.read_bytes() == before
    with pytest.raises(ResourceError, match="the disk is full"), replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(RuntimeError, match="something else"), replacing(path):
        raise RuntimeError("something else")


def test_gradients_of_several_batches_are_those_of_a_large_one():
    large, net = start(Pace(steps=4))
    large.run(objective(net), batches(large))
    small, other = start(Pace(steps=4, accumulate=4))
    parts = (part for n in range(4) for part in _rows(n).chunk(4))
    small.run(objective(other), lambda: next(parts))
    torch.testing.assert_close(weights(other), weights(net), atol=1e-6, rtol=1e-5)
    assert next(parts, None) is None and small.step == 4


def test_an_objective_may_teach_one_network_at_a_time():
    """The other and its average stay, as do what its optimiser remembers; the average begins where it is told to."""
    torch.manual_seed(0)
    nets = {"student": nn.Linear(8, 4), "critic": nn.Linear(8, 4)}
    pace = Pace(steps=9, warm=1, average=0.5, average_from=2)
    run = Run("turns", nets, [adamw(net.parameters(), 1e-2) for net in nets.values()], pace, EXACT)
    seen = []

    def loss(x: torch.Tensor) -> Loss:
        name = "critic" if run.step % 3 else "student"
        seen.append({key: net.weight.detach().clone() for key, net in nets.items()})
        return Loss(nets[name](x).square().mean(), {})

    averages = []
    run.run(loss, lambda: torch.ones(2, 8), lambda: averages.append(run.average.values["weight"].clone()))
    seen.append({key: net.weight.detach() for key, net in nets.items()})
    for step in range(9):
        moved = {name for name in nets if not torch.equal(seen[step][name], seen[step + 1][name])}
        assert moved == {"critic" if step % 3 else "student"}
    student = [state["student"] for state in seen[1:]]
    assert torch.equal(averages[2], student[2]) and torch.equal(averages[5], student[5]), (
        "the first two updates"
    )
    torch.testing.assert_close(averages[8], (student[5] + student[8]) / 2)


def test_what_is_frozen_is_neither_kept_nor_averaged(tmp_path):
    def made(train: str) -> Run:
        torch.manual_seed(0)
        net = Toy().requires_grad_(False)
        net.get_submodule(train).requires_grad_(True)
        params = [p for p in net.parameters() if p.requires_grad]
        return Run("part", {"net": net}, [adamw(params, 1e-2)], Pace(steps=2), EXACT, tmp_path / "part.pt")

    run = made("head")
    run.run(objective(run.main), batches(run))
    saved = torch.load(tmp_path / "part.pt")
    assert set(saved["modules"]["net"]) == set(saved["average"]) == {"head.weight", "head.bias"}
    assert torch.equal(made("head").main.head.weight, run.main.head.weight)
    with pytest.raises(CheckpointError, match="other parameters"):
        made("blocks.0")


def test_the_report_has_the_means_since_the_last():
    told = []
    run, net = start(Pace(steps=4, report=2), report=lambda step, means: told.append((step, means)))
    values = iter([1.0, 3.0, 5.0, 9.0])
    run.run(lambda x: Loss(net(x).mean(), {"it": torch.tensor(next(values))}), batches(run))
    assert [(step, means["it"]) for step, means in told] == [(2, 2.0), (4, 7.0)]


@pytest.mark.slow
def test_torchrun_starts_the_ranks_too(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, torch\n"
        "from gf_core.train.ranks import launch\n"
        "def work(ranks, folder):\n"
        "    x = torch.nn.Parameter(torch.zeros(1)); x.grad = torch.full((1,), 1.0 + ranks.rank)\n"
        "    ranks.average([x])\n"
        "    (folder / str(ranks.rank)).write_text(f'{ranks.count} {x.grad.item()}')\n"
        f"launch(work, 1, 'cpu', pathlib.Path({str(tmp_path)!r}))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*command, str(script)], check=True, env=environment, timeout=240)
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["2 1.5", "2 1.5"]


def _die(ranks: Ranks) -> None:
    raise RuntimeError("out of paint")


@pytest.mark.slow
def test_a_rank_that_dies_ends_all():
    with pytest.raises(ResourceError, match="out of paint"):
        launch(_die, 2, "cpu")


def _refuse(ranks: Ranks) -> None:
    raise CheckpointError("it was begun with seed 0", "begin in another folder")


def test_a_refusal_of_a_rank_comes_as_it_is():
    with pytest.raises(CheckpointError) as caught:
        launch(_refuse, 2, "cpu")
    assert str(caught.value) == "it was begun with seed 0\n  fix: begin in another folder"


def test_shards_of_an_old_torch_are_refused_in_words(monkeypatch):
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.8.1+cu128"))
    with pytest.raises(GroundedError, match=r"needs torch 2\.9 or newer"):
        fsdp(nn.Linear(2, 2), [])
