"""Context Forcing (arXiv 2602.06028): short films first, then longer ones under a slow-fast memory. Values only.

`first` is the paper's first term, ordinary distribution matching.
"""

from __future__ import annotations

from dataclasses import replace

from . import self_forcing
from .stage import OPEN

CODE = "TIGER-AI-Lab/Context-Forcing, configs of the first stage (commit 1b94149)"

FIRST = replace(
    self_forcing.DMD,
    betas=(0.9, 0.999),
    critic_betas=(0.5, 0.95),
    clip=2.0,
    sources=self_forcing.DMD.sources
    | {
        "film": "paper, section 4: films of 81 pictures; context off in the first stage",
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

STAGES = {"first": FIRST}
