"""Context Forcing (arXiv 2602.06028): short films first, then longer ones under a slow-fast memory. Values only.

`first` is the paper's first term, ordinary distribution matching; `contextual` its second, in which critic and teacher
see 21 frames that the student made, and the student what its memory chose of all of them. It begins from what `first`
gave, teacher and critic from a context teacher.
"""

from __future__ import annotations

from dataclasses import replace

from ...memory.presets import PRESETS
from ..objectives.scores import Matching
from ..rollout import RolloutSpec
from . import self_forcing
from .stage import OPEN, OURS

STAGE_2 = "TIGER-AI-Lab/Context-Forcing, configs of the second stage (commit 6dd9d9a)"
CODE = "TIGER-AI-Lab/Context-Forcing, configs of the first stage (commit 1b94149)"

FIRST = replace(
    self_forcing.DMD,
    betas=(0.9, 0.999),
    critic_betas=(0.5, 0.95),
    clip=2.0,
    sources=self_forcing.DMD.sources
    | {
        "film": f"paper, section 4: films of 81 pictures; context off in the first stage; {OURS}the student sees all "
        "21 frames, where the code lays those that go to its bank over frame 3 and those behind it",
        "match": f"{CODE}: guidance_scale 3",
        "rate": f"{CODE}: lr",
        "critic_rate": f"{CODE}: lr_critic",
        "iterations": f"paper: 600; {OPEN}the code's limit is 2001, the paper's number is taken",
        "betas": f"{CODE}: beta1, beta2",
        "critic_betas": f"{CODE}: beta1_critic, beta2_critic",
        "clip": f"{CODE}: max_grad_norm 2.0",
        "batch": "paper: 64",
        "average": f"{CODE}: ema_weight",
        "average_from": f"{CODE}: ema_start_step",
    },
)

CONTEXTUAL = replace(
    FIRST,
    film=RolloutSpec(
        replace(self_forcing.DMD.film.recipe, memory=PRESETS["context_forcing"]),
        frames=105,
        window=42,
        context=21,
    ),
    match=Matching(guidance=5.0, critic_weighted=True),
    iterations=500,
    sources=FIRST.sources
    | {
        "film": f"{STAGE_2}: context window 21, 84 to 105 frames; the student's memory: sink_size 3, local_attn_size 6 "
        f"with the chunk, cache_size and rope_length 21, keyframe_sample sim; {OURS}lengths are drawn from 42 up from "
        "the first step on, where its grow over 600, and banks are filled as the paper has it, behind the clean pass "
        "of every second chunk, where the code compares the keys of every call, noisy ones too",
        "match": f"{STAGE_2}: guidance_scale 5; model: the critic's loss times the mean of the flow-matching weight",
        "iterations": "paper: 500",
    },
)

STAGES = {"first": FIRST, "contextual": CONTEXTUAL}
