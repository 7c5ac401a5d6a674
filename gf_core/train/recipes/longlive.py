"""LongLive (arXiv 2509.22622), first version: a window with a sink, then long films whose prompt changes. Values only.

`init` begins from an ODE-initialised causal 1.3B, `long` from what `init` gave. Teacher 14B.
"""

from __future__ import annotations

from dataclasses import replace

from ...memory.presets import PRESETS
from ..lora import LoraSpec
from ..streaming import StreamSpec
from . import self_forcing
from .stage import OPEN, Verbs

INIT_CODE = "NVlabs/LongLive v1.0, configs/longlive_train_init.yaml"
LONG_CODE = "NVlabs/LongLive v1.0, configs/longlive_train_long.yaml"
MEMORY = replace(PRESETS["longlive"], recache_reach=21)
"""As for films, but that training recomputes the newest 21 frames at a change of prompt, the sink with the rest
(global_sink false)."""
RECIPE = replace(self_forcing.DMD.film.recipe, memory=MEMORY)

INIT = replace(
    self_forcing.DMD,
    film=replace(self_forcing.DMD.film, recipe=RECIPE),
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
    stream=StreamSpec(longest=240, piece=18),
    rate=1e-5,
    critic_rate=2e-6,
    iterations=3000,
    lora=LoraSpec(rank=256, alpha=256.0),
    verbs=Verbs(switches=(1, 1), at=tuple(frame // 3 for frame in range(21, 202, 18))),
    sources=INIT.sources
    | {
        "stream": f"{LONG_CODE}: streaming_chunk_size 21 with 3 frames of overlap, streaming_max_length 240",
        "rate": f"{LONG_CODE}: lr",
        "critic_rate": f"{LONG_CODE}: lr_critic",
        "iterations": f"{LONG_CODE}: max_iters",
        "lora": f"{LONG_CODE}: adapter rank 256, alpha 256, all linear layers of blocks, both networks",
        "average": f"{OPEN}the paper says 0.99 from 200, the code has none with adapters; the paper's is taken",
        "verbs": f"{LONG_CODE}: one change a film, switch_choices 21, 39, ..., 201",
    },
)

STAGES = {"init": INIT, "long": LONG}
