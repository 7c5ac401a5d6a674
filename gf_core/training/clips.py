"""Encoded clips of the procedural world on disk, and batches drawn from them.

A shard holds clips of one kind and length: their latents, the subject's share of each latent cell, and the seeds from
which script, captions and labels are made again. Shards are written to a temporary name and renamed, so that training
may read the folder while it fills.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from einops import reduce
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..config import MemorySpec
from ..text.small import SmallTextEncoder
from .batch import ClipBatch, forgotten, tabulate
from .layout import plan_layout
from .world import Script, render, sample_script

MIXTURE = {"single": 0.15, "switch": 0.33, "cut": 0.2, "return": 0.14, "mixed": 0.18}
"""Share of each kind of clip."""
SHARD = 32
LABELS = ("subject", "colour", "scarf", "hat", "patch", "place", "time", "action")


def latent_share(mask: Tensor) -> Tensor:
    """Subject mask [t H W] of 1 + 4(n-1) frames to its share of each latent cell [n H/8 W/8]."""
    cells = reduce(mask.float(), "t (h a) (w b) -> t h w", "mean", a=8, b=8)
    return torch.cat([cells[:1], reduce(cells[1:], "(f t) h w -> f h w", "mean", t=4)])


def write_shards(codec_file: Path, folder: Path, clips: int, chunks: int, seed: int) -> None:
    """Render and encode about `clips` clips into shards; shards that are there already are kept."""
    from ..vae.builtin import load_codec

    torch.set_num_threads(1)
    codec = load_codec(codec_file)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = random.Random(seed)
    for number in range(clips // SHARD):
        kind = kinds.choices(list(MIXTURE), list(MIXTURE.values()))[0]
        path = folder / f"{kind}-{chunks}-{seed}-{number:05d}.safetensors"
        if path.exists():
            continue
        first = (seed * 1_000_003 + number) * SHARD
        latents, shares = [], []
        for clip in range(SHARD):
            rendered = render(sample_script(random.Random(first + clip), chunks, kind))
            frames = torch.from_numpy(rendered.frames).float() / 255
            latents.append(codec.encode(frames).half())
            shares.append((latent_share(torch.from_numpy(rendered.mask)) * 255).round().to(torch.uint8))
        temporary = path.with_suffix(".tmp")
        save_file(
            {"latents": torch.stack(latents), "weight": torch.stack(shares)},
            temporary,
            {"kind": kind, "chunks": str(chunks), "first": str(first)},
        )
        temporary.rename(path)


class ClipStore:
    """Batches from a folder of shards, each batch of one kind so that its layouts resemble one another.

    `forget` is the share of chunks, among those whose caption names the character, that are made from text alone:
    otherwise one chunk in seven would teach what a film's first chunk, and each scene's, has to do.
    """

    def __init__(
        self,
        folder: Path,
        encoder: SmallTextEncoder,
        memory: MemorySpec,
        seed: int,
        chunks: int,
        forget: float = 0.0,
    ) -> None:
        self.folder, self.encoder, self.memory, self.chunks = folder, encoder, memory, chunks
        self.forget = forget
        self.rng = random.Random(seed)
        self.paths: list[Path] = []
        self.drawn = 0

    def draw(self, clips: int) -> ClipBatch:
        """A random batch; looks for new shards now and then."""
        if self.drawn % 50 == 0:
            self.paths = sorted(self.folder.glob(f"*-{self.chunks}-*.safetensors"))
        self.drawn += 1
        path = self.rng.choice(self.paths)
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata()
            rows = self.rng.sample(range(SHARD), clips)
            latents, weight = file.get_tensor("latents")[rows], file.get_tensor("weight")[rows]
        first = int(metadata["first"])
        scripts = [sample_script(random.Random(first + row), self.chunks, metadata["kind"]) for row in rows]
        return self.assemble(scripts, latents.float(), weight.float() / 255)

    def assemble(self, scripts: list[Script], latents: Tensor, weight: Tensor) -> ClipBatch:
        """Prompts, labels and layouts of scripts beside their latents; the last prompt of each clip is empty."""
        count = max(len(script.segments) for script in scripts)
        prompt = torch.zeros(len(scripts), self.chunks, dtype=torch.long)
        labels = torch.zeros(len(scripts), self.chunks, len(LABELS), dtype=torch.long)
        alone = torch.zeros(len(scripts), self.chunks, dtype=torch.bool)
        texts: list[str] = []
        layouts = []
        for row, script in enumerate(scripts):
            for number, s in enumerate(script.segments):
                span = slice(s.start_chunk, s.start_chunk + s.chunks)
                prompt[row, span] = number
                if s.verb != "then":
                    alone[row, span] = torch.tensor(
                        [self.rng.random() < self.forget for _ in range(s.chunks)]
                    )
                who, where = s.character, s.place
                labels[row, span] = torch.tensor(
                    [
                        who.subject,
                        who.colour,
                        who.scarf,
                        who.hat,
                        who.patch,
                        where.place,
                        where.time,
                        s.action,
                    ]
                )
            texts += [s.caption for s in script.segments] + [""] * (count + 1 - len(script.segments))
            verbs = {s.start_chunk: s.verb for s in script.segments[1:]}
            layouts.append(plan_layout(self.chunks, verbs, self.memory, self.rng))
        ids, lengths = self.encoder.batch(texts)
        return ClipBatch(
            latents,
            weight,
            labels,
            ids.unflatten(0, (len(scripts), -1)),
            lengths.unflatten(0, (len(scripts), -1)),
            prompt,
            forgotten(tabulate(layouts, prompt), alone),
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Render and encode training clips of the procedural world.")
    parser.add_argument("--codec", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=8192)
    parser.add_argument("--chunks", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    write_shards(args.codec, args.out, args.clips, args.chunks, args.seed)


if __name__ == "__main__":
    main()
