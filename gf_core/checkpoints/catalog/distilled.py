"""Causal 1.3B networks that were distilled on clips of about 21 latent frames (Self Forcing and its kin).

Sources: configurations and file lists of the projects.
"""

from __future__ import annotations

from dataclasses import replace

from ...config import SampleSpec
from .row import APACHE, BY_NC, BY_NC_SA, FSDP, INITIAL, UNSTATED, KnownCheckpoint

_BOTH = ("generator_ema", "generator")
_FOUR_FIRST = (1000, 750, 500, 250)
_CAUSVID = SampleSpec(steps=(1000, 757, 522), warp=False, shift=8.0)

SELF_FORCING = KnownCheckpoint(
    "self_forcing",
    "Self Forcing 1.3B",
    "gdhe17/Self-Forcing",
    "checkpoints/self_forcing_dmd.pt",
    (
        "*self_forcing_dmd*",
        "*self_forcing*1.3b*",
        "*1.3b*self_forcing*",
        "*self_forcing_sid*",
        "*self_forcing.*",
    ),
    APACHE,
    outer="generator_ema",
    groups=_BOTH,
)
_FLAT = replace(SELF_FORCING, outer=None, groups=(), inner="")
_FOLDER = replace(_FLAT, file="transformer/", scheme="diffusers", licence=UNSTATED)
_CAUSAL_FORCING = KnownCheckpoint(
    "causal_forcing",
    "Causal Forcing, chunk-wise",
    "zhuhz22/Causal-Forcing",
    "chunkwise/causal_forcing.pt",
    ("*chunkwise/causal_forcing*", "*causal_forcing*"),
    APACHE,
    groups=("generator",),
)
_FRAMEWISE = replace(_CAUSAL_FORCING, chunk=1, outer="generator_ema", groups=_BOTH, inner=FSDP)
_RAVEN = KnownCheckpoint(
    "raven",
    "RAVEN 1.3B",
    "mvp-lab/RAVEN",
    "raven_model.pt",
    ("*raven_model*", "*t2v*raven*"),
    BY_NC,
    inner="",
    note="trained without a window, on 21 latent frames; how its file is wrapped is not described",
)
STREAM_DIFFUSION = KnownCheckpoint(
    "streamdiffusion",
    "StreamDiffusionV2 1.3B",
    "jerryfeng/StreamDiffusionV2",
    "wan_causal_dmd_v2v/model.pt",
    ("*wan_causal_dmd_v2v/*", "*wan_causal_dmd_v2v*"),
    APACHE,
    sample=SampleSpec(steps=(700, 500, 400, 200), warp=False, shift=8.0),
    chunk=1,
    outer="generator",
    groups=("generator",),
    refusal="made to restyle a video that is there: its steps begin at 700, in that video's noise, and films here "
    "begin from noise alone",
)

ROWS = (
    SELF_FORCING,
    replace(
        SELF_FORCING,
        id="self_forcing_init",
        title="Self Forcing, ODE initialisation",
        file="checkpoints/ode_init.pt",
        patterns=("*ode_init*",),
        outer=None,
        groups=("generator",),
        refusal=INITIAL,
    ),
    replace(
        _FOLDER,
        id="self_forcing_diffusers",
        title="Self Forcing 1.3B in diffusers layout",
        repository="wlsaidhi/SFWan2.1-T2V-1.3B-Diffusers",
        patterns=("*sfwan2.1*",),
    ),
    replace(
        _FOLDER,
        id="self_forcing_parity",
        title="Self Forcing 1.3B in diffusers layout, made for equal bits",
        repository="gueraf/Self-Forcing-diffusers",
        patterns=("*self_forcing_diffusers*",),
    ),
    replace(
        _FLAT,
        id="self_forcing_fp8",
        title="Self Forcing 1.3B in fp8",
        repository="lightx2v/Self-Forcing-FP8",
        file="self_forcing_fp8.safetensors",
        patterns=("*self_forcing*fp8*",),
        packed="fp8",
        note="LightX2V runs these weights at about 999, 958, 900, 702; here at the steps that they were trained with",
    ),
    replace(
        _FLAT,
        id="self_forcing_nvfp4",
        title="Self Forcing 1.3B in NVFP4",
        repository="lightx2v/Self-Forcing-NVFP4",
        file="self_forcing_nvfp4.safetensors",
        patterns=("*self_forcing*nvfp4*",),
        packed="nvfp4",
        refusal="its weights are packed as NVFP4, which cannot be read here; use the bf16 or fp8 file of Self Forcing",
    ),
    _CAUSAL_FORCING,
    replace(
        _FRAMEWISE,
        id="causal_forcing_framewise",
        title="Causal Forcing, frame-wise",
        file="framewise/causal_forcing.pt",
        patterns=("*framewise/causal_forcing*", "*causal_forcing*framewise*"),
    ),
    replace(
        _FRAMEWISE,
        id="causal_forcing_2step",
        title="Causal Forcing++, 2 steps",
        file="causal-forcing++/framewise-2step.pt",
        patterns=("*framewise_2step*",),
        sample=SampleSpec(steps=(1000, 500), first_steps=_FOUR_FIRST),
    ),
    replace(
        _FRAMEWISE,
        id="causal_forcing_1step",
        title="Causal Forcing++, 1 step",
        file="causal-forcing++/framewise-1step.pt",
        patterns=("*framewise_1step*",),
        sample=SampleSpec(steps=(1000,), first_steps=_FOUR_FIRST),
    ),
    replace(
        _CAUSAL_FORCING,
        id="causal_forcing_init",
        title="Causal Forcing, initialisation",
        file="ar_diffusion.pt",
        patterns=("*ar_diffusion.*", "*causal_ode.*", "*causal_cd.*", "*chunkwise/cd.*", "*framewise/cd.*"),
        refusal=INITIAL,
    ),
    KnownCheckpoint(
        "one_forcing",
        "One-Forcing 1.3B, 1 step",
        "JiaqiFeng/OneForcing",
        "checkpoints/one_forcing.pt",
        ("*one_forcing*", "*oneforcing*"),
        APACHE,
        sample=SampleSpec(steps=(1000,)),
        chunk=1,
        outer="generator",
        groups=_BOTH,
    ),
    _RAVEN,
    replace(
        _RAVEN,
        id="raven_cmgrpo",
        title="RAVEN 1.3B after CM-GRPO",
        file="cmgrpo_raven_merge.pt",
        patterns=("*cmgrpo_raven_merge*",),
    ),
    replace(
        _RAVEN,
        id="raven_bundle",
        title="RAVEN 1.3B after CM-GRPO, with its adapter beside the weights",
        file="cmgrpo_raven_full.pt",
        patterns=("*cmgrpo_raven_full*",),
        refusal="its adapter is not merged; use cmgrpo_raven_merge.pt of the same repository",
    ),
    KnownCheckpoint(
        "causvid",
        "CausVid 1.3B",
        "tianweiy/CausVid",
        "autoregressive_checkpoint/model.pt",
        ("*autoregressive_checkpoint/model.pt", "*causvid*1.3b*", "*1.3b*causvid*"),
        BY_NC_SA,
        sample=_CAUSVID,
        outer="generator",
        groups=("generator",),
        note="trained with a growing memory of up to 21 latent frames",
    ),
    STREAM_DIFFUSION,
)
