"""`grounded train builtin`: the built-in model from nothing to shipped files.

Two ways. On processors every stage runs by itself, in ranks of one thread, with clips on disk: codec -> clips ->
teacher -> student -> reader -> export. With --device the whole is one live run: worker processes render the world
while this one keeps their shards on the device and trains codec, teacher and student one after the other. Stages are
resumable either way: one that has finished is skipped, one that was stopped goes on from its last checkpoint.

`--stage all` is another road: the whole chain of a causal model's training, by steps (`chain`).
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...arguments import Parser
from ...builtin import BUILTIN_FILES, BUILTIN_FOLDER
from ...errors import GroundedError
from ...vae.builtin import BuiltinCodec, load_codec
from ...words import counted
from ..data import Clips, Feed, Shard, Workers, of_others
from ..journal import open_log, set_up_log
from ..loop import Pace
from ..objectives import Precision
from ..ranks import Ranks, launch
from ..state import PRINT, find, replacing, same_run
from .chain import SIZES, run_chain
from .clips import MIXTURE, PICTURES, encoded, fresh_pictures, world_shard, write_clips
from .codec import CodecPlan, train_codec
from .codec_data import Pictures
from .reader import PACE as READER_PACE
from .reader import train_reader
from .video import MORE, SHARPEN, STUDENT, TEACHER, Begin, train_video

log = logging.getLogger("grounded")

STAGES = ("codec", "clips", "teacher", "student", "reader", "export")
SHARPENED = SHARPEN.stage
"""A stage more, which is run where it is asked for."""
ALL = "all"
LIVE = {"codec": 0.28, "teacher": 0.51, "student": 0.18}
"""Shares of a live run's minutes; the rest goes by in starting, encoding and exporting."""
FURTHER = {"teacher": 0.5, "student": 0.43}
"""The same where a finished teacher learns further: it has most behind it, its new student all before it."""
LIVE_STUDENT = replace(STUDENT, solver_steps=4, generations=5, own=0.5)
"""A student where steps are cheap."""
ON_PROCESSORS = {"most": 32, "shard": 4, "batch": 2, "crops": 3}
"""Sizes of a live run there, in place of those for a card, of which one step takes longer than a whole run may."""
POOL, HELD_OUT = 700, 48
"""Clips of three chunks that each rank of the codec stage holds, and those of them kept for its scores."""
EXAMPLES = """\
examples:
  grounded train builtin --device cuda                     live on one card, in minutes
  grounded train builtin                                   every stage on the processor, an afternoon
  grounded train builtin --stage student                   one of them, or on with it
  grounded train builtin --stage sharpen --device cpu --teacher runs/teacher   what ships, made sharper
  grounded train builtin --stage all --size tiny --folder runs/tiny        the whole chain in small
  grounded render film.txt --model runs/builtin/builtin    what came of it
"""


@dataclass(frozen=True)
class Options:
    """The command line."""

    folder: Path = Path("runs/builtin")
    out: Path | None = None
    stage: str | None = None
    size: str = "builtin"
    minutes: float | None = None
    ranks: int = 2
    clips: int = 8192
    teacher: Path | None = None
    student: Path | None = None
    further: bool = False
    decoder_of: Path | None = None
    device: str | None = None
    workers: int | None = None
    most: int = 16384
    shard: int = 32
    batch: int = 48
    crops: int = 192

    @property
    def codec(self) -> Path:
        """The codec's file: this run's, or the one beside a given teacher, which knows no other latents."""
        place = self.teacher or self.folder
        return (place if place.is_dir() or place == self.folder else place.parent) / "codec.safetensors"

    @property
    def start(self) -> Path:
        """Weights that a student begins from."""
        return self.teacher if self.teacher and not self.further else self.folder / "teacher.pt"

    def begin(self, stage: str) -> Begin:
        """What a student, or who sharpens one, begins from. Raises GroundedError: there is no teacher yet."""
        teacher, student = needs(self.start, "teacher"), self.student
        if stage != SHARPENED and student is None:
            return Begin(teacher=teacher)
        student = student or find(self.folder / "student.pt") or BUILTIN_FOLDER
        # A folder may hold a teacher beside it.
        return Begin(student / BUILTIN_FILES[0] if student.is_dir() else student, teacher)

    @property
    def stages(self) -> tuple[str, ...]:
        """What is to run, in order."""
        given = (("codec",) if self.further else ("codec", "teacher")) if self.teacher else ()
        if not given and find(self.folder / "teacher.pt"):
            given = ("codec",)  # whose latents the teacher knows
        return (self.stage,) if self.stage else tuple(stage for stage in STAGES if stage not in given)


