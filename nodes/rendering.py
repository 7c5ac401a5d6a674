"""One render for Stream Sampler: what was asked, what it will cost, the session, and what is known afterwards."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.utils
import torch

from ..gf_core.config import Encoding, MemorySpec, Recipe, VideoSpec
from ..gf_core.engine.film import Film, Found, look
from ..gf_core.engine.given.cast import open_cast
from ..gf_core.engine.given.video import pictures_to_start
from ..gf_core.engine.making import make, preflight
from ..gf_core.engine.report import report_lines
from ..gf_core.engine.session import Session
from ..gf_core.errors import GroundedError
from ..gf_core.estimate.budget import Budget, check_budget
from ..gf_core.take.folder import Run, Take
from ..gf_core.vae.tiles import Tiled
from . import host
from .live import open_channel
from .shown import busy, end_text, take_name
from .telling import Teller

if TYPE_CHECKING:
    from ..gf_core.checkpoints.model_bundle import ModelBundle
    from .types import TimelineText

log = logging.getLogger("grounded")

GRID = 16
"""Film sides are multiples of this many pixels."""


@dataclass(frozen=True)
class Wishes:
    """The node's widgets; 0, None and "" mean: as the model wants."""

    width: int
    height: int
    seed: int
    memory: MemorySpec | None = None
    start_image: torch.Tensor | None = None
    """[n H W 3] in 0..1: a picture, or a video of the film's speed whose last pictures count."""
    steps: str = ""
    shift: float = 0.0
    until: int = 0
    tiles: int = 0
    """Side of the tiles that pictures are decoded in, in latent cells."""


@dataclass(frozen=True)
class Rendered:
    """How a render ended."""

    run: str
    """Name of the run's folder in the Take."""
    whole: bool
    """The film came to its end."""
    frames: int
    """Pictures in the film; where it was stopped before there was any, there is no run either."""
    text: str
    """What there is to say about it: a line that says it all, then the report."""


def render(node: str, bundle: ModelBundle, timeline: TimelineText, wishes: Wishes, take: str) -> Rendered:
    """Render into the Take of that name. Raises GroundedError children: it cannot be rendered, in words."""
    folder = host.take_folder(take)
    film = settle(bundle, timeline.with_seed(wishes.seed), wishes)
    try:
        with Take.open(folder) as held:
            busy.add(folder)
            found = look(film, folder, wishes.until)
            budget = _check(found, folder)
            licence = [f"{bundle.name} is given under: {bundle.licence}"] if bundle.licence else []
            notes = [*licence, *bundle.notes, *_unused_seed(timeline, wishes)]
            said = "\n".join([*budget.lines(), *(f"note    {note}" for note in notes)])
            log.info("rendering into %s\n%s", folder, said)
            host.send("noted", {"node": node, "take": take_name(folder), "text": said})
            done = _play(node, take_name(folder), Session(held, found), budget)
    finally:
        busy.discard(folder)
        host.release_memory()
    _runs.setdefault(take, {})[folder / done.run] = done.whole
    return done


def _unused_seed(timeline: TimelineText, wishes: Wishes) -> list[str]:
    """The one rule of seeds, where it matters: the text's goes first."""
    written = timeline.board.seed
    if written in (None, wishes.seed):
        return []
    return [f"seed {wishes.seed} of the node is not used: the text says @seed {written}"]


def settle(bundle: ModelBundle, timeline: TimelineText, wishes: Wishes) -> Film:
    """The model's wishes with the artist's in their place."""
    own = bundle.recipe
    if wishes.tiles:
        codec, fit = Tiled(bundle.codec, wishes.tiles), replace(bundle.fit, tile=wishes.tiles)
        bundle = replace(bundle, codec=codec, fit=fit)
    memory = replace(wishes.memory or own.memory, chunk=own.memory.chunk)
    sample = own.sample
    if wishes.steps.strip():
        sample = replace(sample, steps=read_steps(wishes.steps))
    if wishes.shift:
        sample = replace(sample, shift=wishes.shift)
    video = picture_size(replace(own.video, fps=timeline.board.fps), wishes.width, wishes.height)
    start = None if wishes.start_image is None else _fit(wishes.start_image, video, memory)
    pictures = open_cast(timeline.board, host.input_folder(), video)
    return Film(bundle, timeline.text, Recipe(memory, sample, video), Encoding.usual(video), start, pictures)


