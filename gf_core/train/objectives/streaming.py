"""Streaming long tuning: DMD and its critic on the next piece of a film that goes on (LongLive, 2509.22622)."""

from __future__ import annotations

import torch

from ..films import FilmBatch
from ..rollout import Watch, nobody
from ..streaming import Stream
from . import Loss
from .dmd import learn_window, match_window
from .scores import Matching, Nets


def stream_dmd(nets: Nets, batch: FilmBatch, stream: Stream, match: Matching, watch: Watch = nobody) -> Loss:
    """The student on the next piece; `stream` goes on."""
    told, window = stream.advance(nets.generator, batch)
    watch("window", window.latents)
    return match_window(nets, told, window, match, watch)


def stream_critic(
    nets: Nets, batch: FilmBatch, stream: Stream, match: Matching, watch: Watch = nobody
) -> Loss:
    """The critic on the next piece, of which new frames alone count; `stream` goes on."""
    with torch.no_grad():
        told, window = stream.advance(nets.generator, batch)
    watch("window", window.latents)
    return learn_window(nets, told, window, match, watch)
