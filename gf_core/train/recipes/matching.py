"""A published training, on any number of ranks, with the data that people bring: a causal student learns from films
that it makes itself, judged by a teacher. Everything is the paper's if it is not given. The same command goes on from
RUN/STAGE.pt after a stop; what was learned lies in RUN/student."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ...arguments import MANY, Parser, number, shared_out, size, whole_chunks
from ...builtin import BUILTIN_FILES, is_small, model_file
from ...checkpoints.bundle import ModelBundle, load_model
from ...devices import pick_device
from ...errors import GroundedError
from ...files.pieces import write_tensors
from ...memory.checks import check
from ...words import counted
from ..journal import Journal, set_up_log
from ..loop import Pace, Run
from ..lora import add_lora, save_lora
from ..objectives import Objective, Precision
from ..objectives.scores import Nets
from ..objectives.teacher import Errors, Recycling
from ..optim import adamw
from ..order import Order
from ..ranks import Ranks, fsdp, launch
from ..recompute import recompute
from ..rollout import RolloutSpec
from ..sources import digest_of, open_source
from ..state import PRINT, gathered, replacing, told
from ..streaming import Stream
from .prompted import Films, OnTheWay, Texts, latent_of
from .stage import Stage
from .turns import Following, Turns

RECIPES = ("self_forcing", "rolling_forcing", "longlive", "context_forcing", "grounded_forcing")
SEEDS = 2**32 - 1
"""The largest seed: epochs and samples get numbers of their own from it, which must fit a generator."""
EXAMPLES = """\
examples:
  grounded train {recipe} --data prompts.txt --model builtin --size 96x64 --frames 6 --batch 1 --iterations 5
  grounded train {recipe} --data prompts.txt --model student.pt --teacher Wan2.1-T2V-14B --critic Wan2.1-T2V-1.3B
  grounded train {recipe} --stage {last} --data prompts.txt{then} --model student.pt --ranks 8
"""
"""The first is a run in small, on a processor; the last is of a later stage if there is one, with pairs of prompts if
need be."""
log = logging.getLogger("grounded")


@dataclass(frozen=True)
class Options:
    """What a run is given beside its stage."""

    name: str
    stage: Stage
    data: Path
    model: str
    folder: Path
    then: Path | None = None
    teacher: str | None = None
    critic: str | None = None
    negative: str | None = None
    device: str = "cpu"
    ranks: int = 1
    nodes: int = 1
    each: int = 1
    """Films that a rank makes at a time."""
    seed: int = 0
    report: int = 10
    wandb: str | None = None


def stages_of(recipe: str) -> dict[str, Stage]:
    """The stages of a recipe by name, in order."""
    return import_module(f".{recipe}", __package__).STAGES


def with_steps(journal: Journal, stage: Stage, step: int, means: dict[str, float]) -> None:
    """A report with the steps of student and critic so far."""
    student = sum(map(stage.learns, range(step)))
    journal(step, {"student_steps": student, "critic_steps": step - student, **means})


def train(ranks: Ranks, options: Options) -> Run:
    """One stage on this rank, with its checkpoint and what came of it in the run's folder; returns the finished run."""
    set_up_log(options.folder, ranks.first)
    _refuse_another(options)
    stage, device = options.stage, _device(options.device)
    log.info(_length(options))
    _tell_unused(options)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(options.seed)  # of adapters; everything else goes by number
    bundle = load_model(options.model, dtype=torch.float32)
    normalise = getattr(bundle.codec, "normalised", None)
    source = open_source(options.data, options.then, normalise, latents=not stage.ratio)
    if source.unread:
        log.info(
            "films of %s are made from prompts alone: the latents beside them are not used", options.name
        )
    # Called otherwise without latents: a run that was begun when they were read goes on.
    given = "set of prompts" if source.unread else "set of data"
    texts = Texts(bundle, options.negative, small=is_small(options.model))
    texts.check(source, changes=not stage.ratio or max(stage.verbs.switches) > 0)
    latent, pace = latent_of(bundle, stage), _pace(stage, options, ranks)
    nets, prints = _networks(options, bundle, device, dtype)
    film = replace(stage.film, device=device, dtype=dtype, first_frame=partial(first_frame, bundle.codec))
    order = Order(len(source), ranks, options.seed)
    stream = None if stage.stream is None else Stream(film, stage.stream)
    errors = Errors(stage.taught) if isinstance(stage.taught, Recycling) else None
    films = Films(stage, source, order, texts, latent, device, options.seed)
    networks = {"student": nets.generator} | ({"critic": nets.fake} if stage.ratio else {})
    paces = [(stage.rate, stage.betas), (stage.critic_rate, stage.critic_betas)]
    optimisers = [
        adamw([p for p in net.parameters() if p.requires_grad], rate, stage.decay, betas)
        for net, (rate, betas) in zip(networks.values(), paces)
    ]
    journal = Journal(options.folder / "log.jsonl", options.wandb) if ranks.first else None
    run = Run(
        options.name, networks, optimisers, pace, Precision(device, dtype), options.folder / f"{options.name}.pt",
        ranks,
        carried={"order": order},
        own=errors or (stream and OnTheWay(stream, nets.generator, device)),
        begun={**_decisive(options), **prints, given: PRINT + digest_of(source)},
        report=journal and partial(with_steps, journal, stage),
    )  # fmt: skip
    numbers = count(run.step * pace.accumulate)
    turns: Objective = Turns(nets, replace(stage, film=film), stream or errors, lambda: run.step)
    if nets.average is not None:
        turns = Following(turns, nets.average, run)
    make = partial(films.batch, stream=stream) if stage.ratio else films.clips
    run.run(turns, lambda: make(next(numbers), ranks, options.each))
    _keep(run, options, bundle, ranks)
    log.info(
        "student in %s, for grounded render --%s",
        options.folder / "student",
        "lora" if stage.lora else "model",
    )
    return run


