"""One film on several ranks: each has some rows of every frame, and the memory of some heads (sequence parallel).

All that is done token by token, or frame by frame, a rank does for its rows alone, on the whole network's weights.
Attention wants all tokens of a head: in front of it rows change hands for heads, behind it heads for rows (DeepSpeed
Ulysses). The model does not know: it is called over a lower picture, and its `SelfAttention` exchanges.

A processor rounds products over few rows otherwise than over many. Where they are small it computes them over the
whole picture, in which a rank's rows lie where they lie on one rank; nothing reads what becomes of the others' rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..attention import Where, attend
from ..config import ModelSpec, Recipe
from ..errors import GroundedError
from ..memory.heads import Share
from ..memory.views import View
from ..model.forward import Call, SelfAttention
from ..model.layers import Text
from ..team import Team
from ..words import counted

Verb = TypeVar("Verb", bound=Callable[..., Any])
Views = TypeVar("Views", bound=tuple[View, ...])
VIEWS = 4
"""Newest views that orders to other ranks can name; a chunk opens three."""

STATE_HEADS = ("raw_k", "v", "mean_k", "mean_v", "bank.k", "bank.v")
"""Parts [l b s h d] of a memory's snapshot that are split by heads; every rank has the whole of the others."""


def parts(count: int, ranks: int) -> list[range]:
    """`count` things in order for so many ranks, as evenly as can be."""
    return [range(count * rank // ranks, count * (rank + 1) // ranks) for rank in range(ranks)]


def check_split(model: ModelSpec, recipe: Recipe, latent_height: int, ranks: int) -> None:
    """Refuse what so many ranks cannot make. Raises GroundedError."""
    memory, calls = recipe.memory, len(recipe.sample.steps) + 1
    if memory.wave:
        if ranks > calls:
            raise GroundedError(
                f"{ranks} ranks cannot share the {counted(calls, 'call')} of a move of this film",
                f"start torchrun with --nproc-per-node {calls} or fewer",
            )
        return
    rows = latent_height // model.patch_size[1]
    for name, many in (("attention heads", model.num_heads), ("rows of tokens", rows)):
        if ranks > many:
            raise GroundedError(
                f"{ranks} ranks cannot share the {many} {name} of this film",
                f"start torchrun with --nproc-per-node {min(model.num_heads, rows)} or fewer",
            )
    if any(len(entry) > 2 for row in memory.heads or () for entry in row):
        raise GroundedError(
            f"this memory lets heads pick runs of tokens together, which {ranks} ranks do not have in one place",
            "render on one rank, or with a table of heads that picks nothing",
        )


def together(verb: Verb) -> Verb:
    """A method of `Director` that all ranks of a film carry out, each on its part."""

    @wraps(verb)
    def everywhere(self: Any, *args: Any, **kwargs: Any) -> Any:
        team = self.team
        if team is None or team.busy:  # busy: within a verb that the ranks carry out already
            return verb(self, *args, **kwargs)
        self.ask()
        with team.doing(verb.__name__, args, kwargs):
            return verb(self, *args, **kwargs)

    return everywhere  # type: ignore[return-value]


class Split:
    """Which rows and heads are whose, and how they change hands."""

    def __init__(
        self, team: Team, model: ModelSpec, latent_height: int, latent_width: int, *, in_place: bool = False
    ) -> None:
        """in_place: a rank's rows are computed among all, of which the others' are nothing."""
        self._in_place = in_place
        patch_height, patch_width = model.patch_size[1:]
        self._team, self._patch = team, patch_height
        self._heads = parts(model.num_heads, team.count)
        self._rows = parts(latent_height // patch_height, team.count)
        self._tokens = [len(rows) * (latent_width // patch_width) for rows in self._rows]
        """Of a frame, by rank."""
        before = sum(self._tokens[: team.rank])
        self._sides = before, self._tokens[team.rank], sum(self._tokens[team.rank + 1 :])
        """Of a frame, of the ranks before this one, its own, and of those behind it."""

    @property
    def share(self) -> Share:
        """This rank's heads."""
        return Share(self._heads[self._team.rank], self._gather_heads)

    def _gather_heads(self, mine: Tensor, dim: int) -> Tensor:
        return self._team.gather(mine, dim, [len(heads) for heads in self._heads])

    def call(self, asked: Call) -> Tensor | None:
        """As `Call.run`; the flow is whole on the first rank, and of its own rows on the others."""
        rows, frames = self._rows[self._team.rank], asked.latents.shape[1]
        mine = slice(rows.start * self._patch, rows.stop * self._patch)
        # Attention wants all rows of some heads: the call asks through an exchange.
        asked = replace(asked, memory=_Exchanging(self, asked.memory, frames, self._in_place))
        if self._in_place:
            flow = asked.run()
            flow = None if flow is None else flow[:, :, :, mine]
        else:
            text = asked.text
            if asked.latents.device.type == "cpu":
                text = [one if one.v is None else self.prompt_in_place(one, frames) for one in text]
            flow = replace(asked, latents=asked.latents[:, :, :, mine], text=text).run()
        if flow is None:
            return None
        sizes = [len(rows) * self._patch for rows in self._rows]
        return self._team.gather(flow, 3, sizes, all_ranks=False)

    def prompt_in_place(self, text: Text, frames: int) -> Text:
        """The prompt, attended to by rows that lie where they lie on one rank.

        A processor's attention rounds by blocks of queries, and otherwise in the last block, which is not full.
        """

        def kernel(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
            found = attend(self.laid(q, frames), k, v, kernel=text.kernel, where=where, bias=text.bias)
            return self.taken(found, frames)

        return text._replace(bias=None, kernel=kernel)

    def laid(self, mine: Tensor, frames: int) -> Tensor:
        """This rank's rows [b (f s) h d] where they lie among all; the others' are 0."""
        before, _, after = self._sides
        # b f s h d, padded along s.
        whole = torch.nn.functional.pad(mine.unflatten(1, (frames, -1)), (0, 0, 0, 0, before, after))
        return whole.flatten(1, 2)

    def taken(self, whole: Tensor, frames: int) -> Tensor:
        """This rank's of all rows [b (f s) h d]."""
        before, mine, _ = self._sides
        return whole.unflatten(1, (frames, -1)).narrow(2, before, mine).flatten(1, 2)

    def opened(self, views: Views) -> Views:
        """The same views, which every rank has opened and orders can name from now on."""
        self._team.known = (*self._team.known, *views)[-VIEWS:]
        return views

    def to_heads(self, x: Tensor, frames: int) -> Tensor:
        """This rank's rows of all heads [n b (f s) h d] to all rows of its heads."""
        n, b, _, _, d = x.shape
        x, rank = x.unflatten(2, (frames, -1)), self._team.rank  # n b f s h d
        heads = len(self._heads[rank])
        pieces = [x[..., part.start : part.stop, :] for part in self._heads]  # by rank, its heads
        found = self._team.exchange(pieces, [(n, b, frames, tokens, heads, d) for tokens in self._tokens])
        return torch.cat(found, 3).flatten(2, 3)

    def to_rows(self, x: Tensor, frames: int) -> Tensor:
        """All rows of this rank's heads [b (f s) h d] to its rows of all heads."""
        b, _, _, d = x.shape
        pieces = x.unflatten(1, (frames, -1)).split(self._tokens, 2)  # by rank, its rows
        tokens = self._tokens[self._team.rank]
        found = self._team.exchange(pieces, [(b, frames, tokens, len(part), d) for part in self._heads])
        return torch.cat(found, 3).flatten(1, 2)

    def whole(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A memory's snapshot of all heads, on the first rank."""
        sizes = [len(heads) for heads in self._heads]
        held = [name for name in STATE_HEADS if name in state]
        return {**state, **{name: self._team.gather(state[name], 3, sizes, all_ranks=False) for name in held}}

    def part(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What of a memory's snapshot is this rank's."""
        mine = self._heads[self._team.rank]
        held = [name for name in STATE_HEADS if name in state]
        return {**state, **{name: state[name][:, :, :, mine.start : mine.stop] for name in held}}


class _Exchanging:
    """What a call over some rows sees: `view`, which is over all rows of some heads."""

    def __init__(self, split: Split, view: SelfAttention, frames: int, in_place: bool) -> None:
        """in_place: the call is over all rows, of which some are this rank's."""
        self._split, self._view, self._frames, self._in_place = split, view, frames, in_place

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """As `View.attend`, for this rank's rows."""
        found = self._view.attend(layer, *self._to_heads(q, raw_k, v))
        mine = self._split.to_rows(found, self._frames)
        return self._split.laid(mine, self._frames) if self._in_place else mine

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """As `View.write`."""
        self._view.write(layer, *self._to_heads(raw_k, v))

    def _to_heads(self, *fresh: Tensor) -> tuple[Tensor, ...]:
        mine = [self._split.taken(one, self._frames) for one in fresh] if self._in_place else fresh
        return self._split.to_heads(torch.stack(tuple(mine)), self._frames).unbind(0)
