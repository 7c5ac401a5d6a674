"""The Wan2.1 VAE as a stream: its 3-D convolutions keep their last two input frames from call to call.

The network is diffusers' `AutoencoderKLWan`, whose modules `wan_stages` walks through. On the processor how a film is
split changes no bit. Source: Wan2.1 `wan/modules/vae.py`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..errors import GroundedError
from .base import check_frames, foreign_state, lay_channels_last, piecewise
from .wan_pieces import CARD, PLAIN, Fused
from .wan_stages import REPEAT, FeatureCache, Stages

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

log = logging.getLogger("grounded")
WAN_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
"""Mean of each latent channel before normalisation."""
WAN_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip
"""Standard deviation of each latent channel before normalisation."""


def saved_cache(cache: FeatureCache) -> dict[str, Tensor]:
    """A cache as named tensors, shared and never written again: `07` a history, `11.repeat` a mark."""
    state = {}
    for slot, entry in enumerate(cache):
        if isinstance(entry, Tensor):
            state[f"{slot:02d}"] = entry
        elif entry == REPEAT:
            state[f"{slot:02d}.repeat"] = torch.ones(1, dtype=torch.uint8)
    return state


def restored_cache(state: dict[str, Tensor], slots: int, like: Tensor) -> FeatureCache:
    """The cache that `saved_cache` wrote down, where and of the type that `like` is.

    Raises GroundedError: the state is of another decoder.
    """
    cache: FeatureCache = [None] * slots
    for name, value in state.items():
        slot, _, mark = name.partition(".")
        if not slot.isdecimal() or int(slot) >= slots or mark not in ("", "repeat"):
            raise foreign_state(repr(name), f"a Wan VAE of {slots} layers")
        cache[int(slot)] = REPEAT if mark else value.to(like)
    return cache


class WanVAE(nn.Module):
    """Encodes and decodes films; weights in any dtype, latents and pictures cross in float32.

    network: the modules.
    latents_mean, latents_std: what a latent channel is normalised by.
    fingerprint: tells two sets of weights apart.
    """

    kind = "wan"
    _pieces: Fused | None = None

    def __init__(
        self, network: AutoencoderKLWan, latents_mean: Sequence[float] = WAN_MEAN,
        latents_std: Sequence[float] = WAN_STD, fingerprint: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        config: Any = network.config
        if not len(latents_mean) == len(latents_std) == config.z_dim:
            raise GroundedError(
                f"a VAE of {config.z_dim} channels with {len(latents_mean)} means and {len(latents_std)} deviations",
                "give one mean and one deviation per latent channel",
            )
        self.network = network
        self.channels: int = config.z_dim
        self.spatial_stride = 2 ** (len(config.dim_mult) - 1)
        self.time_stride = 2 ** sum(config.temperal_downsample)
        self.fingerprint = fingerprint
        # Not buffers: a cast of the weights must not round them.
        self._mean = torch.tensor(latents_mean, dtype=torch.float32)[:, None, None]
        self._std = torch.tensor(latents_std, dtype=torch.float32)[:, None, None]

    @property
    def like(self) -> Tensor:
        """A weight, for its device and dtype."""
        return self.network.post_quant_conv.weight

    def natural(self, latents: Tensor) -> Tensor:
        """Latents of the video model `... c h w` -> those of the VAE, float32."""
        return latents.float() * self._std.to(latents.device) + self._mean.to(latents.device)

    def normalised(self, latents: Tensor) -> Tensor:
        """Latents of the VAE `... c h w` -> those of the video model, float32."""
        return (latents.float() - self._mean.to(latents.device)) / self._std.to(latents.device)

    def fused(self, pieces: Fused) -> WanVAE:
        """The same weights, decoded with these pieces; this one is left as it is."""
        other = copy.copy(self)
        other._pieces = pieces
        return other

    @property
    def arithmetic(self) -> str:
        """Who rounds its pictures, where that is not the device's library alone."""
        return self._pieces.name if self._pieces else ""

    def decoder(self) -> WanDecoder:
        """A stream for one film, in the layout that suits the device where the weights are."""
        return WanDecoder(self, channels_last=self.like.is_cuda, fused=self._pieces)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames `t H W 3` in 0..1 -> normalised latents `f c h w`, float32 on the VAE's device.

        The mean of the posterior, no draw. f = 1 + (t - 1) // 4: frames of an incomplete last group are dropped.
        """
        return self.normalised(self.encode_natural(frames))

    @torch.no_grad()
    def encode_natural(self, frames: Tensor) -> Tensor:
        """`encode` before normalisation; only one group of frames is on the VAE's device at a time."""
        check_frames(frames, self.spatial_stride)
        layers = [m for m in self.network.encoder.modules() if type(m).__name__ == "WanCausalConv3d"]
        cache: FeatureCache = [None] * len(layers)
        step = self.time_stride
        latents = []
        for start in [0, *range(1, len(frames) - step + 1, step)]:
            group = frames[start : start + (step if start else 1)].to(self.like)
            pixels = rearrange(group * 2 - 1, "t h w c -> 1 c t h w")
            moments = self.network.quant_conv(self.network.encoder(pixels, feat_cache=cache, feat_idx=[0]))
            # Behind the means, which come first, are the logarithms of the variances.
            latents.append(moments[0, : self.channels].movedim(0, 1).float())  # f c h w
        return torch.cat(latents)


