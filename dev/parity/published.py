"""What only the published code does and no film asks for (docs/method.md), laid over our memory for its recordings."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from dev.parity.case import Case
from dev.parity.methods import (
    DUMMY_FORCING,
    INFINITY,
    KREA,
    LONGLIVE,
    MEMROPE,
    REWARD_FORCING,
    relative,
    repo,
)
from gf_core.memory.gradients import GradView
from gf_core.memory.ledger import Frame
from gf_core.memory.store import DualMemory
from gf_core.memory.views import Place, View, joined
from gf_core.model.forward import SelfAttention
from gf_core.model.layers import Time
from gf_core.rope import turns
from gf_core.sampling.director import Director

Written = Literal["clean", "recache"]
"""Why a call leaves keys and values behind."""
FLUSHED = 3
"""Frames that Infinity-RoPE counts in its buffer behind a flush, whatever was in it."""

FILLED = 128
"""Tokens that masked attention is asked for at a time."""


class AsPublished(Director):
    """A director whose chunks may see in their first call what they do not see in the others."""

    case: Case
    _first: View | None = None

    def open(self, frames: int) -> tuple[SelfAttention, SelfAttention]:
        """As `Director.open`; what the first denoising call sees is put aside."""
        views = [view for view in super().open(frames) if isinstance(view, View)]
        self._first, later, clean = self.changed(frames, *views)
        return later, clean

    def changed(self, frames: int, step: View, clean: View) -> tuple[View | None, View, View]:
        """Views of the first denoising call, None for the same, of the others, and of the clean pass."""
        return None, step, clean

    def predict(self, x: Tensor, time: Time, view: SelfAttention) -> Tensor:
        """As `Director.predict`."""
        first, self._first = self._first, None
        return super().predict(x, time, first or view)


class LargeSink(AsPublished):
    """A sink larger than the first chunk.

    LongLive and Reward Forcing see slots of it that nothing was written to yet. LongLive and MemRoPE write those that
    a later chunk fills in that chunk's first call alone, so what stays there is the keys and values of noise.
    """

    def changed(self, frames: int, step: View, clean: View) -> tuple[View | None, View, View]:
        """As `AsPublished.changed`."""
        step, clean = self._widen(step), self._widen(clean)
        own = min(frames * self.memory.tokens_per_frame, self._sink - step.places[0].start)
        if repo(self.case) == REWARD_FORCING or own <= 0 or not self.memory.ledger.frame:
            return None, step, clean
        rest = [_rest(place, own) for place in step.places]
        return (
            View(self.memory, step.places, keep=True),
            View(self.memory, rest, keep=False, skip=own),
            View(self.memory, rest, keep=True, skip=own),
        )

    @property
    def _sink(self) -> int:
        return self.case.doc["rollout"].get("sink_frames", 0) * self.memory.tokens_per_frame

    def _widen(self, view: View) -> View:
        """A view of the whole sink, where the recorded code has one."""
        if repo(self.case) == MEMROPE or relative(self.case):
            return view
        return view.at([widened(place, self._sink) for place in view.places])

    def _clean(self, latents: Tensor, view: SelfAttention, kind: Written, time: Time | None = None) -> None:
        """As `Director._clean`; a recache too sees the whole sink, and leaves as it is what lies there."""
        if kind == "recache" and isinstance(view, View):
            view = self._widen(view)
            if self.memory.spec.recache_keeps_anchors and latents.shape[1] < self.memory.ledger.frame:
                view = without_sink(self.memory, view, latents.shape[1], self._sink)
        super()._clean(latents, view, kind, time)


def _rest(place: Place, own: int) -> Place:
    """A place without its first tokens."""
    return replace(place, start=place.start + own, keys=place.keys[own:])


def without_sink(memory: DualMemory, view: View, frames: int, sink: int) -> View:
    """A view that computes `frames` anew, without what it would leave in the sink (a call that begins the film
    does)."""
    tokens, place = frames * memory.tokens_per_frame, view.places[0]
    own = min(place.stop, sink) - place.start
    if own <= 0:
        return view
    rest = [_rest(place, own) for place in view.places]
    return View(memory, rest, keep=True, skip=tokens - (place.stop - place.start) + own)


def widened(place: Place, stop: int) -> Place:
    """A place that sees slots up to `stop`, whether anything lies in them or not."""
    end = place.parts[-1][1]
    return replace(place, parts=joined([*place.parts, (end, max(end, stop))]))


class LearnedSink(Director):
    """The same sink where LongLive learns. A piece that is learned at its first step hands gradients to that noise."""

    def open(self, frames: int) -> tuple[SelfAttention, SelfAttention]:
        """As `Director.open`."""
        kept, first = dict[int, tuple[Tensor, Tensor]](), self.memory.ledger.frame
        sink, size = self.memory.spec.anchors, self.memory.tokens_per_frame
        own, empty = (sink - first if first else 0), sink - first - frames
        step, clean = (
            NoisySink(view, kept, max(0, own) * size, max(0, empty) * size)
            for view in super().open(frames)
            if isinstance(view, GradView)
        )
        return step, clean

    def _clean(self, latents: Tensor, view: SelfAttention, kind: Written, time: Time | None = None) -> None:
        """As `Director._clean`; a recache too sees the whole sink."""
        if kind == "recache" and isinstance(view, View):
            memory, start = self.memory, view.places[0].start
            sink = memory.spec.anchors * memory.tokens_per_frame
            view = view.at([widened(place, sink) for place in view.places])
            if memory.ledger.frame > (memory.spec.recache_reach or 0):
                view = without_sink(memory, view, latents.shape[1], sink)
                for store in (memory.raw_k, memory.v, memory.k):
                    store[:, :, start : view.places[0].start] = 0
        super()._clean(latents, view, kind, time)


class NoisySink(GradView):
    """What a block of `LearnedSink` sees and keeps."""

    def __init__(self, view: GradView, kept: dict[int, tuple[Tensor, Tensor]], own: int, empty: int) -> None:
        """kept: the block's first keys and values per layer, its first `own` tokens stay; empty: tokens behind it."""
        vars(self).update(vars(view))
        self._kept, self._own = kept, own
        stop = self.places[0].stop
        self._behind = slice(stop, stop + empty)
        memory = self._memory
        frames = torch.arange(stop, stop + empty, memory.tokens_per_frame) // memory.tokens_per_frame
        after = turns(frames, *memory.grid, memory.raw_k.shape[-1])
        self._past_turns = [torch.cat([turn, after]) for turn in self._past_turns]

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """As `GradView.attend`."""
        return super().attend(layer, q, *self._mixed(layer, raw_k, v))

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """As `GradView.write`."""
        super().write(layer, *self._mixed(layer, raw_k, v))

    def _mixed(self, layer: int, raw_k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        first_k, first_v = self._kept.setdefault(layer, (raw_k, v))
        pairs, own = ((first_k, raw_k), (first_v, v)), self._own
        k, v = (torch.cat([first[:, :own], now[:, own:]], 1) for first, now in pairs)
        return k, v

    def _look_back(self, layer: int) -> tuple[Tensor, Tensor]:
        again, memory = layer in self._written, self._memory
        sides = zip(super()._look_back(layer), (memory.raw_k[layer], memory.v[layer]))
        behind = [(past, store[:, self._behind]) for past, store in sides]
        k, v = (torch.cat([past, now if again else torch.zeros_like(now)], 1) for past, now in behind)
        return k, v


class Infinity(AsPublished):
    """Infinity-RoPE's queries, which do not always stand where their keys do, and its flush of any buffer."""

    _rolled = False

    def prepare(self, written: int = 0) -> None:
        """As `Director.prepare`."""
        self._before = self.memory.layout.past
        super().prepare(written)

    def changed(self, frames: int, step: View, clean: View) -> tuple[View | None, View, View]:
        """Queries at the end of a window that the film has filled; in the call that fills it also before."""
        memory, window = self.memory, self.memory.spec.slots
        rolls = self._before + frames > window
        self._rolled |= rolls
        if self._rolled and not memory.spec.anchors:  # its oldest key is left as it lies
            memory.k[:, :, : memory.tokens_per_frame] = memory.raw_k[:, :, : memory.tokens_per_frame]
        if memory.ledger.apart:
            return None, step, clean
        start = memory.ledger.frame
        later = start if start < window else window - frames

        def asking(view: View, at: int) -> View:
            queries = turns(torch.arange(at, at + frames), *memory.grid, self.spec.head_dim)
            return view.at([replace(place, queries=queries) for place in view.places])

        return asking(step, window - frames if rolls else later), asking(step, later), asking(clean, later)

    def switch(self, prompt_embeds: Tensor, alpha_max: float | None = None) -> None:
        """As `Director.switch`."""
        if self._literal:
            self._flush(prompt_embeds, False)
        else:
            super().switch(prompt_embeds, alpha_max)

    def cut(self, prompt_embeds: Tensor) -> None:
        """As `Director.cut`."""
        if self._literal:
            self._flush(prompt_embeds, True)
        else:
            super().cut(prompt_embeds)

    @property
    def _literal(self) -> bool:
        """Whether the recorded flushes differ from ours: of another sink than one frame, and of unused slots."""
        rollout, first, size = self.case.doc["rollout"], 0, self.memory.tokens_per_frame
        chunk, window = self.memory.spec.chunk, self.memory.spec.slots
        shape = self.case.shape("block0.kv.layer0.k")
        if self.memory.spec.anchors != 1 or (shape and shape[1] > chunk * size):
            return True
        blocks = [boundary["block"] for boundary in rollout["scene_boundaries"]]
        for before, block in zip([0, *blocks], blocks):
            if first + sum(rollout["frames_per_block"][before:block]) < window:
                return True
            first = FLUSHED
        return False

    def _flush(self, prompt_embeds: Tensor, apart: bool) -> None:
        """The buffer's last two slots behind its first one, whatever lies there; the rest stays and counts as free."""
        memory = self.memory
        ledger, size = memory.ledger, memory.tokens_per_frame
        for store in (memory.raw_k, memory.v):
            store[:, :, size : FLUSHED * size] = store[:, :, (1 - FLUSHED) * size :].clone()
        ledger.then()
        frames = [Frame(ledger.frame - FLUSHED + number, ledger.prompt) for number in range(FLUSHED)]
        sink = min(memory.spec.anchors, FLUSHED)
        ledger.anchors = [frames[:sink] for _ in ledger.anchors]
        ledger.recent, ledger.apart = frames[sink:], apart
        self.blend(prompt_embeds)


class Moving(AsPublished):
    """Krea's memory, computed anew under the prompt of the block before.

    A last block of it that is not full sees keys of zeros where it ends, which its code fills up runs of tokens with.
    """

    _next: Tensor | None = None

    def _clean(self, latents: Tensor, view: SelfAttention, kind: Written, time: Time | None = None) -> None:
        """As `Director._clean`."""
        if kind == "recache" and isinstance(view, View):
            memory, stop = self.memory, view.places[0].stop
            short = (memory.spec.chunk - latents.shape[1]) * memory.tokens_per_frame
            end = stop + min(short, -stop % FILLED)
            for store in (memory.k, memory.v):
                store[:, :, stop:end] = 0
            view = view.at([widened(place, end) for place in view.places])
        super()._clean(latents, view, kind, time)

    def switch(self, prompt_embeds: Tensor, alpha_max: float | None = None) -> None:
        """As `Director.switch`."""
        self._next = prompt_embeds

    def open(self, frames: int) -> tuple[SelfAttention, SelfAttention]:
        """As `Director.open`."""
        if self._next is not None:
            self.blend(self._next)
        return super().open(frames)


class NoFirst(AsPublished):
    """Dummy Forcing's heads of the middle, which never see the film's first frame."""

    def open(self, frames: int) -> tuple[SelfAttention, SelfAttention]:
        """As `Director.open`."""
        memory = self.memory
        reach = min(memory.spec.recent, max(0, memory.layout.past - 1))
        table = tuple(
            tuple((0, reach) if sees[0] == 0 and sees[1] > 1 else sees for sees in row)
            for row in memory.spec.heads or ()
        )
        whole, memory.spec = memory.spec, replace(memory.spec, heads=table)
        try:
            return super().open(frames)
        finally:
            memory.spec = whole


def director_of(case: Case) -> type[AsPublished]:
    """What directs a recorded rollout."""
    rows = {INFINITY: Infinity, DUMMY_FORCING: NoFirst, KREA: Moving}
    rows |= dict.fromkeys((LONGLIVE, REWARD_FORCING, MEMROPE), LargeSink)
    return type("Recorded", (rows.get(repo(case), AsPublished),), {"case": case})
