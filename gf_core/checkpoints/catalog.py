"""Published Wan-family checkpoints: what each file is called, what it was trained to do, and what it needs.

A checkpoint does not say which steps, shift and window it wants, so this table does. Sizes are arithmetic
from the number of parameters (one copy of the network), not measurements of files. Sources: the projects' own
configurations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from ..config import Recipe, SampleSpec
from ..memory.presets import PRESETS

FOUR_STEPS = SampleSpec()


@dataclass(frozen=True)
class KnownCheckpoint:
    """One row: a checkpoint or a family of equal ones."""

    id: str
    """Short name, also accepted by `assume`."""
    title: str
    """Name for people."""
    repository: str
    """Where it is published (Hugging Face repository)."""
    file: str
    """File in that repository."""
    patterns: tuple[str, ...]
    """What the end of its path looks like, written as `normal` does; folders where the pattern has them."""
    sample: SampleSpec = FOUR_STEPS
    """Steps, shift and first chunk that it was distilled for."""
    memory: str = "grounded"
    """Memory preset that makes long films with it."""
    trained_memory: str = "self_forcing"
    """Memory preset that it was trained with."""
    chunk: int = 3
    """Latent frames denoised together."""
    dim: int = 1536
    """Width of the transformer: 1536 is the 1.3B, 5120 the 14B."""
    outer: str | None = None
    """Outer key to take; None takes the first of the usual ones."""
    lora: str | None = None
    """File beside it that has to be merged first."""
    causal: bool = True
    """False for files that generate whole clips at once."""
    refusal: str = ""
    """Why the engine does not drive it; empty when it does."""
    note: str = ""
    """What a user should know."""

    @property
    def size(self) -> str:
        """Expected size of one copy of the network."""
        return "57 GB in fp32, 28.6 GB in bf16" if self.dim == 5120 else "5.7 GB in fp32, 2.8 GB in bf16"

    @property
    def recipe(self) -> Recipe:
        """What it wants: its steps, and the memory that makes long films with it."""
        return Recipe(replace(PRESETS[self.memory], chunk=self.chunk), self.sample)


_CAUSAL_FORCING = KnownCheckpoint(
    "causal_forcing",
    "Causal Forcing, chunk-wise",
    "zhuhz22/Causal-Forcing",
    "chunkwise/causal_forcing.pt",
    ("*chunkwise/causal_forcing*", "*causal_forcing*"),
)
_CAUSVID = SampleSpec(steps=(1000, 757, 522), warp=False, shift=8.0)
_INITIAL = "an initialisation from the middle of a training, not a finished generator"

CATALOG: tuple[KnownCheckpoint, ...] = (
    KnownCheckpoint(
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
        outer="generator_ema",
    ),
    KnownCheckpoint(
        "self_forcing_init",
        "Self Forcing, ODE initialisation",
        "gdhe17/Self-Forcing",
        "checkpoints/ode_init.pt",
        ("*ode_init*",),
        refusal=_INITIAL,
    ),
    KnownCheckpoint(
        "longlive",
        "LongLive 1.3B",
        "Efficient-Large-Model/LongLive-1.3B",
        "models/longlive_base.pt",
        ("*longlive_base*", "*longlive*1.3b*"),
        trained_memory="longlive",
        outer="generator",
        lora="lora.pt",
        note="the base alone makes short films only; lora.pt (rank 256) has to lie beside it and is merged",
    ),
    KnownCheckpoint(
        "memflow",
        "MemFlow 1.3B",
        "KlingAIResearch/MemFlow",
        "base.pt",
        ("*memflow*",),
        trained_memory="longlive",
        outer="generator",
        lora="lora.pt",
        note="trained with a memory bank; driven here with anchors instead",
    ),
    KnownCheckpoint(
        "rolling_forcing",
        "Rolling Forcing 1.3B",
        "TencentARC/RollingForcing",
        "checkpoints/rolling_forcing_dmd.pt",
        ("*rolling_forcing*",),
        sample=SampleSpec(steps=(1000, 800, 600, 400, 200)),
        memory="rolling_forcing",
        trained_memory="rolling_forcing",
    ),
    KnownCheckpoint(
        "causal_forcing_long",
        "Causal Forcing, long video",
        "zhuhz22/Causal-Forcing",
        "chunkwise/longvideo.pt",
        ("*chunkwise/longvideo*", "*causal_forcing*longvideo*"),
        memory="rolling_forcing",
        trained_memory="rolling_forcing",
    ),
    replace(
        _CAUSAL_FORCING,
        id="causal_forcing_2step",
        title="Causal Forcing++, 2 steps",
        file="causal-forcing++/framewise-2step.pt",
        patterns=("*framewise_2step*",),
        sample=SampleSpec(steps=(1000, 500), first_steps=(1000, 750, 500, 250)),
        chunk=1,
        outer="generator_ema",
    ),
    replace(
        _CAUSAL_FORCING,
        id="causal_forcing_1step",
        title="Causal Forcing++, 1 step",
        file="causal-forcing++/framewise-1step.pt",
        patterns=("*framewise_1step*",),
        sample=SampleSpec(steps=(1000,), first_steps=(1000, 750, 500, 250)),
        chunk=1,
        outer="generator_ema",
    ),
    KnownCheckpoint(
        "causal_forcing_init",
        "Causal Forcing, initialisation",
        "zhuhz22/Causal-Forcing",
        "ar_diffusion.pt",
        ("*ar_diffusion.*", "*causal_ode.*", "*causal_cd.*", "*chunkwise/cd.*", "*framewise/cd.*"),
        refusal=_INITIAL,
    ),
    replace(
        _CAUSAL_FORCING,
        id="causal_forcing_framewise",
        title="Causal Forcing, frame-wise",
        file="framewise/causal_forcing.pt",
        patterns=("*framewise/causal_forcing*", "*causal_forcing*framewise*"),
        chunk=1,
        outer="generator_ema",
    ),
    _CAUSAL_FORCING,
    KnownCheckpoint(
        "infinite_forcing",
        "Infinite Forcing 1.3B, the file of Infinity-RoPE",
        "SOTAMak1r/Infinite-Forcing",
        "ema_model.pt",
        ("ema_model.pt", "*infinite_forcing*", "*infinity_rope*"),
        memory="infinity_rope",
        trained_memory="infinity_rope",
        outer="generator_ema",
    ),
    KnownCheckpoint(
        "reward_forcing",
        "Reward Forcing 1.3B",
        "JaydenLu666/Reward-Forcing-T2V-1.3B",
        "rewardforcing.pt",
        ("*rewardforcing*", "*reward_forcing*"),
        memory="reward_forcing",
        trained_memory="reward_forcing",
    ),
    KnownCheckpoint(
        "sgf_plus",
        "Self Gradient Forcing+ 1.3B",
        "ZihanSu/Self_Gradient_Forcing_Plus",
        "chunkwise/model.pt",
        ("*self_gradient_forcing_plus*", "*self_gradient_forcing_plus*/chunkwise/model.pt"),
        memory="sgf",
        trained_memory="sgf",
    ),
    KnownCheckpoint(
        "sgf",
        "Self Gradient Forcing 1.3B",
        "JunhaoZhuang/Self_Gradient_Forcing",
        "chunkwise/model.pt",
        ("*self_gradient_forcing*", "*self_gradient_forcing*/chunkwise/model.pt"),
        memory="sgf",
        trained_memory="sgf",
    ),
    KnownCheckpoint(
        "krea",
        "Krea Realtime 14B",
        "krea/krea-realtime-video",
        "krea-realtime-video-14b.safetensors",
        ("*krea_realtime*",),
        dim=5120,
        sample=SampleSpec(steps=(1000, 937, 833, 625, 0), warp=False),
        memory="krea",
        trained_memory="krea",
    ),
    KnownCheckpoint(
        "causvid",
        "CausVid 1.3B",
        "tianweiy/CausVid",
        "autoregressive_checkpoint/model.pt",
        ("*autoregressive_checkpoint/model.pt", "*causvid*1.3b*", "*1.3b*causvid*"),
        sample=_CAUSVID,
        outer="generator",
        note="trained with a growing memory of up to 21 latent frames",
    ),
    KnownCheckpoint(
        "causvid_14b",
        "CausVid 14B",
        "lightx2v/Wan2.1-T2V-14B-CausVid",
        "diffusion_pytorch_model.safetensors",
        ("*14b_causvid*", "*causvid*14b*"),
        dim=5120,
        sample=SampleSpec(steps=(999, 934, 862, 756, 603, 410, 250, 140, 74), warp=False, shift=8.0),
    ),
    KnownCheckpoint(
        "self_forcing_diffusers",
        "Self Forcing 1.3B in diffusers layout",
        "wlsaidhi/SFWan2.1-T2V-1.3B-Diffusers",
        "transformer/",
        ("*sfwan2.1*", "*self_forcing_diffusers*"),
    ),
    KnownCheckpoint(
        "wan",
        "Wan 2.1 text-to-video",
        "Wan-AI/Wan2.1-T2V-1.3B",
        "diffusion_pytorch_model.safetensors",
        ("*wan2.1_t2v_1.3b*", "*wan2_1_t2v_1_3b*", "*wan2.1_t2v_14b*", "*wan2_1_t2v_14b*"),
        causal=False,
    ),
)


def by_id(name: str) -> KnownCheckpoint | None:
    """The row called `name`."""
    return next((row for row in CATALOG if row.id == name), None)


def match(path: Path, dim: int, outer: str | None = None) -> KnownCheckpoint | None:
    """The row whose patterns fit the end of `path`, for a transformer of width `dim` found under `outer`.

    Rows of another published width never match; unusual widths (the built-in model) match by name alone.
    """
    parts = [normal(part) for part in path.parts]
    while len(parts) > 1 and parts[-1].startswith(("diffusion_pytorch_model", "transformer")):
        parts.pop()
    if len(parts) > 2 and parts[-2] == "snapshots":
        del parts[-2:]
    for row in CATALOG:
        if dim in (1536, 5120) and row.causal and row.dim != dim:
            continue
        if row.id == "infinite_forcing" and parts[-1] == "ema_model.pt" and outer != "generator_ema":
            continue
        tails = ("/".join(parts[-1 - pattern.count("/") :]) for pattern in row.patterns)
        if any(fnmatch(tail, pattern) for tail, pattern in zip(tails, row.patterns)):
            return row
    return None


def normal(text: str) -> str:
    """Lower case with '-' and ' ' as '_', as the patterns are written."""
    return text.lower().replace("-", "_").replace(" ", "_")
