"""`grounded render`: a storyboard becomes a film, with one line of progress."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from pathlib import Path

from ..checkpoints.bundle import ModelBundle, load_bundle
from ..engine.budget import Budget
from ..engine.events import ChunkDone, Event, Reused, Started
from ..engine.recorded import Recorded
from ..engine.render import FilmResult, render_film
from ..engine.report import report_lines
from ..timeline import Storyboard
from .again import check_inputs, compare, dtype_of, film_spec
from .device import pick_device, pick_dtype
from .files import read_board, read_making
from .progress import ProgressLine, clock, progress_line, reuse_line
from .settings import INTERRUPTED, Settings, choose, made_with, model_of, upscale_for


def render(args: Namespace) -> int:
    """Render, print where everything is; 130 after Ctrl-C, with the film so far left playable."""
    text, board = read_board(args)
    recorded = read_making(args)
    if recorded is not None:
        check_inputs(recorded, args)
    device = pick_device(args.device)
    bundle = load_bundle(
        model_of(args, recorded),
        text=args.text_encoder,
        vae=args.vae,
        dtype=pick_dtype(args.dtype or dtype_of(recorded, device)),
        device=device,
        assume=args.assume,
        loras=args.lora,
    )
    if recorded is not None:
        compare(recorded, bundle)
    screen = _Screen()
    log = logging.getLogger("grounded")
    log.addFilter(screen.make_room)
    try:
        result = _make(args, text, board, bundle, screen, recorded)
    except KeyboardInterrupt:
        screen.line.end()
        print(screen.what_is_kept(), file=sys.stderr)
        return INTERRUPTED
    finally:
        log.removeFilter(screen.make_room)
        screen.line.end()
    print(*_summary(result), sep="\n")
    return 0


def _make(
    args: Namespace,
    text: str,
    board: Storyboard,
    bundle: ModelBundle,
    screen: _Screen,
    recorded: Recorded | None,
) -> FilmResult:
    own = Settings(bundle.memory, bundle.sample, bundle.video)
    settings = choose(own if recorded is None else made_with(recorded), args, board.fps)
    film = film_spec(recorded, upscale_for(args, settings.video, recorded))
    name = "film" if args.storyboard == "-" else Path(args.storyboard).stem
    out = args.out or Path("films") / f"{name}.mp4"
    return render_film(
        bundle,
        text,
        out,
        take_folder=args.take or Path("takes") / out.stem,
        memory=settings.memory,
        sample=settings.sample,
        video=settings.video,
        film=film,
        start_image=args.start_image,
        until=args.until,
        sheet=not args.no_sheet,
        listener=screen.tell,
        on_budget=screen.show_budget,
    )


def _summary(result: FilmResult) -> list[str]:
    places = [("film", result.path), ("sheet", result.sheet), ("report", result.report_path)]
    return report_lines(result.report) + [f"{label:<9}{path}" for label, path in places if path]


class _Screen:
    """Turns events into what is seen."""

    def __init__(self) -> None:
        self.line = ProgressLine(sys.stderr)
        self._started: Started | None = None
        self._last: ChunkDone | None = None

    def show_budget(self, budget: Budget) -> None:
        print(*budget.lines(), sep="\n", flush=True)

    def tell(self, event: Event) -> None:
        if isinstance(event, Started):
            self._started = event
        elif isinstance(event, Reused) and self._started is not None:
            print(reuse_line(event, self._started.segments), file=sys.stderr)
        elif isinstance(event, ChunkDone) and self._started is not None:
            self._last = event
            shot, shots, total = event.segment + 1, self._started.segments, self._started.seconds
            left = event.seconds_left
            self.line.show(progress_line(shot, shots, event.film_seconds, total, event.fps, left))

    def make_room(self, record: logging.LogRecord) -> bool:
        """A log filter that lets everything pass, on a line of its own."""
        self.line.end()
        return True

    def what_is_kept(self) -> str:
        """Where the film so far is."""
        if self._started is None or self._last is None:
            return "stopped before the first chunk was done"
        return f"stopped: {clock(self._last.film_seconds)} of film are kept in {self._started.path}"
