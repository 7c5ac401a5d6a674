"""What a video stage has learnt by heart: its loss on the clips that it trains on beside clips that it never saw.

    python -m gf_core.train.recipes.holdout --folder runs/builtin [--stage teacher]

Too few clips show as a gap between the two long before a film shows it.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import torch

from ...files.listing import inside
from ...vae.builtin import load_codec
from ..data import Clips, read_shard
from ..objectives import Precision
from .builtin import needs
from .clips import MIXTURE, SHARD, write_clips
from .video import TEACHER, VideoNet, load_weights, objective_of

log = logging.getLogger("grounded")

SHARDS, BATCHES = 8, 40
"""Fresh shards that are rendered, and batches of either kind of clips that the loss is a mean of."""
FRESH_SEED = 1_000
"""Seed of the fresh shards; the ranks that write a run's clips take 1, 2, ..."""


def flow_losses(net: VideoNet, clips: Path, batches: int, *, forget: float) -> list[float]:
    """Flow-matching losses of `batches` batches out of `clips`, the same noise levels and noise for every folder.

    `forget` is the share of chunks made without memory. Raises GroundedError: a folder cannot be listed.
    """
    precision = Precision()
    objective = objective_of(net, replace(TEACHER, draws=2), precision)
    store = Clips(MIXTURE, precision.device)
    for path in inside(clips):
        if path.suffix == ".safetensors":
            store.add(*read_shard(path))
    losses = []
    for batch in range(batches):
        clip_batch = store.draw(TEACHER.clips, forget)
        torch.manual_seed(batch)
        losses.append(objective(clip_batch).parts["flow"].item())
    return losses


@torch.no_grad()
def gap(net: VideoNet, seen: Path, fresh: Path, batches: int) -> list[str]:
    """One line for chunks with a memory and one for those without: the loss on `seen` and on `fresh` clips."""
    lines = []
    for title, forget in (("with memory", 0.0), ("from text alone", 1.0)):
        parts = []
        for name, folder in (("seen", seen), ("fresh", fresh)):
            losses = flow_losses(net, folder, batches, forget=forget)
            parts.append(f"{name} {fmean(losses):.4f} ± {stdev(losses) / batches**0.5:.4f}")
        lines.append(f"{title:<16} {'  '.join(parts)}")
    return lines


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="loss on trained clips beside clips never seen")
    parser.add_argument("--folder", type=Path, default=Path("runs/builtin"), help="run folder")
    parser.add_argument("--stage", choices=("teacher", "student"), default="teacher")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    codec = load_codec(needs(args.folder / "codec.safetensors", "codec"))
    net = VideoNet()
    load_weights(net, needs(args.folder / f"{args.stage}.pt", args.stage))
    with tempfile.TemporaryDirectory() as fresh:
        write_clips(codec, Path(fresh), SHARDS * SHARD, FRESH_SEED)
        for line in gap(net, args.folder / "clips", Path(fresh), BATCHES):
            log.info(line)


if __name__ == "__main__":
    main()
