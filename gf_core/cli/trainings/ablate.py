"""`grounded train ablate`: what each part of the memory does, measured on the built-in model's world.

Training-free by default: the same weights under the memory without one of its parts. With --retrain FOLDER each
variant is trained again through the last stage of the chain that lies there (`grounded train builtin --stage all`);
with --further TEACHER, through that stage from the model's own weights, judged by what is made of that teacher: a judge
of a window alone, or (--judges) one that sees the film's past beside it.
Films are measured one by one into OUT/films.jsonl; the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...arguments import MANY, Parser, number
from ...checkpoints.bundle import load_model
from ...config import MemorySpec
from ...errors import GroundedError
from ...evaluation import ablation
from ...evaluation.charts.ablation import draw
from ...evaluation.suite import in_memory
from ...files.atomic import write_text
from ...files.fingerprint import combine
from ...memory.checks import check_gradients
from ...text.vocabulary import Vocabulary
from ...timeline import parse
from ...train.streaming import check_stream
from ...world.reader import load_reader

EXAMPLES = """\
examples:
  grounded train ablate                                    the weights that ship, each part taken away
  grounded train ablate --variants full,no_memory --seeds 1 --out runs/quick
  grounded train ablate --methods --seconds 60             published memories, in one shot of a minute
  grounded train ablate --retrain runs/tiny --size tiny --model runs/tiny/builtin --out runs/retrained
  grounded train ablate --further runs/teacher --judges short,context --trainings 3 --out runs/judges
  grounded train ablate --variants full,context_forcing    a published memory in the stories of the variants
  grounded train ablate --sets returns --seeds 28 --seconds 4 --out runs/recall   who is known again, in many stories
