"""Grounded Forcing (arXiv 2604.06939): the paper's two stages. Values only, most of which the paper leaves open.

No code is public. The paper credits LongLive's protocol, whose values stand in for what it does not say. Memory,
positions and graded recache are on from the first stage, so that positions never change between stages.
"""

from __future__ import annotations

from dataclasses import replace

from ...memory.presets import PRESETS
from . import longlive
from .stage import OPEN, Verbs

PAPER = "arXiv 2604.06939, implementation details"
LONGLIVE = f"{OPEN}not given; LongLive's, whose protocol the paper credits"
RECIPE = replace(longlive.RECIPE, memory=PRESETS["grounded"])

SHORT = replace(
    longlive.INIT,
    film=replace(longlive.INIT.film, recipe=RECIPE),
    iterations=1200,
    sources=dict.fromkeys(longlive.INIT.sources, LONGLIVE)
    | {
        "film": f"{PAPER}: films of 5 s at 832x480 and 16 fps; 3 anchors, 6 recent frames; steps are Self Forcing's",
        "match": f"{OPEN}teacher and guidance are not given; LongLive's",
        "iterations": f"{PAPER}: 1,200 steps on 32 H20; {OPEN}counted in critic steps, as its forerunners count",
    },
)

LONG = replace(
    SHORT,
    stream=longlive.LONG.stream,
    iterations=1000,
    verbs=Verbs(switches=(1, 5), cuts=0.3),
    sources=SHORT.sources
    | {
        "stream": f"{PAPER}: films longer than 5 s; {OPEN}in LongLive's pieces, up to its 240 latent frames",
        "iterations": f"{PAPER}: 1,000 steps on 32 H20; {OPEN}counted in critic steps",
        "verbs": f"{PAPER}: the prompt changes in the middle of a film; {OPEN}1 to 5 changes, 30 % of them cuts, "
        "as its evaluation has five",
    },
)

STAGES = {"short": SHORT, "long": LONG}
