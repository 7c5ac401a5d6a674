"""What a steady chunk asks of a card, counted without one: kernels, copies from the computer, memory.

    python dev/bench/launches.py [--shape 1.3b] [--memory grounded] [--json FILE]

The card is torch's `meta` device, whose tensors have shapes and no numbers, so any size is counted in seconds. Every
operation that is no view counts as one kernel, and so do attention and each fused piece; memory is that of all tensors
that somebody holds, without what a kernel takes inside. What waits for the card would fail: there are no numbers.
"""

from __future__ import annotations

import json
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gf_core.arguments import Parser
from gf_core.attention import Where
from gf_core.config import SHAPES, ModelSpec, Recipe
from gf_core.memory.presets import PRESETS
from gf_core.model import fp8
from gf_core.model.pieces import PLAIN, Fused, Pieces
from gf_core.model.wan import build_meta
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import Cues, film_chunks
from gf_core.timeline import Segment, Storyboard, Timing, make_plan

CARD = torch.device("meta")
EMPTY = {torch.ops.aten.empty.memory_format, torch.ops.aten.empty_like.default, torch.ops.aten.detach.default}


class Count(TorchDispatchMode):
    """Counts what goes through it, while it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.names: Counter[str] = Counter()
        self.paused, self.inside = True, False
        self.peak = self._live = 0
        self._holders: Counter[int] = Counter()

    def hold(self, made: Any) -> None:
        """Count the memory of new tensors until the last that looks at it is gone."""
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.device.type == "meta":
                memory = tensor.untyped_storage()
                if not self._holders[memory._cdata]:
                    self._live += memory.nbytes()
                    self.peak = max(self.peak, self._live)
                self._holders[memory._cdata] += 1
                weakref.finalize(tensor, self._release, memory._cdata, memory.nbytes())

    def _release(self, memory: int, size: int) -> None:
        self._holders[memory] -= 1
        if not self._holders[memory]:
            self._live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.inside:
            self.hold(out)
        if not self.paused:
            self._look(func, [*tree_leaves(args), *tree_leaves(kwargs or {})], tree_leaves(out))
        return out

    def _look(self, func: Any, given: list[Any], made: list[Any]) -> None:
        came, left = ({x.device.type for x in part if isinstance(x, Tensor)} for part in (given, made))
        if "meta" not in came | left:
            return
        returns = [one.alias_info for one in func._schema.returns]
        if "copy" in str(func) and "cpu" in came:
            self.found["copies from the computer"] += 1
            self.names[f"from the computer, {tuple(made[0].shape)}"] += 1
        elif func in EMPTY or any(alias is not None and not alias.is_write for alias in returns):
            return
        else:
            self.kernel(str(func))

    def kernel(self, name: str) -> None:
        self.found["kernels"] += 1
        self.names[name] += 1

    def whole(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` counted as one kernel."""

        def call(*args: Any) -> Any:
            was, self.paused, self.inside = self.paused, True, True
            try:
                made = function(*args)
            finally:
                self.paused, self.inside = was, False
            self.hold(made)
            if not was:
                self.kernel(name)
            return made

        return call


def steady_chunk(
    shape: str, memory: str, make_pieces: Callable[[Count], Pieces], fast: bool = False
) -> tuple[Counter, Counter]:
    """What one chunk with a full memory takes, and of it the kernels by name; fast: with products in float8.

    Counted with two and with three layers: every layer more takes as much as the third.
    """
    two, three = (_count(replace(SHAPES[shape], num_layers=n), memory, make_pieces, fast) for n in (2, 3))
    more = SHAPES[shape].num_layers - 2
    found, names = (
        Counter({what: a[what] + more * (b[what] - a[what]) for what in a | b})
        for a, b in ((two.found, three.found), (two.names, three.names))
    )
    return found, names


def _count(spec: ModelSpec, memory: str, make_pieces: Callable[[Count], Pieces], fast: bool) -> Count:
    count = Count()
    model = build_meta(spec).requires_grad_(False)
    if fast:
        fp8.hold_as_fp8(model.blocks, products=True)
        fp8.join(model.blocks)
    own = {name for name, value in model.state_dict().items() if value.dtype == fp8.FLOAT8 or "scale" in name}
    recipe = Recipe(replace(PRESETS[memory], anchor_update="never"))  # choosing anchors reads numbers

    def attention(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
        return torch.empty_like(q)

    counted = count.whole("attention", attention)

    def kernel(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
        return counted(q, k, v)

    plan = make_plan(Storyboard(segments=(Segment("start", "a", 60.0),)), Timing.of(recipe))
    with torch.no_grad(), count:
        forms = {
            name: (value.shape, value.dtype if name in own else torch.bfloat16)
            for name, value in model.state_dict().items()
        }
        weights = {n: torch.empty(size, device=CARD, dtype=dtype) for n, (size, dtype) in forms.items()}
        model.load_state_dict(weights, assign=True)
        sampler = make_sampler(
            model, spec, recipe, latent_height=recipe.video.height // 8, latent_width=recipe.video.width // 8,
            device=CARD, dtype=torch.bfloat16, kernel=kernel, pieces=make_pieces(count),
        )  # fmt: skip
        director = sampler.director
        prompt = torch.zeros(1, 64, spec.text_dim)
        director.start(prompt)
        for _ in range(-(-recipe.memory.slots // recipe.memory.chunk)):
            director.prefill(torch.zeros(director.shape(recipe.memory.chunk), device=CARD))
        chunks = film_chunks(sampler, Cues(plan, [prompt]), start=plan.chunks - 2)
        next(chunks)  # the last to compute what is kept from chunk to chunk
        count.paused = False
        next(chunks)
        count.paused = True
        count.found["MB at the peak"] = count.peak // 10**6
        director.switch(prompt)
        director.prepare()
        count.found["MB at the peak of a prompt switch"] = count.peak // 10**6
    return count


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--shape", choices=tuple(SHAPES), default="1.3b")
    parser.add_argument("--memory", choices=sorted(PRESETS), default="grounded")
    parser.add_argument("--json", type=Path, help="write every number as JSON too")
    args = parser.parse_args()
    ways: dict[str, Callable[[Count], Pieces]] = {
        "eager": lambda count: PLAIN,
        "compiled": lambda count: Fused(lambda run: count.whole(f"piece {run.__name__}", run), "counted"),
    }
    told = {name: steady_chunk(args.shape, args.memory, make) for name, make in ways.items()}
    fp8.multiplies = lambda device, dtype: True  # type: ignore[assignment]
    fp8.Fp8Product.fill = lambda self, weight, scale: None  # there are no numbers to look at
    told["fp8-fast"] = steady_chunk(args.shape, args.memory, ways["compiled"], fast=True)
    for name, (found, names) in told.items():
        print(f"{name:<9}" + ", ".join(f"{number} {what}" for what, number in sorted(found.items())))
        print("  " + ", ".join(f"{number} {what}" for what, number in names.most_common(14)))
    if args.json:
        numbers = {name: {**found, "by name": names} for name, (found, names) in told.items()}
        args.json.write_text(json.dumps(numbers, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
