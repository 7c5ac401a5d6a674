"""The built-in model's autoencoder: 1 + 4 (f - 1) frames <-> f latent frames, stride 8, 16 channels.

Four frames are stacked as channels and go through plain 2-D convolutions; time is mixed only on the latent
grid, where every mixing layer looks one latent frame back, so the whole streaming state is a few small
feature maps. A linear path (started from principal components by the training) runs beside the network both
ways. Norms act on the channels of one position, so a crop, a full frame and a stream are treated alike.
Project design; geometry of Wan2.1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import CheckpointError, GroundedError, is_out_of_memory
from ..files.lazy import LazyTensor
from ..files.tensors import open_file
from ..foreign import read_json, with_values
from .base import check_state, piecewise

STRIDE = 8
FRAMES_PER_LATENT = 4
AT_ONCE = 3
"""Latent frames that one call decodes where that keeps their bits."""
FORMAT = "grounded-builtin-codec-1"


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of the autoencoder."""

    channels: int = 16
    """Channels of a latent."""
    encoder_widths: tuple[int, int, int] = (48, 96, 160)
    """Encoder features at 1/2, 1/4 and 1/8 of the picture size."""
    decoder_widths: tuple[int, int, int] = (48, 96, 192)
    """Decoder features at 1/2, 1/4 and 1/8 of the picture size."""
    encoder_blocks: tuple[int, int, int] = (1, 1, 1)
    """Residual blocks of the encoder at the three sizes."""
    decoder_blocks: tuple[int, int, int] = (2, 2, 1)
    """Residual blocks of the decoder at the three sizes."""


class ChannelNorm(nn.Module):
    """RMS norm over the channels of each position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """`n c h w` -> the same."""
        return F.rms_norm(x.movedim(1, -1), self.weight.shape, self.weight.to(x.dtype), 1e-6).movedim(-1, 1)


class ResBlock(nn.Module):
    """Norm, 3x3, SiLU, 3x3, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.inner = _conv(width, width, 3)
        self.outer = _conv(width, width, 3, gain=0.3)

    def forward(self, x: Tensor) -> Tensor:
        """`n c h w` -> the same."""
        return x + self.outer(F.silu(self.inner(self.norm(x))))


