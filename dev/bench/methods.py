"""Every memory over a long film of the built-in model: is it flat, in its trained range, and the same after a kill?

    python dev/bench/methods.py [--chunks 300] [--memory longlive,sgf] [--json FILE]

Nothing is decoded. A film of `then`, `cut` and `scene` is sampled whole, its state kept at the end of a segment near
the middle. A new process goes on from there, is killed in the middle of a chunk, and another one goes on from there to
the end: its chunks must have the bytes of the whole film's. At every chunk the time positions of all keys and queries
must lie in the range that the memory claims. Prints a table; milliseconds are of processor time at one thread.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gf_core.arguments import Parser
from gf_core.checkpoints.bundle import ModelBundle, load_model
from gf_core.config import MemorySpec
from gf_core.devices import held_bytes
from gf_core.memory.presets import PRESETS
from gf_core.sampling.film import Cues, film_chunks
from gf_core.sampling.sampler import Sampler
from gf_core.take.states import StateStore, state_bytes
from gf_core.timeline import Plan, Segment, Storyboard, Timing, Verb, make_plan

PROMPTS = (
    "a red fox walks right in a meadow at noon",
    "it jumps",
    "a blue owl sleeps in the snow at night",
    "it dances",
)
VERBS: tuple[Verb, ...] = ("then", "cut", "then", "then", "cut", "then", "then", "scene")
SEGMENT_CHUNKS = 5
KILLED_AFTER = 3
"""Chunks that the process which is killed has finished."""
STATE = "0" * 24 + ".memory"
MEGABYTE = 1e6
HEAD = (
    "| memory | MB of film memory | MB of a state | ms a chunk | MB held at 10, 50, 100 % | largest position "
    "| same after a kill |"
)


def film_of(bundle: ModelBundle, spec: MemorySpec, chunks: int) -> tuple[Sampler, Plan, list[torch.Tensor]]:
    """A sampler, a film of `chunks` chunks (rounded up to whole segments), and a prompt per segment."""
    recipe = replace(bundle.recipe, memory=spec)
    timing = Timing.of(recipe, bundle.codec.time_stride)
    count = -(-chunks // SEGMENT_CHUNKS)
    seconds = timing.chunk_pictures * SEGMENT_CHUNKS / timing.fps
    segments = [
        Segment(VERBS[n % len(VERBS)] if n else "start", PROMPTS[n % len(PROMPTS)], seconds)
        for n in range(count)
    ]
    plan = make_plan(Storyboard(seed=7, segments=tuple(segments)), timing)
    embeds = {prompt: rows[None] for prompt, rows in zip(PROMPTS, bundle.text.encode(list(PROMPTS)))}
    return bundle.sampler(recipe), plan, [embeds[s.prompt] for s in plan.segments]


def largest_position(spec: MemorySpec, newest: int) -> int:
    """What no position of a call may be above, when the newest frame of the film has that number."""
    claimed = newest if spec.positions == "absolute" else spec.max_position
    apart = 0 if spec.cut_position is None else spec.cut_position + spec.chunk - 1
    return max(newest if claimed is None else claimed, apart)


def middle(plan: Plan) -> int:
    """Chunks of the film up to the segment's end nearest to its middle."""
    return min((s.first_chunk for s in plan.segments[1:]), key=lambda first: abs(first - plan.chunks / 2))


