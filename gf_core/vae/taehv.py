"""TAEHV, the tiny autoencoder for Wan latents: 2-D convolutions, and blocks that remember one frame.

Takes the latents as the video model emits them and gives pictures in 0..1. A block's memory is the whole state of a
stream. Layout of the public `taew2_1` files (madebyollin/taehv); widths are read from the tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import CheckpointError
from .base import check_frames, check_state, fill, lay_channels_last, lies_last, lifted, piecewise, put

GROWTH = (1, 2, 2)
"""Frames out per frame in at the decoder's three stages."""
POOLING = (2, 2, 1)
"""Frames in per frame out at the encoder's three stages."""
TIME_STRIDE = 4
GROW_AT = (7, 13, 19)
FINE_FROM = 13
"""Layer of the decoder from which on pictures are large: a latent frame at a time goes through these."""

FUSED = "adds and clips in cuDNN"
"""The arithmetic of a card."""


def conv(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """3x3, size kept (halved at stride 2)."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)


def bent(layer: Any, x: Tensor, aside: Tensor | None = None) -> Tensor:
    """ReLU of `layer`, a `conv` of stride 1, plus `aside`: in one pass where cuDNN is asked for channels last."""
    if x.is_cuda and lies_last(x) and fuses(x.device):
        form = [1, 1], [1, 1], [1, 1], 1
        if aside is None:
            return torch.cudnn_convolution_relu(x, layer.weight, layer.bias, *form)
        return torch.cudnn_convolution_add_relu(x, layer.weight, aside, 1, layer.bias, *form)
    made = layer(x)
    return (made if aside is None else made.add_(aside)).relu_()


@functools.cache
def fuses(device: torch.device) -> bool:
    """Whether cuDNN adds and clips as it convolves: it does from Ampere on."""
    if device.type != "cuda" or torch.version.hip or not torch.backends.cudnn.is_available():
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


class SoftClamp(nn.Module):
    """Latents bent into -3..3."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class MemBlock(nn.Module):
    """A residual block over a frame and the one before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(2 * width, width),
            nn.ReLU(inplace=True),
            conv(width, width),
            nn.ReLU(inplace=True),
            conv(width, width),
        )

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """`t c h w` and the frame in front of the first, `1 c h w`."""
        frames, width, *size = x.shape
        form = torch.channels_last if lies_last(x) else torch.contiguous_format
        # t 2c h w, filled in place: behind a frame's channels lie those of the one before it.
        both = torch.empty(frames, 2 * width, *size, dtype=x.dtype, device=x.device, memory_format=form)
        put(both[:, :width], x)
        put(both[:1, width:], before)
        put(both[1:, width:], x[:-1])
        # `bent` clips by itself, so the ReLUs between are passed over.
        first, _, second, _, third = self.conv
        return bent(third, bent(second, bent(first, both)), x)


class Grow(nn.Module):
    """`t c h w` -> `(t k) c 2h 2w`; published after the doubling of pixels, which it may as well stand in front of."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(width, width * factor, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return lifted(self.conv(x), self.factor)


class Pool(nn.Module):
    """`(t k) c h w` -> `t c h w`."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(width * factor, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(rearrange(x, "(t k) c h w -> t (k c) h w", k=self.factor))


def _memory(width: int) -> list[nn.Module]:
    return [MemBlock(width) for _ in range(3)]


def build_decoder(channels: int, widths: tuple[int, int, int, int], out: int) -> nn.Sequential:
    """Latents `f c h w` -> `(f 4) out 8h 8w`."""
    layers: list[nn.Module] = [SoftClamp(), conv(channels, widths[0]), nn.ReLU(inplace=True)]
    for stage, growth in enumerate(GROWTH):
        width, following = widths[stage], widths[stage + 1]
        layers += [
            *_memory(width),
            nn.Identity(),  # `Grow` doubles pixels; files number the layers
            Grow(width, growth),
            conv(width, following, bias=False),
        ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True), conv(widths[3], out))


def build_encoder(channels: int, width: int, inputs: int) -> nn.Sequential:
    """`(f 4) inputs 8h 8w` -> latents `f c h w`."""
    layers: list[nn.Module] = [conv(inputs, width), nn.ReLU(inplace=True)]
    for factor in POOLING:
        layers += [Pool(width, factor), conv(width, width, stride=2, bias=False), *_memory(width)]
    return nn.Sequential(*layers, conv(width, channels))


def _size(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    if name not in state or state[name].ndim != 4:
        raise CheckpointError(f"not a TAEHV file: it has no {name}", "use taew2_1.safetensors or taew2_1.pth")
    return state[name].shape[axis]


class TAEHV(nn.Module):
    """The tiny autoencoder. Same geometry as the Wan VAE; about 30 times faster and somewhat softer."""

    kind = "taehv"
    time_stride = TIME_STRIDE

    def __init__(
        self, channels: int = 16, widths: tuple[int, int, int, int] = (256, 128, 64, 64), encoder_width: int = 64,
        patch: int = 1, fingerprint: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.channels, self.patch, self.fingerprint = channels, patch, fingerprint
        self.spatial_stride = 8 * patch
        self.encoder = build_encoder(channels, encoder_width, 3 * patch**2)
        self.decoder_net = build_decoder(channels, widths, 3 * patch**2)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], fingerprint: str = "") -> TAEHV:
        """Build from the tensors of a file, in their dtype. Raises CheckpointError: the tensors are not of a TAEHV."""
        # Inputs of the convolution behind each `Grow`, and of the last: the stages' widths.
        first, second, third, last = (_size(state, f"decoder.{n}.weight", 1) for n in (8, 14, 20, 22))
        widths = (first, second, third, last)
        pixels = _size(state, "decoder.22.weight", 0)
        patch = {3: 1, 12: 2}.get(pixels, 0)
        if not patch:
            raise CheckpointError(f"a TAEHV with {pixels} picture channels", "use taew2_1.safetensors")
        channels = _size(state, "decoder.1.weight", 1)
        with torch.device("meta"):
            codec = cls(channels, widths, _size(state, "encoder.0.weight", 0), patch, fingerprint)
        # `decoder` is the method that opens a stream.
        own = {
            f"decoder_net.{name.removeprefix('decoder.')}" if name.startswith("decoder.") else name: value
            for name, value in state.items()
        }
        for stage, at in enumerate(GROW_AT):
            # Files of models that grow time more often hold more rows; the last ones are the frame that is kept.
            name = f"decoder_net.{at}.conv.weight"
            own[name] = own[name][-GROWTH[stage] * widths[stage] :] if name in own else torch.empty(0)
        fill(codec, own, "a TAEHV", "use taew2_1.safetensors or taew2_1.pth")
        return codec

    @property
    def arithmetic(self) -> str:
        """Who rounds its pictures, where that is not the device's library alone."""
        return FUSED if fuses(next(self.decoder_net.parameters()).device) else ""

    def decoder(self) -> TinyDecoder:
        """A stream for one film, in the layout that suits the device where the weights are."""
        return TinyDecoder(self, channels_last=next(self.decoder_net.parameters()).is_cuda)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Frames `t H W 3` in 0..1 -> latents `f c h w`, float32; the last frame is repeated to fill a group of 4."""
        check_frames(frames, self.spatial_stride)
        like = next(self.encoder.parameters())
        missing = -len(frames) % TIME_STRIDE
        state: dict[str, Tensor] = {}
        latents = []
        for group in frames.split(TIME_STRIDE):
            if len(group) < TIME_STRIDE:
                group = torch.cat([group, group[-1:].expand(missing, *group.shape[1:])])
            pixels = F.pixel_unshuffle(rearrange(group.to(like), "t h w c -> t c h w"), self.patch)
            latents.append(run_stream(enumerate(self.encoder), pixels, state).float())
        return torch.cat(latents)


def run_stream(layers: Iterable[tuple[int, nn.Module]], x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Frames `t c h w` through numbered layers; `state` holds what each MemBlock saw last and is brought up to date."""
    named = dict(layers)
    for index, layer in named.items():
        if isinstance(layer, nn.ReLU) and isinstance(named.get(index - 1), nn.Conv2d):
            continue  # done with the convolution
        if isinstance(layer, nn.Conv2d) and isinstance(named.get(index + 1), nn.ReLU):
            x = bent(layer, x)
        elif isinstance(layer, MemBlock):
            before = state.get(f"{index:02d}")
            # Copied where there are more: a view would keep all frames of the call alive.
            state[f"{index:02d}"] = x if len(x) == 1 else x[-1:].clone()
            x = layer(x, x.new_zeros(1, 1, 1, 1) if before is None else before)
        else:
            x = layer(x)
    return x


class TinyDecoder:
    """Decodes one film in any number of calls."""

    def __init__(self, codec: TAEHV, *, channels_last: bool = False) -> None:
        """channels_last: tensors, and from here on the decoder's weights, lie as a card's convolutions want them, and
        the latent frames of a call go together as long as their pictures are small."""
        self._codec, self.together = codec, channels_last
        self._state: dict[str, Tensor] = {}
        if channels_last:
            lay_channels_last(codec.decoder_net)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents `f c h w` -> frames `t H W 3` in 0..1: one for the film's first latent frame, 4 for every other."""
        latents = latents.to(next(self._codec.decoder_net.parameters()))
        sizes = [1] * len(latents)
        if self.together:
            latents, sizes = latents.contiguous(memory_format=torch.channels_last), [len(latents)]
        return piecewise(latents, self._codec, sizes, self._pictures).clamp_(0, 1)

    def _pictures(self, latents: Tensor) -> Tensor:
        # A film's first latent frame stands for one picture, the last of its four.
        kept = 0 if self._state else TIME_STRIDE - 1
        layers = list(enumerate(self._codec.decoder_net))
        x = run_stream(layers[:FINE_FROM], latents, self._state)  # f c 2h 2w
        parts = [
            run_stream(layers[FINE_FROM:], part, self._state) for part in x.split(len(x) // len(latents))
        ]
        pixels = F.pixel_shuffle(torch.cat(parts)[kept:], self._codec.patch)  # t 3 H W
        return rearrange(pixels.float(), "t c h w -> t h w c")

    def snapshot(self) -> dict[str, Tensor]:
        """What each block saw last, `1 c h w` by layer number; shared, never written again."""
        return dict(self._state)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `snapshot`; an empty one starts a new film. Raises GroundedError on that of another."""
        network = self._codec.decoder_net
        check_state(state, {f"{n:02d}" for n, layer in enumerate(network) if isinstance(layer, MemBlock)})
        like = next(network.parameters())
        self._state = {name: value.to(like) for name, value in state.items()}
