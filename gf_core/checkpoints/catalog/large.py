"""Causal networks of the 14B and the 5B, and plain Wan, which is none. Sources: configurations of the projects."""

from __future__ import annotations

from dataclasses import replace

from ...config import SampleSpec
from .distilled import STREAM_DIFFUSION
from .row import APACHE, BY_NC_SA, UNSTATED, KnownCheckpoint

_LONGLIVE_2 = KnownCheckpoint(
    "longlive2",
    "LongLive 2.0 5B",
    "Efficient-Large-Model/LongLive-2.0-5B",
    "model_bf16.pt",
    ("*longlive_2.0_5b*", "*longlive2*", "*longlive_2.0_5b*/model_bf16.pt"),
    APACHE,
    chunk=8,
    dim=3072,
    channels=48,
    groups=("generator",),
    refusal="it is the 5B of Wan 2.2, whose latents have 48 channels and a VAE of their own; films here have 16",
)
_PACKED = replace(
    _LONGLIVE_2,
    file="model_te.pt",
    packed="nvfp4",
    refusal="its weights are packed as NVFP4, which cannot be read here, and its latents have 48 channels (Wan 2.2 5B)",
)
_A14B = KnownCheckpoint(
    "self_forcing_a14b",
    "Self Forcing of Wan 2.2 A14B",
    "rand0nmr/SFWan2.2-T2V-A14B-Diffusers",
    "transformer/",
    ("*sfwan2.2_t2v*",),
    UNSTATED,
    sample=SampleSpec(steps=(1000, 850, 700, 550, 350, 275, 200, 125), shift=12.0),
    dim=5120,
    inner="",
    scheme="diffusers",
    refusal="it is two networks, one for the noisy and one for the late steps, and films here are made by one",
)

ROWS = (
    KnownCheckpoint(
        "krea",
        "Krea Realtime 14B",
        "krea/krea-realtime-video",
        "krea-realtime-video-14b.safetensors",
        ("*krea_realtime*",),
        BY_NC_SA,
        dim=5120,
        sample=SampleSpec(steps=(1000, 937, 833, 625, 0), warp=False),
        memory="krea",
        trained_memory="krea",
    ),
    KnownCheckpoint(
        "causvid_14b",
        "CausVid 14B",
        "lightx2v/Wan2.1-T2V-14B-CausVid",
        "diffusion_pytorch_model.safetensors",
        ("*14b_causvid*", "*causvid*14b*"),
        UNSTATED,
        dim=5120,
        inner="",
        sample=SampleSpec(steps=(999, 934, 862, 756, 603, 410, 250, 140, 74), warp=False, shift=8.0),
    ),
    replace(
        STREAM_DIFFUSION,
        id="streamdiffusion_14b",
        title="StreamDiffusionV2 14B",
        file="wan_causal_dmd_v2v_14b/model.pt",
        patterns=("*wan_causal_dmd_v2v_14b/*", "*wan_causal_dmd_v2v_14b*"),
        dim=5120,
    ),
    _LONGLIVE_2,
    replace(
        _PACKED,
        id="longlive2_nvfp4_4step",
        title="LongLive 2.0 5B in NVFP4, 4 steps",
        repository="Efficient-Large-Model/LongLive-2.0-5B-NVFP4-S4",
        patterns=("*longlive_2.0_5b_nvfp4_s4*", "*longlive_2.0_5b_nvfp4_s4*/model_*.pt"),
    ),
    replace(
        _PACKED,
        id="longlive2_nvfp4_2step",
        title="LongLive 2.0 5B in NVFP4, 2 steps",
        repository="Efficient-Large-Model/LongLive-2.0-5B-NVFP4-S2",
        patterns=("*longlive_2.0_5b_nvfp4_s2*", "*longlive_2.0_5b_nvfp4_s2*/model_*.pt"),
    ),
    _A14B,
    replace(
        _A14B,
        id="self_forcing_a14b_i2v",
        title="Self Forcing of Wan 2.2 A14B, image to video (preview)",
        repository="FastVideo/SFWan2.2-I2V-A14B-Preview-Diffusers",
        patterns=("*sfwan2.2_i2v*",),
        licence=APACHE,
    ),
    KnownCheckpoint(
        "wan",
        "Wan 2.1 text-to-video",
        "Wan-AI/Wan2.1-T2V-1.3B",
        "diffusion_pytorch_model.safetensors",
        ("*wan2.1_t2v_1.3b*", "*wan2_1_t2v_1_3b*", "*wan2.1_t2v_14b*", "*wan2_1_t2v_14b*"),
        APACHE,
        inner="",
        causal=False,
    ),
)
