"""TAEHV, the tiny autoencoder for Wan latents: 2-D convolutions, and blocks that remember one frame.

Takes the latents as the video model emits them and gives pictures in 0..1. A block's memory is the whole state of a
stream. Layout of the public `taew2_1` files (madebyollin/taehv); widths are read from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import CheckpointError
from .base import check_frames, check_state, fill, piecewise

GROWTH = (1, 2, 2)
"""Frames out per frame in at the decoder's three stages."""
POOLING = (2, 2, 1)
"""Frames in per frame out at the encoder's three stages."""
TIME_STRIDE = 4
GROW_AT = (7, 13, 19)


def conv(inputs: int, outputs: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """3x3, size kept (halved at stride 2)."""
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)


class SoftClamp(nn.Module):
    """Latents bent into -3..3."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class MemBlock(nn.Module):
    """A residual block over a frame and the one before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv(2 * width, width), nn.ReLU(), conv(width, width), nn.ReLU(), conv(width, width)
        )

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        """`t c h w` and, of each frame, its predecessor `t c h w`."""
        return F.relu(self.conv(torch.cat([x, past], 1)) + x)


class Grow(nn.Module):
    """`t c h w` -> `(t k) c h w`."""

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(width, width * factor, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.conv(x), "t (k c) h w -> (t k) c h w", k=self.factor)


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
    layers: list[nn.Module] = [SoftClamp(), conv(channels, widths[0]), nn.ReLU()]
    for stage, growth in enumerate(GROWTH):
        width, following = widths[stage], widths[stage + 1]
        layers += [
            *_memory(width),
            nn.Upsample(scale_factor=2),
            Grow(width, growth),
            conv(width, following, bias=False),
        ]
    return nn.Sequential(*layers, nn.ReLU(), conv(widths[3], out))


def build_encoder(channels: int, width: int, inputs: int) -> nn.Sequential:
    """`(f 4) inputs 8h 8w` -> latents `f c h w`."""
    layers: list[nn.Module] = [conv(inputs, width), nn.ReLU()]
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
        """Build from the tensors of a file, in their dtype.

        Raises:
            CheckpointError: the tensors are not of a TAEHV.
        """
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

    def decoder(self) -> TinyDecoder:
        """A stream for one film."""
        return TinyDecoder(self)

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
            latents.append(run_stream(self.encoder, pixels, state).float())
        return torch.cat(latents)


def run_stream(network: nn.Sequential, x: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Frames `t c h w` through the layers; `state` holds what each MemBlock saw last and is brought up to date."""
    for index, layer in enumerate(network):
        if isinstance(layer, MemBlock):
            before = state.get(f"{index:02d}", x.new_zeros(1, *x.shape[1:]))
            # Copied: a view would keep all frames of the call alive.
            state[f"{index:02d}"] = x[-1:].clone()
            x = layer(x, torch.cat([before, x[:-1]]))
        else:
            x = layer(x)
    return x


class TinyDecoder:
    """Decodes one film in any number of calls."""

    def __init__(self, codec: TAEHV) -> None:
        self._codec = codec
        self._state: dict[str, Tensor] = {}

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents `f c h w` -> frames `t H W 3` in 0..1: one for the film's first latent frame, 4 for every other."""
        like = next(self._codec.decoder_net.parameters())
        return piecewise(latents.to(like), self._codec, [1] * len(latents), self._pictures).clamp(0, 1)

    def _pictures(self, latent: Tensor) -> Tensor:
        kept = 0 if self._state else TIME_STRIDE - 1
        pixels = F.pixel_shuffle(run_stream(self._codec.decoder_net, latent, self._state), self._codec.patch)
        return rearrange(pixels[kept:].float(), "t c h w -> t h w c")

    def snapshot(self) -> dict[str, Tensor]:
        """What each block saw last, `1 c h w` by layer number; shared, never written again."""
        return dict(self._state)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `snapshot`; an empty one starts a new film. Raises GroundedError on that of another."""
        network = self._codec.decoder_net
        check_state(state, {f"{n:02d}" for n, layer in enumerate(network) if isinstance(layer, MemBlock)})
        like = next(network.parameters())
        self._state = {name: value.to(like) for name, value in state.items()}
