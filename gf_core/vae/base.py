"""What every autoencoder offers the engine: a stream that decodes, an encoder, and the geometry between them.

Latents are those of the video model, normalised. The first latent frame of a film is one picture, every later one four.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from einops import repeat
from torch import Tensor, nn

from ..errors import CheckpointError, GroundedError

WIDEST = torch.complex128
"""Type of the largest elements, for copies alone."""


@runtime_checkable
class StreamDecoder(Protocol):
    """Decodes one film piece by piece; how it is split does not change the pictures.

    To the bit on a processor. A card may sum calls of another length in another order, so whoever wants the same bits
    decodes in the same pieces: the engine in those of a chunk.
    """

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `f c h w` -> frames `t H W 3`, float 0..1; 1 + 4 (f - 1) for the film's first call, 4 f later."""
        ...

    def snapshot(self) -> dict[str, Tensor]:
        """The state as named tensors, to be kept unchanged; empty before the first latent frame."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `snapshot`; an empty one starts a new film."""
        ...


@runtime_checkable
class LatentCodec(Protocol):
    """An autoencoder between pictures and the latents of a video model."""

    channels: int
    """Channels of a latent."""
    spatial_stride: int
    """Picture pixels per latent cell, each way."""
    time_stride: int
    """Pictures per latent frame after the first."""
    fingerprint: str
    """Tells two sets of weights apart."""

    def decoder(self) -> StreamDecoder:
        """A stream for one film."""
        ...

    def encode(self, frames: Tensor) -> Tensor:
        """Frames `t H W 3`, float 0..1 -> latents `f c h w`, f = 1 + (t - 1) // 4."""
        ...


def fill(network: nn.Module, tensors: Mapping[str, Tensor], what: str, fix: str) -> None:
    """Put a file's tensors into a network as they are, for use only. Raises CheckpointError unless it is `what`."""
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the tensors do not make {what}: {str(error).splitlines()[-1].strip()}", fix
        ) from error
    network.eval().requires_grad_(False)


def piecewise(
    latents: Tensor, codec: LatentCodec, sizes: Sequence[int], pictures: Callable[[Tensor], Tensor]
) -> Tensor:
    """The pictures `t H W 3` of latents `f c h w`, by `pictures` of `sizes` latent frames at a time.

    One at a time, equal shapes give equal bits whatever a call holds, and a decoder learns where its film begins.
    """
    check_latents(latents, codec.channels)
    if not len(latents):
        height, width = (size * codec.spatial_stride for size in latents.shape[2:])
        return latents.new_zeros(0, height, width, 3, dtype=torch.float32)
    made = [pictures(part) for part in latents.split(list(sizes))]
    return made[0] if len(made) == 1 else torch.cat(made)


def lay_channels_last(network: nn.Module) -> None:
    """Lay the convolutions' weights with the channels of a position side by side, as those of a card want them."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            form = torch.channels_last if isinstance(layer, nn.Conv2d) else torch.channels_last_3d
            layer.weight.data = layer.weight.data.contiguous(memory_format=form)


def lies_last(x: Tensor) -> bool:
    """Whether the channels of a position of `t c h w` lie side by side."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def lifted(x: Tensor, times: int) -> Tensor:
    """`t (times c) h w` -> `(t times) c 2h 2w`, laid as `x` is: frames in the channels come apart, pixels are doubled.

    One copy. What mixes channels of a pixel alone goes in front of it, to the same bits at a quarter of the work.
    """
    if lies_last(x):
        parts = packed(x.movedim(1, -1).unflatten(-1, (times, -1)))  # t h w k c
        large = repeat(parts, "t h w k c -> (t k) (h i) (w j) c", i=2, j=2)
        return large.view(x.dtype).movedim(-1, 1)
    return repeat(x, "t (k c) h w -> (t k) c (h i) (w j)", k=times, i=2, j=2)


def packed(x: Tensor) -> Tensor:
    """`... c`, channels side by side, as elements of 16 bytes where they fit: fewer of them for a card to copy."""
    return x.view(WIDEST) if x.shape[-1] * x.itemsize % WIDEST.itemsize == 0 else x


def put(place: Tensor, x: Tensor) -> None:
    """`place[:] = x`, both `b c ...`, however they lie."""
    there, here = place.movedim(1, -1), x.movedim(1, -1)
    # Longer elements only where channels lie side by side in both; `x` may be one number for all.
    if here.shape[-1] == there.shape[-1] and here.stride(-1) == there.stride(-1) == 1:
        there, here = packed(there), packed(here)
    there.copy_(here)


def copied(x: Tensor) -> Tensor:
    """A dense copy of `b c ...`, channels last as in `x`."""
    lying = packed(x.movedim(1, -1)).clone(memory_format=torch.contiguous_format)  # b ... c
    return lying.view(x.dtype).movedim(-1, 1)


def check_latents(latents: Tensor, channels: int) -> None:
    """Raises GroundedError unless `latents` are `f c h w` with the right channels."""
    if latents.ndim != 4 or latents.shape[1] != channels:
        raise GroundedError(
            f"the decoder wants latents [frames, {channels}, height, width], it got {list(latents.shape)}",
            "use the VAE that belongs to the video model, and decode one film at a time",
        )


def check_frames(frames: Tensor, stride: int) -> None:
    """Raises GroundedError unless `frames` are `t H W 3` of a size that `stride` divides, at least one."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise GroundedError(
            f"the encoder wants pictures [frames, height, width, 3], it got {list(frames.shape)}",
            "give at least one RGB picture",
        )
    height, width = frames.shape[1:3]
    if height % stride or width % stride:
        raise GroundedError(
            f"the encoder cannot take pictures of {width}x{height}",
            f"crop or resize to a multiple of {stride}, e.g. {width // stride * stride}x{height // stride * stride}",
        )


def check_state(state: dict[str, Tensor], names: set[str]) -> None:
    """Raises GroundedError unless `state` is empty or has exactly `names`."""
    if state and set(state) != names:
        raise foreign_state(f"{len(state)} tensors", f"this decoder ({len(names)} expected)")


def foreign_state(what: str, decoder: str) -> GroundedError:
    """The refusal of a decoder's state with `what` in it by another `decoder`."""
    return GroundedError(
        f"a decoder state with {what} does not belong to {decoder}",
        "restore a snapshot that the same kind of decoder made",
    )


def to_uint8(frames: Tensor) -> np.ndarray:
    """Frames [t H W 3] in 0..1 (clamped here) -> uint8 array of the same shape, rounded to nearest.

    Raises CheckpointError: some are NaN, which would be black.
    """
    frames = frames.float()
    # One NaN anywhere makes the sum one.
    if frames.sum().isnan():
        raise CheckpointError(
            "the decoder makes pictures of numbers that are none (NaN), which would be black",
            "decode in float32 or bfloat16, or download the VAE again: it may be damaged",
        )
    return frames.mul(255).round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()