def needs(path: Path, stage: str) -> Path:
    """`path`, which an earlier stage makes; GroundedError where it is missing."""
    if not path.exists():
        raise GroundedError(f"{path} is not there yet", f"Run the stage before it first: --stage {stage}.")
    return path


def export(options: Options, stage: str | None = None) -> None:
    """Write the shipped files from a run folder: model, text encoder and codec, float16.

    stage: whose; None is the sharpened student's where there is one.
    """
    name = stage or (SHARPENED if (options.folder / SHARPENED).is_dir() else "student")
    student = needs(options.folder / name, name)
    reader = options.folder / "reader.safetensors"
    names = BUILTIN_FILES[:2]
    found = [*(student / name for name in names), needs(options.codec, "codec")]
    if kept := find(options.folder / f"{name}.pt"):
        same_run(kept, name, {"codec": PRINT + load_codec(options.codec).fingerprint})
    _ship(options, [*found, reader] if reader.exists() else found)


def run_all(options: Options) -> None:
    """Run the chain, and write what its last stage gave where `export` writes a student."""
    codec = options.codec if options.codec.exists() else None
    student = run_chain(options.folder / options.size, SIZES[options.size], codec, options.device or "cpu")
    _ship(options, [student / name for name in BUILTIN_FILES])


def _ship(options: Options, files: list[Path]) -> None:
    out = options.out or options.folder / "builtin"
    open_log(options.folder)
    for path in files:
        with replacing(out / path.name) as part:
            shutil.copyfile(path, part)
    log.info("exported to %s", out)


class Source:
    """Shards as they come: pictures while there is no codec, clips as soon as there is one."""

    def __init__(self, feed: Feed) -> None:
        self.feed, self.clips = feed, Clips(MIXTURE, feed.device)
        self.pictures: Pictures | None = None
        self.codec: BuiltinCodec | None = None
        self._waiting: list[tuple[str, Shard]] = []

    def refresh(self, wait: bool = False) -> None:
        """Take one shard in if there is one, or wait for it."""
        pictures = self.pictures
        if pictures and pictures.full:
            return
        if (found := self.feed.poll(wait)) is None:
            return
        kind, shard = found
        if pictures:
            pictures.add(shard)
            self._waiting.append((kind, {name: v for name, v in shard.items() if name not in PICTURES}))
        else:
            self.clips.add(kind, encoded(shard, self.codec) if self.codec else shard)

    def encode_all(self, codec: BuiltinCodec) -> None:
        """The codec is ready: turn the pictures into latents and let them go."""
        if self.pictures:
            frames = self.pictures.tensors["frames"]
            for kind, shard in self._waiting:
                self.clips.add(kind, encoded({**shard, "frames": frames[: len(shard["prompt"])]}, codec))
                frames = frames[len(shard["prompt"]) :]
        self.codec, self._waiting, self.pictures = codec, [], None


# -- stage by stage, on processors ---------------------------------------------------------------------------------


def run_stage(stage: str, options: Options) -> None:
    """Run one stage; raises GroundedError when an earlier stage has not been run."""
    if stage in (ALL, "export"):
        (run_all if stage == ALL else export)(options)
        return
    if stage in ("clips", "reader"):
        needs(options.codec, "codec")
    if stage in ("student", SHARPENED):
        needs(options.start, "teacher")
    if stage in ("teacher", "student", SHARPENED):
        needs(options.folder / "clips", "clips")
    if stage in ("clips", "teacher", "student", SHARPENED) and options.codec.exists():
        others = of_others(options.folder / "clips", load_codec(options.codec).fingerprint)
        if others and stage != "clips":
            raise GroundedError(
                f"{counted(len(others), 'shard')} in {options.folder / 'clips'} came from another codec than "
                f"{options.codec}",
                "Encode them again: --stage clips.",
            )
        if others:
            open_log(options.folder)
            log.info("clips of another codec are made again: %d shards", len(others))
        for path in others:
            path.unlink()
    # Otherwise the C library returns large activations to the system and pays page faults at every step.
    os.environ.update(
        MALLOC_MMAP_THRESHOLD_="4000000000", MALLOC_TRIM_THRESHOLD_="8000000000", OMP_NUM_THREADS="1"
    )
    launch(_rank, 1 if stage == "reader" else options.ranks, "cpu", stage, options)


