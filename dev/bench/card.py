"""Everything that is to be known of a card, in one go of at most eight minutes: `card.json` and `card.md` in a folder.

    dev/bench/card.sh OUT [--dry] [--only PART,PART] [--minutes 8]

Every part runs in a process of its own with a time limit; one that fails or runs out of time keeps the figures it has
told, is named in the table, and the next one begins. `--dry` rehearses all on the processor with tiny sizes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gf_core.arguments import Parser

PARTS: dict[str, tuple[Any, ...]] = {
    "machine": ("card_parts:machine", 60),
    "gpu tests": ("card_parts:tests", 150),
    "film TAEHV": ("card_parts:film_taehv", 110),
    "film Wan VAE": ("card_parts:film_wan", 100),
    "film eager": ("card_parts:film_eager", 60),
    "memory grounded": ("card_parts:bench", 75, "grounded"),
    "memory self_forcing": ("card_parts:bench", 75, "self_forcing"),
    "compiled grounded": ("card_parts:bench_compiled", 90),
    "products": ("card_fp8:products", 45),
    "compiled fp8": ("card_fp8:chunks", 100),
    "decoders": ("card_decoders:decoders", 90),
    "attention": ("card_attention:attention", 30),
    "attention in chunks": ("card_attention:in_chunks", 75),
    "reference": ("card_reference:reference", 60),
    "kernels": ("card_parts:kernels", 50, False),
    "kernels compiled": ("card_parts:kernels", 60, True),
    "training step": ("card_training:training_step", 50),
    "training": ("card_parts:train", 110),
}
"""Name -> module:function, most seconds, and what the function is given, in this order; what is left of the whole time
bounds each too."""
DRY_SECONDS = 60
"""Limit of a part in a rehearsal."""
LEAST = 8.0
"""Seconds under which no part is begun."""
ENDED = {0: "ok", 1: "failed", -9: "out of time"}


@dataclass
class Done:
    """What became of a part."""

    name: str
    status: str = "not begun"
    seconds: float = 0.0
    error: str = ""
    rows: list[list[str]] = field(default_factory=list)
    """what, figure, note."""
    numbers: dict[str, Any] = field(default_factory=dict)


def run_part(name: str, limit: float, dry: bool, log: Path, cache: str) -> Done:
    """One part in its own process group, which is ended with all its children when the limit is over.

    cache: folder that all parts share, so that a later one finds compiled what an earlier one has compiled.
    """
    done, began = Done(name), time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, log.open("a") as out:
        told = Path(folder) / "told"
        told.touch()
        out.write(f"\n== {name}\n")
        out.flush()
        command = [sys.executable, __file__, folder, "--part", name, "--limit", f"{limit:.1f}"]
        environment = {**os.environ, "GROUNDED_CACHE": cache, "TMPDIR": folder}
        process = subprocess.Popen(
            [*command, *(["--dry"] if dry else [])],
            stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment,
        )  # fmt: skip
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = -9
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has left nobody behind
            code = process.wait()
        process.wait()
        _read(told, done)
    done.status = ENDED.get(code, f"ended by signal {-code}" if code < 0 else f"status {code}")
    done.seconds = time.perf_counter() - began
    return done


def _read(told: Path, done: Done) -> None:
    for line in told.read_text().splitlines():
        try:
            kind, *rest = json.loads(line)
        except ValueError:  # it was ended while it wrote this line
            continue
        if kind == "row":
            done.rows.append(rest)
        elif kind == "error":
            done.error = rest[0]
        else:
            done.numbers[rest[0]] = rest[1]


def measure_part(name: str, folder: Path, limit: float, dry: bool) -> int:
    """The inside of that process; every row is on the disk at once."""
    with (folder / "told").open("a") as told:

        def write(*what: Any) -> None:
            told.write(json.dumps(what, default=str) + "\n")
            told.flush()

        try:
            import torch
            from card_place import Place

            place = Place(
                torch.device("cpu" if dry else "cuda"),
                dry,
                lambda *row: write("row", *row),
                lambda key, value: write("numbers", key, value),
                limit,
            )
            where, _, *given = PARTS[name]
            module, _, function = where.partition(":")
            getattr(importlib.import_module(module), function)(place, *given)
        except Exception as error:  # whatever it is, the table tells it
            traceback.print_exc()
            write("error", f"{type(error).__name__}: {error}")
            return 1
    return 0


def table(parts: list[Done], dry: bool) -> str:
    """All of it as markdown."""
    head = "Rehearsal on the processor, tiny sizes" if dry else "Random weights, Wan 1.3B shape, 832x480"
    lines = [f"# Card\n\n{head}. Times are per chunk of 12 pictures unless said.\n"]
    lines += ["| part | what | figure | note |", "|---|---|---|---|"]
    for part in parts:
        status = f"{part.status}, {part.seconds:.0f} s"
        lines.append(
            _row(f"**{part.name}**", "", status if part.status == "ok" else f"**{status}**", part.error)
        )
        lines += [_row("", *row) for row in part.rows]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "/")[:300] for cell in cells) + " |"


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for card.json, card.md and card.log")
    parser.add_argument("--dry", action="store_true", help="rehearse on the processor with tiny sizes")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names of parts")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all (default: 8)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=0.0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        return measure_part(args.part, args.out, args.limit, args.dry)
    end = time.perf_counter() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "card.log"
    log.unlink(missing_ok=True)
    parts: list[Done] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        for name, (_, seconds, *_) in PARTS.items():
            if args.only and name not in args.only:
                continue
            limit = min(DRY_SECONDS if args.dry else seconds, end - time.perf_counter())
            parts.append(run_part(name, limit, args.dry, log, cache) if limit >= LEAST else Done(name))
            print(f"{name}: {parts[-1].status} after {parts[-1].seconds:.0f} s {parts[-1].error}", flush=True)
            (args.out / "card.json").write_text(json.dumps([asdict(part) for part in parts], indent=1))
            (args.out / "card.md").write_text(table(parts, args.dry))
    print((args.out / "card.md").read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
