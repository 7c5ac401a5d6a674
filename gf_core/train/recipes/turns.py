"""Who learns when in a training by films or clips, from which loss; and what films of either look like, for the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..loop import Run
from ..objectives import Loss, Objective
from ..objectives.dmd import critic, dmd, sid
from ..objectives.forced import consistency, forcing, regression
from ..objectives.scores import Nets
from ..objectives.teacher import Errors, teacher
from ..streaming import Stream
from .stage import Stage

STUDENTS = {"dmd": dmd, "sid": sid}
FROM_CLIPS = {
    "regression": partial(regression, see_clean=False),
    "forcing": forcing,
    "consistency": consistency,
    "teacher": teacher,
}


class Turns:
    """The student's turn, then the critic's `ratio` turns; what films of either look like is logged."""

    def __init__(
        self, nets: Nets, stage: Stage, own: Stream | Errors | None, step: Callable[[], int]
    ) -> None:
        self._stage, self._step, self._seen = stage, step, list[Tensor]()
        given: Any = {"match": stage.match, "watch": self._watch}
        if not stage.ratio:
            turns = (FROM_CLIPS[stage.objective],) * 2
            given = {"film": stage.film}
            if stage.objective == "teacher":
                given |= {"match": stage.match, "errors": own, "watch": self._watch}
            elif stage.taught is not None:
                given["settings"] = stage.taught
        else:
            turns = STUDENTS[stage.objective], critic
            given["film"] = own if isinstance(own, Stream) else stage.film
        self._student, self._critic = (partial(turn, nets, **given) for turn in turns)

    def __call__(self, batch: Any) -> Loss:
        turn = self._student if self._stage.learns(self._step()) else self._critic
        loss = turn(batch)
        if not self._seen:
            return loss
        return Loss(loss.total, {**loss.parts, **film_figures(self._seen.pop(), self._stage.film.chunk)})

    def _watch(self, name: str, value: Tensor) -> None:
        if name in ("rollout", "window"):  # of a film, or of a piece of one that goes on
            self._seen = [value.detach()]


@dataclass(frozen=True)
class Following:
    """An objective that asks the running mean of what learns, which is brought up to date before every step."""

    turns: Objective
    average: Any
    run: Run

    def __call__(self, batch: Any) -> Loss:
        self.average.load_state_dict(self.run.average.values)
        return self.turns(batch)


def film_figures(latents: Tensor, chunk: int) -> dict[str, Tensor]:
    """How films [b f c h w] move, and how much more they change from chunk to chunk than inside of them.

    `motion` is the root mean square of the change from frame to frame, `border` the ratio of its energies; a film whose
    chunks show as stripes in time has a border far from 1, one of a single chunk has none.
    """
    change = latents.float().diff(dim=1).square().mean((0, 2, 3, 4))
    between = torch.arange(1, len(change) + 1, device=change.device) % chunk == 0
    figures = {"motion": change.mean().sqrt()}
    if between.any() and not between.all():
        figures["border"] = change[between].mean() / change[~between].mean()
    return figures
