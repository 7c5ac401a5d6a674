"""`grounded plan`: a storyboard's lengths, seeds and cost. The table needs no torch, so it comes at once."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..builtin import is_small
from ..config import Recipe
from ..engine.given.cast import find_cast
from ..errors import CheckpointError, GroundedError
from ..timeline import Plan, PlannedSegment, Segment, Storyboard, Timing, make_plan
from ..words import counted
from .files import film_path, folder_of, read_board, read_making, take_folder
from .settings import choose, encoding_for, model_of, wanted

if TYPE_CHECKING:
    import torch

    from ..checkpoints.model_bundle import ModelBundle
    from ..engine.given.start import StartFile
    from ..engine.recorded import Recorded
    from ..estimate.room import ModelCost
    from ..text.tokens import Tokenizer

log = logging.getLogger("grounded")


def plan(args: Namespace) -> int:
    """Print the table of segments, then memory, disk and time; a film that cannot fit is refused like in `render`."""
    text, board = read_board(args)
    recorded = read_making(args)
    args.model = model_of(args, recorded)
    recipe = choose(wanted(args, recorded), args, board.fps)
    planned = make_plan(board, Timing.of(recipe))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    stop = planned.chunks_until(args.until)
    print(*table(board, planned, width, stop), sep="\n", flush=True)
    find_cast(board, folder_of(args))
    _print_cost(args, text, recipe, planned, stop, recorded)
    return 0


def table(board: Storyboard, planned: Plan, width: int, stop: int) -> list[str]:
    """One line per segment that begins before chunk `stop`, cut to `width` characters, under a line on the film."""
    timing, inside = planned.timing, [s for s in planned.segments if s.first_chunk < stop]
    frames, asked = timing.pictures(stop), sum(segment.asked_seconds for segment in inside)
    shown, many = board.segments, counted(len(inside), "segment")
    if stop < planned.chunks:
        shown = board.segments[: inside[-1].index + 1]
        many = f"{len(inside)} of {counted(len(planned.segments), 'segment')}"
    head = (
        f"film    {timing.seconds(frames):.2f} s (asked {asked:g} s), {many}, "
        f"{counted(stop, 'chunk')}, {counted(frames, 'picture')} at {timing.fps:.5g} fps"
    )
    places = {segment.index: segment for segment in inside}
    seeds = max(len(str(segment.seed)) for segment in planned.segments)
    rows = [f"{'#':>3}  {'verb':<5}  {'at':>8}  {'asked':>8}  {'film':>8}  {'seed':<{seeds}}  prompt"]
    muted = f"{'mute':<5}  {'':>8}  {'':>8}  {'':>8}  {'':<{seeds}}"
    for index, segment in enumerate(shown):
        told = (
            _row(segment, places[index], seeds, planned) if index in places else f"{muted}  {segment.prompt}"
        )
        rows.append(f"{index + 1:>3}  {told}")
    return [head, *(row if len(row) <= width else row[: width - 3] + "..." for row in rows)]


def _row(written: Segment, segment: PlannedSegment, seeds: int, planned: Plan) -> str:
    minutes, seconds = divmod(segment.start_seconds, 60)
    notes = [f"blend over {counted(segment.blend_chunks, 'chunk')}"] if segment.blend_chunks else []
    notes += [f"recache {segment.recache:g}"] if segment.recache is not None else []
    if segment.back is not None:
        notes.append(
            f"to {planned.segments[segment.back].index + 1}{', with motion' if segment.motion else ''}"
        )
    notes += [f"picture {file}" for file in segment.pictures]
    return (
        f"{segment.verb:<5}  {int(minutes):>3}:{seconds:04.1f}  "
        f"{segment.asked_seconds:>6.2f} s  {segment.seconds:>6.2f} s  {segment.seed:<{seeds}}  "
        + (f"({', '.join(notes)}) " if notes else "")
        + written.prompt
    )


def _print_cost(
    args: Namespace, text: str, recipe: Recipe, planned: Plan, stop: int, recorded: Recorded | None
) -> None:
    """The estimate, for this machine; what stands in the way of one is said in its place."""
    try:
        from ..devices import free_bytes, pick_device
        from .opening import dtype_for, parts_device

        device = pick_device(args.device)
    except ModuleNotFoundError as error:
        print(f"cost    not known: {error.name} is not installed")
        return
    from ..engine.compiling import settle_pieces
    from ..engine.film import look, settle
    from ..engine.given.start import open_start
    from ..engine.making import preflight
    from ..estimate.budget import check_budget, estimate
    from ..estimate.order import Order

    parts_device(args)  # which refuses what is not here
    out = film_path(args)
    for part in (args.vae, args.text_encoder, *(file for file, _ in args.lora)):
        if part is not None and not os.path.exists(part):  # Path.exists raises for a name that is too long
            raise CheckpointError(f"there is no {part}", "check the name and the folder")
    start, file = open_start(recipe, args.start_image, args.start_video)
    lines = start_lines(args, recorded, planned, file)
    try:
        cost, bundle = _cost(args, recipe, dtype_for(args, recorded, device), device)
    except GroundedError as error:
        print(*lines, f"cost    not known: {error.message}", sep="\n")
        return
    recipe = recipe.fitted(cost.fit)
    encoding = encoding_for(args, recipe.video, recorded)
    if bundle is None:
        if (tokenizer := _tokenizer(args)) is not None:
            lines += long_prompts(planned, tokenizer)
        lead = file.latent_frames(planned.timing.time_stride) if file else 0
        budget = estimate(Order(planned, cost, recipe, encoding, lead, stop), sheet=not args.no_sheet)
    else:
        film = settle(bundle, text, recipe=recipe, encoding=encoding, folder=folder_of(args))
        film = replace(film, start=start, begins_with=file)
        folder = take_folder(args, out)
        found = look(settle_pieces(film, folder), folder, args.until)
        budget = preflight(found, sheet=not args.no_sheet)
    print(*lines, *budget.lines()[1:], sep="\n")
    check_budget(budget, free_memory=free_bytes(device), folder=Path.cwd())


def start_lines(
    args: Namespace, recorded: Recorded | None, planned: Plan, file: StartFile | None
) -> list[str]:
    """What the film begins with, and how much longer that makes it; or what it began with that is not given."""
    from .opening import lacks_start

    if file is not None:
        stride = planned.timing.time_stride
        longer = planned.timing.seconds(file.latent_frames(stride) * stride)
        return [
            f"start   {file}, {counted(file.pictures, 'picture')} of it: {longer:.2f} s more than the table"
        ]
    if recorded is not None and lacks_start(args, recorded):
        began = recorded.start or "a picture or a video"
        return [f"start   not counted: {began}, which is not in the film; give it, as to 'render'"]
    return []


def _cost(
    args: Namespace, recipe: Recipe, dtype: torch.dtype | None, device: torch.device
) -> tuple[ModelCost, ModelBundle | None]:
    """What the model costs, and the model itself where opening it takes a moment only."""
    from ..estimate.room import bundle_cost
    from .opening import fitted_cost, parts_device

    parts: dict[str, Any] = {"text": args.text_encoder, "vae": args.vae, "dtype": dtype, "device": device}
    parts["parts_on"] = parts_device(args)
    if is_small(args.model):
        from ..checkpoints.bundle import load_model

        wishes = {"compiled": args.compile, "attention": args.attention or "", "loras": args.lora}
        bundle = load_model(args.model, fit=args.fit, **wishes, **parts)
        return bundle_cost(bundle), bundle
    return fitted_cost(args, recipe, dtype, device), None


def _tokenizer(args: Namespace) -> Tokenizer | None:
    """The one beside a Wan model, if it is at hand."""
    from ..checkpoints.companions import describe_text, find, open_tokenizer

    try:
        return open_tokenizer(*describe_text(args.text_encoder or find("text", Path(args.model))))
    except CheckpointError as error:
        log.info("prompts not counted: %s", error.message)
        return None


def long_prompts(planned: Plan, tokenizer: Tokenizer) -> list[str]:
    """A line for every prompt of which a Wan model reads the beginning only."""
    from ..text.clean import clean_prompt
    from ..text.umt5 import MAX_ROWS

    counts = [
        (part.index + 1, len(tokenizer.ids(clean_prompt(part.prompt))) + 1) for part in planned.segments
    ]
    said = f"the model reads {MAX_ROWS}: the rest is cut, first the style, which stands last"
    return [
        f"prompt  segment {number} has {count} tokens, {said}" for number, count in counts if count > MAX_ROWS
    ]
