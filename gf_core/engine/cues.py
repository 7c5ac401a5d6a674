"""What the rollout is told before each chunk: the storyboard's verbs as calls on the two memories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from ..sampling.rollout import Rollout
    from ..timeline.plan import PlannedSegment


def mix_embeds(old: Tensor, new: Tensor, share: float) -> Tensor:
    """(1 - share) old + share new, both [b rows c]; the shorter one is padded with the zero rows it stands for."""
    rows = max(old.shape[1], new.shape[1])
    old, new = (F.pad(embeds, (0, 0, 0, rows - embeds.shape[1])) for embeds in (old, new))
    return torch.lerp(old, new, share)


def give_cue(
    rollout: Rollout, segments: Sequence[PlannedSegment], embeds: Sequence[Tensor], number: int, chunk: int
) -> None:
    """Tell `rollout` what chunk `chunk` (from 0) of segment `number` of the plan begins with.

    A blend over k chunks moves the text by 1/k per chunk; the chunk that reaches the new prompt makes the one switch
    of the memory. Without a blend that is the first chunk. `embeds` holds one [b rows c] per segment.
    """
    segment, new = segments[number], embeds[number]
    if segment.verb == "then":
        steps = max(1, segment.blend_chunks)
        if chunk < steps - 1:
            rollout.blend(mix_embeds(embeds[number - 1], new, (chunk + 1) / steps))
        elif chunk == steps - 1:
            rollout.switch(new, alpha_max=segment.recache)
    elif chunk == 0:
        {"start": rollout.start, "cut": rollout.cut, "scene": rollout.scene}[segment.verb](new)
