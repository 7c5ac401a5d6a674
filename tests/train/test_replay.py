"""A recorded objective gives the loss and the gradients of the plain one, for every set of shapes."""

import pytest
import torch
from torch import nn

from gf_core.train.batch import ClipBatch, RecacheTable, ScheduleTable
from gf_core.train.context import StreamOutput
from gf_core.train.objectives import Precision
from gf_core.train.objectives.distil import Distil, Distilling
from gf_core.train.objectives.flow import Flow
from gf_core.train.objectives.replay import Replayed

PLACE = Precision(dtype=torch.float32)


class Net(nn.Module):
    """Reads everything that changes from batch to batch, and has a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.idle = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.zeros(2))

    def forward(self, batch, context, noisy, sigma, drop):
        told = batch.prompt.float().mean() + batch.schedule.slots.float().mean() + sigma.mean()
        flow = self.weight * noisy + self.weight.square() * context[:, None] + told
        return StreamOutput(flow, flow.mean((3, 4, 5)))


def clips(count: int, switches: bool) -> ClipBatch:
    slots = torch.randint(-1, 3, (count, 2, 9))
    events = torch.zeros(count, 1, 6, dtype=torch.long)
    recache = (
        RecacheTable(events, events, events.float(), events, events, events[..., 0]) if switches else None
    )
    return ClipBatch(
        latents=torch.randn(count, 6, 4, 2, 2),
        weight=torch.rand(count, 6, 2, 2),
        labels=torch.zeros(count, 2, 8, dtype=torch.long),
        ids=torch.zeros(count, 2, 3, dtype=torch.long),
        lengths=torch.ones(count, 2, dtype=torch.long),
        prompt=torch.randint(2, (count, 2)),
        schedule=ScheduleTable(slots, slots.clamp_min(0), torch.full((count, 2), 9), recache),
    )


def record(function):
    """What a card does: the same operations on the same places, again."""
    made = function()

    def again():
        for old, new in zip(made, function()):
            old.copy_(new)

    return made, again


def unable(function):
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("recorder", [record, unable])
@pytest.mark.parametrize("stage", ["flow", "distil"])
def test_a_recorded_step_is_the_step(stage, recorder):
    nets = Net(), Net()

    def objective():
        if stage == "flow":
            return Flow(nets[0], PLACE)
        return Distil(nets[0], nets[1], PLACE, [1.0, 0.75, 0.5], Distilling(draws=2, guess=1.0, own=0.5))

    recorded = Replayed(objective(), list(nets[0].parameters()), recorder)
    torch.manual_seed(0)
    batches = [clips(2, True), clips(2, False), clips(3, True)]
    for batch in batches:  # recorded here; what is compared are replays with other numbers
        recorded(batch)
    for batch in [clips(2, True), clips(2, False), clips(3, True), clips(2, True)]:
        found = []
        for way in (objective(), recorded):
            torch.manual_seed(5)
            nets[0].zero_grad()
            loss = way(batch)
            (loss.total / 2).backward()
            found.append((loss.total.detach(), loss.parts["flow"], nets[0].weight.grad.clone()))
        torch.testing.assert_close(found[1], found[0])
        nets[0].weight.data += 0.1  # read where they lie
