"""What `card.py` measures, a function per part; each runs in its own process and tells its figures as it has them."""

from __future__ import annotations

import itertools
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import card_place
import torch
from card_attention import lend
from card_decoders import codecs
from card_fp8 import multiply
from card_place import GIGA, Place, ms, timed
from torch import Tensor

from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.engine.events import ChunkDone, Event, Preview
from gf_core.engine.render import render_film
from gf_core.engine.report import report_lines
from gf_core.evaluation.bench import Subject, measure, now, open_film, turn_seconds
from gf_core.model import compiled
from gf_core.model.fp8 import GAINS
from gf_core.model.pieces import PLAIN, Pieces
from gf_core.rope import rotate
from gf_core.sampling.film import film_chunks
from gf_core.sampling.warm import warm_up

ROOT = Path(__file__).resolve().parents[2]
STEADY = 3
"""Chunks after the memory is full before one is looked at closely."""
BOARD = """\
a red fox walks right in a meadow at noon | {third}s
then: it jumps | {third}s
cut: the same red fox sleeps in the snow at night | {third}s
"""
KINDS = {
    "attention": r"sdpa|flash|fmha|attention|efficient",
    "matrix products": r"gemm|nvjet|cutlass|xmma|conv|addmm|bmm|aten::mm|gemv|splitk",
    "copies": r"copy|memcpy|memset|cat(array|batched)|aten::cat|flip|gather|index",
    "norms": r"norm(?!al)|reduce|welford|aten::(mean|var|rsqrt)",
    "elementwise": r"elementwise|pointwise|triton|aten::(add|sub|mul|div|lerp|gelu|silu|tanh|cos|sin|pow|clamp|fill)",
}
"""Kinds of kernel by their names; the first that fits counts. Without a card the names are torch's operators'."""


