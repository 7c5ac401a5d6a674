"""What a block does between products and attention: norms, modulation, gates, turning, GELU; one by one or fused.

`Pieces` does it operation by operation, on any module tree, and `Direct` on our own, past its modules. `Fused` has each
run of operations compiled into one pass over the tokens, on our own tree only: a host's modules may have been given
other forwards, which both would skip. The formulas are written once, below. Fused ones sum in another order, so that
the last bits differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..rope import rotate, rotated
from .fp8 import gain_of, to_float8

Norm = Any
"""A layer norm or RMS norm of a module tree."""
Taker = Callable[[], Any]
"""Says which linear layer takes what a piece gives: where that multiplies in float8, a fused piece gives it that."""


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normed tokens x [b (f s) c] scaled and shifted per frame [b f 1 c]."""
    # Tokens as b f s c: shift and scale are per frame, or one for all (f is 1 then, and s all tokens).
    return torch.addcmul(shift, x.unflatten(1, (shift.shape[1], -1)), 1 + scale).flatten(1, 2)


def gate(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """x + y * share per frame [b f 1 c], on tokens [b (f s) c]."""
    frames = share.shape[1]
    return torch.addcmul(x.unflatten(1, (frames, -1)), y.unflatten(1, (frames, -1)), share).flatten(1, 2)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the full width: statistics in float32, the weight after the cast back."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).type_as(x) * weight


def mix(slots: Tensor, old: Tensor, fresh: Tensor, rest: Tensor, share: Tensor) -> None:
    """rest * old + share * fresh, of keys or values [b s h d], into `slots`, which may be `old`.

    Shares [s 1 1] are float32, and so is the sum.
    """
    # Detached: `out=` refuses tensors that ask for gradients, to which a mix is a constant anyway.
    torch.add(old.detach() * rest, fresh.detach() * share, out=slots)


PAIR = torch.int32
"""Two numbers of half the width that are turned together, as a card reads and writes them in one."""
HALVES = (torch.bfloat16, torch.float16)

FreshParts = tuple[Tensor, Tensor, float, int]
NormParts = tuple[Tensor | None, Tensor | None, float]


@dataclass(frozen=True)
class Fresh:
    """Queries or keys whose norm waits for the pass that turns them."""

    values: Tensor
    """As the product left them [b s c]."""
    weight: Tensor
    eps: float
    heads: int

    @property
    def parts(self) -> FreshParts:
        """All of it, as the fused runs take it."""
        return self.values, self.weight, self.eps, self.heads

    @property
    def pairs(self) -> FreshParts:
        """The same of half the width, two numbers in one (`PAIR`)."""
        return self.values.view(PAIR), self.weight, self.eps, self.heads

    def __getitem__(self, index: Any) -> Fresh:
        """Some of the tokens."""
        return replace(self, values=self.values[index])


class Pieces:
    """Operation by operation."""

    name = ""
    """What decides the last bits beside device and library; empty where nothing does."""
    turns_at_reading = False
    """The past is turned when it is read, layer by layer, so fast that no turned copy is worth its memory."""

    def layer_normed(self, norm: Norm, x: Tensor) -> Tensor:
        """Tokens x [b (f s) c], normed."""
        return norm(x)

    def modulated(self, norm: Norm, x: Tensor, shift: Tensor, scale: Tensor, taker: Taker) -> Tensor:
        """The same, modulated."""
        return modulate(self.layer_normed(norm, x), shift, scale)

    def gated(self, x: Tensor, y: Tensor, share: Tensor) -> Tensor:
        """`gate`."""
        return gate(x, y, share)

    def gated_normed(
        self, x: Tensor, y: Tensor, share: Tensor, norm: Norm, taker: Taker
    ) -> tuple[Tensor, Tensor]:
        """`gate`, and that normed."""
        x = gate(x, y, share)
        return x, self.layer_normed(norm, x)

    def added_modulated(
        self, x: Tensor, y: Tensor, norm: Norm, shift: Tensor, scale: Tensor, taker: Taker
    ) -> tuple[Tensor, Tensor]:
        """x + y, and that normed and modulated."""
        x = x + y
        return x, modulate(self.layer_normed(norm, x), shift, scale)

    def normed(self, norm: Norm, x: Tensor, heads: int) -> Tensor:
        """Queries or keys x [b s c] normed over their full width, as [b s h d]."""
        return norm(x).unflatten(-1, (heads, -1))

    def fresh(self, norm: Norm, x: Tensor, heads: int) -> Any:
        """The same for whoever turns them: `turned` and `lay_in` take what this gives."""
        return self.normed(norm, x, heads)

    def given(self, linear: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A linear layer of what a piece gives."""
        return linear(x)

    def product(self, linear: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A linear layer of what no piece gives."""
        return linear(x)

    def feed_forward(self, ffn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """The block's feed-forward."""
        return ffn(x)

    def turned(self, q: Any, turn: Tensor) -> Tensor:
        """Queries [b s h d], turned."""
        return rotate(q, turn)

    def values_of(self, k: Any) -> Tensor:
        """Keys [b s h d] as they are before they are turned."""
        return k

    def lay_in(
        self, k: Any, v: Tensor, turn: Tensor, turned: Tensor, values: Tensor, raw: Tensor | None
    ) -> None:
        """Put keys, turned, and values into their slots [b s h d], and keys as they are into `raw`."""
        if raw is not None:
            raw.copy_(k)
        values.copy_(v)
        rotate(k, turn, out=turned)

    def turn_all(self, raw: Tensor, turn: Tensor, turned: Tensor, frames: int) -> None:
        """Turn the keys of a run of `frames` slots [l b (f s) h d] of some layers into another buffer."""
        for mine, theirs in zip(raw, turned):
            rotate(mine, turn, out=theirs)


PLAIN = Pieces()


class Direct(Pieces):
    """The same operations on a tree of our own, past its modules: asking one takes as long as a small sum itself.

    Linear layers that are more than an `nn.Linear`, or have hooks, as while a LoRA is trained, are asked all the same.
    Norms and the feed-forward as a whole never are: whoever chooses these pieces looks that nothing hangs on them
    (`layers.untouched`).
    """

    def layer_normed(self, norm: Norm, x: Tensor) -> Tensor:
        return _layer_norm(x, _parts(norm))

    def normed(self, norm: Norm, x: Tensor, heads: int) -> Tensor:
        return rms_norm(x, norm.weight, norm.eps).unflatten(-1, (heads, -1))

    def given(self, linear: Any, x: Tensor) -> Tensor:
        return F.linear(x, linear.weight, linear.bias) if _bare(linear) else linear(x)

    product = given

    def feed_forward(self, ffn: Any, x: Tensor) -> Tensor:
        grow, _, shrink = ffn
        return self.given(shrink, F.gelu(self.given(grow, x), approximate="tanh"))


DIRECT = Direct()


def _bare(linear: Any) -> bool:
    """Whether it is a linear layer and no more: what hangs on one acts only where the layer itself is called."""
    return type(linear) is nn.Linear and not linear._forward_hooks and not linear._forward_pre_hooks


class Fused(Pieces):
    """Each run of operations in one pass, made by `compile`; a tree of our own only."""

    turns_at_reading = True

    def __init__(self, compile: Callable[[Callable[..., Any]], Callable[..., Any]], name: str) -> None:
        self.name = name
        self._run = {function: compile(function) for function in _RUNS}

    def modulated(self, norm: Norm, x: Tensor, shift: Tensor, scale: Tensor, taker: Taker) -> Tensor:
        return self._run[_modulated](x, _parts(norm), shift, scale, gain_of(taker()))

    def gated(self, x: Tensor, y: Tensor, share: Tensor) -> Tensor:
        return self._run[gate](x, y, share)

    def gated_normed(
        self, x: Tensor, y: Tensor, share: Tensor, norm: Norm, taker: Taker
    ) -> tuple[Tensor, Tensor]:
        return self._run[_gated_normed](x, y, share, _parts(norm), gain_of(taker()))

    def added_modulated(
        self, x: Tensor, y: Tensor, norm: Norm, shift: Tensor, scale: Tensor, taker: Taker
    ) -> tuple[Tensor, Tensor]:
        return self._run[_added_modulated](x, y, _parts(norm), shift, scale, gain_of(taker()))

    def product(self, linear: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        gain = gain_of(linear)
        return linear(x if gain is None else self._run[to_float8](x, gain))

    def normed(self, norm: Norm, x: Tensor, heads: int) -> Tensor:
        return self.values_of(self.fresh(norm, x, heads))

    def fresh(self, norm: Norm, x: Tensor, heads: int) -> Fresh:
        return Fresh(x, norm.weight, norm.eps, heads)

    def feed_forward(self, ffn: Any, x: Tensor) -> Tensor:
        grow, _, shrink = ffn
        gain = gain_of(shrink)
        if gain is None and _bare(grow) and x.device.type in TAKES_GELU and x.dtype in HALVES:
            # On sums that are not rounded yet.
            wide = torch.ops.aten._addmm_activation(
                grow.bias, x.flatten(0, 1), grow.weight.t(), use_gelu=True
            )
            return shrink(wide).view_as(x)
        if gain is None:
            wide = grow(x)
            self._run[_gelu](wide)
            return shrink(wide)
        parts = [shrink(self._run[_small_gelu](grow(part), gain)) for part in x.split(AT_ONCE, 1)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def turned(self, q: Fresh, turn: Tensor) -> Tensor:
        if q.values.dtype not in HALVES:
            return self._run[_turned](q.parts, turn)
        return self._run[_turned_pairs](q.pairs, turn).view(q.values.dtype)

    def values_of(self, k: Fresh) -> Tensor:
        return self._run[_normed](k.parts)

    def lay_in(
        self, k: Fresh | Tensor, v: Tensor, turn: Tensor, turned: Tensor, values: Tensor, raw: Tensor | None
    ) -> None:
        if isinstance(k, Tensor):  # `values_of` was asked before
            super().lay_in(k, v, turn, turned, values, raw)
        elif k.values.dtype not in HALVES:
            self._run[_lay_in](k.parts, v, turn, turned, values, raw)
        else:
            places = [None if place is None else place.view(PAIR) for place in (v, turned, values, raw)]
            self._run[_lay_in_pairs](k.pairs, turn, *places)

    def turn_all(self, raw: Tensor, turn: Tensor, turned: Tensor, frames: int) -> None:
        # Some at a time, so that there are few shapes however many there are.
        for mine, own, theirs in zip(*_groups(frames, (raw, 2), (turn, 0), (turned, 2))):
            if raw.dtype in HALVES:
                self._run[_turn_pairs](mine.view(PAIR), own, theirs.view(PAIR), raw.dtype)
            else:
                self._run[_turn_slots](mine, own, theirs)


TAKES_GELU = ("cuda", "meta")
"""Devices whose products take a GELU along (by tanh, as here)."""
AT_ONCE = 4680
"""Tokens that a feed-forward in float8 takes at once: a chunk at 832x480. Its widest tensors lie in memory twice."""
TOGETHER = 3
"""Frames that are turned in one pass; a memory mostly holds multiples of them."""


def _groups(frames: int, *parts: tuple[Tensor, int]) -> list[tuple[Tensor, ...]]:
    """Tensors cut along a dimension, which is `frames` frames long, into groups."""
    return [x.split(x.shape[dim] // frames * TOGETHER, dim) for x, dim in parts]


def _parts(norm: Norm) -> NormParts:
    return norm.weight, norm.bias, norm.eps


def _layer_norm(x: Tensor, norm: NormParts) -> Tensor:
    weight, bias, eps = norm
    if not torch.compiler.is_compiling():
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)
    # Of torch's own some versions of inductor make a variance that runs along: half as long again on a card.
    wide = x.float()
    wide = wide - wide.mean(-1, keepdim=True)
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if weight is not None and bias is not None:
        wide = torch.addcmul(bias.float(), wide, weight.float())
    return wide.type_as(x)


def _given(x: Tensor, gain: float | None) -> Tensor:
    """As the layer wants it that takes it."""
    return x if gain is None else to_float8(x, gain)


def _modulated(x: Tensor, norm: NormParts, shift: Tensor, scale: Tensor, gain: float | None) -> Tensor:
    return _given(modulate(_layer_norm(x, norm), shift, scale), gain)


def _gated_normed(
    x: Tensor, y: Tensor, share: Tensor, norm: NormParts, gain: float | None
) -> tuple[Tensor, Tensor]:
    x = gate(x, y, share)
    return x, _given(_layer_norm(x, norm), gain)


def _added_modulated(
    x: Tensor, y: Tensor, norm: NormParts, shift: Tensor, scale: Tensor, gain: float | None
) -> tuple[Tensor, Tensor]:
    x = x + y
    return x, _modulated(x, norm, shift, scale, gain)


def _gelu(x: Tensor) -> None:
    """In place: nobody else holds the widest tensor of a block."""
    x.copy_(F.gelu(x, approximate="tanh"))


def _small_gelu(x: Tensor, gain: float) -> Tensor:
    return to_float8(F.gelu(x, approximate="tanh"), gain)


def _normed(k: FreshParts) -> Tensor:
    x, weight, eps, heads = k
    return rms_norm(x, weight, eps).unflatten(-1, (heads, -1))


def _turned(q: FreshParts, turn: Tensor) -> Tensor:
    return rotate(_normed(q), turn)


def _lay_in(
    fresh: FreshParts, v: Tensor, turn: Tensor, turned: Tensor, values: Tensor, raw: Tensor | None
) -> None:
    PLAIN.lay_in(_normed(fresh), v, turn, turned, values, raw)


def _turn_slots(raw: Tensor, turn: Tensor, turned: Tensor) -> None:
    rotate(raw, turn, out=turned)


def _apart(pairs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The first and the second of `PAIR`s, in float32."""
    first, second = pairs.to(torch.int16), (pairs >> 16).to(torch.int16)
    return first.view(dtype).float(), second.view(dtype).float()


def _together(first: Tensor, second: Tensor, dtype: torch.dtype) -> Tensor:
    """Float32 numbers rounded to `dtype`, as `PAIR`s."""
    low, high = (x.to(dtype).view(torch.int16).to(PAIR) for x in (first, second))
    return (low & 0xFFFF) | (high << 16)


def _normed_pairs(k: FreshParts) -> tuple[Tensor, Tensor]:
    """`_normed` of pairs [b s c/2]: first and second [b s h d/2] in float32, not rounded in between."""
    pairs, weight, eps, heads = k
    first, second = _apart(pairs, weight.dtype)
    # The mean over both.
    share = torch.rsqrt((first.square() + second.square()).mean(-1, keepdim=True) / 2 + eps)
    scales = weight.float().unflatten(-1, (-1, 2)).unbind(-1)
    made = (x * share * scale for x, scale in zip((first, second), scales))
    first, second = (x.unflatten(-1, (heads, -1)) for x in made)
    return first, second


def _turned_pairs(q: FreshParts, turn: Tensor) -> Tensor:
    return _together(*rotated(*_normed_pairs(q), turn), q[1].dtype)


def _lay_in_pairs(
    fresh: FreshParts, turn: Tensor, v: Tensor, turned: Tensor, values: Tensor, raw: Tensor | None
) -> None:
    normed, dtype = _normed_pairs(fresh), fresh[1].dtype
    if raw is not None:
        raw.copy_(_together(*normed, dtype))
    values.copy_(v)
    turned.copy_(_together(*rotated(*normed, turn), dtype))


def _turn_pairs(raw: Tensor, turn: Tensor, turned: Tensor, dtype: torch.dtype) -> None:
    turned.copy_(_together(*rotated(*_apart(raw, dtype), turn), dtype))


_RUNS: tuple[Callable[..., Any], ...] = (
    _modulated, gate, _gated_normed, _added_modulated, _gelu, _small_gelu, to_float8, _normed, _turned, _lay_in,
    _turn_slots, _turned_pairs, _lay_in_pairs, _turn_pairs,
)  # fmt: skip