@torch.no_grad()
def sample(name: str, chunks: int, folder: Path, resume: bool) -> Iterator[dict[str, Any]]:
    """A row for every chunk: its number, digest, processor seconds, bytes held, largest position, and sizes."""
    spec = PRESETS[name]
    sampler, plan, embeds = film_of(load_model("builtin"), spec, chunks)
    memory, store, half = sampler.director.memory, StateStore(folder / name, ()), middle(plan)
    seen: set[int] = set()
    turn = memory._turn  # every rotation of keys and queries asks it

    def watched(at: tuple[int, ...]) -> torch.Tensor:
        seen.update(at)
        return turn(at)

    memory._turn = watched
    start = half if resume else 0
    if resume:
        state = store.load(STATE)
        if state is None:
            raise SystemExit("the state is gone")
        sampler.restore(state)
    began, size = time.process_time(), 0
    for clean in film_chunks(sampler, Cues(plan, embeds), start=start):
        spent, began = time.process_time() - began, time.process_time()
        bound = largest_position(spec, memory.ledger.frame - 1)
        if not 0 <= min(seen) <= max(seen) <= bound:
            raise SystemExit(
                f"{name}, chunk {clean.index}: positions {min(seen)} to {max(seen)}, not 0 to {bound}"
            )
        digest = hashlib.sha256(clean.latents.numpy().tobytes()).hexdigest()
        if clean.index == half - 1 and not resume:
            state = sampler.snapshot()
            size = state_bytes(state)
            store.save(STATE, half, state)
            del state
            began = time.process_time()
        row = {
            "chunk": clean.index,
            "digest": digest,
            "seconds": spent,
            "held": held_bytes(),
            "position": max(seen),
        }
        seen.clear()
        yield row | {"memory": memory.sizes.buffers, "state": size, "half": half, "chunks": plan.chunks}


def run(
    name: str, chunks: int, folder: Path, *, resume: bool, kill_after: int | None = None
) -> list[dict[str, Any]]:
    """The rows of a process of its own, which is killed in the chunk after `kill_after`, if given."""
    words = [sys.executable, __file__, "--one", name, "--chunks", str(chunks), "--folder", str(folder)]
    rows = []
    with subprocess.Popen(words + ["--resume"] * resume, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            rows.append(json.loads(line))
            if kill_after is not None and len(rows) == kill_after:
                time.sleep(rows[-1]["seconds"] / 2)
                process.send_signal(signal.SIGKILL)
    wanted = 0 if kill_after is None else -signal.SIGKILL
    if process.returncode != wanted:
        raise SystemExit(f"{name}: the process ended with {process.returncode}, not {wanted}")
    return rows


def measure(name: str, chunks: int, folder: Path) -> dict[str, Any]:
    """One memory: the whole film, the kill, and the rest from the state."""
    rows = run(name, chunks, folder, resume=False)
    run(name, chunks, folder, resume=True, kill_after=KILLED_AFTER)
    rest = run(name, chunks, folder, resume=True)
    last, half = rows[-1], rows[-1]["half"]
    places = [max(0, len(rows) * share // 100 - 1) for share in (10, 50, 100)]
    spec = PRESETS[name]
    return {
        "chunks": last["chunks"],
        "memory": last["memory"],
        "state": max(row["state"] for row in rows),
        "seconds": statistics.median(row["seconds"] for row in rows[len(rows) // 10 :]),
        "held": [rows[place]["held"] for place in places],
        "position": max(row["position"] for row in rows),
        "trained": spec.max_position,
        "same": [row["digest"] for row in rest] == [row["digest"] for row in rows[half:]],
    }


def line(name: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    held = " / ".join(f"{value / MEGABYTE:.0f}" for value in found["held"])
    trained = "grows with the film" if found["trained"] is None else f"of {found['trained']}"
    if found["trained"] is not None and found["position"] > found["trained"]:
        trained = f"by its cut, else {found['trained']}"
    sizes = f"{found['memory'] / MEGABYTE:.2f} | {found['state'] / MEGABYTE:.2f}"
    same = "yes" if found["same"] else "NO"
    return f"| {name} | {sizes} | {found['seconds'] * 1000:.0f} | {held} | {found['position']} {trained} | {same} |"


def main() -> int:
    """Run what is asked; 1 where a film's end differs after a kill."""
    parser = Parser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=300)
    parser.add_argument("--memory", default=",".join(PRESETS), help="presets (default: all)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.one:
        for row in sample(args.one, args.chunks, args.folder, args.resume):
            print(json.dumps(row), flush=True)
        return 0
    print(HEAD)
    print("|---|---|---|---|---|---|---|")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.memory.split(","):
            results[name] = measure(name, args.chunks, Path(folder))
            print(line(name, results[name]), flush=True)
            if args.json:
                args.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if all(found["same"] for found in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