def machine(place: Place) -> None:
    """What the machine is, and its two ceilings: a large product and a large copy."""
    cuda, device = place.device.type == "cuda", place.device
    place.tell(
        "device", torch.cuda.get_device_name(device) if cuda else "processor", f"torch {torch.__version__}"
    )
    place.tell("python", sys.version.split()[0], f"{os.cpu_count()} processor cores")
    side, values = (8192, 2**31) if cuda else (256, 2**20)
    a, b = (torch.randn(side, side, device=device, dtype=place.dtype) for _ in "ab")
    seconds = timed(lambda: a @ b, device)
    place.tell("matrix product", f"{2 * side**3 / seconds / 1e12:.2f} TFLOP/s", f"{side} cubed, {a.dtype}")
    source = torch.randint(0, 255, (values,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    seconds = timed(lambda: target.copy_(source), device)
    place.tell("copy", f"{2 * values / seconds / 1e12:.3f} TB/s", f"{values / GIGA:.1f} GB, read and written")


def tests(place: Place) -> None:
    """The tests that want a card."""
    marked = [
        path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.gpu" in path.read_text()
    ]
    names = [str(path.relative_to(ROOT)) for path in marked]
    command = [sys.executable, "-m", "pytest", "-v", "-m", "gpu", "-rs", "-p", "no:cacheprovider", *names]
    said = "silent"
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as done:
        # Line by line: whoever runs out of time has said how far it came.
        for line in done.stdout or ():
            print(line, end="", flush=True)
            said = line.strip("= \n") or said
    place.tell("gpu tests", said, ", ".join(names))
    if done.returncode:
        raise RuntimeError(f"pytest ended with status {done.returncode}")


def bench_compiled(place: Place) -> None:
    """The paper's memory with the small operations fused; on an empty cache, then from what is kept."""
    for name in ("on an empty cache", "again, from the disk"):
        compiled.forget()
        subject = place.fused()
        (sampler, cues), began = open_film(subject, 8), now(place.device)
        with torch.no_grad():
            warm_up(sampler, cues.plan)
        place.tell("compiling", f"{now(place.device) - began:.1f} s", name)
    bench(place, "grounded", subject.pieces)


def bench(place: Place, memory: str, pieces: Pieces = PLAIN) -> None:
    """Sampling with a preset of memory."""
    subject, chunks = replace(place.subject(memory), pieces=pieces), 8 if place.dry else 16
    cold, warm = measure(subject, chunks), measure(subject, chunks)
    place.keep("cold", cold)
    place.keep("warm", warm)
    stages, turn, took = warm["seconds per chunk"], warm["turning the past"], warm["memory"]
    place.tell("first chunk, cold", ms(cold["first chunk seconds"]), "kernels are chosen and loaded")
    place.tell("first chunk, second run", ms(warm["first chunk seconds"]), "")
    place.tell("denoising steps", ms(stages["steps"]), f"{warm['steps']} of them, per chunk")
    place.tell("clean pass", ms(stages["clean"]), "per chunk")
    chunk = stages["steps"] + stages["clean"]
    place.tell("chunk", ms(chunk), f"{warm['sampling fps']:.1f} pictures a second, sampling alone")
    switch = warm["prompt switch"]
    place.tell("prompt switch", f"{ms(switch)} more", f"{switch / chunk:.2f} of a chunk")
    weights = sum(parameter.nbytes for parameter in subject.model.parameters())
    place.tell("peak memory", f"{took['peak'] / GIGA:.2f} GB", f"weights {weights / GIGA:.2f} GB")
    held = ", ".join(f"{name} {size / GIGA:.3f}" for name, size in took["held"].items())
    place.tell("film memory", f"{took['kv'] / GIGA:.2f} GB", held)
    more = turn["seconds more per chunk"]
    note = f"{ms(more)} more per chunk if every call did it ({more / chunk:.1%})"
    place.tell("turning the past's keys", ms(turn["seconds per call"]), note)
    if place.device.type == "cuda":
        sampler, *_ = open_film(subject, 2)
        seconds = turn_seconds(sampler.director.memory, torch.compile(rotate, dynamic=False))
        more = seconds * (sampler.calls - 1)
        note = f"{ms(more)} more per chunk if every call did it ({more / chunk:.1%})"
        place.tell("the same, compiled", ms(seconds), note)


class FixedText:
    """Every prompt is 64 random rows of its own."""

    fingerprint = "random rows"

    def __init__(self, text_dim: int) -> None:
        self._dim = text_dim

    def encode(self, prompts: list[str]) -> list[Tensor]:
        made = []
        for prompt in prompts:
            rng = torch.Generator().manual_seed(sum(prompt.encode()))
            made.append(torch.randn(64, self._dim, generator=rng) * 0.1)
        return made


def film_taehv(place: Place) -> None:
    """A whole film with the tiny decoder, as `--compile on` makes it; then with products in float8 as well."""
    _film(place, "TAEHV", _fast(place))
    subject = _fast(place)
    multiply(subject.model, tuple(GAINS))
    _film(place, "TAEHV", subject, ", float8")


def film_wan(place: Place) -> None:
    """A whole film with the full decoder, the same way."""
    _film(place, "Wan VAE", _fast(place))


def film_eager(place: Place) -> None:
    """A whole film with the tiny decoder, operation by operation."""
    _film(place, "TAEHV", place.subject("grounded"))


def _fast(place: Place) -> Subject:
    """A network whose small operations are fused, and the fastest attention."""
    lend()
    return place.fused()


def _film(place: Place, codec: str, subject: Subject, how: str = "") -> None:
    bundle = ModelBundle(
        name=subject.name,
        model=subject.model,
        spec=subject.spec,
        text=FixedText(subject.spec.text_dim),
        codec=codecs(place)[codec](),
        recipe=subject.recipe,
        fingerprint=f"random, decoded by {codec}{how}",
        compiled=subject.pieces is not PLAIN,
    )
    place.peak()
    done: list[tuple[float, int]] = []

    def listen(event: Event) -> None:
        if isinstance(event, ChunkDone):
            done.append((time.perf_counter(), event.frames))

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "film.mp4"
        board = BOARD.format(third=1 if place.dry else 10)
        result = render_film(bundle, board, out, sheet=False, listener=listen)
        size = result.path.stat().st_size
        seconds = [_first_picture(bundle, Path(folder) / f"{n}.mp4") for n in range(2)]
    half = done[len(done) // 2 :]
    rate = (half[-1][1] - half[0][1]) / (half[-1][0] - half[0][0])
    took = [after - before for (before, _), (after, _) in itertools.pairwise(half)]
    place.tell(
        f"second half{how}",
        f"{rate:.1f} pictures a second",
        f"on the disk; attention by {_attention(bundle)}; half of its chunks within {ms(statistics.median(took))}, "
        f"the longest {ms(max(took))}",
    )
    place.keep("committed", done)
    place.tell("first picture, warm", f"{seconds[1]:.2f} s", "from a storyboard to what a listener shows")
    report = result.report
    place.keep("report", report)
    print(*report_lines(report), sep="\n")
    film, seconds, speed = report["film"], report["seconds"], report["speed"]
    frames, pixels = film["frames"], film["width"] * film["height"]
    place.tell("film", f"{film['seconds']:.2f} s", f"{frames} pictures of {film['width']}x{film['height']}")
    place.tell(
        "speed", f"{speed['fps']:.1f} pictures a second", f"{speed['sampling fps']:.1f} sampling alone"
    )
    place.tell("first chunk", f"{seconds['first chunk']:.2f} s", "from the start of sampling to the disk")
    stages = ", ".join(
        f"{name} {spent:.2f}" for name, spent in seconds.items() if name not in ("total", "first chunk")
    )
    place.tell("in all", f"{seconds['total']:.2f} s", stages)
    card, held = report["memory"]["peak card bytes"], report["memory"]["peak held bytes"]
    place.tell("peak memory", f"{(card or held) / GIGA:.2f} GB", f"held {held / GIGA:.2f} GB")
    place.tell("size", f"{size / 1e6:.1f} MB", f"{size * 8 / frames / pixels:.2f} bits a pixel")
    for name, unit, scale in (("memory", "GB", GIGA), ("minutes", "min", 1), ("disk", "MB", 1e6)):
        part = report["estimate"][name]
        if part["expected"] and part["measured"]:
            expected, measured = part["expected"] / scale, part["measured"] / scale
            note = f"it took {measured:.2f} {unit}: {expected / measured - 1:+.0%}"
            most = "" if part.get("known", True) else "at most "
            place.tell(f"{name} as estimated", f"{most}{expected:.2f} {unit}", note)


def _attention(bundle: ModelBundle) -> str:
    return bundle.pick_attention(bundle.recipe).name


def _first_picture(bundle: ModelBundle, out: Path) -> float:
    """Seconds from a storyboard of one chunk to its pictures."""
    began, seen = time.perf_counter(), list[float]()

    def listen(event: Event) -> None:
        if isinstance(event, Preview):
            seen.append(time.perf_counter() - began)

    render_film(bundle, "a red fox walks right in a meadow at noon | 0.5s", out, sheet=False, listener=listen)
    return seen[0]


def kernels(place: Place, fused: bool) -> None:
    """Where one steady chunk goes, by kind of kernel."""
    subject = place.fused() if fused else place.subject("grounded")
    full = -(-subject.recipe.memory.slots // subject.recipe.memory.chunk)
    cuda = place.device.type == "cuda"
    chunks = film_chunks(*open_film(subject, full + STEADY + 2))
    with torch.no_grad():
        for _ in range(full + STEADY - 1):
            next(chunks)
        began = now(place.device)
        next(chunks)
        alone = now(place.device) - began
        found = card_place.kernels(lambda: next(chunks), place.device)
    spent, launches = Counter(), Counter()
    for seconds, count, name in found:
        spent[kind_of(name)] += seconds
        launches[kind_of(name)] += count
    place.keep("kernels", [(seconds, count, kind_of(name), name) for seconds, count, name in found[:60]])
    whole = sum(spent.values())
    if not whole:
        raise RuntimeError("the profiler saw no kernel")
    for kind in (*KINDS, "other"):
        note = f"{launches[kind]} launches, {spent[kind] / max(whole, 1e-9):.0%}"
        place.tell(kind, ms(spent[kind]), note)
    gap = f"the chunk before took {ms(alone)}" + (f", {ms(alone - whole)} without a kernel" if cuda else "")
    place.tell("all", ms(whole), f"{sum(launches.values())} launches; {gap}")


def kind_of(kernel: str) -> str:
    """The kind of a kernel or an operator by its name."""
    return next((kind for kind, words in KINDS.items() if re.search(words, kernel, re.IGNORECASE)), "other")


def train(place: Place) -> None:
    """The built-in model's training for a minute."""
    workers = 1 if place.dry else max(1, (os.cpu_count() or 1) - 2)
    small = ["--most", "8", "--shard", "1", "--batch", "1", "--crops", "1"] if place.dry else []
    minutes = "0.1" if place.dry else "1"
    options = ["--device", place.device.type, "--minutes", minutes, "--workers", str(workers), *small]
    with tempfile.TemporaryDirectory() as folder:
        log, began = Path(folder) / "log", time.perf_counter()
        command = [sys.executable, "-m", "gf_core", "train", "builtin", *options, "--folder", f"{folder}/run"]
        with log.open("w") as file:
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
            try:
                code: int | None = process.wait(max(5, place.limit - 10))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)  # so that it removes its shards and workers
                process.wait(8)
                code = None
        text = log.read_text()
    print(text)
    place.tell(
        "command", f"{time.perf_counter() - began:.0f} s", " ".join(["grounded train builtin", *options])
    )
    said = [line.partition(" ")[2] for line in text.splitlines()]  # without the time of day
    steps = {line.partition(" step ")[0]: line for line in said if re.match(r"\w+ step \d", line)}
    for line in [line for line in said if re.search(r"\d clips|exported", line)] + list(steps.values()):
        what, _, rest = line.partition(" step ")
        speed = re.search(r"[\d.]+ s/step", rest)
        place.tell(what, speed[0] if speed else "", rest and f"step {rest}")
    if code is None:
        raise RuntimeError("it did not end within its time")
    if code:
        lines = text.strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"status {code}: {lines[-1]}")