def _tell_unused(options: Options) -> None:
    """A line of the log for each thing given that the stage has no use for."""
    stage = options.stage
    taught = stage.ratio or stage.objective == "consistency"
    for given, used, why in (
        ("then", max(stage.verbs.switches), "makes films of one prompt"),
        ("teacher", taught, "learns without a teacher"),
        ("critic", stage.ratio, "learns without a critic"),
        ("negative", taught or stage.drop, "shows every clip with its prompt"),
    ):
        if getattr(options, given) is not None and not used:
            log.info("%s %s: what --%s gives is not used", options.name, why, given)


def _refuse_another(options: Options) -> None:
    """Raises GroundedError where the folder holds another stage's student, which would be written over."""
    there = options.folder / "student" / BUILTIN_FILES[0]
    if options.stage.lora or not there.is_file():
        return
    try:
        with safe_open(there, "pt") as file:
            name = json.loads((file.metadata() or {}).get("grounded", "{}")).get("name", options.name)
    except (SafetensorError, ValueError, OSError):
        return
    if name != options.name:
        raise GroundedError(
            f"{there.parent} holds what the stage {name} made, and {options.name} would write over it",
            "begin in another --folder, or move it away",
        )


def _decisive(options: Options) -> dict[str, str]:
    """Settings that may not change while a run lasts: all but how long it is and where it is computed."""
    stage = dict(told(options.stage, ""))
    kept = {name: value for name, value in stage.items() if name not in ("iterations", "sources")}
    return {**kept, "seed": str(options.seed), "negative prompt": str(options.negative)}


