"""Which samples a rank takes next: shuffled anew every epoch, shared out without overlap, resumable to the sample."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import GroundedError
from ..words import counted
from .ranks import Ranks


class Order:
    """An endless row of sample numbers, one permutation of `count` after the other; every rank takes its own.

    The state is the same on all ranks, which must take equally many each time: where a run goes on with another number
    of ranks, it goes on at the same place of the row.
    """

    def __init__(self, count: int, ranks: Ranks | None = None, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self.epoch, self.position = 0, 0
        self._ranks = ranks or Ranks()
        self._shuffled = (-1, [0])

    def take(self, size: int) -> list[int]:
        """The next `size` numbers of this rank."""
        mine = range(self._ranks.rank * size, (self._ranks.rank + 1) * size)
        taken = [self._at(self.position + offset) for offset in mine]
        epochs, self.position = divmod(self.position + size * self._ranks.count, self.count)
        self.epoch += epochs
        return taken

    def _at(self, position: int) -> int:
        epochs, within = divmod(position, self.count)
        epoch = self.epoch + epochs
        if self._shuffled[0] != epoch:
            rng = torch.Generator().manual_seed((self.seed << 24) + epoch)
            self._shuffled = epoch, torch.randperm(self.count, generator=rng).tolist()
        return self._shuffled[1][within]

    def state_dict(self) -> dict[str, Any]:
        """What to go on from."""
        return {"count": self.count, "seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises GroundedError where the data have more or fewer samples now."""
        if state["count"] != self.count:
            raise GroundedError(
                f"the training data have {counted(self.count, 'sample')}, and had {state['count']} when the run "
                "was stopped",
                "give the same data, or begin a run in another folder",
            )
        self.seed, self.epoch, self.position = (state[name] for name in ("seed", "epoch", "position"))
