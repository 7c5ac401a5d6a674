"""The two decoders in ways that films do not use yet: recorded, with fused pieces, with convolutions of our own."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from card_decoders import codecs
from card_parts import kind_of
from card_place import Place, ms
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from gf_core.evaluation.bench import now
from gf_core.model import compiled
from gf_core.vae.taehv import MemBlock
from gf_core.vae.wan_stages import PAST, Stages

TIMES = 4


def variants(place: Place) -> None:
    """Decides what the decoders become: 110 ms are wanted of Wan's, 6 of TAEHV's, a chunk.

    `as films do` has where the time goes; `recorded` what launches cost; the other rows who computes what lies between
    convolutions (`laid`: our pass; `inductor`: torch's compiler), and the convolutions.
    """
    make = codecs(place)
    tiny: Any = make["TAEHV"]()
    _measure(place, "TAEHV, as films do", tiny.decoder, look=True)
    _measure(place, "TAEHV, recorded", lambda: Recorded(tiny.decoder()))
    plain, MemBlock.forward = MemBlock.forward, _with_relu
    _measure(place, "TAEHV, cuDNN adds and clips", tiny.decoder)
    _measure(place, "TAEHV, the same, recorded", lambda: Recorded(tiny.decoder()))
    MemBlock.forward = plain
    wan: Any = make["Wan VAE"]()
    wan._mean, wan._std = wan._mean.to(place.device), wan._std.to(place.device)

    def opened(**how: Any) -> Any:
        decoder = type(wan.decoder())(wan, channels_last=True)
        if how:
            decoder._stages = Fused(wan.network.decoder, decoder._stages.cache, **how)
        return decoder

    _measure(place, "Wan VAE, as films do", opened, look=True)
    if not place.dry:
        _measure(place, "Wan VAE, laid", lambda: opened(by="triton"))
        _measure(place, "Wan VAE, laid, folded", lambda: opened(by="triton", fold=True))
        _measure(place, "Wan VAE, laid, own convolutions", lambda: opened(by="triton", own=True), look=True)
        _measure(place, "Wan VAE, the same, recorded", lambda: Recorded(opened(by="triton", own=True)))
    _measure(place, "Wan VAE, recorded", lambda: Recorded(opened()))
    torch.backends.cudnn.benchmark = True
    _measure(place, "Wan VAE, algorithms measured", opened)
    _measure(place, "TAEHV, algorithms measured", tiny.decoder)
    torch.backends.cudnn.benchmark = False
    _measure(place, "Wan VAE, inductor", lambda: opened(by="eager" if place.dry else "inductor"))


_first: dict[str, Tensor] = {}
"""Pictures of each decoder's first way, for the others to be held against."""


def _measure(place: Place, name: str, make: Callable[[], Any], look: bool = False) -> None:
    cells, rng = (8, 12) if place.dry else (60, 104), torch.Generator().manual_seed(0)
    latents = torch.randn(3, 16, *cells, generator=rng).to(place.device, place.dtype)
    try:
        place.peak()
        decoder, began, seconds = make(), now(place.device), []
        pictures = [decoder.decode(latents) for _ in range(3)][-1].clone()
        ready = now(place.device) - began
        for _ in range(TIMES):
            began = now(place.device)
            decoder.decode(latents)
            seconds.append(now(place.device) - began)
        truth = _first.setdefault(name.partition(",")[0], pictures)
        note = f"3 calls before: {ready:.1f} s; off by {(pictures - truth).abs().mean().item():.2g} {place.peak()}"
        place.tell(name, ms(statistics.median(seconds)), note)
        if look:
            _look(place, name, lambda: decoder.decode(latents))
    except Exception as error:  # one that does not work here costs its row
        place.tell(name, "", f"{type(error).__name__}: {error}")


def _look(place: Place, name: str, call: Callable[[], Any]) -> None:
    """Where a call goes, by kind of kernel, and the longest by name."""
    cuda = place.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
        call()
        now(place.device)
    spent: Counter[str] = Counter()
    rows = [row for row in seen.key_averages() if (row.device_type == DeviceType.CUDA) == cuda]
    named = [((row.self_device_time_total if cuda else row.self_cpu_time_total) / 1e6, row) for row in rows]
    for seconds, row in named:
        spent["convolutions" if (kind := kind_of(row.key)) == "matrix products" else kind] += seconds
    longest = sorted(((seconds, row.count, row.key[:160]) for seconds, row in named), reverse=True)[:40]
    place.keep(f"kernels of {name}", longest)
    kinds = ", ".join(f"{kind} {ms(seconds)}" for kind, seconds in spent.most_common())
    first = "; ".join(f"{ms(seconds)} {count}x {key[:60]}" for seconds, count, key in longest[:4])
    place.tell(f"{name}: kernels", ms(sum(spent.values())), kinds)
    place.tell(f"{name}: the longest", "", first)


class Recorded:
    """A decoder whose call is one CUDA graph, state in fixed places; calls of one shape, behind the film's first."""

    def __init__(self, decoder: Any) -> None:
        self._decoder, self._graph, self._calls = decoder, None, 0

    def decode(self, latents: Tensor) -> Tensor:
        if latents.device.type != "cuda":
            return self._decoder.decode(latents)
        self._calls += 1
        if self._calls < 3:
            return self._decoder.decode(latents)
        if self._graph is None:
            self._state = {name: value.clone() for name, value in self._decoder.snapshot().items()}
            self._place = latents.clone()
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._decoder.restore(self._state)
                self._made = self._decoder.decode(self._place)
                for name, value in self._decoder.snapshot().items():
                    self._state[name].copy_(value)
        self._place.copy_(latents)
        self._graph.replay()
        return self._made


def _with_relu(block: MemBlock, x: Tensor, before: Tensor) -> Tensor:
    first, _, second, _, third = block.conv
    both = torch.empty(
        len(x),
        2 * x.shape[1],
        *x.shape[2:],
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    width = x.shape[1]
    both[:, :width], both[:1, width:], both[1:, width:] = x, before, x[:-1]
    rest = [1, 1], [1, 1], [1, 1], 1
    if x.device.type != "cuda":
        return third(second(first(both).relu_()).relu_()).add_(x).relu_()
    y = torch.cudnn_convolution_relu(both, first.weight, first.bias, *rest)
    y = torch.cudnn_convolution_relu(y, second.weight, second.bias, *rest)
    return torch.cudnn_convolution_add_relu(y, third.weight, x, 1, third.bias, *rest)


def _run(x: Tensor, gamma: Tensor | None, past: Tensor) -> tuple[Tensor, Tensor]:
    """Frames `t h w c`, normed and bent, behind their past; and what is kept of them."""
    run = torch.cat([past, x if gamma is None else F.silu(F.rms_norm(x, gamma.shape, gamma, 1e-12))])
    return run, run[-PAST:].clone()


def _frames(x: Tensor) -> Tensor:
    return x[0].permute(1, 2, 3, 0).contiguous()  # as it is, where convolutions give what they get


def _back(x: Tensor) -> Tensor:
    return x.permute(3, 0, 1, 2)[None]


class Fused(Stages):
    """Channels last, other hands at work from the film's third latent frame on."""

    def __init__(
        self, decoder: Any, cache: list[Any], by: str, fold: bool = False, own: bool = False
    ) -> None:
        super().__init__(decoder, cache, True)
        self._by, self._fold, self._own = by, fold, own
        self._weights: dict[Any, Tensor] = {}
        options = compiled._options() if by == "inductor" else None
        compiled.fused()  # lets pieces have many shapes
        backend = "eager" if by == "triton" else by
        self._compiled = torch.compile(_run, fullgraph=True, dynamic=False, backend=backend, options=options)

    def _residual(self, block: Any, x: Tensor) -> Tensor:
        if not self._own or not self._ready(block.conv1):
            return super()._residual(block, x)
        short = block.conv_shortcut
        aside = x if isinstance(short, torch.nn.Identity) else F.conv3d(x, short.weight, short.bias)
        return self._causal(block.conv2, self._causal(block.conv1, x, block.norm1), block.norm2, aside)

    def _ready(self, layer: Any) -> bool:
        past = self.cache[self._slots[layer]]
        return isinstance(past, Tensor) and past.shape[2] == PAST

    def _causal(self, layer: Any, x: Tensor, norm: Any = None, aside: Tensor | None = None) -> Tensor:
        slot, side = self._slots[layer], layer.kernel_size[-1]
        if not self._ready(layer):
            return super()._causal(layer, x, norm)
        frames, past = _frames(x), _frames(self.cache[slot])
        gamma = None if norm is None else norm.gamma.flatten()
        if self._own and gamma is not None and layer.out_channels % 32 == 0:
            return self._convolved(layer, frames, gamma, past, None if aside is None else _frames(aside))
        if self._by == "triton" and gamma is not None:
            import card_implicit as implicit

            run = frames.new_empty(PAST + len(frames), *frames.shape[1:])
            run[:PAST] = past
            implicit.lay(frames, gamma, run[PAST:])
            kept = run[-PAST:].clone()
        else:
            run, kept = (
                _run(frames, gamma, past) if self._by == "triton" else self._compiled(frames, gamma, past)
            )
        self.cache[slot] = _back(kept)
        if not self._fold:
            return F.conv3d(_back(run), layer.weight, layer.bias, padding=(0, side // 2, side // 2))
        if layer not in self._weights:
            flat = torch.cat([part[:, :, 0] for part in layer.weight.split(1, 2)], 1)
            self._weights[layer] = flat.contiguous(memory_format=torch.channels_last)
        folded = torch.cat([run[tap : tap + len(frames)] for tap in range(3)], -1).permute(0, 3, 1, 2)
        return F.conv2d(folded, self._weights[layer], layer.bias, padding=side // 2).transpose(0, 1)[None]

    def _convolved(
        self, layer: Any, frames: Tensor, gamma: Tensor, past: Tensor, aside: Tensor | None
    ) -> Tensor:
        import card_implicit as implicit

        count, height, width, channels = frames.shape
        run = frames.new_empty(PAST + count, height + 2, width + 2, channels)
        for edge in (run[:, 0], run[:, -1], run[:, :, 0], run[:, :, -1]):
            edge.zero_()
        inside = run[:, 1:-1, 1:-1]
        inside[:PAST] = past
        implicit.lay(frames, gamma, run[PAST:])
        self.cache[self._slots[layer]] = _back(inside[-PAST:].contiguous())
        if layer not in self._weights:
            self._weights[layer] = implicit.taps_of(layer.weight)
        tile = implicit.TILES[layer.out_channels][0]
        return _back(implicit.conv(run, self._weights[layer], layer.bias, aside, tile))