class TimeMix(nn.Module):
    """Adds a look at the previous latent frame's features; the first latent frame sees itself as its past."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(2 * width)
        self.mix = _conv(2 * width, width, 1)

    def forward(self, x: Tensor, past: Tensor | None, batch: int) -> tuple[Tensor, Tensor]:
        """`(b f) c h w` and the past `b 1 c h w` -> mixed `(b f) c h w` and the next past `b 1 c h w`."""
        x = rearrange(x, "(b f) c h w -> b f c h w", b=batch)
        before = torch.cat([x[:, :1] if past is None else past.to(x.dtype), x[:, :-1]], dim=1)  # b f c h w
        both = rearrange(torch.cat([x, before], dim=2), "b f c h w -> (b f) c h w")  # (b f) 2c h w
        mixed = rearrange(F.silu(self.mix(self.norm(both))), "(b f) c h w -> b f c h w", b=batch)
        return rearrange(x + mixed, "b f c h w -> (b f) c h w"), x[:, -1:]


class Encoder(nn.Module):
    """Stacked frames `b f 12 H W` (-1..1) -> raw latents `b f c h w`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.encoder_widths
        stacked = 3 * FRAMES_PER_LATENT
        self.linear = _Conv(stacked * STRIDE**2, config.channels, 1)
        self.stem = _conv(stacked * 4, fine, 3)
        self.fine = _blocks(fine, config.encoder_blocks[0])
        self.down1 = _conv(4 * fine, middle, 1)
        self.middle = _blocks(middle, config.encoder_blocks[1])
        self.down2 = _conv(4 * middle, coarse, 1)
        self.mixes = nn.ModuleList([TimeMix(coarse), TimeMix(coarse)])
        self.coarse = _blocks(coarse, config.encoder_blocks[2])
        self.norm = ChannelNorm(coarse)
        self.head = _conv(coarse, config.channels, 1, gain=0.1)

    def forward(self, x: Tensor, past: list[Tensor | None]) -> tuple[Tensor, list[Tensor | None]]:
        """`b f 12 H W` and one past per mixing layer -> `b f c h w` and the pasts of the next call."""
        b = x.shape[0]
        flat = rearrange(x, "b f c h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        skip = self.linear(F.pixel_unshuffle(flat, STRIDE))  # (b f) c h w
        h = self.fine(self.stem(F.pixel_unshuffle(flat, 2)))  # (b f) fine H/2 W/2
        h = self.middle(self.down1(F.pixel_unshuffle(h, 2)))  # (b f) middle H/4 W/4
        h, first = self.mixes[0](self.down2(F.pixel_unshuffle(h, 2)), past[0], b)  # (b f) coarse h w
        h, second = self.mixes[1](self.coarse(h), past[1], b)
        z = self.head(self.norm(h)) + skip
        return rearrange(z, "(b f) c h w -> b f c h w", b=b), [first, second]


class Decoder(nn.Module):
    """Raw latents `b f c h w` -> stacked frames `b f 12 H W` (-1..1, not clamped)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.decoder_widths
        stacked = 3 * FRAMES_PER_LATENT
        self.linear = _Conv(config.channels, stacked * STRIDE**2, 1)
        self.stem = _conv(config.channels, coarse, 3)
        self.mixes = nn.ModuleList([TimeMix(coarse), TimeMix(coarse)])
        self.coarse = _blocks(coarse, config.decoder_blocks[2])
        self.up1 = _conv(coarse, 4 * middle, 1)
        self.middle = _blocks(middle, config.decoder_blocks[1])
        self.up2 = _conv(middle, 4 * fine, 1)
        self.fine = _blocks(fine, config.decoder_blocks[0])
        self.norm = ChannelNorm(fine)
        self.head = _conv(fine, stacked * 4, 3, gain=0.1)

    def forward(self, z: Tensor, past: list[Tensor | None]) -> tuple[Tensor, list[Tensor | None]]:
        """`b f c h w` and one past per mixing layer -> `b f 12 H W` and the pasts of the next call."""
        b = z.shape[0]
        flat = rearrange(z, "b f c h w -> (b f) c h w").contiguous(memory_format=torch.channels_last)
        skip = F.pixel_shuffle(self.linear(flat), STRIDE)  # (b f) 12 H W
        h, first = self.mixes[0](self.stem(flat), past[0], b)  # (b f) coarse h w
        h, second = self.mixes[1](self.coarse(h), past[1], b)
        h = self.middle(F.pixel_shuffle(self.up1(h), 2))  # (b f) middle H/4 W/4
        h = self.fine(F.pixel_shuffle(self.up2(h), 2))  # (b f) fine H/2 W/2
        x = F.pixel_shuffle(self.head(F.silu(self.norm(h))), 2) + skip  # (b f) 12 H W
        return rearrange(x, "(b f) c h w -> b f c h w", b=b), [first, second]


class BuiltinCodec(nn.Module):
    """The autoencoder. Its latents have zero mean and unit deviation per channel over the built-in world."""

    kind = "builtin"
    spatial_stride = STRIDE
    time_stride = FRAMES_PER_LATENT
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: CodecConfig | None = None) -> None:
        super().__init__()
        self.config = config or CodecConfig()
        self.channels = self.config.channels
        self.fingerprint = "untrained"
        self._alike: dict[tuple[int, ...], bool] = {}
        self.net_encoder = Encoder(self.config)
        self.net_decoder = Decoder(self.config)
        self.register_buffer("latent_mean", torch.zeros(self.config.channels))
        self.register_buffer("latent_std", torch.ones(self.config.channels))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """One clip `t h w 3` in 0..1, t = 1 + 4 (f - 1) -> latents `f c h/8 w/8`, one frame at a time."""
        past: list[Tensor | None] = [None, None]
        latents = []
        for piece in stack_frames(frames.to(self.latent_mean)[None] * 2 - 1).split(1, dim=1):
            raw, past = self.net_encoder(piece, past)
            latents.append(self._normalise(raw[0]))
        return torch.cat(latents)

    def encode_batch(self, frames: Tensor) -> Tensor:
        """Clips `b t h w 3` in 0..1 -> latents `b f c h/8 w/8`, all at once."""
        raw, _ = self.net_encoder(stack_frames(frames * 2 - 1), [None, None])
        return self._normalise(raw)

    def decode_batch(self, latents: Tensor) -> Tensor:
        """Latents `b f c h w` of whole clips -> frames `b t H W 3`, about 0..1 but not clamped."""
        stacked, _ = self.net_decoder(self._natural(latents), [None, None])
        return (unstack_frames(stacked, first=True) + 1) / 2

    def decoder(self) -> DecodeStream:
        """A stream that decodes one clip piece by piece."""
        return DecodeStream(self)

    @torch.no_grad()
    def at_once(self, height: int, width: int) -> int:
        """Latent frames of that many cells that a call decodes: `AT_ONCE`, where they come out as one by one, else 1.

        Sums over more positions may be made by other code, in another order, which depends on the processor, the size
        and the threads. So it is tried, once for each, on a processor; a card may choose anew with every call.
        """
        if self.latent_mean.device.type != "cpu":
            return 1
        key = (height, width, torch.get_num_threads())
        if key not in self._alike:
            draw = torch.Generator().manual_seed(0)
            latents = torch.randn(1, AT_ONCE, self.channels, height, width, generator=draw).to(
                self.latent_mean
            )
            # From a clip's beginning: pictures, and the pasts that they leave, must be equal to the bit.
            together, past = self.net_decoder(latents, [None, None])
            apart, before = list[Tensor](), list[Tensor | None]([None, None])
            for one in latents.split(1, 1):
                made, before = self.net_decoder(one, before)
                apart.append(made)
            pairs = ((together, torch.cat(apart, 1)), *zip(past, before))
            self._alike[key] = all(a is not None and b is not None and torch.equal(a, b) for a, b in pairs)
        return AT_ONCE if self._alike[key] else 1

    def _normalise(self, raw: Tensor) -> Tensor:
        return (raw - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def _natural(self, latents: Tensor) -> Tensor:
        return latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None]


class DecodeStream:
    """Decodes a clip in any number of calls; its state is what the mixing layers saw last, at first nothing."""

    def __init__(self, codec: BuiltinCodec) -> None:
        self._codec = codec
        self._past: list[Tensor | None] = [None, None]
        self._inside = False
        """Pictures came before, whether they are remembered or not."""

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """`f c h w` -> frames `t H W 3` in 0..1: one for the clip's first latent frame, 4 for every other."""
        count, several = len(latents), 1
        # Not in the first call: nobody waits for a trial to see the first pictures.
        if count >= AT_ONCE and self._inside:
            several = self._codec.at_once(*latents.shape[-2:])
        # What is left over goes one by one: calls of another length were not tried.
        sizes = [several] * (count // several) + [1] * (count % several)
        return piecewise(latents.to(self._codec.latent_mean), self._codec, sizes, self._pictures).clamp(0, 1)

    def get_ready(self, height: int, width: int, calls: Sequence[int]) -> None:
        """Try what is tried once for latents of so many cells, from any thread; else a later call does."""
        self._codec.at_once(height, width)

    def _pictures(self, latent: Tensor) -> Tensor:
        first, self._inside = not self._inside, True
        stacked, self._past = self._codec.net_decoder(self._codec._natural(latent)[None], self._past)
        return (unstack_frames(stacked, first)[0] + 1) / 2

    def forget(self) -> None:
        """What comes next is its own past, as a clip's first latent frame is; it has 4 pictures all the same."""
        self._past = [None, None]

    def snapshot(self) -> dict[str, Tensor]:
        """The state as named tensors, copied; empty before the first latent frame."""
        return {f"past_{i}": past.clone() for i, past in enumerate(self._past) if past is not None}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `snapshot`; an empty one starts a new clip. Raises GroundedError on others."""
        names = ("past_0", "past_1")
        check_state(state, set(names))
        like = self._codec.latent_mean
        self._past = [state[name].to(like, copy=True) for name in names] if state else [None, None]
        self._inside = bool(state)


def stack_frames(frames: Tensor) -> Tensor:
    """Clips `b t h w 3` -> `b f 12 h w`; the first frame is repeated to fill a latent frame.

    Raises GroundedError when the number of frames or the size does not fit the codec.
    """
    b, t, h, w, _ = frames.shape
    if h % STRIDE or w % STRIDE:
        raise GroundedError(f"codec got pictures of {w}x{h}", f"use a width and height divisible by {STRIDE}")
    if t % FRAMES_PER_LATENT != 1:
        raise GroundedError(f"codec got {t} pictures", "give 1 + 4 n of them")
    frames = torch.cat([frames[:, :1].expand(b, FRAMES_PER_LATENT - 1, h, w, 3), frames], dim=1)
    return rearrange(frames, "b (f k) h w c -> b f (k c) h w", k=FRAMES_PER_LATENT)


def unstack_frames(stacked: Tensor, first: bool) -> Tensor:
    """`b f 12 h w` -> `b t h w 3`; with `first` only the last of the first latent frame's four is kept."""
    frames = rearrange(stacked, "b f (k c) h w -> b (f k) h w c", k=FRAMES_PER_LATENT)
    return frames[:, FRAMES_PER_LATENT - 1 :] if first else frames


def save_codec(codec: BuiltinCodec, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write the weights as fp16 safetensors, the sizes and `notes` in its header."""
    from safetensors.torch import save

    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in codec.state_dict().items()
    }
    header = {"format": FORMAT, "config": json.dumps(asdict(codec.config)), **(notes or {})}
    path.write_bytes(save(tensors, metadata=header))


def load_codec(path: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> BuiltinCodec:
    """Read a file that `save_codec` wrote. Raises CheckpointError when it cannot be used."""
    fix = "give the built-in model's codec file, or train one with `grounded train builtin`"
    file = open_file(path)
    header = file.metadata
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a built-in codec (format {header.get('format')!r})", fix)
    try:
        with torch.device("meta"):  # shapes alone: every number comes from the file
            codec = BuiltinCodec(with_values(CodecConfig(), read_json(header.get("config", "null"))))
        state = {name: _laid_out(tensor) for name, tensor in file.tensors.items()}
        codec.load_state_dict(state, assign=True)
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"the tensors of {path} do not fit its own header: {error}", fix) from error
    codec.fingerprint = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    return codec.to(device, dtype).eval()


def _laid_out(tensor: LazyTensor) -> Tensor:
    """A tensor of a file in float32, as convolutions want it."""
    layout = torch.channels_last if len(tensor.shape) == 4 else torch.contiguous_format
    out = torch.empty(tensor.shape, dtype=torch.float32, memory_format=layout)
    tensor.copy_to(out)
    return out


class _Conv(nn.Conv2d):
    """A convolution that draws no numbers on the meta device, where doing so imports what takes longer."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


def _conv(inputs: int, outputs: int, kernel: int, gain: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps the size, with He init: torch's default left deep stacks without gradient."""
    conv = _Conv(inputs, outputs, kernel, padding=kernel // 2)
    if conv.weight.is_meta:
        return conv
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    with torch.no_grad():
        conv.weight.mul_(gain)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(width) for _ in range(count)))
