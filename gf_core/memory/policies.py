"""Which frames become anchors (paper 4.1, Eq. 6 to 8): pure functions over clean latents, and the record of a decision.

The paper accepts a candidate when its importance 1 - S_max exceeds the redundancy R of the weakest anchor (Eq. 8),
which compares a distance with a similarity and hardly ever holds between redundant anchors. `diversity` compares
like with like: replace when the candidate is less similar to the anchors than the most redundant anchor is.
A policy is a row of `POLICIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..config import AnchorUpdate, MemorySpec


@dataclass(frozen=True)
class Policy:
    """How anchors change once there are as many as fit."""

    told: str
    """What becomes of the anchors, for people; {} is when."""
    accepts: Callable[[float, float], bool] | None = None
    """(S_max of a leaving frame, R of the most redundant anchor) -> whether it takes its place. None: never."""
    averages: bool = False
    """What leaves flows into a running mean of the anchors."""


POLICIES: dict[str, Policy] = {
    "diversity": Policy(
        "replaced {} by a frame that makes them more different",
        lambda similarity, redundancy: similarity < redundancy,
    ),
    "paper": Policy(
        "replaced {} by the paper's equation 8 to the letter",
        lambda similarity, redundancy: 1 - similarity > redundancy,
    ),
    "frozen": Policy("the first frames, for the whole film"),
    "ema": Policy("a running mean of what leaves the recent memory", averages=True),
    "none": Policy("none"),  # and `MemorySpec.capacity` is 0
}
WHEN: dict[AnchorUpdate, str] = {"on_switch": "at a prompt switch", "every_chunk": "at any time", "never": ""}


def becomes_of_anchors(spec: MemorySpec) -> str:
    """What becomes of a memory's anchors, in words."""
    policy = POLICIES[spec.anchor_policy]
    if policy.accepts is not None and spec.anchor_update == "never":
        policy = POLICIES["frozen"]
    return policy.told.format(WHEN[spec.anchor_update])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One candidate measured against the anchors; both numbers of Eq. 6 to 8, whichever rule decided."""

    frame: int
    """Latent frame number of the candidate in the film."""
    sample: int
    """Index in the batch."""
    similarity: float
    """S_max: largest cosine between the candidate and an anchor (importance is 1 - S_max)."""
    redundancy: float
    """R: largest cosine between the target anchor and another one."""
    slot: int
    """Target anchor, the most redundant; the first of equals."""
    replaced: bool
    """Whether the candidate took the slot."""


def measure(anchors: Tensor, candidate: Tensor, given: int = 0) -> tuple[float, float, int]:
    """S_max of a candidate, R of the most redundant anchor and that anchor's slot, from float32 cosines.

    anchors: latents [k ...] with k >= 2, the first `given` of which stay whatever comes; candidate: latents [...], all
    normalised as the network emits them. Nothing is subtracted: around the mean of three alike anchors every anchor is
    as far as the others (R near -1/2), so that no candidate could ever be accepted (dev/LOG.md).
    """
    import torch

    bank = anchors.float().flatten(1)  # k n
    z = candidate.float().flatten()  # n
    bank = torch.nn.functional.normalize(bank, dim=1)
    z = torch.nn.functional.normalize(z, dim=0)
    pairs = bank @ bank.T  # k k
    # Some processors round the two of a pair apart, which no tie would survive.
    pairs = torch.maximum(pairs, pairs.T)
    pairs.fill_diagonal_(-2.0)  # below every cosine: an anchor is not redundant with itself
    # S_max of Eq. 6, and R of every anchor (Eq. 7).
    similarity, redundancy = (bank @ z).max(), pairs.max(1).values
    # argmax of ties is unspecified on some devices; the smallest slot is taken, after one transfer of k + 1 numbers
    s_max, *r = torch.cat([similarity[None], redundancy]).tolist()
    # z_target of Eq. 8, never a picture that was given.
    target = max(range(given, len(r)), key=lambda j: (r[j], -j))
    return s_max, r[target], target
