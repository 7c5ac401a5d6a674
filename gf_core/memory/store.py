"""The dual memory: raw keys and values of anchors, recent frames and the current chunk (paper 4.1, 4.2).

Buffers are allocated once and written in place; a film of any length never moves or grows them. Per layer there is
one run of slots, anchors | bank | recent | current, a slot being one latent frame. Keys are kept before RoPE; what
attention reads is rotated at every call for the current frames, and for the past too (lean) or once per chunk.
A chunk becomes memory by `commit`, after the clean pass has written it; whatever was written before is overwritten.
Which frame lies where is the ledger's business: its moves are carried out here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import torch
from torch import Tensor

from ..attention import Kernel, sdpa
from ..attention.sparse import Sparse
from ..config import ModelSpec, Recipe
from ..errors import GroundedError
from ..model.placement import Placement
from ..rope import turns
from .bank import Bank
from .checks import check, check_gradients, check_heads
from .gradients import Gradients, GradView, Made
from .heads import Share, groups_of
from .ledger import Ledger, Move
from .packed import fill, packed_width, values_of
from .policies import Evaluation, measure
from .regions import Layout, Sees, alone, ends, newest, positions
from .sizes import Sizes, is_lean, means_frames
from .views import Place, View, joined, wave

TURNS_KEPT = 8
"""Rotations of frames at given positions that are kept: steady state repeats them."""


class DualMemory:
    """Anchors, recent frames and current chunk of one latent stream; `b` samples share the layout."""

    def __init__(
        self, model: ModelSpec, recipe: Recipe, placement: Placement, share: Share | None = None
    ) -> None:
        """placement: device and number type are torch's own where it does not say them.

        share: the heads that are kept here, where others keep the rest.
        """
        spec, ahead, batch, self.pieces = recipe.memory, recipe.ahead, placement.batch, placement.pieces
        device, dtype = placement.device, placement.dtype or torch.get_default_dtype()
        latent = (model.in_dim, placement.latent_height, placement.latent_width)
        check(spec, batch)
        lean = is_lean(spec, self.pieces.turns_at_reading)
        self.sizes = Sizes(spec, model, *latent[1:], dtype.itemsize, ahead, lean)  # of all heads
        if share is not None:
            model, spec = share.of(model, spec)
        self.ledger = Ledger(spec, batch, model.num_layers)
        self.spec, self.batch = spec, batch
        kernel = placement.kernel or sdpa
        self.kernel: Kernel = Sparse(kernel, spec.sparse) if spec.sparse else kernel
        self.grid = (latent[1] // model.patch_size[1], latent[2] // model.patch_size[2])
        self.tokens_per_frame = self.grid[0] * self.grid[1]
        check_heads(spec, model, self.tokens_per_frame)

        zeros = partial(torch.zeros, device=device, dtype=dtype)
        slots, heads = (spec.slots + ahead) * self.tokens_per_frame, (model.num_heads, model.head_dim)
        self.packed = spec.stored == "int8"
        kept, kind = (packed_width(model.head_dim), torch.int8) if self.packed else (model.head_dim, dtype)
        self.raw_k, self.v = (
            zeros(model.num_layers, batch, slots, model.num_heads, kept, dtype=kind) for _ in range(2)
        )  # l b s h d
        self.lean = lean or self.packed
        self.k = zeros(1 if self.lean else model.num_layers, batch, slots, *heads)
        self.unpacked_v = zeros(1 if self.packed else 0, batch, slots, *heads)
        self.anchor_latents = zeros(batch, spec.capacity, *latent)  # b k c h w
        self.history = zeros(batch, spec.window, *latent)  # b f c h w
        """Clean latents of the newest frames, oldest first; a whole window, for a recache before eviction."""
        # A step of 0.001 vanishes in bfloat16, so the running mean lives in float32 and is cast into its slots.
        means = 0 if spec.averages else means_frames(spec) * self.tokens_per_frame
        self.means = [zeros(model.num_layers, batch, means, *heads, dtype=torch.float32) for _ in range(2)]
        stores = (self.raw_k, self.v)
        self.bank = Bank(spec, self.ledger, stores, self.tokens_per_frame, share) if spec.bank else None
        turned = partial(_turned, device, *self.grid, model.head_dim)
        self._turn: Callable[[tuple[int, ...]], Tensor] = lru_cache(TURNS_KEPT + 2 * spec.bank)(turned)
        self.kept = 0
        """Frames of `history` in use."""
        self.gradients = Gradients(self, self.ledger)
        self.log: list[Evaluation] = []
        """Every decision about an anchor, for the report: the one thing that grows, by some 200 bytes each."""

    # -- layout -------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget everything (a new scene) under a new prompt; the film's frame count goes on."""
        self.ledger.scene()
        self.kept = 0
        self.gradients.clear()
        if self.bank is not None:
            self.bank.clear()

    @property
    def layout(self) -> Layout:
        """Frames in memory, without a current chunk."""
        return self.ledger.layout

    def recent_latents(self, count: int) -> Tensor:
        """Clean latents [b count c h w] of the newest frames, oldest first."""
        return self.history[:, self.kept - count : self.kept]

    def alike(self) -> Iterator[tuple[slice, Layout]]:
        """Layers whose frames lie and stand alike, with their layout: all, unless each has a bank of its own."""
        absolute = self.spec.positions == "absolute"
        # At absolute positions, banks of one length may still stand elsewhere in time.
        if len({tuple(bank) if absolute else len(bank) for bank in self.ledger.banks}) == 1:
            yield slice(None), self.layout
            return
        for layer in range(len(self.raw_k)):
            yield slice(layer, layer + 1), self.ledger.layer(layer)

    def seen(self, layer: int) -> tuple[Tensor, Tensor]:
        """Rotated keys and values [b s h d] of a layer's slots: buffers that attention reads.

        Keys that are turned when they are read are shared by all layers, one after the other, and so are packed values.
        """
        k = self.k[0 if self.lean else layer]
        return k, self.unpacked_v[0] if self.packed else self.v[layer]

    def _rotate(
        self, layers: slice, at: tuple[int, ...], first: int = 0, *, lean: bool = False
    ) -> tuple[tuple[int, Tensor], ...]:
        """Refresh the rotated copy of some layers' frames from slot `first` on, which stand at these positions.

        Of a lean memory they are rotated when they are read: returns their first token, and the rotation.
        """
        if not at:
            return ()
        turn, size = self._turn(at), self.tokens_per_frame
        if lean or self.lean:
            return ((first * size, turn),)
        here = slice(first * size, (first + len(at)) * size)
        self.pieces.turn_all(self.raw_k[layers, :, here], turn, self.k[layers, :, here], len(at))
        return ()

    # -- calls --------------------------------------------------------------------------------------------------

    def open(self, frames: int) -> tuple[View, View]:
        """Views for the next chunk of `frames`: for denoising steps, and for the clean pass that keeps raw keys.

        Raises GroundedError: the chunk is larger than this memory was built for.
        """
        self._check(frames)
        places = self._places(frames, newest)
        return View(self, places, keep=False), View(self, places, keep=True)

    def _check(self, frames: int) -> None:
        if frames > self.spec.chunk:
            raise GroundedError(
                f"a chunk of {frames} latent frames does not fit a memory built for {self.spec.chunk}",
                fix=f"hand over at most {self.spec.chunk} frames at a time",
            )

    def open_blind(self, frames: int) -> View:
        """View of a denoising step of the next chunk that sees nothing but that chunk."""
        return View(self, self._places(frames, alone), keep=False)

    def open_joint(self, frames: int) -> View:
        """View of a call over several chunks at once, `frames` in all, which keeps nothing and sees both `ends`."""
        return View(self, self._places(frames, ends), keep=False)

    def open_wave(self, frames: Sequence[int], written: int) -> list[View]:
        """Views of a call for each of several chunks, the cleanest first: each sees what the ones before it wrote.

        written: frames of a chunk in front of them that is being written (`open`) and seen, and not committed yet.
        """
        return wave(self, self._places(sum(frames), ends, written), frames) if frames else []

    def _places(self, frames: int, sees: Sees, written: int = 0, *, lean: bool = False) -> list[Place]:
        """Where in every layer a call of `frames` writes and what it sees; all that it sees is rotated for it.

        written: frames in front of them that lie in memory and are not committed yet. lean: only told how (`_rotate`).
        """
        size, places = self.tokens_per_frame, list[Place]()
        first = self.ledger.frame + written
        # `len(places)` is the number of the first of these layers.
        for layers, layout in self.alike():
            layout = replace(layout, recent=layout.recent + written)
            # Numbers of frames.
            by_slot = [*self.ledger.numbers(len(places)), *range(self.ledger.frame, first)]
            runs = sees(self.spec, layout, frames)  # of slots
            seen = [slot for run in runs for slot in run]
            now = layout.only(seen, frames)
            at = self._at(now, [*(by_slot[slot] for slot in seen), *range(first, first + frames)])
            rotated, done = (), 0
            for run in runs:
                rotated += self._rotate(layers, at[done : done + len(run)], run.start, lean=lean)
                done += len(run)
            # The call's own frames are the last in `at`; their queries and keys turn alike.
            own = self._turn(at[done:])
            start, stop = layout.past * size, (layout.past + frames) * size
            # One run where what is seen ends at the call's own slots; else pieces, joined when they are read.
            tokens = joined([*((run.start * size, run.stop * size) for run in runs), (start, stop)])
            place = Place(start, stop, own, own, tokens, now.regions(), rotated)
            places += [place] * len(self.raw_k[layers])  # alike layers share one
        if self.spec.heads and sees is not alone:  # no bank then: one layout in all layers
            # Behind the rotation of the past: heads pick by what lies in `k`.
            groups = groups_of(self.spec, self.ledger, self.k, frames, size)
            places = [replace(place, heads=heads) for place, heads in zip(places, groups)]
        return places

    def _at(self, now: Layout, numbers: Sequence[int]) -> tuple[int, ...]:
        """Time positions of what a call sees, its own frames last."""
        at, first = positions(self.spec, now, numbers), self.spec.cut_position
        if first is None or not self.ledger.apart:
            return at
        return (*at[: now.past], *range(first, first + now.current))

    def open_grad(self, frames: int, *, leaky: bool = False) -> tuple[GradView, GradView]:
        """The same where gradients flow through the calls, so that nothing is overwritten. leaky: as `ContextGradient`.

        Where chunks are denoised together, the denoising steps see both `ends` here too.

        Raises GroundedError: also where this memory's settings let no gradient through.
        """
        self._check(frames)
        check_gradients(self.spec)
        seen = self._with_past(frames, newest)
        step = seen if self.spec.rolling is None else self._with_past(frames, ends)
        return GradView(self.gradients, *step, leaks=leaky), GradView(self.gradients, *seen, keep=True)

    def open_joint_grad(self, frames: int, *, leaky: bool = False) -> GradView:
        """As `open_joint` and `open_grad`."""
        check_gradients(self.spec)
        return GradView(self.gradients, *self._with_past(frames, ends), leaks=leaky)

    def _with_past(self, frames: int, sees: Sees) -> tuple[list[Place], list[list[Made]]]:
        """Of every layer, where a call of `frames` writes and what it sees, as gradients see that."""
        places = self._places(frames, sees, lean=True)
        return places, [self.gradients.past(layer, place) for layer, place in enumerate(places)]

    def reopen(self, context: int = 0, slots: range | None = None, *, keep: bool = True) -> View:
        """View of a call that recomputes frames in place, seeing what lies before them and itself.

        context: frames before them that are queries only, their keys not kept. slots: None is all recent frames.
        keep: raw keys are written, and so are values where they are packed; else the caller does.
        """
        size, places = self.tokens_per_frame, list[Place]()
        anchors = self.ledger.anchors if slots is not None else ()
        self.gradients.make_constant(frame for frames in (*anchors, self.ledger.recent) for frame in frames)
        for layers, layout in self.alike():
            here = range(layout.kept, layout.past) if slots is None else slots
            at = positions(self.spec, layout, self.ledger.numbers(len(places)))
            past = self._rotate(layers, at[: here.start])
            own = at[here.start : here.stop]
            # Frames that are queries only stand right before the first that is recomputed.
            turns = (self._turn((*range(own[0] - context, own[0]), *own)), self._turn(own))
            start, stop = here.start * size, here.stop * size
            seen = layout.only(range(here.stop), 0)
            place = Place(start, stop, *turns, ((0, stop),), seen.regions(), past)
            places += [place] * len(self.raw_k[layers])
        return View(self, places, keep=keep, skip=context * size)

    def commit(self, latents: Tensor) -> None:
        """Take the current chunk, as its clean pass wrote it, into recent memory; latents [b f c h w] are clean."""
        frames = latents.shape[1]
        # First: the bank and the walk below read a layout in which the chunk is recent.
        self.ledger.commit(frames)
        drop = max(0, self.kept + frames - self.history.shape[1])
        if drop:
            shift(self.history, 1, 0, self.kept, drop)
        self.kept += frames - drop
        self.recent_latents(frames).copy_(latents.detach())
        if self.bank is not None and not self.spec.averages:
            for layer in self.bank.compare(frames):
                self.gradients.take(layer, self.ledger.frame - frames)
        size, walked = self.tokens_per_frame, self.ledger.walked(frames) if self.spec.walk else ()
        for target, source in walked:
            self.gradients.alias(*(self.ledger.numbers()[slot] for slot in (target, source)))
            for store in (self.raw_k, self.v):
                here = store[:, :, source * size : (source + 1) * size]
                store[:, :, target * size : (target + 1) * size] = here

    # -- leaving ------------------------------------------------------------------------------------------------

    def evict(self, keep: int) -> None:
        """Let the oldest recent frames leave until `keep` remain."""
        self._carry_out(self.ledger.make_room(keep, self._choose))

    def cut(self) -> None:
        """A new shot: every recent frame leaves."""
        self._carry_out(self.ledger.cut(self._choose))

    def _carry_out(self, moves: Iterator[Move]) -> None:
        """Do with keys, values and latents what the ledger says, move by move."""
        begins = False
        # The ledger tells a move before it makes it: `layout` is still the old one while a move is carried out, and
        # what comes next may depend on it (`_choose` measures the anchors as they are by then).
        for move in moves:
            if move.kind == "promote":
                self._promote(move.count)
            elif move.kind == "average":
                self._average(move.count)
            elif move.kind == "replace":
                self._replace(move)
            elif move.kind == "bank":  # nothing is copied: the border between the regions moves
                begins = True
            elif move.kind == "mean" and self.bank is not None:
                self.bank.fold(move.count, begins)
            elif move.kind == "drop":
                self._drop(move.count)
        self.gradients.forget_left()

    def _drop(self, count: int) -> None:
        """The oldest recent frames go: the others close up, behind anchors and bank."""
        size = self.tokens_per_frame
        for layers, layout in self.alike():
            for store in (self.raw_k[layers], self.v[layers]):
                shift(store, 2, layout.kept * size, layout.past * size, count * size)

    def _promote(self, count: int) -> None:
        """The oldest recent frames become anchors: the border between the regions moves, and a bank moves up."""
        have, size = self.layout.anchors, self.tokens_per_frame
        here = slice(have * size, (have + count) * size)
        self.anchor_latents[:, have : have + count].copy_(self.recent_latents(self.layout.recent)[:, :count])
        for layers, layout in self.alike():
            if layout.bank:
                for store in (self.raw_k[layers], self.v[layers]):
                    # The promoted frames lie behind the bank: the two change places.
                    both = store[:, :, have * size : (layout.kept + count) * size]
                    both.copy_(both.roll(count * size, 2))
        if self.ledger.policy.averages:
            for mean, store in zip(self.means, (self.raw_k, self.v)):
                # Behind that change: the new anchors lie in `here` only now.
                mean[:, :, here].copy_(values_of(store[:, :, here]))

    def _replace(self, move: Move) -> None:
        """A leaving frame is copied over an anchor; the slots never overlap, as anchors lie before recent frames."""
        size, target = self.tokens_per_frame, move.target * self.tokens_per_frame
        for layers, layout in self.alike():
            source = (layout.kept + move.source) * size
            for store in (self.raw_k[layers, move.sample], self.v[layers, move.sample]):  # l s h d
                store[:, target : target + size] = store[:, source : source + size]
        z = self.recent_latents(self.layout.recent)[move.sample, move.source]
        self.anchor_latents[move.sample, move.target].copy_(z)

    def _choose(self, sample: int, source: int) -> int | None:
        """Measure one leaving frame against one sample's anchors; the slot that it takes, if it is accepted."""
        accepts, frame = self.ledger.policy.accepts, self.ledger.recent[source]
        if accepts is None:
            return None
        z = self.recent_latents(self.layout.recent)[sample, source]
        anchors = self.anchor_latents[sample, : self.layout.anchors]
        similarity, redundancy, slot = measure(anchors, z, self.ledger.pictures)
        taken = accepts(similarity, redundancy)
        self.log.append(Evaluation(frame.number, sample, similarity, redundancy, slot, taken))
        return slot if taken else None

    def _average(self, leaving: int) -> None:
        """Fold leaving frames into the anchors' mean; another count than theirs overwrites, as in Reward Forcing."""
        have, size = self.layout.anchors, self.tokens_per_frame
        self.gradients.make_constant(frame for anchors in self.ledger.anchors for frame in anchors)
        keep = self.spec.ema_keep if leaving == have else 0.0
        count = min(leaving, have) * size
        for layers, layout in self.alike():
            start = layout.kept * size
            for mean, store in (
                (self.means[0][layers], self.raw_k[layers]),
                (self.means[1][layers], self.v[layers]),
            ):
                leaves = values_of(store[:, :, start : start + count])  # l b s h d
                mean[:, :, :count].mul_(keep).add_(leaves, alpha=1 - keep)
                fill(store[:, :, :count], mean[:, :, :count])


def _turned(
    device: torch.device | str | None, rows: int, columns: int, head_dim: int, at: tuple[int, ...]
) -> Tensor:
    """`rope.turns` of frames at these positions."""
    return turns(torch.tensor(at, device=device), rows, columns, head_dim)


def shift(store: Tensor, dim: int, start: int, stop: int, by: int) -> None:
    """Move entries [start+by, stop) of `dim` down by `by`, piecewise because the two ranges overlap."""
    for at in range(start, stop - by, by):
        count = min(by, stop - by - at)
        store.narrow(dim, at, count).copy_(store.narrow(dim, at + by, count))
