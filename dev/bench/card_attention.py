"""Parts of `card.py`: who computes attention fastest, how far off it is, and what it takes to begin.

Decides which rows of `gf_core/attention/backends.py` stay, and whether queries that do not fill a card's last round of
blocks are worth a call of their own. flash-attn-4 may be lent (`flash4` beside the packages of card.sh, for a card that
has no room for its compiler) to these parts alone: others' code takes a package of its name for an older one.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from card_place import Place, ms
from torch import Tensor

from gf_core.attention import Kernel, backends, plain
from gf_core.attention.backends import BACKENDS, film_call, pick
from gf_core.attention.fastest import Call
from gf_core.config import SHAPES
from gf_core.evaluation.bench import Subject, measure, now
from gf_core.memory.presets import PRESETS
from gf_core.sampling.graphs import on_card

TIMES = 20
FULL_ROUNDS = 4224
"""Queries that fill three rounds of an H200: 33 blocks of 128 for 12 heads are three for each of 132 processors."""


@dataclass(frozen=True)
class Shape:
    """Attention of one kind, its inputs, and what it should be for a few queries and heads."""

    name: str
    call: Call
    q: Tensor
    k: Tensor
    v: Tensor

    def errors(self, kernel: Kernel) -> str:
        """Relative root mean square error where logits spread by 1, and by 4."""
        told = []
        for sharper in (1.0, 4.0):
            few = self.q[:, :256, :2].float() * sharper
            exact = plain(few, self.k[:, :, :2].float(), self.v[:, :, :2].float())
            off = kernel(self.q * sharper, self.k, self.v)[:, :256, :2].float() - exact
            told.append(f"{float(off.norm() / exact.norm()):.2g}")
        return "off by " + ", ".join(told)

    def rate(self, seconds: float) -> str:
        call = self.call
        return f"{4 * call.queries * call.keys * call.heads * call.head_dim / seconds / 1e12:.0f} TFLOP/s"


@torch.no_grad()
def attention(place: Place) -> None:
    """Every kernel at the shapes of a film with a memory of 12, 21 and 3 frames, and over a prompt's rows."""
    lend()
    first, rows = next(_shapes(place)), []
    for row in BACKENDS:
        if row.can(place.device, place.dtype, first.call.head_dim):
            rows.append(row)
        else:
            place.tell(row.name, "", "does not run here")
    for shape in _shapes(place):
        call = shape.call
        place.tell(shape.name, f"{call.queries} x {call.keys}", f"{call.heads} heads of {call.head_dim}")
        for row in rows:
            place.tried(row.name, lambda shape=shape, row=row: _row(place, shape, row.load()))
    began = now(place.device)
    chosen = pick(place.device, place.dtype, first.call.head_dim, call=first.call)
    place.tell("chosen", chosen.name, f"in {now(place.device) - began:.2f} s")


def in_chunks(place: Place) -> None:
    """A steady chunk, compiled and recorded, by PyTorch's kernel and by flash-attn-4.

    Decides what of a kernel's gain is left in a film, and whether recordings hold a kernel that is not PyTorch's.
    """
    subject = place.fused()
    for name in ("sdpa", "flash-attn-4"):
        subject = replace(subject, record=on_card()) if place.device.type == "cuda" else subject
        place.tried(f"chunk by {name}", partial(_chunk, place, subject, name))


def _chunk(place: Place, subject: Subject, name: str) -> tuple[str, str]:
    with by(name):
        told = measure(subject, 4 if place.dry else 12)
    stages = told["seconds per chunk"]
    return ms(stages["steps"] + stages["clean"]), f"{told['sampling fps']:.1f} pictures a second"


def lend() -> None:
    """Find flash-attn-4 where card.sh has unpacked it."""
    sys.path += [str(path) for folder in sys.path if (path := Path(folder) / "flash4").is_dir()]


@contextmanager
def by(name: str) -> Iterator[None]:
    """With films computed by this kernel alone. Raises RuntimeError where it is not there."""
    lend()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    row = next(row for row in BACKENDS if row.name == name)
    if not row.can(device, torch.bfloat16, 128):
        raise RuntimeError(f"{name} is not there")
    with mock.patch.object(backends, "BACKENDS", (replace(row, when="can"),)):
        yield


def _shapes(place: Place) -> Iterator[Shape]:
    spec = SHAPES["tiny" if place.dry else "1.3b"]
    cells = (8, 12) if place.dry else (60, 104)
    full = film_call(spec, PRESETS["grounded"], cells, place.device, place.dtype)
    frame = spec.tokens_per_frame(*cells)
    kinds = {"12 frames": 12 * frame, "21 frames": 21 * frame, "3 frames": 3 * frame, "a prompt": 512}
    for name, keys in kinds.items():
        call = replace(full, keys=keys)
        yield Shape(name, call, *call.inputs())
    call = replace(full, queries=min(FULL_ROUNDS, full.queries))
    yield Shape("12 frames, full rounds", call, *call.inputs())


def _row(place: Place, shape: Shape, kernel: Kernel) -> tuple[str, str]:
    q, k, v = shape.q, shape.k, shape.v
    began = now(place.device)
    kernel(q, k, v)
    first = now(place.device) - began
    seconds = _median(lambda: kernel(q, k, v), place)
    said = [shape.rate(seconds), shape.errors(kernel), f"first call {ms(first)}"]
    if place.device.type == "cuda":
        said.append(_recorded(lambda: kernel(q, k, v), place))
    return f"{seconds * 1000:.3f} ms", ", ".join(said)


def _median(what: Callable[[], object], place: Place) -> float:
    """Seconds of a call on the device alone."""
    if place.device.type != "cuda":
        began = now(place.device)
        what()
        return now(place.device) - began
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(TIMES)]
    for _ in range(3):
        what()
    for start, end in marks:
        start.record()
        what()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in marks) / 1000


def _recorded(what: Callable[[], Tensor], place: Place, calls: int = 5) -> str:
    """What a call takes in a CUDA graph, where nothing waits for launches, and whether it gives the same there."""
    try:
        expected, graph = what(), torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            told = [what() for _ in range(calls)]
        told[-1].zero_()
        seconds = _median(graph.replay, place) / calls
        same = "" if torch.equal(told[-1], expected) else ", with other numbers"
        return f"recorded {seconds * 1000:.3f} ms{same}"
    except Exception as error:
        return f"not recorded: {type(error).__name__}: {str(error)[:80]}"
