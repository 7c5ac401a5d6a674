"""How a step of the built-in model's training is fastest on a card: whether what `train_video` does there pays.

Rows: seconds of a teacher's and a student's step under autocast, in narrow weights, and recorded; what kernels a step
is made of (what is left to save?); clips that the workers render in a second.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch
from card_parts import KINDS, kind_of
from card_place import Place, kernels, ms

from gf_core.evaluation.bench import now
from gf_core.text.small import SmallTextEncoder
from gf_core.train.batch import ClipBatch
from gf_core.train.data import Clips, Workers
from gf_core.train.loop import Pace, Run
from gf_core.train.objectives import Precision
from gf_core.train.objectives.replay import Recorder, Replayed
from gf_core.train.optim import Muon, adamw, split_parameters
from gf_core.train.recipes.builtin import LIVE_STUDENT
from gf_core.train.recipes.clips import CHUNKS, MIXTURE, tables, world_shard
from gf_core.train.recipes.video import TEACHER, VideoNet, objective_of
from gf_core.world import sample_script, words


def _clips(place: Place, count: int) -> Clips:
    """Clips of every kind with noise for latents."""
    clips, encoder = Clips(MIXTURE, place.device), SmallTextEncoder(words())
    for kind in MIXTURE:
        scripts = [sample_script(random.Random(number), CHUNKS, kind) for number in range(count)]
        shard = tables(scripts, kind, encoder, random.Random(0))
        shard["latents"] = torch.randn(count, 3 * CHUNKS, 16, 8, 12).half()
        shard["share"] = torch.zeros(count, 3 * CHUNKS, 8, 12, dtype=torch.uint8)
        clips.add(kind, {name: value.to(place.device) for name, value in shard.items()})
    return clips


class _Step:
    """One optimiser step of a stage."""

    def __init__(self, place: Place, stage: str, clips: Clips, count: int) -> None:
        self.video, self.clips, self.count = VideoNet().to(place.device), clips, count
        plan = TEACHER if stage == "teacher" else LIVE_STUDENT
        hidden, rest = split_parameters(self.video)
        precision = Precision(place.device)
        pace = Pace(minutes=10)
        self.run = Run(
            stage, {"video": self.video}, [Muon(hidden, 0.02), adamw(rest, 1.5e-3)], pace, precision
        )
        teacher = VideoNet().to(place.device) if stage == "student" else None
        self.nets = [self.video.net, *([teacher.net] if teacher else [])]
        self.objective: Any = objective_of(self.video, plan, precision, teacher)

    def __call__(self) -> None:
        self.run.advance(self.objective, self.draw)
        self.run._window.clear()

    def draw(self) -> ClipBatch:
        return self.clips.draw(self.count, 0.35)


def training_step(place: Place) -> None:
    """See the module."""
    if place.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    count, times = (1, 1) if place.dry else (48, 6)
    make, workers = partial(world_shard, size=2 if place.dry else 32), max(1, (os.cpu_count() or 1) - 2)
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as folder,
        Workers(make, 1 if place.dry else workers, Path(folder)),
    ):
        began = time.perf_counter()
        clips = _clips(place, 2 * count)
        steps = {stage: _Step(place, stage, clips, count) for stage in ("teacher", "student")}
        for stage, step in steps.items():
            place.tried(f"{stage}, as it is", partial(_seconds, step, place, times))
        place.tried("teacher's kernels", partial(_kernels, place, steps["teacher"]))
        made = len(list(Path(folder).glob("*.safetensors"))) * (2 if place.dry else 32)
        rate = made / (time.perf_counter() - began)
        place.tell("workers", f"{rate:.0f} clips a second", f"{made}, their start counted in")
        for stage, step in steps.items():
            for net in step.nets:
                net.narrow = torch.bfloat16
            place.tried(f"{stage}, narrow", partial(_seconds, step, place, times))
        place.tried("teacher's kernels, narrow", partial(_kernels, place, steps["teacher"]))
        for stage, step in steps.items() if place.device.type == "cuda" else ():
            step.objective = Replayed(step.objective, step.run.params, Recorder())
            place.tried(f"{stage}, recording", partial(_recording, step, place))
            place.tried(f"{stage}, recorded", partial(_seconds, step, place, 3 * times))


def _seconds(step: _Step, place: Place, times: int) -> tuple[str, str]:
    """Mean over all kinds of clips, as they come."""
    for _ in range(0 if place.dry else 3):
        step()
    began = now(place.device)
    for _ in range(times):
        step()
    issued = time.perf_counter()
    seconds = (now(place.device) - began) / times
    return ms(seconds), f"{times} steps; {place.peak()}; last wait {now(place.device) - issued:.2f} s"


def _recording(step: _Step, place: Place) -> tuple[str, str]:
    began = now(place.device)
    for _ in range(12):
        step()
    return f"{now(place.device) - began:.1f} s", f"the first 12 steps; {place.peak()}"


def _kernels(place: Place, step: _Step) -> tuple[str, str]:
    """Seconds by kind of kernel in one step, and the longest ones."""
    found, spent = kernels(step, place.device), Counter()
    for seconds, _, name in found:
        spent[kind_of(name)] += seconds
    place.keep(f"kernels {len(found)}", found[:50])
    print(*found[:50], sep="\n")
    kinds = ", ".join(f"{kind} {ms(spent[kind])}" for kind in (*KINDS, "other"))
    return ms(sum(spent.values())), f"{sum(count for _, count, _ in found)} launches; {kinds}"
