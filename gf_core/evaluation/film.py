"""Judge one film against its storyboard: `evaluate_film`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from ..errors import GroundedError
from ..timeline import Timing
from ..video import probe, read_frames
from ..world.reader import HEIGHT, WIDTH, Reader, Reading, load_reader, read
from ..world.vocabulary import Labels, describe
from .charts.chart import draw_chart
from .measures import drift, metrics
from .measures.metrics import Span
from .measures.recurrence import kept_by_distance
from .over_time import measure_over_time
from .parts import Part, in_seconds, planned_parts, recorded, start_pictures, told_parts
from .report import write_json

BATCH = 16
"""Full-size frames that are in memory at a time."""


def judged_spans(parts: Sequence[Part]) -> list[Span]:
    """The segments with what their prompts ask for.

    A `scene` forgets all, so "it" after it means nobody; what goes back means the one of that segment.
    """
    spans: list[Span] = []
    asked: Labels | None = None
    ends: dict[int | None, Labels] = {}
    for part in parts:
        before = asked if part.back is None else ends.get(part.back)
        asked = ends[part.number] = describe(part.prompt, None if part.verb == "scene" else before)
        spans.append(Span(part.start, part.stop, part.verb, part.prompt, asked))
    return spans


def spans_of(storyboard_text: str, frames: int | None = None) -> tuple[list[Span], float]:
    """The segments of a storyboard as frame spans, and the film's fps, as `planned_parts`."""
    parts, fps = planned_parts(storyboard_text, frames)
    return judged_spans(parts), fps


def shrink(frames: np.ndarray) -> np.ndarray:
    """uint8 [t H W 3] -> [t 64 96 3] by area, for films written at an integer upscale.

    Raises GroundedError when the size is no multiple of 96x64.
    """
    height, width = frames.shape[1:3]
    if height % HEIGHT or width % WIDTH or height // HEIGHT != width // WIDTH:
        raise GroundedError(
            f"the film is {width}x{height}; the reader knows the built-in model's films only, "
            f"{WIDTH}x{HEIGHT} or a multiple of it",
            "evaluate a film that was made with the built-in model",
        )
    k = height // HEIGHT
    tiles = frames.reshape(len(frames), HEIGHT, k, WIDTH, k, 3)
    return (tiles.mean((2, 4), dtype=np.float32) + 0.5).astype(np.uint8)


def small_frames(path: Path, tick: Callable[[], None] = lambda: None) -> np.ndarray:
    """All frames of a film at 96x64; only `BATCH` full-size frames are in memory at a time.

    tick: called for every frame; may raise to stop.
    """
    small, frames = [], read_frames(path, tick=tick)
    while waiting := list(islice(frames, BATCH)):
        small.append(shrink(np.stack(waiting)))
    if not small:
        raise GroundedError(f"{path} holds no pictures", "render the film again")
    return np.concatenate(small)


def judge(frames: np.ndarray, spans: Sequence[Span], fps: float, reader: Reader) -> tuple[dict, Reading]:
    """All metrics of uint8 frames [t 64 96 3]; the dict that `evaluate_film` returns, without the film's
    name."""
    reading = read(reader, frames)
    rows = metrics.adherence(reading, spans, fps)
    seconds = metrics.identity(reading, spans, fps)
    changes = drift.frame_differences(frames, reading.boxes)
    whole = drift.frame_differences(frames)
    shots = drift.shots([s.verb for s in spans], [s.start for s in spans], spans[-1].stop)
    drifts = [drift.colour_drift(frames, a, b, fps) for a, b in shots]
    # The first second of each character is the reference itself, so it is left out of the means.
    later = [row for row in seconds if row["age"] > 0]
    result = {
        "frames": len(frames),
        "fps": fps,
        "seconds": len(frames) / fps,
        "segments": [in_seconds(span, fps) | {"read": row} for span, row in zip(spans, rows)],
        "adherence": metrics.share_right(rows),
        "identity": metrics.means(later) | metrics.after_cut(seconds, spans),
        "identity_by_second": seconds,
        "identity_by_distance": kept_by_distance(seconds, spans),
        "place_left": metrics.place_left(reading, spans, fps),
        "picture": {
            "flicker": float(np.mean([drift.flicker(changes, a, b) for a, b in shots])),
            "colour_drift": float(np.mean([values[-1] for values in drifts if values])),
            "colour_drift_by_second": drifts,
            "loudness": drift.loudness(frames, [s.start for s in spans[1:]], whole),
        },
        "unreadable": metrics.unreadable(reading, spans[0].start),
    }
    return result, reading


def evaluate_film(
    film_path: str | Path,
    storyboard_text: str | None = None,
    out_json: str | Path | None = None,
    out_png: str | Path | None = None,
) -> dict:
    """Measure a film, and say how far one of the built-in model is what the storyboard asks for.

    Of any film: what `measure_over_time` finds. Of one of the built-in model also per segment subject, colour, place,
    time and action (what the prompt says, what is seen), identity per second against each character's first second,
    and by the shots since it was last seen, flicker, colour drift, loudness of switches, unreadable rates. The
    pictures of a start are no segment's. Optionally written as JSON and, of the built-in model, drawn as a chart.

    storyboard_text: None takes what the film says; one that says nothing is a single shot, and the result says so. A
    film that does not say who made it is read as one of the built-in model where its storyboard is given.
    Raises GroundedError for what is no film, and for one that is given a storyboard and has a size that the reader does
    not know.
    """
    path = Path(film_path)
    made = recorded(path)
    info = probe(path)
    fps = float(info.fps)
    timing = None if made is None else replace(Timing.of(made.recipe), fps=fps)
    start = 0 if made is None or timing is None else start_pictures(path, made, timing)
    parts, unknown = _parts_behind(start, path, storyboard_text, info.frames, timing)
    if not parts:
        raise GroundedError(
            "the storyboard has no segments that fall into the film", "give the storyboard of this film"
        )
    result: dict = {"film": path.name, "frames": info.frames, "fps": fps, "seconds": info.frames / fps}
    if start:
        result["start_frames"] = start
    result["over_time"] = measure_over_time(path, parts, timing)
    if unknown:
        result["over_time"]["left_out"]["segments"] = f"{unknown}: --storyboard FILE gives them"
    given, frames = storyboard_text is not None, None
    try:
        if not (given if made is None else made.builtin):
            raise GroundedError("only films of the built-in model can be read", "see what else is measured")
        frames = small_frames(path)
        result |= judge(frames, judged_spans(parts), fps, load_reader())[0]
    except GroundedError as error:
        if given and (made is None or made.builtin):
            raise
        result["over_time"]["left_out"]["identity"] = error.message
    if out_json is not None:
        write_json(result, Path(out_json))
    if out_png is not None:
        if frames is None:
            raise GroundedError(
                f"the chart shows what is read in films of the built-in model, and {path.name} is not read",
                "leave --chart away; grounded drift draws a chart of any film",
            )
        draw_chart(result, Path(out_png), frames)
    return result


def _parts_behind(
    start: int, path: Path, storyboard_text: str | None, frames: int, timing: Timing | None
) -> tuple[list[Part], str]:
    """The segments of a film of so many frames, without the first `start` frames, which its first segment carries; and
    why it is one where nobody says."""
    if storyboard_text is None:
        (first, *others), unknown = told_parts(path)
        return [replace(first, start=first.start + start), *others], unknown
    parts, _ = planned_parts(storyboard_text, frames - start, timing)
    return [replace(part, start=part.start + start, stop=part.stop + start) for part in parts], ""
