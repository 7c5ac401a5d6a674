"""The built-in video model: its sizes, its heads, and the three stages that train it.

`teacher`: flow matching at random noise levels, a few prompts dropped so that guidance works. `student`: the four noise
levels of the sampler, towards the ends of the teacher's guided ODE. `sharpen`: a finished student, matched in
distribution to its teacher.
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
from safetensors.torch import load_file
from torch import Tensor, nn

from ...config import ModelSpec, SampleSpec
from ...errors import GroundedError
from ...files.fingerprint import hash_state
from ...files.pieces import write_tensors
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
from ..objectives.distil import Distil
from ..objectives.flow import Flow, Heads
from ..objectives.replay import Recorder, Replayed
from ..objectives.sharpen import Sharpen, Sharpening
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
class VideoPlan(Sharpening):
    """What one stage does, a student's with how it is taught."""

    stage: str = "teacher"
    "teacher, student or sharpen"
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
SHARPEN = VideoPlan(
    "sharpen", Pace(minutes=95, warm=1, decay_from=0.6, average=0.98), draws=2, guess=0.75, generations=3
)
RATES = {"video": 2e-5, "critic": 1e-4}
"""Of who learns in it: twice that has done a student harm (docs/benchmarks/2026-11-27-ablation.md)."""


@dataclass(frozen=True)
class Begin:
    """What a stage begins from (`load_weights`)."""

    weights: Path | None = None
    "what is to learn; without, a student begins as its teacher, a teacher anew"
    teacher: Path | None = None
    "who teaches a student"


ANEW = Begin()


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
    """The objective of a teacher, or of a student, which needs its teacher."""
    heads: Heads = {"attributes": (HEADS_WEIGHT, video.heads)}
    if teacher is None:
        return Flow(video.net, precision, draws=plan.draws, shift=BUILTIN_SAMPLE.shift, heads=heads)
    return Distil(video.net, teacher.net, precision, sampled_levels(), plan, heads)


def sampled_levels() -> list[float]:
    """The sampler's noise levels 0..1, highest first."""
    return (torch.tensor([level.timestep for level in timesteps(BUILTIN_SAMPLE)]) / 1000).tolist()


def train_video(
    folder: Path,
    plan: VideoPlan,
    clips: Clips,
    refresh: Callable[[], None],
    precision: Precision,
    ranks: Ranks,
    begin: Begin = ANEW,
    kept: Callable[[], None] | None = None,
    codec: str = "",
) -> None:
    """One stage on this rank, with its checkpoint in FOLDER/<stage>.pt; its files are in FOLDER/<stage>/ at its end.

    clips: material. refresh: called after every step. kept: called when the files are there; if given, they are
    written at every report too. codec: fingerprint of the one whose latents the clips are.
    """
    torch.manual_seed(plan.seed)
    video, teacher, begun = _begun(folder, begin)
    critic = copy.deepcopy(teacher) if plan.stage == SHARPEN.stage else None
    on_card = precision.device.type == "cuda"
    for net in filter(None, (video, teacher, critic)):
        net.to(precision.device)
        if on_card:
            net.net.narrow = precision.dtype
    learning = {"video": video} | ({"critic": critic} if critic else {})
    if critic:
        optimisers = [_slow(net, RATES[name]) for name, net in learning.items()]
    else:
        hidden, rest = split_parameters(video)
        optimisers = [Muon(hidden, 0.02), adamw(rest, 1.5e-3)]
    template = VideoNet()

    def write(*report: object) -> None:
        template.load_state_dict(video.state_dict() | run.average.values)
        save_video(template.net, folder / plan.stage)
        if kept:
            kept()

    run = Run(
        plan.stage,
        learning,
        optimisers,
        plan.pace,
        precision,
        folder / f"{plan.stage}.pt",
        ranks,
        begun={**begun, **_decisive(plan), **({"codec": state.PRINT + codec} if codec else {})},
        report=write if kept else None,
    )
    # The step is part of the seed: a resumed run must not draw the noise of its beginning again.
    seed = hash((plan.seed, ranks.rank, run.step)) % 2**63
    torch.manual_seed(seed)
    clips.reseed(seed)
    objective: Objective
    if teacher and critic:
        nets, shift = (video.net, teacher.net, critic.net), BUILTIN_SAMPLE.shift
        objective = Sharpen(nets, precision, sampled_levels(), plan, shift, lambda: run.step)
    else:
        plain = objective_of(video, plan, precision, teacher)
        objective = Replayed(plain, run.params, Recorder()) if on_card else plain
    run.run(objective, lambda: clips.draw(plan.clips, plan.forget), refresh)
    if ranks.first:
        write()


def _begun(folder: Path, begin: Begin) -> tuple[VideoNet, VideoNet | None, dict[str, str]]:
    """What learns and who teaches it, with what they begin as in words by name (`state.same_run`)."""

    def loaded(net: VideoNet, path: Path) -> str:
        load_weights(net, path)
        own = path == folder / "teacher.pt"  # which may have learned on since
        return "the run's own" if own else state.PRINT + hash_state(net.net.state_dict())

    video, teacher, begun = VideoNet(), None, {"teacher": "nothing"}
    if (given := begin.weights or begin.teacher) is not None:
        begun["teacher"] = loaded(video, given)
    if begin.teacher is not None:
        teacher = copy.deepcopy(video)
        if begin.weights is not None:
            begun = {"student": begun["teacher"], "teacher": loaded(teacher, begin.teacher)}
    return video, teacher, begun


def _slow(net: VideoNet, rate: float) -> torch.optim.Optimizer:
    """The optimiser of a network that is there already; what it makes of words stays."""
    net.net.text.requires_grad_(False)
    return adamw(net.net.model.parameters(), rate, betas=(0.0, 0.999))


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
    model, text = shipped(path)
    video.net.model.load_state_dict({name: value.float() for name, value in load_file(model).items()})
    video.net.text.load_state_dict(load_small_encoder(text).state_dict())


def shipped(path: Path) -> tuple[Path, Path]:
    """The files of a network and its text encoder, as they are shipped.

    path: the network's file, or the folder of both; where a teacher's lie beside its student's, they are meant.

    Raises GroundedError: one of the two is not there.
    """
    names = ("teacher_model.safetensors", "model.safetensors") if path.is_dir() else ("",)
    model = next((path / name for name in names if (path / name).is_file()), None)
    text = model.with_name(model.name.replace("model", "text")) if model else path
    if model is None or not text.is_file() or text == model:
        raise GroundedError(
            f"there is no model with its text encoder at {path}",
            "Give a stage's .pt file, or a folder that holds model.safetensors and text.safetensors.",
        )
    return model, text


def save_video(net: ContextNet, folder: Path) -> None:
    """Write model.safetensors and text.safetensors as they are shipped: float16, settings in the header."""
    settings = {
        "name": "builtin",
        "sample": asdict(BUILTIN_SAMPLE),
        "memory": asdict(MEMORY),
        "video": BUILTIN_VIDEO,
    }
    net = net.cpu()
    tensors = {name: value.half() for name, value in net.model.state_dict().items()}
    with state.replacing(folder / "model.safetensors") as part:
        write_tensors(part, tensors, {"grounded": json.dumps(settings)})
    with state.replacing(folder / "text.safetensors") as part:
        save_small_encoder(encoder_of(net), part)
