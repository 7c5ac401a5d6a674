"""States at the ends of segments: how large, how long to keep, read and check, and what a replay costs instead.

    python dev/bench/snapshots.py [--chunks 24] [--json FILE]

Measures the built-in model on this machine (one state after every chunk, and the replay of the same chunks), and
computes the sizes for larger models. A replay runs one clean pass per chunk; sampling runs one more call per step.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gf_core.arguments import Parser
from gf_core.checkpoints.bundle import ModelBundle, load_model
from gf_core.config import SHAPES, MemorySpec
from gf_core.memory.sizes import Sizes
from gf_core.sampling.film import Cues, film_chunks, replay
from gf_core.take.states import StateStore, digest, state_bytes
from gf_core.timeline import Segment, Storyboard, Timing, make_plan

PROMPT = "a red fox walks right in a meadow at noon"


def sizes(shape: str) -> dict[str, int]:
    """Bytes of the exact state of a film at 832x480 in bfloat16 that has filled its memory.

    full: raw keys and values of anchors, recent frames and the last chunk (it displaces the oldest recent frames only
    when the next one begins), which is what is kept. after_cut: of the anchors alone, which is all that a cut leaves.
    rotated_too: with rotated keys, which are made again when a chunk is opened. latents: of one chunk, all that a
    replay needs, and kept anyway.
    """
    memory = MemorySpec()
    frame = Sizes(memory, SHAPES[shape], 60, 104, value_bytes=2)
    full, anchors = 2 * frame.keys * memory.slots, 2 * frame.keys * memory.capacity
    rotated, latents = full + frame.keys * memory.slots, memory.chunk * frame.latents
    return {"full": full, "after_cut": anchors, "rotated_too": rotated, "latents": latents}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


@torch.no_grad()
def measure(bundle: ModelBundle, chunks: int) -> dict[str, Any]:
    """Seconds of everything, per chunk or per state, and whether the replay gave the same bits."""
    embeds = [bundle.text.encode([PROMPT])[0][None]]
    sampled, replayed = (bundle.sampler(bundle.recipe) for _ in range(2))
    timing = Timing.of(bundle.recipe, bundle.codec.time_stride)
    board = Storyboard(segments=(Segment("start", PROMPT, timing.pictures(chunks) / timing.fps, seed=7),))
    plan = make_plan(board, timing)
    decoder, again = bundle.codec.decoder(), bundle.codec.decoder()
    latents: list[Tensor] = []
    spent = dict.fromkeys(("sample", "replay", "decode", "copy", "digest", "sha256", "write", "read"), 0.0)
    equal = []
    made = film_chunks(sampled, Cues(plan, embeds))
    followed = replay(replayed, Cues(plan, embeds), lambda index: latents[index], 0, chunks)
    with tempfile.TemporaryDirectory() as folder:
        store = StateStore(Path(folder) / "states", (), 10**9)
        for index in range(chunks):
            seconds, clean = timed(functools.partial(next, made))
            latents.append(clean.latents)
            spent["sample"] += seconds
            spent["decode"] += timed(functools.partial(decoder.decode, clean.latents[0]))[0]
            seconds, state = timed(sampled.snapshot)
            spent["copy"] += seconds
            seconds, told = timed(functools.partial(digest, state))
            spent["digest"] += seconds
            spent["sha256"] += timed(functools.partial(_sha256, state))[0]
            name = f"{index:024x}.memory"
            spent["write"] += timed(functools.partial(store.save, name, index + 1, state))[0]
            spent["read"] += timed(functools.partial(store.load, name))[0]
            spent["replay"] += timed(functools.partial(next, followed))[0]
            equal.append(digest(replayed.snapshot()) == told)
    for chunk in latents:
        again.decode(chunk[0])
    return {
        "state bytes": state_bytes(sampled.snapshot()),
        "decoder state bytes": state_bytes(decoder.snapshot()),
        "seconds per chunk or state": {name: value / chunks for name, value in spent.items()},
        "replayed memory equal": all(equal),
        "replayed decoder equal": digest(again.snapshot()) == digest(decoder.snapshot()),
    }


def _sha256(state: dict[str, Tensor]) -> str:
    told = hashlib.sha256()
    for _, value in sorted(state.items()):
        told.update(value.numpy().tobytes())
    return told.hexdigest()


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=24)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    args = parser.parse_args()
    told: dict[str, Any] = {"threads": torch.get_num_threads(), "torch": str(torch.__version__)}
    told["built-in"] = measure(load_model("builtin"), args.chunks)
    told["computed"] = {f"{shape}, 832x480, bfloat16": sizes(shape) for shape in ("1.3b", "14b")}
    text = json.dumps(told, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
