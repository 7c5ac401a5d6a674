"""The six actions as poses: how a character is placed, squashed, turned and stepping at each frame.

Every action has an integer period, so a segment needs only one drawing per phase (and per half pixel of
position), however long it lasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .canvas import Array
from .vocabulary import DANCE, JUMP, LEFT, RIGHT, SLEEP, STAND

PERIODS = {STAND: 32, LEFT: 16, RIGHT: 16, JUMP: 24, DANCE: 24, SLEEP: 32}
HOP = 12.0
SWAY = np.deg2rad(18.0)


@dataclass(frozen=True)
class Pose:
    """Poses of one action; arrays float32 [p, 1, 1]."""

    hop: Array
    "Height above the ground, pixels."
    angle: Array
    "Sway, radians."
    sx: Array
    "Horizontal stretch; negative when facing left."
    sy: Array
    "Vertical stretch."
    step: Array
    "Phase of the step cycle, radians."
    stride: float
    "1 while walking, else 0."
    lift: Array
    "Arms or wings raised, 0..1."
    turn: float
    "0 seen from the front, 1 in three-quarter side view facing +u."
    asleep: bool
    "Eyes closed."
    breath: Array
    "0..1, the slow pulse of a sleeper."


def poses(action: int, phase: Array) -> Pose:
    """Poses at integer phases `phase` [p] of an action."""
    k = phase.astype(np.float32)[:, None, None]
    turns = 2 * np.pi * k / PERIODS[action]
    zero, one = np.zeros_like(k), np.ones_like(k)
    hop, angle, sx, sy, lift, breath = zero, zero, one, one, zero, zero
    stride, turn, asleep = 0.0, 0.0, False
    if action == STAND:
        sy = 1 + 0.025 * np.sin(turns)
        sx = 1 - 0.015 * np.sin(turns)
    elif action in (LEFT, RIGHT):
        stride, turn = 1.0, 1.0
        hop = 0.9 * (1 - np.cos(2 * turns))
        sx = one if action == RIGHT else -one
        angle = (0.05 + 0.03 * np.sin(turns)) * sx
    elif action == JUMP:
        q = np.clip((k - 5) / 14, 0, 1)
        air = 4 * q * (1 - q)
        hop = HOP * air
        on_ground = np.where(
            k < 5, np.sin(np.pi * k / 5), np.where(k > 19, np.sin(np.pi * (k - 19) / 5), 0.0)
        )
        sy = 1 - 0.16 * on_ground + 0.05 * air
        sx = 1 + 0.12 * on_ground - 0.04 * air
        lift = air
    elif action == DANCE:
        angle = SWAY * np.sin(turns)
        hop = 1.2 * (1 - np.cos(2 * turns))
        lift = 0.5 + 0.5 * np.sin(turns)
    elif action == SLEEP:
        asleep = True
        sy = 0.62 + 0.03 * np.sin(turns)
        sx = 1.14 - 0.02 * np.sin(turns)
        breath = 0.5 - 0.5 * np.cos(turns)
    f = np.float32
    return Pose(
        hop.astype(f),
        angle.astype(f),
        sx.astype(f),
        sy.astype(f),
        turns.astype(f),
        stride,
        lift.astype(f),
        turn,
        asleep,
        breath.astype(f),
    )
