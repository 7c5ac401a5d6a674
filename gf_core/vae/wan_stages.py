"""The Wan VAE's decoder as a walk over diffusers' modules that copies as little as it can.

A causal convolution reads its past and its own frames from one run, into which the activation in front of it is
written. Where pictures are large a latent frame goes at a time, as one-shot decoding does inside; in front of the first
enlargement, where a picture is 64 times smaller, all of a call go together.

On the processor every number is that of diffusers' own forward, to the bit, one latent frame a call. On a card tensors
lie with their channels last, as its convolutions want them, which pad space themselves. What lies between convolutions
is that of `wan_pieces`. Source: Wan2.1 `wan/modules/vae.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .base import copied, lifted, put
from .wan_pieces import Part, Pieces

REPEAT = "Rep"
"""Mark of a slot whose layer has seen the first latent frame only, and doubles time from the second on."""
PAST = 2
"""Frames that a causal convolution looks back."""

FeatureCache = list[Any]
"""One entry per causal convolution, in the order of their calls: its last input frames `1 c f h w`, `REPEAT`, or None
when unused so far."""


def causal_layers(decoder: Any) -> Iterator[nn.Conv3d]:
    """Convolutions that keep a past, in the order in which they are called: their slots in a cache."""
    yield decoder.conv_in
    for part in (decoder.mid_block, *decoder.up_blocks):
        for block in part.resnets:
            yield from (block.conv1, block.conv2)
        for up in getattr(part, "upsamplers", None) or ():
            if up.mode == "upsample3d":
                yield up.time_conv
    yield decoder.conv_out


class Stages:
    """The decoder's stages over one film's cache.

    decoder: diffusers' `WanDecoder3d`.
    pieces: what computes between convolutions, and how tensors lie.
    """

    def __init__(self, decoder: Any, pieces: Pieces) -> None:
        self._decoder, self._pieces = decoder, pieces
        self._slots = {layer: slot for slot, layer in enumerate(causal_layers(decoder))}
        self.cache: FeatureCache = [None] * len(self._slots)
        """Brought up to date in place; its tensors are never written to again."""

    @property
    def new(self) -> bool:
        """Whether no latent frame has come by yet."""
        return self.cache[0] is None

    def pictures(self, features: Tensor) -> Iterator[Tensor]:
        """Latent features `1 c f h w` -> pixels `1 3 t H W` per latent frame: one for the film's first, 4 later.

        The film's first latent frame must come alone.
        """
        decoder = self._decoder
        x = self._causal(decoder.conv_in, Part(features))  # 1 c f h w
        first, *others = decoder.mid_block.resnets
        x = self._residual(first, x)
        for attention, block in zip(decoder.mid_block.attentions, others):
            x = self._residual(block, Part(attention(x.whole())))
        low, *high = decoder.up_blocks
        for block in low.resnets:
            x = self._residual(block, x)
        up, *_ = low.upsamplers
        for frame in self._in_time(up, x).split(1, 2):  # 1 (k c) 1 h w
            x = self._enlarged(up, frame)  # 1 c k 2h 2w
            for part in high:
                for block in part.resnets:
                    x = self._residual(block, x)
                for up_here in part.upsamplers or ():
                    x = self._enlarged(up_here, self._in_time(up_here, x))
            yield self._causal(decoder.conv_out, x, decoder.norm_out).whole()

    def _residual(self, block: Any, x: Part) -> Part:
        """A residual block over `1 c t h w`."""
        aside = x
        # A kernel of 1 has no past, and no slot.
        if isinstance(block.conv_shortcut, nn.Conv3d):
            x = Part(x.whole())
            aside = self._pieces.convolve(block.conv_shortcut, x.values)
        x = self._causal(block.conv1, x, block.norm1)
        return self._pieces.added(self._causal(block.conv2, x, block.norm2), aside)

    def _causal(self, layer: nn.Conv3d, x: Part, norm: Any = None) -> Part:
        """A causal convolution over `1 c t h w`, or over what `norm` and SiLU make of it, behind its past."""
        slot, border = self._slots[layer], layer.kernel_size[-1] // 2
        past, frames = self.cache[slot], x.values.shape[2]
        known = past.shape[2] if isinstance(past, Tensor) else 0
        run, inside = self._run(x.values, border)
        # In front of a film lie zeros.
        if known < PAST:
            inside[:, :, : PAST - known] = 0
        if known:
            put(inside[:, :, PAST - known : PAST], past)
        if norm is None:
            inside[:, :, PAST:].copy_(x.whole())
        else:
            self._pieces.fill(inside[:, :, PAST:], x, norm)
        # Under the mark `time_conv` has no past yet: zeros stand in its place, as in the source.
        kept = PAST if past is REPEAT else min(PAST, known + frames)
        # Copied: a view would keep all frames of the call alive.
        last_seen, last = inside[:, :, -kept:], self._pieces.channels_last
        self.cache[slot] = copied(last_seen) if last else last_seen.clone()
        return self._pieces.convolve(layer, run, border if last else 0)

    def _run(self, x: Tensor, border: int) -> tuple[Tensor, Tensor]:
        """Room for `x` behind its past, and the part inside the border; a card pads in its convolutions."""
        _, channels, frames, height, width = x.shape
        if self._pieces.channels_last:
            size = (1, channels, PAST + frames, height, width)
            run = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last_3d)
            return run, run
        run = x.new_zeros(1, channels, PAST + frames, height + 2 * border, width + 2 * border)
        return run, run[..., border : border + height, border : border + width]

    def _in_time(self, up: Any, x: Part) -> Tensor:
        """`1 c t h w` -> `1 (k c) t h w`: what becomes k frames of each, one before time doubles."""
        if up.mode != "upsample3d":
            return x.whole()
        slot = self._slots[up.time_conv]
        if self.cache[slot] is None:
            # The film's first latent frame is one picture: nothing is doubled in time.
            self.cache[slot] = REPEAT
            return x.whole()
        return self._causal(up.time_conv, x).whole()

    def _enlarged(self, up: Any, x: Tensor) -> Part:
        """`1 (k c) t h w` -> `1 c' (t k) 2h 2w`."""
        conv = up.resample[1]
        large = lifted(x[0].transpose(0, 1), x.shape[1] // conv.in_channels)  # (t k) c 2h 2w
        made = self._pieces.convolve(conv, large, conv.padding[0])
        return replace(made, values=made.values[None].transpose(1, 2))
