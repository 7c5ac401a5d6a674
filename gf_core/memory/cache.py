"""The dual memory: raw keys and values of anchors, recent frames and the current chunk (paper 4.1, 4.2).

Buffers are allocated once and written in place; a film of any length never moves or grows them. Per layer there is
one run of slots, anchors | recent | current, a slot being one latent frame. Keys are kept before RoPE; the rotated
copy that attention reads is filled once per chunk for the past and at every call for the current frames.
A chunk becomes memory by `commit`, after the clean pass has written it; whatever was written before is overwritten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention import Kernel, Where, attend, sdpa
from ..config import MemorySpec, ModelSpec
from ..errors import GroundedError
from ..rope import Turn, rotate, turns
from .layout import Layout, check, positions
from .policy import Evaluation, accepts, measure

TURNS_KEPT = 8


def _shift(store: Tensor, dim: int, start: int, stop: int, by: int) -> None:
    """Move entries [start+by, stop) of `dim` down by `by`, piecewise because the two ranges overlap."""
    for at in range(start, stop - by, by):
        count = min(by, stop - by - at)
        store.narrow(dim, at, count).copy_(store.narrow(dim, at + by, count))


def _copy(store: Tensor) -> Tensor:
    """A contiguous copy on the CPU, part by part: a slice copied whole would first be copied on the card."""
    out = torch.empty(store.shape, dtype=store.dtype)
    for mine, theirs in zip(out, store):
        mine.copy_(theirs)
    return out


class View:
    """Self-attention of one network call: reads the past, writes its own frames, attends over one slice."""

    def __init__(
        self, memory: DualMemory, turn: Turn, start: int, stop: int, *, keep: bool, skip: int = 0
    ) -> None:
        """start, stop: tokens written, the last seen; skip: leading query tokens whose k and v are not written."""
        self._memory, self._skip, self._keep = memory, skip, keep
        self._q_turn, self._k_turn = turn, turn.since(skip)
        self.start, self.stop = start, stop
        spans = memory.layout.spans(stop // memory.tokens_per_frame)
        self._where = [Where(layer, spans, memory.grid) for layer in range(len(memory.k))]

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """Attention of this call's tokens over memory and themselves; all [b s h d]."""
        memory = self._memory
        self.write(layer, raw_k, v)
        k, values = memory.k[layer, :, : self.stop], memory.v[layer, :, : self.stop]
        where = self._where[layer]
        return attend(rotate(q, self._q_turn), k, values, kernel=memory.kernel, where=where)

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Place this call's keys and values [b s h d] in their slots; raw keys only when they are to be kept."""
        memory, here = self._memory, slice(self.start, self.stop)
        raw_k, v = raw_k[:, self._skip :], v[:, self._skip :]
        if self._keep:
            memory.raw_k[layer, :, here].copy_(raw_k)
        memory.v[layer, :, here].copy_(v)
        rotate(raw_k, self._k_turn, out=memory.k[layer, :, here])


