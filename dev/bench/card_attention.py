"""Part of `card.py`: who computes attention fastest, how far off it is, and what it takes to begin.

Decides which rows of `gf_core/attention/backends.py` stay, whether cuDNN's own choice of a plan is its best, from how
many keys on float8 pays, and whether attention over a prompt's rows is slow for its size.
"""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from card_place import Place, ms
from torch import Tensor

from gf_core.attention import Kernel, cudnn_fp8, plain
from gf_core.attention.backends import BACKENDS, film_call, pick
from gf_core.attention.fastest import Call
from gf_core.config import SHAPES
from gf_core.evaluation.bench import now
from gf_core.memory.presets import PRESETS

TIMES = 20


@dataclass(frozen=True)
class Shape:
    """Attention of one kind, its inputs, and what it should be for a few queries and heads."""

    name: str
    call: Call
    q: Tensor
    k: Tensor
    v: Tensor

    def should_be(self, sharper: float) -> Tensor:
        few = self.q[:, :256, :2].float() * sharper
        return plain(few, self.k[:, :, :2].float(), self.v[:, :, :2].float())

    def errors(self, kernel: Kernel) -> str:
        """Relative root mean square error where logits spread by 1, and by 4."""
        told = []
        for sharper in (1.0, 4.0):
            exact = self.should_be(sharper)
            off = kernel(self.q * sharper, self.k, self.v)[:, :256, :2].float() - exact
            told.append(f"{float(off.norm() / exact.norm()):.2g}")
        return "off by " + ", ".join(told)

    def rate(self, seconds: float) -> str:
        call = self.call
        return f"{4 * call.queries * call.keys * call.heads * call.head_dim / seconds / 1e12:.0f} TFLOP/s"


@torch.no_grad()
def attention(place: Place) -> None:
    """Every kernel at the shapes of a film with a memory of 12, 21 and 3 frames, and over a prompt's rows."""
    cudnn_fp8.LEAST_KEYS = 0  # from how many keys on it pays is what is asked
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
            _tried(place, row.name, lambda row=row, shape=shape: _row(place, shape, row.load()))
    began = now(place.device)
    chosen = pick(place.device, place.dtype, first.call.head_dim, call=first.call)
    place.tell("chosen", chosen.name, f"in {now(place.device) - began:.2f} s")
    _tried(place, "casts", lambda: _casts(place, first))
    if place.device.type == "cuda":
        for shape in _shapes(place):
            _tried(place, f"{shape.name}: float8 without casts", lambda shape=shape: _bare(place, shape))
            _tried(place, f"{shape.name}: cuDNN's plans", lambda shape=shape: _plans(place, shape))
            _tried(place, f"{shape.name}: PyTorch's kernel", lambda shape=shape: _named(place, shape))


def _shapes(place: Place) -> Iterator[Shape]:
    spec = SHAPES["tiny" if place.dry else "1.3b"]
    cells = (8, 12) if place.dry else (60, 104)
    full = film_call(spec, PRESETS["grounded"], cells, place.device, place.dtype)
    frame = spec.tokens_per_frame(*cells)
    kinds = {"12 frames": 12 * frame, "21 frames": 21 * frame, "3 frames": 3 * frame, "a prompt": 512}
    for name, keys in kinds.items():
        call = replace(full, keys=keys)
        yield Shape(name, call, *call.inputs())


def _tried(place: Place, name: str, what: Callable[[], tuple[str, str] | None]) -> None:
    try:
        told = what()
    except Exception as error:  # whatever a kernel says where it does not run: the next one is tried
        told = "", f"{type(error).__name__}: {error}"
    if told:
        place.tell(name, *told)


def _row(place: Place, shape: Shape, kernel: Kernel) -> tuple[str, str]:
    q, k, v = shape.q, shape.k, shape.v
    began = now(place.device)
    kernel(q, k, v)
    first = now(place.device) - began
    seconds = _median(lambda: kernel(q, k, v), place)
    said = [shape.rate(seconds), shape.errors(kernel), f"first call {ms(first)}"]
    if place.device.type == "cuda":
        said.append(_recorded(lambda: kernel(q, k, v)))
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


