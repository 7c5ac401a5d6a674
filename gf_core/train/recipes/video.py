"""The built-in video model: its sizes, its heads, and the two stages that train it.

`teacher`: flow matching at random noise levels, a few prompts dropped so that guidance works. `student`: the four noise
levels of the sampler, towards the ends of the teacher's guided ODE.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...config import ModelSpec, SampleSpec
from ...errors import GroundedError
from ...files.fingerprint import hash_state
from ...model.wan import WanModel
from ...sampling.schedule import timesteps
from ...text.small import SmallTextEncoder, load_small_encoder, save_small_encoder
from ...world import ATTRIBUTES, words
from .. import state
from ..batch import ClipBatch
from ..context import ContextNet, StreamOutput
from ..data import Clips
from ..loop import Pace, Run
from ..objectives import Objective, Precision
from ..objectives.distil import Distil, Distilling
from ..objectives.flow import Flow, Heads
from ..objectives.replay import Recorder, Replayed
from ..optim import Muon, adamw, split_parameters
from ..ranks import Ranks
from .clips import MEMORY

BUILTIN_SPEC = ModelSpec(dim=256, ffn_dim=1024, num_heads=2, num_layers=6)
BUILTIN_SAMPLE = SampleSpec(steps=(1000, 750, 500, 250), warp=True, shift=3.0)
BUILTIN_VIDEO = {"width": 96, "height": 64, "fps": 16}
PACE = Pace(minutes=120)
HEADS_WEIGHT = 0.03
"""Weight of the attribute heads' loss."""


@dataclass(frozen=True)
class VideoPlan(Distilling):
    """What one stage does, a student's with how it is taught."""

    stage: str = "teacher"
    "teacher or student"
    pace: Pace = PACE
    "length and learning rate"
    clips: int = 3
    "clips in a step of one rank"
    forget: float = 0.35
    "share of chunks that are made without memory (see `Clips.draw`)"
    seed: int = 0
    "of batches and noise"


TEACHER = VideoPlan()
MORE = VideoPlan(pace=Pace(minutes=40, rate=0.6, decay_from=0.3))
"""A teacher that goes on from finished weights."""
STUDENT = VideoPlan("student", Pace(minutes=40, rate=0.25, decay_from=0.3, average=0.99), clips=2, draws=2)


class Attributes(nn.Module):
    """Linear read-outs of the middle layer, one per attribute of the world; used in training only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.read = nn.ModuleDict({name: nn.Linear(width, len(kinds)) for name, kinds in ATTRIBUTES.items()})

    def forward(self, out: StreamOutput, batch: ClipBatch) -> Tensor:
        """Mean cross-entropy over the attributes of every noisy chunk."""
        hidden = out.hidden.float()
        losses = []
        for number, read in enumerate(self.read.values()):
            target = batch.labels[:, None, :, number].expand(hidden.shape[:3])
            losses.append(F.cross_entropy(read(hidden).flatten(0, 2), target.flatten()))
        return torch.stack(losses).mean()


class VideoNet(nn.Module):
    """What is trained together: the network with its text encoder, and the heads."""

    def __init__(self, spec: ModelSpec = BUILTIN_SPEC) -> None:
        super().__init__()
        self.net = ContextNet(WanModel(spec), SmallTextEncoder(words()))
        self.heads = Attributes(spec.dim)
        self._initialise()

    def _initialise(self) -> None:
        """Small gates and a zero head: every block starts near the identity."""
        model = self.net.model
        for name, linear in model.named_modules():
            if not isinstance(linear, nn.Linear):
                continue
            nn.init.zeros_(linear.bias)
            if name.endswith("cross_attn.o"):
                nn.init.zeros_(linear.weight)
            elif name.startswith("blocks."):
                nn.init.xavier_uniform_(linear.weight)
            else:
                nn.init.normal_(linear.weight, std=0.02)
        width, rows = encoder_of(self.net).settings["dim"], model.get_parameter("text_embedding.0.weight")
        nn.init.normal_(rows[:, :width], std=width**-0.5)
        nn.init.zeros_(rows[:, width:])
        nn.init.zeros_(model.head.head.weight)
        nn.init.zeros_(model.head.head.bias)


def encoder_of(net: ContextNet) -> SmallTextEncoder:
    """The net's text encoder by its type."""
    return cast(SmallTextEncoder, net.text)


def objective_of(
    video: VideoNet, plan: VideoPlan, precision: Precision, teacher: VideoNet | None = None
) -> Flow | Distil:
    """The objective of a stage; a student needs its teacher."""
    heads: Heads = {"attributes": (HEADS_WEIGHT, video.heads)}
    if teacher is None:
        return Flow(video.net, precision, draws=plan.draws, shift=BUILTIN_SAMPLE.shift, heads=heads)
    levels = torch.tensor([level.timestep for level in timesteps(BUILTIN_SAMPLE)]) / 1000
    return Distil(video.net, teacher.net, precision, levels.tolist(), plan, heads)