class DualMemory:
    """Anchors, recent frames and current chunk of one latent stream; `b` samples share the layout."""

    def __init__(
        self,
        model: ModelSpec,
        spec: MemorySpec,
        latent_shape: tuple[int, int, int],
        *,
        batch: int,
        device: torch.device,
        dtype: torch.dtype,
        kernel: Kernel = sdpa,
    ) -> None:
        """latent_shape: (channels, height, width) of one latent frame. kernel: who computes attention over it."""
        check(spec)
        if batch > 1 and spec.positions == "absolute" and spec.anchor_policy in ("diversity", "paper"):
            raise GroundedError(
                "absolute positions cannot serve several samples that choose their own anchors",
                fix="use batch 1, relative positions, or frozen anchors",
            )
        self.spec, self.kernel = spec, kernel
        self._device, self._head_dim = device, model.head_dim
        self.capacity = 0 if spec.anchor_policy == "none" else spec.anchors
        _, height, width = latent_shape
        self.grid = (height // model.patch_size[1], width // model.patch_size[2])
        self.tokens_per_frame = self.grid[0] * self.grid[1]

        def zeros(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros(shape, device=device, dtype=dtype)

        slots = (self.capacity + spec.recent + spec.chunk) * self.tokens_per_frame
        heads = (model.num_heads, model.head_dim)
        self.raw_k = zeros(model.num_layers, batch, slots, *heads)  # l b s h d
        self.k = zeros(model.num_layers, batch, slots, *heads)
        self.v = zeros(model.num_layers, batch, slots, *heads)
        self.anchor_latents = zeros(batch, self.capacity, *latent_shape)
        self.history = zeros(batch, spec.window, *latent_shape)
        """Clean latents of the newest frames, oldest first; a whole window, for a recache before eviction."""
        # A step of 0.001 vanishes in bfloat16, so the running mean lives in float32 and is cast into its slots.
        means = self.capacity * self.tokens_per_frame if spec.anchor_policy == "ema" else 0
        self._means = [zeros(model.num_layers, batch, means, *heads, dtype=torch.float32) for _ in range(2)]
        self._turns: OrderedDict[tuple[int, ...], Turn] = OrderedDict()
        self.batch = batch
        self.frame = 0
        """Latent frames committed since the film began."""
        self.prompt = 0
        """Number of the prompt now in force; the first is 0."""
        self.log: list[Evaluation] = []
        """Every decision about an anchor, for the report: the one thing that grows, by some 200 bytes each."""
        self.clear()

    # -- layout -------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget everything (a new scene); the film's frame count goes on."""
        self.anchor_frames: list[list[int]] = [[] for _ in range(self.batch)]
        self.recent_frames: list[int] = []
        self.recent_prompts: list[int] = []
        self.kept = 0
        """Frames of `history` in use."""
        self.answered = [self.prompt] * self.batch
        """Per sample, the newest prompt that has had its replacement; a film's or scene's first counts as answered."""

    @property
    def layout(self) -> Layout:
        """Frames in memory, without a current chunk."""
        return Layout(len(self.anchor_frames[0]), len(self.recent_frames))

    def frames(self) -> list[int]:
        """Absolute numbers of the frames in memory, in slot order (of the first sample)."""
        return self.anchor_frames[0] + self.recent_frames

    def recent_latents(self, count: int) -> Tensor:
        """Clean latents [b count c h w] of the newest frames, oldest first."""
        return self.history[:, self.kept - count : self.kept]

    def _turn(self, at: Sequence[int]) -> Turn:
        """Rotation of frames at the given time positions; the last few are kept, as steady state repeats them."""
        key = tuple(at)
        found = self._turns.get(key)
        if found is None:
            found = turns(torch.tensor(key, device=self._device), *self.grid, self._head_dim)
            self._turns[key] = found
            if len(self._turns) > TURNS_KEPT:
                self._turns.popitem(last=False)
        return found

    def _rotate(self, slots: int, at: Sequence[int]) -> None:
        """Refresh the rotated copy of the first `slots` frames."""
        if slots:
            turn, stop = self._turn(at[:slots]), slots * self.tokens_per_frame
            for raw_k, k in zip(self.raw_k, self.k):
                rotate(raw_k[:, :stop], turn, out=k[:, :stop])

    # -- calls --------------------------------------------------------------------------------------------------

    def open(self, frames: int) -> tuple[View, View]:
        """Views for the next chunk of `frames`: for denoising steps, and for the clean pass that keeps raw keys."""
        if frames > self.spec.chunk:
            raise GroundedError(
                f"a chunk of {frames} latent frames does not fit a memory built for {self.spec.chunk}",
                fix=f"hand over at most {self.spec.chunk} frames at a time",
            )
        past = self.layout.past
        numbers = [*self.frames(), *range(self.frame, self.frame + frames)]
        at = positions(self.spec, Layout(self.layout.anchors, self.layout.recent, frames), numbers)
        self._rotate(past, at)
        turn, size = self._turn(at[past:]), self.tokens_per_frame
        start, stop = past * size, (past + frames) * size
        return View(self, turn, start, stop, keep=False), View(self, turn, start, stop, keep=True)

    def reopen(self, context: int = 0) -> View:
        """View of a call that recomputes all recent frames in place, seeing the anchors and itself.

        context: frames before the recent ones that are queries only, their keys not kept.
        """
        anchors, recent, size = self.layout.anchors, self.layout.recent, self.tokens_per_frame
        at = positions(self.spec, self.layout, self.frames())
        self._rotate(anchors, at)
        if self.spec.positions == "absolute":
            newest = self.frame
            queries: Sequence[int] = range(newest - recent - context, newest)
        else:
            queries = at[anchors:] if not context else range(anchors - context, anchors + recent)
        start, stop = anchors * size, (anchors + recent) * size
        return View(self, self._turn(queries), start, stop, keep=True, skip=context * size)

    def commit(self, latents: Tensor) -> None:
        """Take the current chunk, as its clean pass wrote it, into recent memory; latents [b f c h w] are clean."""
        frames = latents.shape[1]
        self.recent_frames.extend(range(self.frame, self.frame + frames))
        self.recent_prompts.extend([self.prompt] * frames)
        self.frame += frames
        drop = max(0, self.kept + frames - self.history.shape[1])
        if drop:
            _shift(self.history, 1, 0, self.kept, drop)
        self.kept += frames - drop
        self.recent_latents(frames).copy_(latents)

    # -- leaving ------------------------------------------------------------------------------------------------

    def evict(self, keep: int) -> None:
        """Let the oldest recent frames leave until `keep` remain: they fill missing anchors, then face the policy."""
        leaving = self.layout.recent - keep
        if leaving <= 0:
            return
        filling = min(leaving, self.capacity - self.layout.anchors)
        if filling:
            self._promote(filling)
        leaving -= filling
        if leaving:
            self._judge(leaving)
            start, stop = (n * self.tokens_per_frame for n in (self.layout.anchors, self.layout.past))
            for store in (self.raw_k, self.v):
                _shift(store, 2, start, stop, leaving * self.tokens_per_frame)
            del self.recent_frames[:leaving], self.recent_prompts[:leaving]

    def _promote(self, count: int) -> None:
        """The oldest recent frames become anchors where they lie: the border between the regions moves."""
        have, size = self.layout.anchors, self.tokens_per_frame
        self.anchor_latents[:, have : have + count].copy_(self.recent_latents(self.layout.recent)[:, :count])
        if self.spec.anchor_policy == "ema":
            here = slice(have * size, (have + count) * size)
            for mean, store in zip(self._means, (self.raw_k, self.v)):
                mean[:, :, here].copy_(store[:, :, here])
        for numbers in self.anchor_frames:
            numbers.extend(self.recent_frames[:count])
        del self.recent_frames[:count], self.recent_prompts[:count]

    def _judge(self, leaving: int) -> None:
        """Offer the oldest `leaving` recent frames, still in their slots, to the anchors; oldest first."""
        policy = self.spec.anchor_policy
        if policy == "ema":
            self._average(leaving)
        if (
            policy not in ("diversity", "paper")
            or self.layout.anchors < 2
            or self.spec.anchor_update == "never"
        ):
            return
        once = self.spec.anchor_update == "on_switch"
        for index in range(leaving):
            prompt = self.recent_prompts[index]
            for sample, answered in enumerate(self.answered):
                if not (once and prompt <= answered) and self._offer(sample, index):
                    self.answered[sample] = prompt

    def _offer(self, sample: int, index: int) -> bool:
        """Measure one leaving frame against one sample's anchors and let it replace the most redundant if accepted."""
        have, size = self.layout.anchors, self.tokens_per_frame
        anchors, z = (
            self.anchor_latents[sample, :have],
            self.recent_latents(self.layout.recent)[sample, index],
        )
        similarity, redundancy, slot = measure(anchors, z)
        taken = accepts(self.spec.anchor_policy, similarity, redundancy)
        frame = self.recent_frames[index]
        self.log.append(Evaluation(frame, sample, similarity, redundancy, slot, taken))
        if taken:
            source = (have + index) * size
            for store in (self.raw_k, self.v):
                store[:, sample, slot * size : (slot + 1) * size] = store[:, sample, source : source + size]
            anchors[slot].copy_(z)
            self.anchor_frames[sample][slot] = frame
        return taken

    def _average(self, leaving: int) -> None:
        """Fold leaving frames into the anchors' mean; another count than theirs overwrites, as in Reward Forcing."""
        have, size = self.layout.anchors, self.tokens_per_frame
        keep = self.spec.ema_keep if leaving == have else 0.0
        count = min(leaving, have) * size
        for mean, store in zip(self._means, (self.raw_k, self.v)):
            new = store[:, :, have * size : have * size + count]
            mean[:, :, :count].mul_(keep).add_(new, alpha=1 - keep)
            store[:, :, :count].copy_(mean[:, :, :count])

    def forget_anchors(self) -> None:
        """Relabel every anchor as recent, so that a recache rebuilds all of memory from the newest frames."""
        count = self.layout.past
        for numbers in self.anchor_frames:
            numbers.clear()
        self.recent_frames = list(range(self.frame - count, self.frame))
        self.recent_prompts = [self.prompt] * count

    # -- snapshots ----------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Tensor]:
        """Everything a later `restore` needs, as copies in the computer's memory; only slots in use are taken."""
        used = self.layout.past * self.tokens_per_frame
        numbers = [self.frame, self.prompt, self.kept, *self.answered]
        return {
            "raw_k": _copy(self.raw_k[:, :, :used]),
            "v": _copy(self.v[:, :, :used]),
            "mean_k": _copy(self._means[0]),
            "mean_v": _copy(self._means[1]),
            "anchor_latents": _copy(self.anchor_latents[:, : self.layout.anchors]),
            "history": _copy(self.history[:, : self.kept]),
            "numbers": torch.tensor(numbers),
            "anchor_frames": torch.tensor(self.anchor_frames, dtype=torch.int64),
            "recent": torch.tensor([self.recent_frames, self.recent_prompts], dtype=torch.int64),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Return to a `snapshot` of a memory of the same settings; buffers stay where they are."""
        for name, mine in (("raw_k", self.raw_k), ("history", self.history)):
            if (
                name not in state
                or state[name].shape[0] != mine.shape[0]
                or state[name].shape[3:] != mine.shape[3:]
            ):
                raise GroundedError(
                    f"the snapshot's {name} does not fit this memory",
                    fix="restore with the model, size and memory settings that the snapshot was made with",
                )
        used = state["raw_k"].shape[2]
        for store, name in ((self.raw_k, "raw_k"), (self.v, "v")):
            for mine, theirs in zip(store, state[name]):
                mine[:, :used].copy_(theirs)
        for mean, name in zip(self._means, ("mean_k", "mean_v")):
            mean.copy_(state[name])
        self.anchor_latents[:, : state["anchor_latents"].shape[1]].copy_(state["anchor_latents"])
        self.frame, self.prompt, self.kept, *self.answered = state["numbers"].tolist()
        self.history[:, : self.kept].copy_(state["history"])
        self.anchor_frames = state["anchor_frames"].tolist()
        self.recent_frames, self.recent_prompts = state["recent"].tolist()