"""


def main(argv: list[str]) -> int:
    """Measure, and write OUT/table.md and OUT/chart.png."""
    parser = Parser(prog="grounded train ablate", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--model", default="builtin", help="'builtin', or a folder made like it")
    add(
        "--variants",
        help=f"comma list of {', '.join(ablation.NAMES)} (default: all of these), or of the published memories of"
        " --methods",
    )
    add(
        "--methods",
        action="store_true",
        help=f"in place of them {', '.join(ablation.METHODS)}, in one long shot",
    )
    add("--sets", help=f"comma list of {', '.join(ablation.SETS)} (default: both); not with --methods")
    add(
        "--seeds",
        **number(1, MANY, default=3, help="stories of each set, with noise of their own (default: 3)"),
    )
    add("--seconds", **number(1, MANY, help="of a segment (default: 10), or of the long shot (default: 240)"))
    trained = parser.add_mutually_exclusive_group().add_argument
    trained(
        "--retrain",
        type=Path,
        metavar="FOLDER",
        help="run folder of a chain, to train every variant through its end",
    )
    trained(
        "--further",
        type=Path,
        metavar="TEACHER",
        help="train --model further under every variant, judged by what is made of the model in this folder",
    )
    add(
        "--judges",
        help="with --further, comma list of short (sees a window alone) and context (its past, too): each variant is"
        " trained under each (default: short)",
    )
    add(
        "--trainings",
        **number(
            1, MANY, default=1, help="with --further, how often each is trained, from seed 0 on (default: 1)"
        ),
    )
    add("--size", choices=("tiny", "builtin"), default="builtin", help="of that chain (default: builtin)")
    add("--out", type=Path, default=Path("runs/ablation"), help="default: runs/ablation")
    args = parser.parse_args(argv)
    seconds = args.seconds or (240 if args.methods else 10)
    rows = _rows(args, seconds)
    columns = ablation.LONG_COLUMNS if args.methods else ablation.COLUMNS
    columns = {name: told for name, told in columns.items() if any(row["measures"].get(name) for row in rows)}
    lines = [*ablation.table(rows, columns), "", *ablation.by_seed(rows, columns)]
    print(*lines, sep="\n")
    write_text(args.out / "table.md", "\n".join(lines) + "\n")
    draw(rows, columns, args.out / "chart.png")
    print(f"table, chart and films.jsonl in {args.out}")
    return 0


def _rows(args: argparse.Namespace, seconds: int) -> list[dict[str, Any]]:
    sets = _sets(args)
    bundle = load_model(args.model)
    judges = _judges(args)
    variants: dict[str, ablation.Variant] = {}
    if isinstance(bundle.text, Vocabulary):
        for text in ablation.stories(args.seeds, seconds, sets):
            bundle.text.check_words(text, [(part.line, part.prompt) for part in parse(text).segments])
    chosen = _chosen(args, bundle.recipe.memory)
    for (name, memory), judge, seed in itertools.product(chosen.items(), judges, range(args.trainings)):
        trained = args.retrain or args.further
        own = load_model(_trained(args, name, memory, judge, seed)) if trained else bundle
        made = combine([own.fingerprint, repr(sorted(asdict(memory).items()))])
        title = f"{ablation.NAMES.get(name, name)}, {judge} teacher" if args.judges else name
        title += f", {seed}" if args.trainings > 1 else ""
        variants[title] = ablation.Variant(in_memory(own, memory), made)
    return ablation.run(
        variants, args.seeds, seconds, load_reader(), args.out / "films.jsonl", sets=sets,
        note=lambda text: print(text, file=sys.stderr, flush=True),
    )  # fmt: skip


def _sets(args: argparse.Namespace) -> list[str]:
    """The sets of stories that are asked for."""
    if args.methods and args.sets:
        raise GroundedError(
            "--methods is one long shot, which is no set of stories",
            "leave --sets away, or name the methods in --variants to film them in these sets",
        )
    sets = str(args.sets or ",".join(ablation.SETS)).split(",")
    unknown = [name for name in sets if name not in ablation.SETS]
    if unknown:
        raise GroundedError(
            f"there is no set called {unknown[0]!r}", f"choose from {', '.join(ablation.SETS)}"
        )
    return ["one"] if args.methods else sets


def _chosen(args: argparse.Namespace, memory: MemorySpec) -> dict[str, MemorySpec]:
    """Memories by name; a method is a preset, whatever the model's own memory is."""
    usual = ablation.methods() if args.methods else ablation.variants(memory)
    known = usual if args.methods else usual | ablation.methods()
    names = args.variants.split(",") if args.variants else list(usual)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise GroundedError(f"there is no variant called {unknown[0]!r}", f"choose from {', '.join(known)}")
    for name in names if args.retrain or args.further else ():
        try:
            check_gradients(known[name])
            check_stream(known[name])  # all are trained through the chain's last stage
        except GroundedError as error:
            raise GroundedError(
                f"{name} cannot be trained: {error.message}", "leave it out of --variants"
            ) from None
    return {name: known[name] for name in names}


def _judges(args: argparse.Namespace) -> list[str]:
    """Who judges what is trained further, by name."""
    from ...train.recipes.chain import JUDGES

    judges = str(args.judges or "short").split(",")
    unknown = [judge for judge in judges if judge not in JUDGES]
    if unknown:
        raise GroundedError(f"there is no judge called {unknown[0]!r}", f"choose from {', '.join(JUDGES)}")
    if (args.judges or args.trainings > 1) and not args.further:
        raise GroundedError(
            "--judges and --trainings are of a training, and none is asked for", "give --further TEACHER"
        )
    return judges


def _trained(args: argparse.Namespace, name: str, memory: MemorySpec, judge: str, seed: int) -> Path:
    """The model that the last stage gives under this memory: of a chain, or from the model's own weights."""
    from ...train.recipes.chain import SIZES, model_of, run_stage, stages_of, train_further

    if args.further:
        folder = args.out / (f"{name}_{judge}_{seed}" if args.judges or seed else name)
        return train_further(args.model, args.further, memory, args.out, folder, judge, seed)
    folder = args.retrain / args.size
    if not model_of(folder, "match").is_dir():
        raise GroundedError(
            f"there is no chain in {folder} to train on from",
            f"run grounded train builtin --stage all --size {args.size} --folder {args.retrain}",
        )
    stage = stages_of(SIZES[args.size], memory)["long"]
    return run_stage("long", stage, folder, folder / "ablation" / name)