class WanDecoder:
    """Decodes one film in any number of calls."""

    def __init__(self, vae: WanVAE, *, channels_last: bool = False, fused: Fused | None = None) -> None:
        """channels_last: tensors, and from here on the decoder's weights, lie as a card's convolutions want them, and
        the latent frames of a call go together as long as their pictures are small. fused: pieces for that layout,
        which they bring about."""
        pieces = fused or (CARD if channels_last else PLAIN)
        self._vae, self.together, self._fused = vae, pieces.channels_last, fused
        self._stages = Stages(vae.network.decoder, pieces)
        if self.together:
            lay_channels_last(vae.network.decoder)

    def get_ready(self, height: int, width: int, calls: Sequence[int]) -> None:
        """Have the pieces compiled by a film of nothing: calls of so many latent frames each, from its first one on."""
        if self._fused is None:
            return
        log.info("compiling the decoder, once per card and size")
        other = self._vae.decoder()
        for frames in calls:
            other.decode(torch.zeros(frames, self._vae.channels, height, width, device=self._vae.like.device))

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents `f c h w` -> frames `t H W 3` in 0..1: one for the film's first, 4 for every other."""
        return self.decode_raw(latents).movedim(1, -1).clamp(-1, 1).add_(1).div_(2)

    @torch.no_grad()
    def decode_raw(self, latents: Tensor) -> Tensor:
        """Normalised latents `f c h w` -> what the network says, `t 3 H W`, about -1..1, float32, not clamped."""
        sizes = [1] * len(latents)
        if self.together:
            # The film's first latent frame comes alone (`Stages.pictures`).
            alone = min(1, len(latents)) if self._stages.new else 0
            sizes = [size for size in (alone, len(latents) - alone) if size]
        return piecewise(latents, self._vae, sizes, self._pictures).movedim(-1, 1)

    def _pictures(self, latents: Tensor) -> Tensor:
        vae, network = self._vae, self._vae.network
        natural = vae.natural(latents).to(vae.like)  # f c h w
        pixels = self._stages.pictures(network.post_quant_conv(natural.movedim(0, 1)[None]))
        return torch.cat([rearrange(part[0].float(), "c t h w -> t h w c") for part in pixels])

    def snapshot(self) -> dict[str, Tensor]:
        """The state as named tensors, shared and never written again: `07` a history, `11.repeat` a mark."""
        return saved_cache(self._stages.cache)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `snapshot`; an empty one starts a new film.

        Raises GroundedError: the state is of another decoder.
        """
        cache = self._stages.cache
        cache[:] = restored_cache(state, len(cache), self._vae.like)