def _networks(
    options: Options, bundle: ModelBundle, device: torch.device, dtype: torch.dtype
) -> tuple[Nets, dict[str, str]]:
    """The networks that a stage has, beside the student that learns: critic, teacher, the student's average; and
    fingerprints of what they begin as."""
    stage, taught_by = options.stage, options.teacher or options.model
    place = partial(_placed, stage=stage, device=device, dtype=dtype, nodes=options.nodes)
    nets, prints = Nets(place(bundle.model, learns=True)), {"model": PRINT + bundle.fingerprint}
    if stage.ratio:
        fake = load_model(options.critic or taught_by, dtype=torch.float32)
        prints["critic"] = PRINT + fake.fingerprint
        nets = replace(nets, fake=place(fake.model, learns=True))
    elif stage.objective == "consistency":
        nets = replace(nets, average=place(load_model(options.model, dtype=dtype).model, learns=False))
    if stage.ratio or nets.average is not None:
        real = load_model(taught_by, dtype=dtype)
        prints["teacher"] = PRINT + real.fingerprint
        nets = replace(nets, real=place(real.model, learns=False))
    return nets, prints


def _length(options: Options) -> str:
    """What is about to be made, before the first step, which may take long."""
    stage, video = options.stage, options.stage.film.recipe.video
    frames = stage.stream.longest if stage.stream else stage.film.frames
    made = f"films of up to {counted(frames, 'latent frame')} of {video.width}x{video.height}"
    return (
        f"{options.name}: {made}, {stage.batch} in a step, {counted(stage.steps, 'step')} on {options.device}"
    )


def _device(name: str) -> torch.device:
    """The device of this rank; on a card alone with a group of one, so that networks are cast as in a larger."""
    device = pick_device(name)
    if device.type == "cuda" and not dist.is_initialized():
        dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)  # pyright: ignore[reportPrivateImportUsage]
    return device


def _placed(
    net: nn.Module, *, learns: bool, stage: Stage, device: torch.device, dtype: torch.dtype, nodes: int
) -> Any:
    """A network on the device, sharded where there are ranks, its activations computed twice where needed."""
    net.eval().requires_grad_(learns)
    if learns and stage.lora:
        add_lora(net, stage.lora)
    blocks: Any = net.blocks
    if learns or stage.objective == "sid":
        recompute(blocks)
    net.to(device)
    return fsdp(net, blocks, dtype, nodes) if dist.is_initialized() else net


def _pace(stage: Stage, options: Options, ranks: Ranks) -> Pace:
    """The stage's length and averages, counted as the loop counts."""
    if ranks.count % options.nodes:
        raise GroundedError(
            f"{counted(ranks.count, 'rank')} cannot be shared out evenly over {options.nodes} nodes",
            "give --nodes as the machines that take part, with equally many ranks on each",
        )
    accumulate = shared_out(stage.batch, ranks.count, options.each)
    return Pace(
        steps=stage.steps, warm=1, decay_from=1.0, clip=stage.clip, average=stage.average,
        average_from=stage.average_from // (stage.ratio or 1), accumulate=accumulate, report=options.report,
    )  # fmt: skip


def first_frame(codec: Any, latents: Tensor) -> Tensor:
    """The last frame of films [b f c h w] as the latent [b 1 c h w] of a single picture: decoded, encoded again."""
    found = []
    for film in latents.float():
        picture = codec.decoder().decode(film)[-1:]
        found.append(codec.encode(picture)[:1])
    return torch.stack(found).to(latents.device)


def _keep(run: Run, options: Options, bundle: ModelBundle, ranks: Ranks) -> None:
    """The averaged student as the loader of films takes it: a model's file, or adapters."""
    out, stage = options.folder / "student", options.stage
    if stage.lora:
        save_lora(run.average.values, stage.lora, out, first=ranks.first)
        return
    values = gathered(run.average.values)
    if not ranks.first:
        return
    recipe = stage.film.recipe
    told = {
        "name": options.name,
        "licence": bundle.licence,
        **{part: asdict(getattr(recipe, part)) for part in ("sample", "memory", "video")},
    }
    with replacing(out / BUILTIN_FILES[0]) as part:
        # As they are shipped: what few steps change in a small model is lost in bfloat16.
        dtype = torch.float16 if is_small(options.model) else torch.bfloat16
        half = {name: value.to(dtype) for name, value in values.items()}
        write_tensors(part, half, {"grounded": json.dumps(told)})
    if is_small(options.model):
        for name in BUILTIN_FILES[1:]:
            with replacing(out / name) as part:
                shutil.copyfile(model_file(options.model).parent / name, part)


