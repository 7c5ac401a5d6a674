"""Where noise comes from: a function of (segment seed, chunk in the segment, step), drawn on the CPU.

Lengthening one segment therefore leaves the noise of every other as it was, and a seed means the same on every device.
`clip_noise` is another program's rule, for the same picture from the same seed. Two noises can be mixed by frequency
(FreeInit): what is coarse stays, what is fine is new.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..config import SampleSpec
from ..errors import GroundedError

if TYPE_CHECKING:
    from ..timeline.plan import Plan

LONGEST_CLIP = 256
"""Latent frames of the longest clip of ComfyUI's causal sampler (1024 pictures); its noise is drawn whole."""


def chunk_noise(
    segment_seed: int, chunk_index: int, step: int, shape: tuple[int, ...], steady: float = 0.0
) -> Tensor:
    """Standard normal float32 on the CPU: step 0 is a chunk's initial noise, step i > 0 its i-th re-noise.

    shape: [b f c h w]. steady: share of the frequencies in which initial noise is that of the segment's first chunk.
    """
    if steady and chunk_index and not step:
        first, own = (chunk_noise(segment_seed, index, 0, shape) for index in (0, chunk_index))
        frames, _, rows, columns = shape[1:]
        mask = low_pass((frames, rows, columns), steady, steady)  # t h w
        return mix(first.transpose(1, 2), own.transpose(1, 2), mask).transpose(1, 2).contiguous()  # b f c h w
    key = f"{segment_seed} {chunk_index} {step}".encode()
    seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clip_noise(
    segment_seed: int, chunk_index: int, step: int, shape: tuple[int, ...], first: int, frames: int
) -> Tensor:
    """The same as ComfyUI's own causal sampler draws it, for a segment that is one of its clips.

    Step 0 is the chunk's part of noise that is drawn for the whole clip from the seed; a later step has a seed of its
    own (seed + 1000 chunk + step - 1). ComfyUI draws these on the device that it computes on: equal on the CPU.

    shape: [b f c h w]. first: latent frames of the segment before the chunk. frames: those of the whole segment.
    """
    batch, count, channels, rows, columns = shape
    seed, length = (segment_seed + 1000 * chunk_index + step - 1, count) if step else (segment_seed, frames)
    # b c f h w: drawn in ComfyUI's order of axes, as the same numbers would fall elsewhere in ours.
    drawn = torch.randn(batch, channels, length, rows, columns, generator=torch.Generator().manual_seed(seed))
    begin = 0 if step else first
    return drawn[:, :, begin : begin + count].transpose(1, 2).contiguous()  # b f c h w


def noise_of(sample: SampleSpec, plan: Plan, index: int, shape: tuple[int, ...]) -> Callable[[int], Tensor]:
    """Noise [b f c h w] of each step of chunk `index` of a film, by the rule that the sampler's settings name."""
    number, chunk = plan.places[index]
    seed = plan.segments[number].seed
    if sample.noise == "chunk":
        return partial(chunk_noise, seed, chunk, shape=shape, steady=sample.steady)
    lengths = _lengths(plan, number)
    return partial(clip_noise, seed, chunk, shape=shape, first=sum(lengths[:chunk]), frames=sum(lengths))


def check_noise(sample: SampleSpec, plan: Plan) -> None:
    """Refuse a film whose noise is drawn clip by clip where a segment is longer than such a clip can be.

    Raises GroundedError.
    """
    for number, segment in enumerate(plan.segments if sample.noise == "comfyui" else ()):
        if (frames := sum(_lengths(plan, number))) > LONGEST_CLIP:
            raise GroundedError(
                f"segment {segment.index + 1} has {frames} latent frames, and ComfyUI's own sampler makes at most "
                f"{LONGEST_CLIP}",
                "shorten it, or draw noise chunk by chunk (noise `chunk`)",
            )


def _lengths(plan: Plan, number: int) -> list[int]:
    """Latent frames of each chunk of a segment."""
    segment = plan.segments[number]
    return [plan.timing.latent_frames(segment.first_chunk + chunk) for chunk in range(segment.chunks)]


def low_pass(shape: tuple[int, int, int], space: float, time: float, order: int = 4) -> Tensor:
    """Share [t h w] of every frequency that passes a Butterworth filter, the lowest in the middle, float32.

    shape: frames, rows, columns. space, time: where the filter ends, as a share of the range; 0 lets nothing pass.
    order: its steepness. As in the published code, of odd sizes the lowest frequency is a hair off.
    """
    if space == 0 or time == 0:
        return torch.zeros(shape)
    t, h, w = (2 * torch.arange(size, dtype=torch.float64) / size - 1 for size in shape)
    far = (space / time * t)[:, None, None] ** 2 + h[:, None] ** 2 + w**2  # squared distance
    return (1 / (1 + (far / space**2) ** order)).float()


def mix(low: Tensor, high: Tensor, mask: Tensor) -> Tensor:
    """The frequencies of `low` [... t h w] that `mask` [t h w] lets pass, and the others of `high`.

    The sum of two noises is a little quieter or louder than either where the mask is neither 0 nor 1.
    """
    axes = (-3, -2, -1)
    parts = [torch.fft.fftshift(torch.fft.fftn(x.float(), dim=axes), dim=axes) for x in (low, high)]
    both = parts[0] * mask + parts[1] * (1 - mask)
    return torch.fft.ifftn(torch.fft.ifftshift(both, dim=axes), dim=axes).real
