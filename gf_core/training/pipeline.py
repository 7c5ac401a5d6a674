"""`grounded train builtin`: every stage of the built-in model in order, each resumable, from nothing to shipped files.

codec -> clips -> teacher -> student -> export; the reader (the metric network) is trained beside them. A stage that
has finished is skipped; one that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..errors import GroundedError
from ..text.small import save_small_encoder
from . import parallel
from .clips import write_shards
from .video import BUILTIN_MEMORY, BUILTIN_SAMPLE, VideoNet, VideoTraining, train_video

log = logging.getLogger("grounded")

STAGES = ("codec", "clips", "teacher", "student", "reader", "export")
VIDEO = {"width": 96, "height": 64, "fps": 16}


def train_stage(rank: int, ranks: int, plan: VideoTraining, folder: Path, start: Path | None) -> None:
    """One rank of a video stage, with its log on the terminal and in the run folder."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(folder / f"{plan.stage}.log"))
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        handlers=handlers,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    train_video(rank, ranks, plan, folder / "clips", folder, start)


def export(folder: Path, out: Path, stage: str = "student") -> None:
    """Write the shipped files from a run folder: model, text encoder and codec, float16."""
    checkpoint = torch.load(needs(folder / f"{stage}.pt", stage), weights_only=True)
    net = VideoNet()
    net.load_state_dict(checkpoint["average"])
    out.mkdir(parents=True, exist_ok=True)
    settings = {
        "name": "builtin",
        "sample": asdict(BUILTIN_SAMPLE),
        "memory": asdict(BUILTIN_MEMORY),
        "video": VIDEO,
    }
    tensors = {name: value.half().contiguous() for name, value in net.model.state_dict().items()}
    _replace(
        out / "model.safetensors", lambda path: save_file(tensors, path, {"grounded": json.dumps(settings)})
    )
    _replace(out / "text.safetensors", lambda path: save_small_encoder(net.text, path))
    _replace(
        out / "codec.safetensors", lambda path: shutil.copy(folder / "codec" / "codec.safetensors", path)
    )
    reader = folder / "reader" / "reader.safetensors"
    if reader.exists():
        _replace(out / "reader.safetensors", lambda path: shutil.copy(reader, path))
    log.info("exported step %d of %s to %s", checkpoint["step"], stage, out)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then rename it: a kill leaves the old file or the new one."""
    temporary = path.with_suffix(".tmp")
    write(temporary)
    temporary.chmod(0o644)  # safetensors writes files that only their owner may read
    temporary.rename(path)


def needs(path: Path, stage: str) -> Path:
    """`path`, which an earlier stage makes; GroundedError where it is missing."""
    if not path.exists():
        raise GroundedError(f"{path} is not there yet", f"Run the stage before it first: --stage {stage}.")
    return path


def run(stage: str, folder: Path, minutes: float | None, ranks: int, clips: int, out: Path) -> None:
    """Run one stage in `folder`; raises GroundedError when an earlier stage has not been run."""
    codec = folder / "codec" / "codec.safetensors"
    if stage == "codec":
        from .codec import CodecTraining, train_codec

        train_codec(folder / "codec", CodecTraining(minutes=minutes or 25, ranks=ranks))
    elif stage == "clips":
        parallel.launch(_write, ranks, needs(codec, "codec"), folder / "clips", clips)
    elif stage == "teacher":
        needs(folder / "clips", "clips")
        plan = VideoTraining(stage="teacher", minutes=minutes or 120)
        parallel.launch(train_stage, ranks, plan, folder, None)
    elif stage == "student":
        plan = VideoTraining(
            stage="student",
            minutes=minutes or 40,
            rate=0.25,
            decay_from=0.3,
            clips=2,
            draws=2,
            guess=0.6,
            guidance=2.5,
            average=0.99,
        )
        parallel.launch(train_stage, ranks, plan, folder, needs(folder / "teacher.pt", "teacher"))
    elif stage == "reader":
        from .reader import train_reader

        train_reader(folder / "reader", minutes or 25, needs(codec, "codec"), 0)
    elif stage == "export":
        export(folder, out)
    else:
        raise GroundedError(f"unknown stage {stage!r}", f"Choose one of {', '.join(STAGES)}.")


def _write(rank: int, ranks: int, codec: Path, folder: Path, clips: int) -> None:
    write_shards(codec, folder, clips // ranks, 7, seed=1 + rank)


def main(argv: list[str] | None = None) -> int:
    """Command line of `grounded train builtin`."""
    parser = argparse.ArgumentParser(prog="grounded train builtin", description=__doc__)
    parser.add_argument("--stage", choices=STAGES, help="one stage only (default: all in order)")
    parser.add_argument("--folder", type=Path, default=Path("runs/builtin"), help="run folder")
    parser.add_argument("--minutes", type=float, help="wall time of the stage")
    parser.add_argument(
        "--ranks", type=int, default=2, help="processes of one thread each; the number of cores"
    )
    parser.add_argument("--clips", type=int, default=8192, help="training clips to render and encode")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[1] / "builtin", help="where to export"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for stage in [args.stage] if args.stage else STAGES:
        run(stage, args.folder, args.minutes, args.ranks, args.clips, args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