def _rank(ranks: Ranks, stage: str, options: Options) -> None:
    """One rank of a stage."""
    torch.set_num_threads(1)
    set_up_log(options.folder, ranks.first)
    folder, precision = options.folder, Precision()
    if stage == "codec":
        plan = CodecPlan(decoder_of=options.decoder_of)
        log.info("rendering %d clips to begin with", POOL)
        pictures = Pictures(POOL, HELD_OUT, precision.device)
        fresh = fresh_pictures(seed=time.time_ns() + ranks.rank)
        while not pictures.full:
            pictures.add(next(fresh))
        plan = replace(plan, pace=plan.pace.lasting(options.minutes))
        train_codec(folder, plan, pictures, lambda: pictures.add(next(fresh)), precision, ranks)
    elif stage == "clips":
        open_log(folder)
        write_clips(load_codec(options.codec), folder / "clips", options.clips // ranks.count, 1 + ranks.rank)
    elif stage == "reader":
        place = Precision(torch.device(options.device or "cpu"))
        train_reader(folder, READER_PACE.lasting(options.minutes), options.codec, precision=place)
    else:
        plan = {"student": STUDENT, SHARPENED: SHARPEN}.get(stage, TEACHER)
        plan = replace(plan, pace=plan.pace.lasting(options.minutes))
        begin = Begin() if stage == "teacher" else options.begin(stage)
        with Feed(folder / "clips", precision.device, consume=False, ranks=ranks) as feed:
            source = Source(feed)
            for _ in range(max(1, feed.there)):
                source.refresh(wait=True)
            known = load_codec(options.codec).fingerprint if options.codec.exists() else ""
            train_video(folder, plan, source.clips, source.refresh, precision, ranks, begin, codec=known)


# -- live, on one device -------------------------------------------------------------------------------------------


def run_live(options: Options) -> None:
    """Codec, teacher and student (or the one stage that was asked for), then the export, on `options.device`."""
    device = torch.device(options.device or "cpu")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    os.environ["OMP_NUM_THREADS"] = "1"
    count = max(1, (os.cpu_count() or 1) - 2) if options.workers is None else options.workers
    memory = Path("/dev/shm")
    make = partial(world_shard, size=options.shard)
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as shards,
        Workers(make, count, Path(shards)),
        Feed(Path(shards), device, consume=True) as feed,
    ):
        _live(options, Source(feed), count)


