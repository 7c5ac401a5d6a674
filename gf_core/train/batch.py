"""A batch of training clips as tensors: latents, prompts, and the memory of every chunk as index tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .schedule import EMPTY, Schedule


@dataclass(frozen=True)
class RecacheTable:
    """Recaches of a batch, padded to the same number of events."""

    frames: Tensor
    """[b e r] frame numbers to recompute (EMPTY where the memory was not full)."""
    source: Tensor
    """[b e r] bank slots of the old keys."""
    alphas: Tensor
    """[b e r] share of the new keys."""
    anchors: Tensor
    """[b e a] bank slots of the context."""
    positions: Tensor
    """[b e r] time positions of the recomputed frames."""
    prompt: Tensor
    """[b e] index of the new prompt."""


@dataclass(frozen=True)
class ScheduleTable:
    """Memory views of a batch: which bank slots each chunk attends to, and at which time positions."""

    slots: Tensor
    """[b chunks a+r] bank slots, EMPTY where there is nothing."""
    positions: Tensor
    """[b chunks a+r] time positions of those slots."""
    own: Tensor
    """[b chunks] time position of the chunk's first frame."""
    recache: RecacheTable | None
    """Prompt switches, or None when the batch has none."""


@dataclass(frozen=True)
class ClipBatch:
    """Clips of equal length with everything that a training step needs."""

    latents: Tensor
    """[b f c h w] clean latents, normalised."""
    weight: Tensor
    """[b f h w] share of subject in each latent cell, 0..1."""
    labels: Tensor
    """[b chunks a] class ids of what heads may read from the network's inside."""
    ids: Tensor
    """[b prompts words] word ids, padded."""
    lengths: Tensor
    """[b prompts] words in each prompt."""
    prompt: Tensor
    """[b chunks] index of the prompt that each chunk is made under."""
    schedule: ScheduleTable


def tabulate(schedules: Sequence[Schedule], prompt: Tensor, events: int | None = None) -> ScheduleTable:
    """Stack the schedules of a batch; prompt [b chunks] tells under which prompt a recache runs.

    `events` is the number of recaches to pad every clip to; the most that a clip of the batch has by default.
    """
    slots = torch.tensor([[v.anchors + v.recent for v in schedule.views] for schedule in schedules])
    first = torch.tensor([[v.first_recent for v in schedule.views] for schedule in schedules])
    anchors = len(schedules[0].views[0].anchors)
    recent = slots[..., anchors:]
    positions = torch.zeros_like(slots)
    positions[..., anchors:] = _positions(recent, first)
    own = first + (recent != EMPTY).sum(-1)
    return ScheduleTable(slots, positions, own, _tabulate_recaches(schedules, prompt, first, events))


def forgotten(table: ScheduleTable, alone: Tensor) -> ScheduleTable:
    """The same views, but the chunks marked in alone [b chunks] see no memory, as at the start of a film."""
    slots = table.slots.masked_fill(alone[..., None], EMPTY)
    positions = table.positions.masked_fill(alone[..., None], 0)
    return replace(table, slots=slots, positions=positions, own=table.own.masked_fill(alone, 0))


def _positions(slots: Tensor, first: Tensor) -> Tensor:
    """Consecutive positions from `first` for the right-aligned occupied slots."""
    order = torch.arange(slots.shape[-1]) - (slots == EMPTY).sum(-1, keepdim=True)
    return (order + first[..., None]).clamp_min(0)


def _tabulate_recaches(
    schedules: Sequence[Schedule], prompt: Tensor, first: Tensor, events: int | None
) -> RecacheTable | None:
    if events is None:
        events = max(len(schedule.recaches) for schedule in schedules)
    if not events:
        return None
    recent, anchors = len(schedules[0].views[0].recent), len(schedules[0].views[0].anchors)
    shape = (len(schedules), events)
    table = RecacheTable(
        frames=torch.full((*shape, recent), EMPTY),
        source=torch.full((*shape, recent), EMPTY),
        alphas=torch.zeros(*shape, recent),
        anchors=torch.full((*shape, anchors), EMPTY),
        positions=torch.zeros(*shape, recent, dtype=torch.long),
        prompt=torch.zeros(shape, dtype=torch.long),
    )
    for row, schedule in enumerate(schedules):
        for column, event in enumerate(schedule.recaches):
            table.frames[row, column] = torch.tensor(event.frames)
            table.source[row, column] = torch.tensor(event.source)
            table.alphas[row, column] = torch.tensor(event.alphas)
            table.anchors[row, column] = torch.tensor(event.anchors)
            table.prompt[row, column] = prompt[row, event.chunk]
            table.positions[row, column] = _positions(table.frames[row, column], first[row, event.chunk])
    return table
