"""`grounded train plan`: what a training by distribution matching would take, before anything is bought or started."""

from __future__ import annotations

import argparse
from typing import Any

from ...arguments import MANY, Parser, number, shared_out, size, whole_chunks
from ...config import SHAPES, STRIDE, VideoSpec, check_grid
from ...estimate.training import Card, Setup, plan_lines, plan_training

USUAL = {"self_forcing": {"frames": 21, "batch": 64}, "rolling_forcing": {"frames": 27, "batch": 8}}
"""Recipe -> what it has, too."""
EXAMPLES = """\
examples:
  grounded train plan                                      1.3 B judged by 1.3 B, on 1, 8 and 64 cards
  grounded train plan --shape 1.3b --teacher 14b --cards 8,32 --memory-gb 141
  grounded train plan --recipe rolling_forcing             half of the films with chunks that are denoised together
  grounded train plan --lora 256 --frames 81               adapters alone learn
"""


def main(argv: list[str]) -> int:
    """Print memory by part, steps a day and the command, for every number of cards."""
    parser = Parser(prog="grounded train plan", description=__doc__, epilog=EXAMPLES)
    add = parser.add_argument
    add("--shape", choices=sorted(SHAPES), default="1.3b", help="student and critic (default: 1.3b)")
    add("--teacher", choices=sorted(SHAPES), help="default: as the student")
    add(
        "--cards",
        type=_cards,
        metavar="N,N,...",
        help="default: 1,8,64, those that share out the films of a step",
    )
    add(
        "--recipe",
        choices=list(USUAL),
        default="self_forcing",
        help="how films are made (default: self_forcing)",
    )
    add("--size", type=size, metavar="WxH", help="film size in pixels (default: 832x480)")
    add("--frames", **number(3, MANY, help="most latent frames of a film (default: the recipe's, 21 or 27)"))
    add("--batch", **number(1, MANY, help="films in a step (default: the recipe's, 64 or 8)"))
    add("--lora", **number(0, MANY, default=0, help="rank of adapters (default: all weights learn)"))
    add("--memory-gb", **number(1, MANY, default=80, help="of a card (default: 80)"))
    add("--tflops", **number(1, MANY, default=989, help="peak of a card in bfloat16 (default: 989, H100)"))
    args = parser.parse_args(argv)
    for name, usual in USUAL[args.recipe].items():
        if getattr(args, name) is None:
            setattr(args, name, usual)
    args.cards = args.cards or [cards for cards in (1, 8, 64) if args.batch % cards == 0]
    shapes = SHAPES[args.shape], SHAPES[args.teacher or args.shape]
    video = VideoSpec(*args.size or ())
    setup = Setup(*shapes, video, frames=args.frames, batch=args.batch, lora=args.lora, **_made(args.recipe))
    whole_chunks(args.frames, setup.memory.chunk)
    for shape in shapes:
        check_grid(video, STRIDE * shape.patch_size[1])
    for cards in args.cards:
        shared_out(args.batch, cards)
    card = Card(args.memory_gb * 1e9, args.tflops * 1e12)
    plans = [plan_training(setup, cards, card) for cards in args.cards]
    print(*plan_lines(setup, plans, card, None if args.lora else _launch(args)), sep="\n")
    if args.lora:
        print(
            "Adapters are learned by grounded train longlive --stage long, of rank 256; other recipes train all."
        )
    return 0


def _launch(args: argparse.Namespace) -> str:
    """The training that was planned, as `grounded train` takes it."""
    words = f"{args.recipe} --data prompts.txt --model MODEL"
    if args.teacher not in (None, args.shape):
        words += " --teacher TEACHER --critic CRITIC"  # else the critic is as large as the teacher
    if args.size:
        words += " --size {}x{}".format(*args.size)
    return words + "".join(
        f" --{name} {given}"
        for name, usual in USUAL[args.recipe].items()
        if (given := getattr(args, name)) != usual
    )


def _made(recipe: str) -> dict[str, Any]:
    """How films are made where that is not Self Forcing's."""
    if recipe == "self_forcing":
        return {}
    from ...train.recipes.matching import stages_of

    film = next(iter(stages_of(recipe).values())).film
    steps = len(film.recipe.sample.steps)
    return {"memory": film.recipe.memory, "window": film.window, "steps": steps, "joint": film.joint}


def _cards(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() and 1 <= int(part) <= MANY for part in parts):
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers such as 1,8,64")
    return [int(part) for part in parts]