def main(recipe: str, argv: list[str]) -> int:
    """Command line of `grounded train RECIPE`."""
    stages = stages_of(recipe)
    last = list(stages)[:2][-1]
    then = " --then changes.txt" if max(stages[last].verbs.switches) else ""
    examples = EXAMPLES.format(recipe=recipe, last=last, then=then)
    parser = Parser(prog=f"grounded train {recipe}", description=__doc__, epilog=examples)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="prompts, or anything with prompts in it (docs/training.md)")
    add("--then", type=Path, help="prompts that those of --data change to, line by line")
    add("--model", required=True, help="causal student to begin with: a file, a folder, or 'builtin'")
    add("--teacher", help="bidirectional teacher (default: the student's weights)")
    add("--critic", help="what the critic begins as (default: the teacher)")
    add("--stage", choices=list(stages), default=next(iter(stages)), help="default: the first")
    add("--folder", type=Path, help=f"run folder (default: runs/{recipe}/STAGE)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    add(
        "--ranks",
        **number(1, MANY, default=1, help="processes to start here; not with torchrun (default: 1)"),
    )
    add("--nodes", **number(1, MANY, default=1, help="machines that each hold all shards (default: 1)"))
    add("--batch", **number(1, MANY, help="films in a step, over all ranks (default: the paper's)"))
    add("--each", **number(1, MANY, default=1, help="films that a rank makes at a time (default: 1)"))
    add("--iterations", **number(1, 100 * MANY, help="critic steps (default: the paper's)"))
    add(
        "--size",
        type=size,
        metavar="WxH",
        help="film size in pixels (default: the paper's; the built-in model knows 96x64)",
    )
    add("--frames", **number(1, MANY, help="most latent frames of a film (default: the paper's)"))
    add("--negative", help="prompt of the unguided side (default: Wan's)")
    add("--seed", **number(0, SEEDS, default=0, help="default: 0"))
    add(
        "--report",
        **number(1, 100 * MANY, default=10, help="steps between two lines of the log (default: 10)"),
    )
    add("--wandb", metavar="PROJECT", help="tell Weights & Biases too")
    args = parser.parse_args(argv)
    home = Path("runs") / recipe
    # Of a time when stages had no folders of their own.
    if args.folder is None and (home / f"{args.stage}.pt").exists():
        log.info("%s holds a training of %s, which --folder %s goes on with", home, args.stage, home)
    options = Options(
        name=args.stage, stage=_asked(stages[args.stage], args),
        folder=args.folder or home / args.stage,
        **{name: getattr(args, name) for name in ("data", "then", "model", "teacher", "critic", "negative", "device",
           "ranks", "nodes", "each", "seed", "report", "wandb")},
    )  # fmt: skip
    launch(train, options.ranks, options.device, options)
    return 0


def _asked(stage: Stage, args: argparse.Namespace) -> Stage:
    """The stage with what the command line gives in place of the paper's."""
    film: RolloutSpec = stage.film
    if args.frames:
        whole_chunks(args.frames, film.chunk)
    least = film.window if stage.stream else film.context + 2 * film.chunk if film.context else film.chunk
    if args.frames and args.frames < least:
        why = "first piece is a window of" if stage.stream else "context and what is learned behind it take"
        raise GroundedError(
            f"a film of {counted(args.frames, 'latent frame')} is too short for the stage "
            f"{args.stage}: a film's {why} {least}",
            f"give --frames {least} or more",
        )
    if args.size:
        width, height = args.size
        video = replace(film.recipe.video, width=width, height=height)
        film = replace(film, recipe=replace(film.recipe, video=video))
    if args.frames and stage.stream:
        stage = replace(stage, stream=replace(stage.stream, longest=args.frames))
    elif args.frames:
        film = replace(film, frames=args.frames, window=min(args.frames, film.window))
    check(film.recipe.memory, args.each)
    return replace(
        stage, film=film, batch=args.batch or stage.batch, iterations=args.iterations or stage.iterations
    )