def train_video(
    folder: Path,
    plan: VideoPlan,
    clips: Clips,
    refresh: Callable[[], None],
    precision: Precision,
    ranks: Ranks,
    start: Path | None = None,
    kept: Callable[[], None] | None = None,
    codec: str = "",
) -> None:
    """One stage on this rank, with its checkpoint in FOLDER/<stage>.pt; its files are in FOLDER/<stage>/ at its end.

    clips: material. refresh: called after every step. start: weights to begin from
    (`load_weights`), a student's teacher. kept: called when the files are there; if given, they are written at every
    report too. codec: fingerprint of the one whose latents the clips are.
    """
    torch.manual_seed(plan.seed)
    video, teacher = VideoNet(), None
    begun = "nothing"
    if start is not None:
        load_weights(video, start)
        own = start == folder / "teacher.pt"  # which may have learned on since
        begun = "the run's own" if own else state.PRINT + hash_state(video.net.state_dict())
    if plan.stage == "student":
        teacher = copy.deepcopy(video)
    on_card = precision.device.type == "cuda"
    for net in filter(None, (video, teacher)):
        net.to(precision.device)
        if on_card:
            net.net.narrow = precision.dtype
    hidden, rest = split_parameters(video)
    optimisers = [Muon(hidden, 0.02), adamw(rest, 1.5e-3)]
    template = VideoNet()

    def write(*report: object) -> None:
        template.load_state_dict(run.average.values)
        save_video(template.net, folder / plan.stage)
        if kept:
            kept()

    run = Run(
        plan.stage,
        {"video": video},
        optimisers,
        plan.pace,
        precision,
        folder / f"{plan.stage}.pt",
        ranks,
        begun={"teacher": begun, **_decisive(plan), **({"codec": state.PRINT + codec} if codec else {})},
        report=write if kept else None,
    )
    # The step is part of the seed: a resumed run must not draw the noise of its beginning again.
    seed = hash((plan.seed, ranks.rank, run.step)) % 2**63
    torch.manual_seed(seed)
    clips.reseed(seed)
    plain = objective_of(video, plan, precision, teacher)
    objective: Objective = Replayed(plain, run.params, Recorder()) if on_card else plain
    run.run(objective, lambda: clips.draw(plan.clips, plan.forget), refresh)
    if ranks.first:
        write()


def _decisive(plan: VideoPlan) -> dict[str, str]:
    """What of a plan may not change while a run lasts: all but how long it is and how much a step takes."""
    return {
        name: value for name, value in state.told(plan, "") if not name.startswith(("pace.", "clips", "seed"))
    }


def load_weights(video: VideoNet, path: Path) -> None:
    """Fill `video` from a checkpoint (.pt), or from a model and text encoder as they are shipped.

    path: the checkpoint, the model's file, or the folder of both; the text encoder's is called as the
    model's, with text for model. Shipped files hold no heads: those begin anew. Raises GroundedError when something is
    missing, or of another network.
    """
    try:
        _fill(video, path)
    except (RuntimeError, KeyError, TypeError, OSError, EOFError, UnpicklingError, SafetensorError) as error:
        raise GroundedError(
            f"{path} does not hold this network: {(str(error).strip() or 'it is cut off').splitlines()[0]}",
            "Give a teacher.pt or student.pt of a run, or a folder of shipped files.",
        ) from error


def _fill(video: VideoNet, path: Path) -> None:
    if path.suffix == ".pt":
        video.load_state_dict(torch.load(path, weights_only=True, map_location="cpu")["average"])
        return
    names = ("teacher_model.safetensors", "model.safetensors") if path.is_dir() else ("",)
    model = next((path / name for name in names if (path / name).is_file()), None)
    text = model.with_name(model.name.replace("model", "text")) if model else path
    if model is None or not text.is_file() or text == model:
        raise GroundedError(
            f"there is no model with its text encoder at {path}",
            "Give a stage's .pt file, or a folder that holds model.safetensors and text.safetensors.",
        )
    video.net.model.load_state_dict({name: value.float() for name, value in load_file(model).items()})
    video.net.text.load_state_dict(load_small_encoder(text).state_dict())


def save_video(net: ContextNet, folder: Path) -> None:
    """Write model.safetensors and text.safetensors as they are shipped: float16, settings in the header."""
    settings = {
        "name": "builtin",
        "sample": asdict(BUILTIN_SAMPLE),
        "memory": asdict(MEMORY),
        "video": BUILTIN_VIDEO,
    }
    net = net.cpu()
    tensors = {name: value.half().contiguous() for name, value in net.model.state_dict().items()}
    with state.replacing(folder / "model.safetensors") as part:
        save_file(tensors, part, {"grounded": json.dumps(settings)})
    with state.replacing(folder / "text.safetensors") as part:
        save_small_encoder(encoder_of(net), part)
