"""How fast is a model here? Seconds per stage and chunk, pictures per second, memory; needs no trained weights.

Stages run one after another, so that each is timed alone; a render overlaps decoding and encoding with sampling.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..checkpoints.load import default_dtype
from ..config import SHAPES, STRIDE, MemorySpec, ModelSpec, Recipe, VideoSpec, check_grid
from ..devices import held_bytes, name_of, now, require_memory
from ..estimate.room import MARGIN
from ..memory.store import DualMemory
from ..model.pieces import PLAIN, Pieces
from ..model.wan import WanModel, build_meta
from ..rope import rotate, turns
from ..sampling.chunkwise import make_sampler
from ..sampling.film import Cues, film_chunks
from ..sampling.graphs import Graphs, Record
from ..sampling.sampler import Sampler
from ..timeline import Plan, Segment, Storyboard, Timing, make_plan
from ..vae.base import to_uint8
from ..video.writer import FilmWriter
from ..words import counted

if TYPE_CHECKING:
    from ..checkpoints.model_bundle import ModelBundle
    from ..vae.base import LatentCodec, StreamDecoder

PROMPT_ROWS = 64
TURNED = 4
"""Times that the past is turned for its figure; the first one warms up."""


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    name: str
    model: torch.nn.Module
    spec: ModelSpec
    recipe: Recipe
    codec: LatentCodec | None
    """None times sampling alone, of films with Wan's strides."""
    pieces: Pieces = PLAIN
    """Who does the small operations."""
    record: Record | None = None
    """Records calls, which are replayed then."""

    @property
    def timing(self) -> Timing:
        """How its films are cut into chunks."""
        return Timing.of(self.recipe, self.codec.time_stride if self.codec else 4)


@dataclass
class Times:
    """Seconds of every chunk, in order."""

    steps: list[float] = field(default_factory=list)
    """All denoising steps."""
    clean: list[float] = field(default_factory=list)
    """The clean pass that writes the memory."""
    decode: list[float] = field(default_factory=list)
    encode: list[float] = field(default_factory=list)
    switch: float = 0.0
    """What one prompt switch added."""
    turn: float = 0.0
    """Turning the keys of the past once."""
    calls: int = 0
    """Network calls of a chunk."""
    held: dict[str, int] = field(default_factory=dict)
    """Bytes of the film memory by what they hold."""
    peak: int = 0
    """Most bytes in use: of the card, or of the process."""


def bundle_subject(bundle: ModelBundle, memory: MemorySpec | None, size: tuple[int, int] | None) -> Subject:
    """A loaded model as it would be rendered; `size` is (width, height).

    Raises ResourceError: the size does not fit the model's grid.
    """
    recipe = bundle.recipe
    video = VideoSpec(*size, fps=recipe.video.fps) if size else recipe.video
    bundle.check_size(video)
    recipe = replace(recipe, memory=memory or recipe.memory, video=video)
    return Subject(bundle.name, bundle.model, bundle.spec, recipe, bundle.codec)


def random_subject(
    shape: str,
    memory: MemorySpec | None,
    size: tuple[int, int] | None,
    device: torch.device,
    dtype: torch.dtype | None,
) -> Subject:
    """Random weights of a known shape, sampling only.

    Raises ResourceError: the size does not fit the shape's grid, or the device cannot hold them.
    """
    spec = SHAPES[shape]
    video = VideoSpec(*size or ((96, 64) if shape == "tiny" else ()))
    check_grid(video, STRIDE * spec.patch_size[1])
    model = _random_model(spec, device, dtype or default_dtype(device))
    return Subject(f"{shape}, random weights", model, spec, Recipe(memory or MemorySpec(), video=video), None)


