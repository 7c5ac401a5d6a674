"""LongLive (arXiv 2509.22622), first version: a window with a sink, then long films whose prompt changes. Values only.

`init` begins from an ODE-initialised causal 1.3B, `long` from what `init` gave. Teacher 14B.
"""

from __future__ import annotations

from dataclasses import replace

from ...config import Recipe, SampleSpec, VideoSpec
from ...memory.presets import PRESETS
from ..lora import LoraSpec
from ..rollout import RolloutSpec
from . import self_forcing
from .stage import OPEN, OURS, Verbs

INIT_CODE = "NVlabs/LongLive v1.0, configs/longlive_train_init.yaml"
LONG_CODE = "NVlabs/LongLive v1.0, configs/longlive_train_long.yaml"
MEMORY = replace(PRESETS["longlive"], recache_keeps_anchors=False)
"""As for films, but that training rebuilds the sink too at a change of prompt (global_sink false)."""
RECIPE = Recipe(MEMORY, SampleSpec(steps=(1000, 750, 500, 250), shift=5.0), VideoSpec())

INIT = replace(
    self_forcing.DMD,
    film=RolloutSpec(RECIPE, frames=21, window=21),
    iterations=700,
    sources=self_forcing.DMD.sources
    | {
        "film": f"{INIT_CODE}: local_attn_size 12 with sink_size 3 counted inside, 21 frames",
        "match": f"{INIT_CODE}: guidance_scale, timestep_shift",
        "rate": f"{INIT_CODE}: lr",
        "critic_rate": f"{INIT_CODE}: lr_critic",
        "iterations": f"{INIT_CODE}: max_iters",
    },
)

LONG = replace(
    INIT,
    film=RolloutSpec(RECIPE, frames=240, window=21),
    rate=1e-5,
    critic_rate=2e-6,
    iterations=3000,
    lora=LoraSpec(rank=256, alpha=256.0),
    verbs=Verbs(switches=(1, 1)),
    sources=INIT.sources
    | {
        "film": f"{LONG_CODE}: streaming_max_length 240; {OURS}each step makes a film of its own up to there, where "
        "the published loop goes on with one film by 18 frames a step",
        "rate": f"{LONG_CODE}: lr",
        "critic_rate": f"{LONG_CODE}: lr_critic",
        "iterations": f"{LONG_CODE}: max_iters",
        "lora": f"{LONG_CODE}: adapter rank 256, alpha 256, all linear layers of blocks, both networks",
        "average": f"{OPEN}the paper says 0.99 from 200, the code has none with adapters; the paper's is taken",
        "verbs": f"{LONG_CODE}: switch_mode random_choice, one change a film",
    },
)

STAGES = {"init": INIT, "long": LONG}