def _live(options: Options, source: Source, workers: int) -> None:
    folder, precision, ranks = options.folder, Precision(source.feed.device), Ranks()
    stages = [stage for stage in (*LIVE, SHARPENED) if stage in options.stages]
    minutes, report = options.minutes or 7.5, 100 if precision.device.type == "cuda" else 5

    def paced(pace: Pace, stage: str) -> Pace:
        share = (FURTHER if options.further else LIVE)[stage] if len(stages) > 1 else 1.0
        return replace(pace.lasting(minutes * share), report=report)

    if "codec" in stages:
        # Whole shards, or the last would push a part of the first out.
        room = options.most // options.shard * options.shard
        source.pictures = Pictures(room, options.shard, precision.device)
        while source.pictures.count < min(room, options.shard * (4 if workers < 4 else 24)):
            source.refresh(wait=True)
        log.info("%d clips to begin with", source.pictures.count)
        plan = CodecPlan(crops=options.crops, decoder_of=options.decoder_of)
        plan = replace(plan, pace=paced(plan.pace, "codec"))
        train_codec(folder, plan, source.pictures, source.refresh, precision, ranks)
        if stages == ["codec"]:
            return
    codec = load_codec(needs(options.codec, "codec"), str(precision.device))
    source.encode_all(codec)
    while source.clips.count < 4 * options.shard:
        source.refresh(wait=True)
    log.info("%d clips encoded", source.clips.count)
    for plan in (MORE if options.further else TEACHER, LIVE_STUDENT, SHARPEN):
        if plan.stage in stages:
            student = plan.stage != "teacher"
            begin = options.begin(plan.stage) if student else Begin(options.teacher)
            plan = replace(
                plan, pace=paced(plan.pace, plan.stage), clips=max(1, options.batch // (2 if student else 1))
            )
            # What would be shipped now, so that a run that is ended early leaves a model all the same.
            kept = partial(export, options, plan.stage) if student else None
            train_video(
                folder, plan, source.clips, source.refresh, precision, ranks, begin, kept, codec.fingerprint
            )
            log.info("%s ended with %d clips", plan.stage, source.clips.count)


def main(argv: list[str] | None = None) -> int:
    """Command line of `grounded train builtin`."""
    parser = Parser(prog="grounded train builtin", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add(
        "--stage",
        choices=(*STAGES, SHARPENED, ALL),
        help="one stage only (default: in order); 'sharpen' takes a finished student further, 'all' is the whole chain",
    )
    add(
        "--size",
        choices=list(SIZES),
        help="of the whole chain only: tiny runs through in minutes (default: builtin)",
    )
    add("--folder", type=Path, help="run folder (default: runs/builtin)")
    add("--out", type=Path, help="where to export (default: FOLDER/builtin)")
    add("--minutes", type=float, help="wall time of the stage, or of a whole live run (default there: 7.5)")
    add("--teacher", type=Path, metavar="PATH", help="a finished teacher with its codec: folder, file or .pt")
    add(
        "--student",
        type=Path,
        metavar="PATH",
        help="whose weights a student begins with (default: its teacher's), or whom the sharpen stage sharpens "
        "(default: the run's own, else what ships)",
    )
    add("--further", action="store_true", default=None, help="teach the teacher of --teacher further first")
    add(
        "--decoder-of",
        type=Path,
        metavar="CODEC",
        help="codec stage only: train only the decoder of this codec",
    )
    add("--ranks", type=int, help="processes of one thread each; the number of cores (default: 2)")
    add("--clips", type=int, help="training clips to render and encode (default: 8192)")
    live = parser.add_argument_group("live, on one device").add_argument
    live("--device", help="cuda or cpu: render and train at the same time")
    live("--workers", type=int, help="processes that render (default: all cores but two)")
    sizes = {
        "most": "clips held as pictures while the codec learns, 2 MB each",
        "shard": "clips that a worker renders at a time",
        "batch": "clips in a step of the teacher, twice a student's",
        "crops": "crops in a step of the codec",
    }
    for name, told in sizes.items():
        default = f"default: {getattr(Options, name)}; on a processor {ON_PROCESSORS[name]}"
        live(f"--{name}", type=int, help=f"{told} ({default})")
    given: dict[str, Any] = {
        n: value for n, value in vars(parser.parse_args(argv)).items() if value is not None
    }
    fitting: dict[str, Any] = dict(ON_PROCESSORS) if given.get("device") == "cpu" else {}
    options = Options(**fitting | given)
    is_live = options.device is not None and options.stage in (None, *LIVE, SHARPENED)
    if options.further and not (options.teacher and options.device):
        parser.error("--further needs --teacher and --device")
    for names, taken, by in (
        (("student",), bool({"student", SHARPENED} & {*options.stages}), "a stage that trains a student"),
        (("size",), options.stage == ALL, f"--stage {ALL}"),
        (("decoder_of",), "codec" in options.stages, "--stage codec"),
        (("workers", *sizes), is_live, "a live run (--device)"),
    ):
        if unused := [name.replace("_", "-") for name in names if name in given and not taken]:
            parser.error(f"--{unused[0]} needs {by}")
    for file, fix in (
        (options.teacher, "--teacher: a run's teacher or teacher.pt, or a folder like the built-in model's"),
        (options.student, "--student: a run's student or student.pt, or a folder like the built-in model's"),
        (options.decoder_of, "--decoder-of: the codec.safetensors whose decoder is to learn"),
    ):
        if file is not None and not file.exists():
            raise GroundedError(f"there is no {file}", f"check {fix}")
    set_up_log(options.folder)
    if is_live:
        run_live(options)
        return 0
    for stage in options.stages:
        run_stage(stage, options)
    return 0