def measure(subject: Subject, chunks: int) -> dict[str, Any]:
    """Generate `chunks` chunks, one prompt switch among them, and return every number as JSON-able values.

    Speeds come from the chunks after the memory is full (or the last half, if it never is).
    """
    device = next(subject.model.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        times = _run(subject, chunks, Path(folder) / "bench.mp4", device)
    return _summary(subject, chunks, times, device, time.perf_counter() - began)


def open_film(subject: Subject, chunks: int) -> tuple[Sampler, Cues]:
    """A fresh sampler, and a film of `chunks` chunks whose last begins with a new prompt; both prompts are random."""
    stride = subject.codec.spatial_stride if subject.codec else STRIDE
    sampler = make_sampler(
        subject.model, subject.spec, subject.recipe,
        latent_height=subject.recipe.video.height // stride,
        latent_width=subject.recipe.video.width // stride,
        pieces=subject.pieces,
        caller=subject.record and Graphs(subject.record),
    )  # fmt: skip
    rows = min(PROMPT_ROWS, subject.spec.text_len)
    prompts = [torch.randn(1, rows, subject.spec.text_dim) * 0.1 for _ in "ab"]
    return sampler, Cues(_plan(subject, chunks), prompts)


@torch.no_grad()
def turn_seconds(memory: DualMemory, turner: Callable[..., Tensor] = rotate) -> float:
    """Seconds to turn the keys of a full past in all layers, one after the other into the same buffer.

    What every network call would do if no turned copy of the past were kept. turner: `rotate`, or it compiled.
    """
    frames = memory.spec.slots - memory.spec.chunk
    tokens, device = frames * memory.tokens_per_frame, memory.raw_k.device
    turn = turns(torch.arange(frames, device=device), *memory.grid, memory.raw_k.shape[-1])
    room, seconds = torch.empty_like(memory.k[0, :, :tokens]), []
    for _ in range(TURNED):
        began = now(device)
        for raw_k in memory.raw_k:
            turner(raw_k[:, :tokens], turn, out=room)
        seconds.append(now(device) - began)
    return statistics.median(seconds[1:])


def bench_lines(result: dict[str, Any]) -> list[str]:
    """The result as text."""
    stages, memory, film, turn = (
        result[part] for part in ("seconds per chunk", "memory", "film", "turning the past")
    )
    held = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in memory["held"].items())
    rows = [
        ("model", f"{result['model']}, {result['parameters'] / 1e6:.0f} M parameters, {result['dtype']}"),
        (
            "device",
            f"{result['device']}, {counted(result['threads'], 'CPU thread')}, torch {result['torch']}",
        ),
        ("film", f"{film['width']}x{film['height']}, {film['pictures per chunk']} pictures per chunk"),
        ("first", f"{result['first chunk seconds'] * 1000:.1f} ms for the first chunk"),
        *((name, f"{seconds * 1000:.1f} ms per chunk") for name, seconds in stages.items()),
        ("switch", f"{result['prompt switch'] * 1000:.1f} ms more for the chunk after a prompt switch"),
        ("speed", f"{result['fps']:.1f} pictures/s, {result['sampling fps']:.1f} sampling alone"),
        (
            "memory",
            f"{memory['peak'] / 2**20:.0f} MB at the peak, {memory['kv'] / 2**20:.0f} MB of it film memory ({held})",
        ),
        (
            "turning",
            f"{turn['seconds per call'] * 1000:.1f} ms for the keys of the past, done once per chunk; "
            f"{turn['seconds more per chunk'] * 1000:.1f} ms more if every call did it",
        ),
    ]
    return [f"{label:<8}{text}" for label, text in rows]


