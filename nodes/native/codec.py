"""A host's VAE as the engine's codec: the Wan 2.1 VAE and its tiny versions, decoded as a stream.

The host's own decode wants the whole film. Here its modules are called a few latent frames at a time, with what their
causal convolutions remember kept between the calls. Wan's decoder was rewritten in ComfyUI 0.18: since then it returns
a list, and forgets all but the last call's frames, which `_top_up` mends.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from ...gf_core.errors import CheckpointError
from ...gf_core.vae.base import LatentCodec, check_frames, check_state, piecewise
from ...gf_core.vae.taehv import TIME_STRIDE
from ...gf_core.vae.wan import restored_cache, saved_cache
from .fingerprint import fingerprint

SLOTS = 64
"""Entries of the cache, more than any decoder has layers."""
GROUP = 3
"""Latent frames of one call; three keep the decoder's working memory small."""
CHANNELS = 16
FIX = (
    "connect the VAE of Load Model, or a VAELoader with wan_2.1_vae.safetensors "
    "(254 MB, Comfy-Org/Wan_2.1_ComfyUI_repackaged, into models/vae)"
)


class NativeCodec:
    """What the two kinds of VAE share: geometry, encoding by the host, latents of the model and of the VAE."""

    spatial_stride = 8
    time_stride = TIME_STRIDE
    channels = CHANNELS

    def __init__(self, vae: Any, base: Any) -> None:
        """vae: the host's VAE; base: the host's BaseModel, which knows how latents are normalised."""
        self.vae, self.network, self._base = vae, vae.first_stage_model, base
        self.fingerprint = fingerprint(vae.patcher)

    def natural(self, latents: Tensor) -> Tensor:
        """Latents of the model [f c h w] to those of the VAE [1 c f h w], on its device in its type."""
        whole = rearrange(latents.float(), "f c h w -> 1 c f h w")
        return self._base.process_latent_out(whole).to(self.vae.device, self.vae.vae_dtype)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Frames `t H W 3` in 0..1 to normalised latents `f c h w`, float32 on the CPU."""
        check_frames(frames, self.spatial_stride)
        latents = self.vae.encode(frames)
        return rearrange(self._base.process_latent_in(latents.float())[0], "c f h w -> f c h w").cpu()


class WanCodec(NativeCodec):
    """The Wan 2.1 VAE of the host."""

    kind = "wan"

    def decoder(self) -> WanStream:
        """A stream for one film."""
        return WanStream(self)


class WanStream:
    """Decodes one film in any number of calls; the film's first call of the network holds one latent frame alone."""

    def __init__(self, codec: WanCodec) -> None:
        self._codec = codec
        self._cache: list[Any] = [None] * SLOTS

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents `f c h w` to frames `t H W 3` in 0..1: one for the film's first, 4 for every other."""
        first = 0 if any(entry is not None for entry in self._cache) else 1
        groups = (latents[:first], *latents[first:].split(GROUP))
        sizes = [len(group) for group in groups if len(group)]
        return piecewise(latents, self._codec, sizes, self._network)

    def _network(self, latents: Tensor) -> Tensor:
        network, before = self._codec.network, list(self._cache)
        out = network.decoder(
            network.conv2(self._codec.natural(latents)), feat_cache=self._cache, feat_idx=[0]
        )
        whole = torch.cat(list(out), dim=2) if isinstance(out, list | tuple) else out
        self._top_up(before)
        return rearrange(whole[0].float().clamp(-1, 1).add(1).div(2), "c t h w -> t h w c")

    def _top_up(self, before: list[Any]) -> None:
        """Let every layer remember two frames, also when its last call brought only one."""
        for slot, (old, new) in enumerate(zip(before, self._cache)):
            if not isinstance(new, Tensor) or new is old:
                continue
            if new.shape[2] < 2 and isinstance(old, Tensor):
                new = torch.cat([old[:, :, -1:], new], dim=2)
            # A slice keeps all frames of its call alive; the memory of a stream must not.
            self._cache[slot] = new.contiguous()

    def snapshot(self) -> dict[str, Tensor]:
        """The state as named tensors, never written again: `07` a history, `11.repeat` a mark."""
        return saved_cache(self._cache)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `snapshot`; an empty one starts a new film. Raises GroundedError on that of another."""
        like = torch.empty(0, device=self._codec.vae.device, dtype=self._codec.vae.vae_dtype)
        self._cache = restored_cache(state, SLOTS, like)


class TinyCodec(NativeCodec):
    """A tiny VAE (TAEHV) of the host."""

    kind = "taehv"

    def natural(self, latents: Tensor) -> Tensor:
        """Latents of the model [f c h w] as this network wants them, on its device in its type."""
        # Published taew2_1 files take the model's latents as they are; those that need no scaling take the VAE's.
        if self.network.latent_format is None:
            return super().natural(latents)
        whole = rearrange(latents, "f c h w -> 1 c f h w")
        return whole.to(self.vae.device, self.vae.vae_dtype)

    def decoder(self) -> TinyStream:
        """A stream for one film."""
        return TinyStream(self)


class TinyStream:
    """Decodes one film in any number of calls; a block's memory is the frame it saw last."""

    def __init__(self, codec: TinyCodec) -> None:
        self._codec = codec
        self._state: dict[str, Tensor] = {}

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents `f c h w` to frames `t H W 3` in 0..1: one for the film's first, 4 for every other."""
        return piecewise(latents, self._codec, [1] * len(latents), self._network)

    def _network(self, latent: Tensor) -> Tensor:
        """One latent frame `1 c h w` to pictures `t H W 3`."""
        x, kept = self._codec.natural(latent)[0].transpose(0, 1), 0 if self._state else TIME_STRIDE - 1
        for index, layer in enumerate(self._codec.network.decoder):
            if type(layer).__name__ == "MemBlock":
                before = self._state.get(f"{index:02d}", x.new_zeros(1, *x.shape[1:]))
                self._state[f"{index:02d}"] = x[-1:].clone()
                x = layer(x, torch.cat([before, x[:-1]]))
            else:
                x = layer(x)
        return rearrange(x[kept:].clamp(0, 1).float(), "t c h w -> t h w c")

    def snapshot(self) -> dict[str, Tensor]:
        """What each block saw last, `1 c h w` by layer number; shared, never written again."""
        return dict(self._state)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `snapshot`; an empty one starts a new film. Raises GroundedError on that of another."""
        layers = enumerate(self._codec.network.decoder)
        check_state(state, {f"{index:02d}" for index, layer in layers if type(layer).__name__ == "MemBlock"})
        device, dtype = self._codec.vae.device, self._codec.vae.vae_dtype
        self._state = {name: value.to(device, dtype) for name, value in state.items()}


def native_codec(vae: Any, base: Any) -> LatentCodec:
    """The codec of a host's VAE, for the model whose host object is `base`.

    Raises CheckpointError: a VAE of another model, or one whose modules are not known.
    """
    network = vae.first_stage_model
    home, channels = type(network).__module__, getattr(vae, "latent_channels", 0)
    if home.endswith("ldm.wan.vae") and channels == CHANNELS:
        pictures = network.decoder.head[-1].out_channels
        if pictures == 3:
            return WanCodec(vae, base)
        raise CheckpointError(f"the VAE gives pictures of {pictures} channels instead of 3", FIX)
    if home.endswith("taesd.taehv") and channels == CHANNELS:
        return TinyCodec(vae, base)
    what = "empty" if network is None else f"a {type(network).__name__} with {channels} latent channels"
    raise CheckpointError(f"the VAE is {what}, and the model needs the Wan 2.1 VAE (16 channels)", FIX)
