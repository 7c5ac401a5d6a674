"""How a step of the built-in model's training is fastest on a card: decides what `grounded train builtin` does.

Rows: seconds of a teacher's and a student's step as they are, and with the blocks compiled (is it worth the seconds of
compiling?); what kernels a step is made of (what is left to fuse?); a step's graph replayed (does the computer hold
the card up?); patches by convolution and by product; clips that the workers render in a second.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from card_parts import KINDS, kind_of
from card_place import Place, ms, timed
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gf_core.evaluation.bench import now
from gf_core.text.small import SmallTextEncoder
from gf_core.train.batch import ClipBatch
from gf_core.train.context import PLAIN, compiled_steps
from gf_core.train.data import Clips, Workers
from gf_core.train.loop import Pace, Run
from gf_core.train.objectives import Precision
from gf_core.train.optim import Muon, adamw, split_parameters
from gf_core.train.recipes.clips import CHUNKS, MIXTURE, tables, world_shard
from gf_core.train.recipes.video import STUDENT, TEACHER, VideoNet, objective_of
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
        plan = TEACHER if stage == "teacher" else replace(STUDENT, solver_steps=4)
        hidden, rest = split_parameters(self.video)
        precision = Precision(place.device)
        pace = Pace(minutes=10)
        self.run = Run(
            stage, {"video": self.video}, [Muon(hidden, 0.02), adamw(rest, 1.5e-3)], pace, precision
        )
        teacher = VideoNet().to(place.device) if stage == "student" else None
        self.nets = [self.video.net, *([teacher.net] if teacher else [])]
        self.objective = objective_of(self.video, plan, precision, teacher)

    def __call__(self) -> None:
        self.run.advance(self.objective, self.draw)
        self.run._window.clear()

    def draw(self) -> ClipBatch:
        return self.clips.draw(self.count, 0.35)


def _tried(place: Place, what: str, row: Callable[[], tuple[str, str]]) -> None:
    """A row, or what went wrong with it."""
    try:
        place.tell(what, *row())
    except Exception as error:  # the next row may go well
        place.tell(what, "failed", f"{type(error).__name__}: {error}")


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
            _tried(place, f"{stage}, as it is", partial(_seconds, step, place, times))
        _tried(place, "teacher's kernels", partial(_kernels, place, steps["teacher"]))
        _tried(place, "patches", partial(_patches, place, steps["teacher"], count))
        made = len(list(Path(folder).glob("*.safetensors"))) * (2 if place.dry else 32)
        rate = made / (time.perf_counter() - began)
        place.tell("workers", f"{rate:.0f} clips a second", f"{made}, their start counted in")
        for stage, step in steps.items():
            for net in step.nets:
                net.steps = PLAIN if place.dry else compiled_steps()
            _tried(place, f"{stage}, compiling", partial(_compiling, step, place))
            _tried(place, f"{stage}, compiled", partial(_seconds, step, place, 2 * times))
        _tried(place, "teacher's kernels, compiled", partial(_kernels, place, steps["teacher"]))
        if not place.dry:
            _tried(place, "teacher, a graph", partial(_replayed, place, steps["teacher"]))


def _seconds(step: _Step, place: Place, times: int) -> tuple[str, str]:
    """Mean over all kinds of clips, as they come."""
    for _ in range(1 if place.dry else 3):
        step()
    began = now(place.device)
    for _ in range(times):
        step()
    issued = time.perf_counter()
    seconds = (now(place.device) - began) / times
    return ms(seconds), f"{times} steps; {place.peak()}; last wait {now(place.device) - issued:.2f} s"


def _compiling(step: _Step, place: Place) -> tuple[str, str]:
    began = now(place.device)
    for _ in range(1 if place.dry else 12):
        step()
    counted = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return f"{now(place.device) - began:.1f} s", f"the first 12 steps, {counted} graphs so far"


def _kernels(place: Place, step: _Step) -> tuple[str, str]:
    """Seconds by kind of kernel in one step, and the longest ones."""
    cuda = place.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
        step()
        now(place.device)
    rows = [row for row in seen.key_averages() if (row.device_type == DeviceType.CUDA) == cuda]
    spent, launches, named = Counter(), 0, []
    for row in rows:
        seconds = (row.self_device_time_total if cuda else row.self_cpu_time_total) / 1e6
        spent[kind_of(row.key)] += seconds
        launches += row.count
        named.append((seconds, row.count, kind_of(row.key), row.key[:120]))
    named.sort(reverse=True)
    place.keep(f"kernels {len(named)}", named[:50])
    print(*named[:50], sep="\n")
    kinds = ", ".join(f"{kind} {ms(spent[kind])}" for kind in (*KINDS, "other"))
    return ms(sum(spent.values())), f"{launches} launches; {kinds}"


def _patches(place: Place, step: _Step, count: int) -> tuple[str, str]:
    """The patch embedding forward and backward, by convolution and by a product."""
    layer = step.video.net.model.patch_embedding
    x = torch.randn(28 * count, 16, 3, 8, 12, device=place.device)
    weight = layer.weight.flatten(1)

    def by_product() -> torch.Tensor:
        cells = x.unflatten(4, (-1, 2)).unflatten(3, (-1, 2)).permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
        return torch.nn.functional.linear(cells, weight, layer.bias)

    def both(call: Callable[[], torch.Tensor]) -> None:
        with torch.autocast(place.device.type, torch.bfloat16):
            call().sum().backward()

    seconds = [timed(partial(both, call), place.device, 3) for call in (lambda: layer(x), by_product)]
    step.video.zero_grad()
    return ms(seconds[0]), f"{ms(seconds[1])} by a product"


def _replayed(place: Place, step: _Step) -> tuple[str, str]:
    """Forward and backward of one batch, captured once and replayed."""
    batch, stream = step.draw(), torch.cuda.Stream()
    params = [p for p in step.video.parameters() if p.requires_grad]
    for p in params:
        p.grad = torch.zeros_like(p)

    def both() -> None:
        step.objective(batch).total.backward()

    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            both()
    torch.cuda.current_stream().wait_stream(stream)
    eager = timed(both, place.device, 5)
    graph = torch.cuda.CUDAGraph()
    began = now(place.device)
    with torch.cuda.graph(graph):
        both()
    capturing = now(place.device) - began
    seconds = timed(graph.replay, place.device, 5)
    return ms(seconds), f"{ms(eager)} without; captured in {capturing:.1f} s; without optimiser"