@torch.no_grad()
def _run(subject: Subject, chunks: int, path: Path, device: torch.device) -> Times:
    sampler, cues = open_film(subject, chunks)
    decoder = subject.codec.decoder() if subject.codec else None
    memory = sampler.director.memory
    times, marks = Times(calls=sampler.calls), {"begun": 0.0, "stepped": 0.0}

    def begin(index: int) -> None:
        marks["begun"] = now(device)

    def stepped(step: int, steps: int) -> None:
        if step == steps - 1:
            marks["stepped"] = now(device)

    made = film_chunks(sampler, cues, before=begin, feed=lambda chunk: sampler.feed(chunk, stepped))
    with FilmWriter(path, subject.recipe.video) if decoder else nullcontext() as film:
        for clean in made:
            ended = now(device)
            times.steps.append(marks["stepped"] - marks["begun"])
            times.clean.append(ended - marks["stepped"])
            if decoder is not None and film is not None:
                _finish(decoder, film, clean.latents[0], times, device)
            times.peak = max(times.peak, held_bytes())
    if device.type == "cuda":
        times.peak = torch.cuda.max_memory_allocated(device)
    usual = _steady(subject, times.steps[:-1]) + _steady(subject, times.clean[:-1])
    times.switch = max(0.0, times.steps[-1] + times.clean[-1] - usual)
    times.held = {"raw keys": memory.raw_k.nbytes, "turned keys": memory.k.nbytes, "values": memory.v.nbytes}
    times.held["the rest"] = memory.sizes.buffers - sum(times.held.values())
    times.turn = turn_seconds(memory)
    return times


def _plan(subject: Subject, chunks: int) -> Plan:
    """A film of `chunks` chunks, the last of which begins with a new prompt."""
    timing = subject.timing
    before, last = (count / timing.fps for count in (timing.pictures(chunks - 1), timing.chunk_pictures))
    return make_plan(Storyboard(segments=(Segment("start", "a", before), Segment("then", "b", last))), timing)


def _finish(
    decoder: StreamDecoder, film: FilmWriter, latents: Tensor, times: Times, device: torch.device
) -> None:
    start = now(device)
    pictures = to_uint8(decoder.decode(latents))
    decoded = time.perf_counter()
    film.write(pictures)
    times.decode.append(decoded - start)
    times.encode.append(time.perf_counter() - decoded)


def _steady(subject: Subject, seconds: list[float]) -> float:
    """Median over chunks with a full memory."""
    full = -(-subject.recipe.memory.slots // subject.recipe.memory.chunk)
    return statistics.median(seconds[min(full, len(seconds) // 2) :] or [0.0])


def _summary(
    subject: Subject, chunks: int, times: Times, device: torch.device, elapsed: float
) -> dict[str, Any]:
    memory = subject.recipe.memory
    stages = {
        name: _steady(subject, getattr(times, name)[:-1]) for name in ("steps", "clean", "decode", "encode")
    }
    stages = {name: seconds for name, seconds in stages.items() if seconds}
    pictures = subject.timing.chunk_pictures
    dtype = next(subject.model.parameters()).dtype
    return {
        "model": subject.name,
        "parameters": sum(parameter.numel() for parameter in subject.model.parameters()),
        "dtype": str(dtype).removeprefix("torch."),
        "device": name_of(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "film": {**asdict(subject.recipe.video), "pictures per chunk": pictures},
        "memory settings": asdict(memory),
        "steps": len(subject.recipe.sample.steps),
        "chunks": chunks,
        "seconds": elapsed,
        "first chunk seconds": times.steps[0] + times.clean[0],
        "seconds per chunk": stages,
        "prompt switch": times.switch,
        "fps": pictures / sum(stages.values()),
        "sampling fps": pictures / (stages["steps"] + stages["clean"]),
        "memory": {"peak": times.peak, "kv": sum(times.held.values()), "held": times.held},
        "turning the past": {
            "seconds per call": times.turn,
            "seconds more per chunk": times.turn * (times.calls - 1),
        },
    }


def _random_model(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> WanModel:
    model = build_meta(spec).to(dtype)
    need = int(MARGIN * sum(parameter.nbytes for parameter in model.parameters()))
    fix = "choose a smaller --shape, another --device, or --dtype bfloat16"
    require_memory(need, device, "a network of this shape", fix)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    rng = torch.Generator(device).manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.02, generator=rng)
        else:  # norms start as the identity, biases at zero
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return model
