"""What a stage of a published training is: values, each with where it is from. The trainer is `matching`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..lora import LoraSpec
from ..objectives.forced import Consistency, Forcing
from ..objectives.scores import Matching
from ..objectives.teacher import Recycling
from ..rollout import RolloutSpec
from ..streaming import StreamSpec

OPEN = "open: "
"""What the source of a value begins with that neither paper nor code gives; it goes on with what was taken and why."""
OURS = "ours: "
"""The same of a value that is given and is not followed."""


@dataclass(frozen=True)
class Verbs:
    """Verbs in the films of a training; where they stand is drawn alike on all ranks, as they cost calls."""

    switches: tuple[int, int] = (0, 0)
    """Fewest and most prompt changes of a film, there and back between the two prompts that the data pair."""
    cuts: float = 0.0
    """Share of the changes that are cuts."""
    at: tuple[int, ...] = ()
    """Chunks of the film that they may begin; () is any but the first."""


@dataclass(frozen=True)
class Stage:
    """What learns, and how: a causal student on its own films, or on clips that exist; or a bidirectional teacher."""

    film: RolloutSpec
    "how films are made"
    match: Matching
    "how teacher and critic are asked"
    rate: float
    "learning rate of the student"
    critic_rate: float
    "learning rate of the critic"
    iterations: int
    "steps of the critic, as the published loops count"
    sources: dict[str, str]
    "where each value is from, by name; `OPEN` marks what no source gives"
    objective: Literal["dmd", "sid", "regression", "forcing", "consistency", "teacher"] = "dmd"
    """loss of what learns. Without a critic: `regression` from ODE states in the data, `forcing` and `consistency`
    from clips, the latter with a causal teacher; `teacher` is a bidirectional network itself"""
    taught: Forcing | Consistency | Recycling | None = None
    "settings of an objective on clips; a teacher without has no errors put back"
    drop: float = 0.0
    "share of clips that are shown without their prompt, so that guidance works"
    betas: tuple[float, float] = (0.0, 0.999)
    "of the student's AdamW"
    critic_betas: tuple[float, float] = (0.0, 0.999)
    "of the critic's"
    decay: float = 0.01
    "weight decay of both"
    clip: float = 10.0
    "largest norm of a step's gradient"
    ratio: int = 5
    "steps of the critic for one of the student; 0 where there is no critic"
    ahead: int = 0
    "steps of the critic before the student's first, beside `iterations`"
    batch: int = 64
    "films in a step, over all ranks and what they accumulate"
    average: float = 0.99
    "of the student's weights"
    average_from: int = 200
    "step of the critic at which the average begins"
    stream: StreamSpec | None = None
    "films go on from step to step, a piece at a time; None makes a film for every step"
    lora: LoraSpec | None = None
    "adapters of student and critic in place of all weights"
    verbs: Verbs = field(default_factory=Verbs)
    "changes of prompt inside films"

    @property
    def steps(self) -> int:
        """Steps of student and critic together."""
        return self.ahead + self.iterations + (-(-self.iterations // self.ratio) if self.ratio else 0)

    def learns(self, step: int) -> bool:
        """Whether a step is the student's."""
        return step >= self.ahead and (step - self.ahead) % (self.ratio + 1) == 0
