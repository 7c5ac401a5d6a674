"""Bytes of a memory: what estimates, snapshots and benchmarks count with."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import MemorySpec, ModelSpec
from .policies import POLICIES

SCALE_BYTES = 2
"""Of what a token's head shares where keys and values are packed."""


def is_lean(spec: MemorySpec, turns_at_reading: bool) -> bool:
    """Whether keys are turned when they are read: where that is fast, and where a call reads what others just wrote."""
    # Heads pick from the turned copy of every layer.
    return (turns_at_reading or spec.wave) and not spec.heads


def means_frames(spec: MemorySpec) -> int:
    """Latent frames whose keys and values are running means, held in float32 beside their slots."""
    if spec.averages:
        return spec.bank
    return spec.capacity if POLICIES[spec.anchor_policy].averages else 0


@dataclass(frozen=True)
class Sizes:
    """Bytes of a memory of one shape."""

    spec: MemorySpec
    model: ModelSpec
    latent_height: int
    latent_width: int
    value_bytes: int
    """Bytes per number."""
    ahead: int = 0
    """Frames denoised together with a chunk that come after it."""
    lean: bool = False
    """Turned keys are those of one layer, as it is computed."""

    @property
    def keys(self) -> int:
        """The keys, or the values, of one latent frame in all layers."""
        tokens = self.model.tokens_per_frame(self.latent_height, self.latent_width)
        return self.model.num_layers * tokens * self.model.dim * self.value_bytes

    @property
    def stored(self) -> int:
        """The same as they lie in memory."""
        if self.spec.stored == "full":
            return self.keys
        width = self.model.head_dim
        return self.keys // (width * self.value_bytes) * (width + SCALE_BYTES)

    @property
    def latents(self) -> int:
        """One clean latent frame."""
        return self.model.in_dim * self.latent_height * self.latent_width * self.value_bytes

    @property
    def buffers(self) -> int:
        """All of the memory: raw keys, rotated keys and values of every slot, the latents behind them, all means."""
        spec = self.spec
        frames = spec.slots + self.ahead
        turned = self.keys // self.model.num_layers if self.lean else self.keys
        slots = frames * (2 * self.keys + turned)
        if spec.stored == "int8":  # keys and values, and those of one layer as they are computed
            slots = 2 * frames * (self.stored + self.keys // self.model.num_layers)
        # Mean key of the newest chunk, in float32 (`bank.Bank.mean_key`).
        newest = 4 * self.model.num_layers * self.model.dim if spec.bank and not spec.averages else 0
        return slots + (spec.capacity + spec.window) * self.latents + self.means + newest

    @property
    def means(self) -> int:
        """Running means of keys and values, in float32."""
        return 2 * means_frames(self.spec) * self.keys * 4 // self.value_bytes

    def state(self, frames: int | None = None) -> int:
        """A snapshot with `frames` latent frames in memory: all but the rotated keys. None is a full memory."""
        frames = self.spec.slots if frames is None else frames
        keys = 0 if self.spec.refresh else 2 * frames * self.stored  # it is computed anew
        return keys + (frames + min(self.spec.capacity, frames)) * self.latents + self.means
