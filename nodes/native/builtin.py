"""The built-in model as native objects: a MODEL of the host's own classes, and a CLIP and VAE that core nodes accept.

Its transformer is a real Wan file, so the host opens it itself. Its text encoder and codec are ours, wrapped so that
CLIPTextEncode, VAEDecode and VAEEncode work; the engine takes them out of the wrapping.
"""

from __future__ import annotations

import inspect
import logging
import math
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...gf_core.builtin import BUILTIN_FILES, BUILTIN_FOLDER
from ...gf_core.text.small import SmallTextEncoder, load_small_encoder
from ...gf_core.vae.builtin import BuiltinCodec, load_codec
from ...gf_core.vae.wan import WAN_MEAN, WAN_STD

TOKENS = "grounded_builtin"
TEXT_ROWS = 512
WORDS_LISTED = "the help of Prompt Timeline"
TEXT_FILE, CODEC_FILE = (BUILTIN_FOLDER / name for name in BUILTIN_FILES[1:])


def _open_text() -> SmallTextEncoder:
    encoder = load_small_encoder(TEXT_FILE)
    encoder.listed = WORDS_LISTED
    return encoder


class BuiltinTokenizer:
    """Words to ids, in the form that the host passes around."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        self._encoder = _open_text()
        self.check_words = self._encoder.check_words

    def tokenize_with_weights(
        self, text: str, return_word_ids: bool = False, **_: Any
    ) -> dict[str, list[list[tuple]]]:
        """One batch of (id, weight) pairs; raises PromptError for words outside the vocabulary."""
        return {TOKENS: [[(token, 1.0) for token in self._encoder.tokenize(text)]]}


class BuiltinTextModel(nn.Module):
    """The text encoder behind the calls that the host's CLIP makes."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        super().__init__()
        self.encoder = _open_text().to(device)
        self.dtypes = {torch.float32}

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """There is one layer and nothing to choose."""

    def reset_clip_options(self) -> None:
        """Nothing was chosen."""

    @torch.no_grad()
    def encode_token_weights(self, tokens: dict[str, list[list[tuple]]]) -> tuple[Tensor, None]:
        """Rows [1, 512, 4096], zero where there is no word, and no pooled vector."""
        device = self.encoder.position.device
        ids = torch.tensor([[pair[0] for pair in tokens[TOKENS][0]]], device=device)
        rows = self.encoder(ids, torch.tensor([ids.shape[1]], device=device)).float()
        spare = self.encoder.text_dim - rows.shape[-1]
        return F.pad(rows, (0, spare, 0, TEXT_ROWS - rows.shape[1])), None


class BuiltinFirstStage(nn.Module):
    """The codec behind the calls that the host's VAE makes: pictures -1..1, latents in the space of Wan's VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.codec: BuiltinCodec = load_codec(CODEC_FILE)

    def encode(self, x: Tensor) -> Tensor:
        """Pictures [b 3 t H W] to latents [b c f h w]; pictures of an unfinished group of 4 are left out."""
        whole = 1 + (x.shape[2] - 1) // 4 * 4
        frames = rearrange(x[:, :, :whole].float(), "b c t h w -> b t h w c").add(1).div(2)
        latents = torch.stack([self.codec.encode(clip) for clip in frames])
        return rearrange(latents, "b f c h w -> b c f h w") * _column(WAN_STD, x) + _column(WAN_MEAN, x)

    def decode(self, z: Tensor) -> Tensor:
        """Latents [b c f h w] to pictures [b 3 t H W]."""
        own = (z.float() - _column(WAN_MEAN, z)) / _column(WAN_STD, z)
        clips = rearrange(own, "b c f h w -> b f c h w")
        frames = torch.stack([self.codec.decoder().decode(clip) for clip in clips])
        return rearrange(frames, "b t h w c -> b c t h w").mul(2).sub(1)


def _column(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Per-channel numbers as [c 1 1 1]."""
    return torch.tensor(values, device=like.device)[:, None, None, None]


def builtin_text(clip: Any) -> SmallTextEncoder | None:
    """The built-in text encoder in a CLIP, or None."""
    inner = clip.cond_stage_model
    return inner.encoder if isinstance(inner, BuiltinTextModel) else None


def builtin_codec(vae: Any) -> BuiltinCodec | None:
    """The built-in codec in a VAE, or None."""
    inner = vae.first_stage_model
    return inner.codec if isinstance(inner, BuiltinFirstStage) else None


def make_clip() -> Any:
    """A native CLIP around the built-in text encoder."""
    import comfy.sd

    target = SimpleNamespace(params={}, clip=BuiltinTextModel, tokenizer=BuiltinTokenizer)
    # Hosts that can stream weights page by page must not try it on modules that are not of their own classes.
    known = inspect.signature(comfy.sd.CLIP.__init__).parameters
    return comfy.sd.CLIP(target, **({"disable_dynamic": True} if "disable_dynamic" in known else {}))


def make_vae() -> Any:
    """A native VAE around the built-in codec."""
    import comfy.model_management as management
    import comfy.sd

    root = logging.getLogger()
    root.addFilter(_other)
    try:  # made of nothing, the host's object holds its own defaults, and complains
        vae = comfy.sd.VAE(sd={})
    finally:
        root.removeFilter(_other)
    vae.first_stage_model = BuiltinFirstStage().eval()
    vae.latent_channels, vae.latent_dim, vae.output_channels = 16, 3, 3
    vae.upscale_ratio = (lambda a: max(0, a * 4 - 3), 8, 8)
    vae.upscale_index_formula = vae.downscale_index_formula = (4, 8, 8)
    vae.downscale_ratio = (lambda a: max(0, math.floor((a + 3) / 4)), 8, 8)
    vae.working_dtypes = [torch.float32]
    vae.memory_used_encode = lambda shape, dtype: 400 * shape[-2] * shape[-1] * 4
    vae.memory_used_decode = lambda shape, dtype: 500 * shape[-2] * shape[-1] * 64 * 4
    vae.device, vae.vae_dtype = management.vae_device(), torch.float32
    vae.output_device = management.intermediate_device()
    vae.patcher = _whole_patcher(vae.first_stage_model, vae.device)
    return vae


def _whole_patcher(module: nn.Module, device: torch.device) -> Any:
    """A plain patcher: these modules are small and not of the host's classes, so they are moved as a whole."""
    from comfy.model_patcher import ModelPatcher

    return ModelPatcher(module, load_device=device, offload_device=torch.device("cpu"))


def _other(record: logging.LogRecord) -> bool:
    return "No VAE weights" not in record.getMessage()