def read_steps(text: str) -> tuple[float, ...]:
    """`1000, 750, 500, 250` as numbers. Raises GroundedError: not a falling list of numbers above 0 and up to 1000."""
    fix = "write for example 1000, 750, 500, 250"
    try:
        steps = tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise GroundedError(f"the steps '{text.strip()}' are not a list of numbers", fix) from error
    falling = all(high > low for high, low in itertools.pairwise(steps))
    if not steps or not falling or not 0 < steps[-1] <= steps[0] <= 1000:
        raise GroundedError(f"the steps '{text.strip()}' do not fall from at most 1000 to above 0", fix)
    return steps


def picture_size(own: VideoSpec, width: int, height: int) -> VideoSpec:
    """`own` with the size asked for; 0 keeps the model's, or its shape where the other side is given."""
    if width and not height:
        height = max(GRID, round(width * own.height / own.width / GRID) * GRID)
    elif height and not width:
        width = max(GRID, round(height * own.width / own.height / GRID) * GRID)
    return replace(own, width=width or own.width, height=height or own.height)


def _fit(images: torch.Tensor, video: VideoSpec, memory: MemorySpec) -> torch.Tensor:
    """The last pictures of [n H W c], as many as the film goes on from, of its size; what overhangs is cut evenly."""
    last = images[-pictures_to_start(len(images), memory) :, :, :, :3].movedim(-1, 1).float()
    fitted = comfy.utils.common_upscale(last, video.width, video.height, "lanczos", "center")
    return fitted.movedim(1, -1).clamp(0, 1).cpu()


def _check(found: Found, folder: Path) -> Budget:
    """The estimate, once it is known to fit.

    On a card the host moves weights out of the way by itself, its other models' and this one's, so only what it
    cannot move has to fit: memory, work and decoding.
    """
    bundle = found.film.bundle
    free, device = bundle.free_memory(), bundle.computes_on
    needed = budget = preflight(found)
    if device.type == "cuda":
        needed = replace(budget, cost=replace(budget.cost, weights=0, loaded=False))
        free += host.evictable_bytes(device)
    check_budget(needed, free_memory=free, folder=folder)
    return budget


def _play(node: str, name: str, session: Session, budget: Budget) -> Rendered:
    """Run the session in this thread."""
    film = session.film
    channel = open_channel(node, film.timing.fps, session.cancel)
    video, scale = film.recipe.video, film.encoding.upscale
    teller = Teller(
        node, name, film.plan, (video.width * scale, video.height * scale), channel, host.stop_if_interrupted
    )
    try:
        end = make(session, budget, teller)
        log.info("%s\n%s", end.path.parent, "\n".join(report_lines(end.report)))
        return Rendered(end.path.parent.name, not end.cancelled, end.frames, end_text(end.report))
    finally:
        teller.ended()
        channel.close()


_runs: dict[str, dict[Path, bool]] = {}
"""Name of a Take -> its runs that the host may have in its cache, and whether each is a whole film."""
_again: Counter[str] = Counter()


def forget(run: Path) -> None:
    """Note that a run is not what it was, so that its Take is rendered again."""
    for known in _runs.values():
        if run in known:
            known[run] = False


def state_of(take: str) -> str:
    """Changes once whenever a film of this Take was stopped early or has gone from the disk."""
    known = _runs.get(take, {})
    stale = [run for run, whole in known.items() if not (whole and Run(run).film.is_file())]
    for run in stale:
        del known[run]
    _again[take] += bool(stale)
    return str(_again[take])
