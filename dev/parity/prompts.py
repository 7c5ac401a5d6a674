"""Prompts of a recorded rollout, and the frames from which each is due."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dev.parity.case import Case, Refusal


class Switch(NamedTuple):
    """A new prompt."""

    frame: int
    """Latent frame from which it is due."""
    cut: bool = False


def prompts_of(case: Case) -> tuple[list[Tensor], list[Switch]]:
    """The prompts in film order, each [b rows text_dim], and the switches to all but the first."""
    rollout, embeds = case.doc["rollout"], case.inputs["prompt_embeds"]
    if rollout.get("prompt_lerp"):
        return _moving(case, rollout["prompt_lerp"])
    switches = _switches(case)
    if embeds.ndim == 4:
        return list(embeds), switches
    apart = bool(switches or rollout.get("scene_blocks")) or embeds.shape[0] != rollout["batch"]
    return (list(embeds.split(1)) if apart else [embeds]), switches


def _switches(case: Case) -> list[Switch]:
    """Where new prompts are due, ascending."""
    rollout = case.doc["rollout"]
    if rollout.get("switch_frame_indices"):
        return [Switch(frame) for frame in sorted(rollout["switch_frame_indices"])]
    if rollout.get("prompt_switches"):
        return sorted(Switch(_start(case, told)) for told in rollout["prompt_switches"])
    return sorted(
        Switch(_start(case, boundary), bool(boundary.get("rope_cut")))
        for boundary in rollout.get("scene_boundaries", [])
    )


def _start(case: Case, told: Any) -> int:
    """Frame of a switch that is told by its frame or by its block: a number, a pair of it and a prompt, or by name."""
    if isinstance(told, dict):
        if (frame := next((value for name, value in told.items() if "frame" in name), None)) is not None:
            return frame
        told = next(value for name, value in told.items() if "block" in name or "chunk" in name)
    block = told[0] if isinstance(told, list) else told
    return sum(case.doc["rollout"]["frames_per_block"][:block])


def _moving(case: Case, told: Any) -> tuple[list[Tensor], list[Switch]]:
    """Krea's prompt, which moves to another one in even steps, a block each; the first step is where it was.

    told: the block of the first step and the number of steps.
    """
    values = list(told.values()) if isinstance(told, dict) else list(told)
    if isinstance(told, dict):
        named = [
            [v for n, v in told.items() if word in n and isinstance(v, int)] for word in ("block", "step")
        ]
        values = [found[0] for found in named if found]
    if len(values) != 2:
        raise Refusal("prompt_lerp says from which block a prompt moves and in how many steps")
    block, steps = values
    before, after = case.inputs["prompt_embeds"].split(1)[:2]
    sizes = case.doc["rollout"]["frames_per_block"]
    last = min(block + steps, len(sizes))
    shares = torch.linspace(0, 1, steps)[: last - block]
    moved = [torch.lerp(before, after, share) for share in shares]
    return [before, *moved], [Switch(sum(sizes[:n])) for n in range(block, last)]