def _recorded(what: Callable[[], Tensor]) -> str:
    """Whether it can be recorded as a CUDA graph that gives the same."""
    try:
        expected, graph = what(), torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph):
            told = what()
        told.zero_()
        graph.replay()
        torch.cuda.synchronize()
        return "recorded" if torch.equal(told, expected) else "recorded, with other numbers"
    except Exception as error:
        return f"not recorded: {type(error).__name__}: {str(error)[:80]}"


def _casts(place: Place, shape: Shape) -> None:
    """What rounding k takes, one way and the other; v takes as long, q a quarter."""

    def cut(x: Tensor) -> Tensor:
        return x.clamp(-cudnn_fp8.LARGEST, cudnn_fp8.LARGEST).to(cudnn_fp8.FLOAT8)

    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "as it is": cudnn_fp8.rounded,
        "cast alone": lambda x: x.to(cudnn_fp8.FLOAT8),
        "cut off and cast": cut,
    }
    if not place.dry:  # a processor's compiler may take a minute
        ways["the same, compiled"] = torch.compile(cut, dynamic=False)
    for name, way in ways.items():
        _tried(
            place,
            f"k to float8: {name}",
            lambda way=way: (f"{_median(lambda: way(shape.k), place) * 1000:.3f} ms", ""),
        )
    big = shape.k[:, :1, :1] * 0 + 1000
    told = big.to(cudnn_fp8.FLOAT8).float().flatten()[0].item()
    place.tell("1000 cast to float8", f"{told:g}", "448 where casts cut off")


def _bare(place: Place, shape: Shape) -> tuple[str, str]:
    """What the kernel would take if q, k and v were float8 already."""
    cudnn: Any = importlib.import_module("cudnn")
    handle, keys = cudnn.create_handle(), shape.k.shape[1]
    plan = cudnn_fp8.Plan(cudnn, handle, place.device, shape.q.shape, keys)
    q, k, v = (cudnn_fp8.rounded(x) for x in (shape.q, shape.k, shape.v))
    seconds = _median(lambda: plan(q, k, v), place)
    return f"{seconds * 1000:.3f} ms", shape.rate(seconds)


def _named(place: Place, shape: Shape) -> tuple[str, str]:
    """Which kernel PyTorch launches."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as told:
        BACKENDS[-1].load()(shape.q, shape.k, shape.v)
        torch.cuda.synchronize()
    kernels = [event.key for event in told.key_averages()]
    return "", ", ".join(kernels)[:280]


def _plans(place: Place, shape: Shape) -> tuple[str, str]:
    """All plans that cuDNN has for the numbers as they are, of which PyTorch takes the first."""
    cudnn: Any = importlib.import_module("cudnn")
    handle, bf16, float32 = cudnn.create_handle(), cudnn.data_type.BFLOAT16, cudnn.data_type.FLOAT
    cudnn.set_stream(handle=handle, stream=torch.cuda.current_stream().cuda_stream)
    graph = cudnn.pygraph(
        handle=handle, io_data_type=bf16, intermediate_data_type=float32, compute_data_type=float32
    )
    tensors = {name: getattr(shape, name).transpose(1, 2) for name in "qkv"}
    ports = {
        name: graph.tensor(name=name, dim=list(x.shape), stride=list(x.stride()), data_type=bf16)
        for name, x in tensors.items()
    }
    out, _ = graph.sdpa(**ports, attn_scale=shape.call.head_dim**-0.5, generate_stats=False)
    result = torch.empty_like(shape.q).transpose(1, 2)
    out.set_output(True).set_dim(list(result.shape)).set_stride(list(result.stride())).set_data_type(bf16)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.check_support()
    graph.build_plans(cudnn.build_plan_policy.ALL)
    values, took = {**{ports[name]: x for name, x in tensors.items()}, out: result}, {}
    for index in range(graph.get_execution_plan_count()):
        try:
            size = max(graph.get_workspace_size_plan_at_index(index), 1)
            space = torch.empty(size, dtype=torch.uint8, device=place.device)

            def run(index: int = index, space: Tensor = space) -> None:
                graph.execute_plan_at_index(values, space, index, handle=handle)

            took[graph.get_plan_name_at_index(index)] = _median(run, place)
        except Exception as error:  # a plan that was not built
            place.tell(f"plan {index}", "", f"{type(error).__name__}: {error}")
    best = min(took.values())
    told = ", ".join(f"{name} {seconds * 1000:.3f}" for name, seconds in took.items())
    return f"{best * 1000:.3f} ms", f"{shape.rate(best)}; {told}"
