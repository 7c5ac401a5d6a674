"""The published methods as rows of one table: what each remembers, where it puts it in time, what a switch does.

Sizes are latent frames; sources per row. A method is a row here and never code of its own.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import MemorySpec

_SINK = MemorySpec(anchor_policy="frozen", anchor_update="never", switch="cross_only")
"""The first frames for ever, and a window; a prompt switch swaps the text."""

PRESETS: dict[str, MemorySpec] = {
    # Paper 4.1 to 4.3; geometry of LongLive, whose weights it fits.
    "grounded": MemorySpec(),
    # Self Forcing, whole film of 21 latent frames in memory; absolute and relative positions agree there.
    "self_forcing": replace(_SINK, anchors=0, recent=18, anchor_policy="none"),
    # Self Forcing with a local window; keys keep the position of their frame for ever.
    "self_forcing_rolling": replace(_SINK, anchors=0, recent=18, positions="absolute", max_position=None),
    # LongLive 1.0 (interactive, global sink): absolute positions, all 12 frames recomputed before the oldest leave.
    "longlive": replace(
        _SINK,
        anchor_index="slot",
        positions="absolute",
        switch="recache",
        alpha_max=1.0,
        recache_before_evict=True,
        max_position=None,
    ),
    # Infinity-RoPE: frame 0 and the two newest.
    "infinity_rope": replace(_SINK, anchors=1, recent=2),
    # Reward Forcing: evicted frames flow into a running mean of the first three.
    "reward_forcing": replace(
        _SINK, anchors=3, recent=3, anchor_index="slot", anchor_policy="ema", anchor_update="every_chunk"
    ),
    # SGF: sink and window at the two ends of the trained range, which lasts from 0 to 20.
    "sgf": replace(_SINK, anchor_index="slot", positions="top_aligned"),
    # Context Forcing: 12 frames in which something changed, layer by layer, between sink and recent frames.
    "context_forcing": replace(_SINK, recent=3, anchor_index="slot", positions="top_aligned", bank=12),
    # Light Forcing: of a long memory, each block of queries sees a small part of its own choice.
    "light_forcing": replace(_SINK, anchors=3, recent=15, anchor_index="slot", sparse=0.85),
    # Infinity-RoPE with its RoPE cut: the two newest frames stay at a cut, and the new shot begins far from them.
    "infinity_rope_cut": replace(_SINK, anchors=1, recent=2, cut_position=45),
    # Krea: frame 0 and the two newest, computed anew from their latents before every chunk.
    "krea": replace(_SINK, anchors=1, recent=2, anchor_index="slot", refresh=True),
    # Rolling Forcing: chunks are denoised together; the clean pass sees the newest 21 frames, without the sink.
    "rolling_forcing": replace(_SINK, recent=18, anchor_index="slot", rolling=21),
    # MemRoPE: a slow and a fast mean of all that left, between sink and recent frames.
    "memrope": replace(_SINK, recent=4, anchor_index="slot", bank=2, bank_policy="means"),
    "memrope_adaptive": replace(_SINK, recent=4, anchor_index="slot", bank=2, bank_policy="adaptive"),
    # Wave Forcing: Rolling Forcing's window, in which a chunk does not see the noisier ones behind it.
    "wave_forcing": replace(_SINK, recent=18, anchor_index="slot", rolling=21, wave=True),
    # Rolling Sink: what lies before the newest chunk is a walk over the film's first 18 frames, forward and back.
    "rolling_sink": replace(_SINK, anchors=18, recent=18, anchor_index="slot", walk=True),
}
