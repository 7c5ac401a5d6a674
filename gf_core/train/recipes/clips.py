"""Shards of the small world: rendered pictures, captions as word ids, labels and planned memories."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from einops import reduce
from torch import Tensor

from ...config import MemorySpec
from ...text.small import SmallTextEncoder
from ...vae.builtin import BuiltinCodec
from ...world import ATTRIBUTES, PICTURED, Script, render, sample_script, words
from ..batch import tabulate
from ..data import VARIANTS, Shard, shard_path, store_table, write_shard
from ..schedule import plan_schedule

MIXTURE = {"single": 0.15, "switch": 0.33, "cut": 0.2, "return": 0.14, "mixed": 0.18}
"""Share of each kind of clip."""
CHUNKS = 7
"""Chunks of a clip."""
SHARD = 32
"""Clips in a shard."""
WORDS = 24
"""Word ids of a caption, padded."""
MEMORY = MemorySpec()
"""The built-in model's memory."""
PICTURES = ("frames", "mask", "boxes", "seen")
"""What only the codec's training needs; the rest goes on with the latents."""


def latent_share(mask: Tensor) -> Tensor:
    """Subject mask [t H W] of 1 + 4(n-1) frames to its share of each latent cell [n H/8 W/8]."""
    cells = reduce(mask.float(), "t (h a) (w b) -> t h w", "mean", a=8, b=8)
    return torch.cat([cells[:1], reduce(cells[1:], "(f t) h w -> f h w", "mean", t=4)])


def render_shard(scripts: Sequence[Script]) -> Shard:
    """Pictures of scripts of one length: frames uint8 [n t H W 3], mask, boxes, seen (classes of PICTURED), share."""
    shown = [render(script) for script in scripts]
    masks = [torch.from_numpy(s.mask) for s in shown]
    seen = [
        torch.tensor([segment.labels[: len(PICTURED)] for segment in script.segments])[s.segment_of]
        for script, s in zip(scripts, shown)
    ]
    return {
        "frames": torch.stack([torch.from_numpy(s.frames) for s in shown]),
        "mask": torch.stack(masks),
        "boxes": torch.stack([torch.from_numpy(s.boxes) for s in shown]),
        "seen": torch.stack(seen).to(torch.uint8),
        "share": torch.stack([(latent_share(mask) * 255).round().to(torch.uint8) for mask in masks]),
    }


def _segments(kind: str, chunks: int) -> int:
    """Most segments of a script."""
    most = 1 + max(1, min(4, chunks // 2 - 1))
    return {"single": 1, "return": 3, "mixed": most}.get(kind, 2)


def tables(scripts: Sequence[Script], kind: str, encoder: SmallTextEncoder, rng: random.Random) -> Shard:
    """Prompts, labels and memories of scripts of one kind and length, in shapes that depend on those alone.

    The last prompt of each clip is empty.
    """
    n, chunks = len(scripts), scripts[0].chunks
    most = _segments(kind, chunks)
    prompt = torch.zeros(n, chunks, dtype=torch.long)
    labels = torch.zeros(n, chunks, len(ATTRIBUTES), dtype=torch.long)
    named = torch.zeros(n, chunks, dtype=torch.bool)
    ids = torch.zeros(n, most + 1, WORDS, dtype=torch.long)
    lengths = torch.ones(n, most + 1, dtype=torch.long)
    for row, script in enumerate(scripts):
        for number, s in enumerate(script.segments):
            span = slice(s.start_chunk, s.start_chunk + s.chunks)
            prompt[row, span], named[row, span] = number, s.verb != "then"
            labels[row, span] = torch.tensor(s.labels)
            tokens = encoder.tokenize(s.caption)
            ids[row, number, : len(tokens)] = torch.tensor(tokens)
            lengths[row, number] = len(tokens)
    shard = {"prompt": prompt, "labels": labels, "named": named, "ids": ids, "lengths": lengths}
    events = {"switch": 1, "mixed": most - 1}.get(kind, 0)
    for variant in range(VARIANTS):
        plans = [
            plan_schedule(chunks, {s.start_chunk: s.verb for s in script.segments[1:]}, MEMORY, rng)
            for script in scripts
        ]
        store_table(shard, variant, tabulate(plans, prompt, events))
    return shard


def world_shard(maker: int, number: int, size: int = SHARD, chunks: int = CHUNKS) -> tuple[str, Shard]:
    """Kind and shard `number` of the maker: always the same, and of no other maker. Runs in worker processes."""
    torch.set_num_threads(1)
    first = (maker * 1_000_003 + number) * size
    kind = random.Random(first).choices(list(MIXTURE), list(MIXTURE.values()))[0]
    scripts = [sample_script(random.Random(first + clip), chunks, kind) for clip in range(size)]
    shard = tables(scripts, kind, SmallTextEncoder(words()), random.Random(first))
    return kind, shard | render_shard(scripts)


@torch.no_grad()
def encoded(shard: Shard, codec: BuiltinCodec) -> Shard:
    """The shard with latents in place of its pictures."""
    latents = [codec.encode_batch(part.float() / 255) for part in shard["frames"].split(16)]
    kept = {name: value for name, value in shard.items() if name not in PICTURES}
    return kept | {"latents": torch.cat(latents).half()}


def write_clips(codec: BuiltinCodec, folder: Path, clips: int, maker: int, chunks: int = CHUNKS) -> None:
    """Render and encode about `clips` clips into shards; shards that are there already are kept."""
    for number in range(clips // SHARD):
        if any(shard_path(folder, kind, maker, number).exists() for kind in MIXTURE):
            continue
        kind, shard = world_shard(maker, number, SHARD, chunks)
        write_shard(folder, kind, maker, number, encoded(shard, codec), codec.fingerprint)


def fresh_pictures(seed: int, chunks: int = 3, size: int = 1) -> Iterator[Shard]:
    """Pictures without end, rendered in this process, `size` clips at a time."""
    rng = random.Random(seed)
    while True:
        kind = rng.choices(list(MIXTURE), list(MIXTURE.values()))[0]
        yield render_shard([sample_script(rng, chunks, kind) for _ in range(size)])
