"""One film on several ranks: each has some rows of every frame, and the memory of some heads (sequence parallel).

All that is done token by token, or frame by frame, a rank does for its rows alone, on the whole network's weights.
Attention wants all tokens of a head: in front of it rows change hands for heads, behind it heads for rows (DeepSpeed
Ulysses). The model does not know: it is called over a lower picture, and its `SelfAttention` exchanges.
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
                f"{ranks} ranks cannot share the {calls} calls of a move of this film",
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
        if team is None or team.busy:
            return verb(self, *args, **kwargs)
        self.ask()
        with team.doing(verb.__name__, args, kwargs):
            return verb(self, *args, **kwargs)

    return everywhere  # type: ignore[return-value]


class Split:
    """Which rows and heads are whose, and how they change hands."""

    def __init__(self, team: Team, model: ModelSpec, latent_height: int, latent_width: int) -> None:
        patch_height, patch_width = model.patch_size[1:]
        self._team, self._patch = team, patch_height
        self._heads = parts(model.num_heads, team.count)
        self._rows = parts(latent_height // patch_height, team.count)
        self._tokens = [len(rows) * (latent_width // patch_width) for rows in self._rows]
        """Of a frame, by rank."""

    @property
    def share(self) -> Share:
        """This rank's heads."""
        return Share(self._heads[self._team.rank], self._gather_heads)

    def _gather_heads(self, mine: Tensor, dim: int) -> Tensor:
        return self._team.gather(mine, dim, [len(heads) for heads in self._heads])

    def call(self, asked: Call) -> Tensor | None:
        """As `Call.run`; the flow is whole on the first rank, and of its own rows on the others."""
        latents, text = asked.latents, asked.text
        rows, frames = self._rows[self._team.rank], latents.shape[1]
        mine = latents[:, :, :, rows.start * self._patch : rows.stop * self._patch]
        if latents.device.type == "cpu":
            text = [one if one.v is None else self.in_place(one, frames) for one in text]
        flow = replace(asked, latents=mine, text=text, memory=_Exchanging(self, asked.memory, frames)).run()
        if flow is None:
            return None
        sizes = [len(rows) * self._patch for rows in self._rows]
        return self._team.gather(flow, 3, sizes, all_ranks=False)

    def in_place(self, text: Text, frames: int) -> Text:
        """The prompt, attended to by rows that lie where they lie on one rank.

        A processor's attention rounds by blocks of queries, and otherwise in the last block, which is not full. Of all
        that rows do alone this was the one thing that rounded otherwise at the built-in model's own size.
        """
        before, mine = sum(self._tokens[: self._team.rank]), self._tokens[self._team.rank]

        def kernel(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
            q = q.unflatten(1, (frames, mine))
            whole = q.new_zeros(len(q), frames, sum(self._tokens), *q.shape[3:])
            whole[:, :, before : before + mine] = q
            found = attend(whole.flatten(1, 2), k, v, kernel=text.kernel, where=where, bias=text.bias)
            return found.unflatten(1, (frames, -1))[:, :, before : before + mine].flatten(1, 2)

        return replace(text, bias=None, kernel=kernel)

    def opened(self, views: Views) -> Views:
        """The same views, which every rank has opened and orders can name from now on."""
        self._team.known = (*self._team.known, *views)[-VIEWS:]
        return views

    def to_heads(self, x: Tensor, frames: int) -> Tensor:
        """This rank's rows of all heads [n b (f s) h d] to all rows of its heads."""
        n, b, _, _, d = x.shape
        x, rank = x.unflatten(2, (frames, -1)), self._team.rank
        heads = len(self._heads[rank])
        pieces = [x[..., part.start : part.stop, :] for part in self._heads]
        found = self._team.exchange(pieces, [(n, b, frames, tokens, heads, d) for tokens in self._tokens])
        return torch.cat(found, 3).flatten(2, 3)

    def to_rows(self, x: Tensor, frames: int) -> Tensor:
        """All rows of this rank's heads [b (f s) h d] to its rows of all heads."""
        b, _, _, d = x.shape
        pieces = x.unflatten(1, (frames, -1)).split(self._tokens, 2)
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

    def __init__(self, split: Split, view: SelfAttention, frames: int) -> None:
        self._split, self._view, self._frames = split, view, frames

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        """As `View.attend`, for this rank's rows."""
        found = self._split.to_heads(torch.stack((q, raw_k, v)), self._frames)
        return self._split.to_rows(self._view.attend(layer, *found.unbind(0)), self._frames)

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """As `View.write`."""
        self._view.write(layer, *self._split.to_heads(torch.stack((raw_k, v)), self._frames).unbind(0))
