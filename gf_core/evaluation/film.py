"""Judge one film against its storyboard: `evaluate_film`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import GroundedError
from ..timeline import Timing, make_plan, parse
from ..world.reader import HEIGHT, WIDTH, Reader, Reading, load_reader, read
from ..world.vocabulary import HIDDEN, IDENTITY, Labels, describe
from . import drift, metrics
from .metrics import Span
from .report import write_json


def spans_of(
    storyboard_text: str, frames: int | None = None, timing: Timing | None = None
) -> tuple[list[Span], float]:
    """The segments of a storyboard as frame spans, and the film's fps.

    `frames` is the length of the film at hand: a film that was stopped early is judged as far as it goes.
    """
    board = parse(storyboard_text)
    plan = make_plan(board, timing or Timing(fps=board.fps))
    spans: list[Span] = []
    asked: Labels | None = None
    ends: list[Labels] = []
    for segment in plan.segments:
        # A `scene` forgets all, so "it" after it means nobody; what goes back means the one of that segment.
        before = asked if segment.back is None else ends[segment.back]
        asked = describe(segment.prompt, None if segment.verb == "scene" else before)
        ends.append(asked)
        stop = segment.start_frame + segment.frames
        if frames is not None:
            stop = min(stop, frames)
        if stop > segment.start_frame:
            spans.append(Span(segment.start_frame, stop, segment.verb, segment.prompt, asked))
    return spans, float(board.fps)


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


def small_frames(path: Path, batch: int = 16, tick: Callable[[], None] = lambda: None) -> np.ndarray:
    """All frames of a film at 96x64; only `batch` full-size frames are in memory at a time.

    tick: called for every frame; may raise to stop.
    """
    from ..video.reader import read_frames

    small, waiting = [], []
    for frame in read_frames(path):
        tick()
        waiting.append(frame)
        if len(waiting) == batch:
            small.append(shrink(np.stack(waiting)))
            waiting = []
    if waiting:
        small.append(shrink(np.stack(waiting)))
    if not small:
        raise GroundedError(f"{path} holds no frames", "render the film again")
    return np.concatenate(small)


def _mean(rows: Iterable[dict], name: str) -> float:
    values = [row[name] for row in rows]
    return float(np.mean(values)) if values else float("nan")


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
    identity = {name: _mean(later, name) for name in ("hidden", *IDENTITY)} if later else {}
    result = {
        "frames": len(frames),
        "fps": fps,
        "seconds": len(frames) / fps,
        "segments": [
            {
                "verb": span.verb,
                "prompt": span.prompt,
                "start_seconds": span.start / fps,
                "seconds": (span.stop - span.start) / fps,
                "read": row,
            }
            for span, row in zip(spans, rows)
        ],
        "adherence": metrics.share_right(rows),
        "identity": identity | metrics.after_cut(seconds, spans),
        "identity_by_second": seconds,
        "place_left": metrics.place_left(reading, spans, fps),
        "picture": {
            "flicker": float(np.mean([drift.flicker(changes, a, b) for a, b in shots])),
            "colour_drift": float(np.mean([values[-1] for values in drifts if values])),
            "colour_drift_by_second": drifts,
            "loudness": drift.loudness(frames, [s.start for s in spans[1:]], whole),
        },
        "unreadable": metrics.unreadable(reading),
    }
    return result, reading


def evaluate_film(
    film_path: str | Path,
    storyboard_text: str,
    out_json: str | Path | None = None,
    out_png: str | Path | None = None,
    reader: Reader | None = None,
) -> dict:
    """Read a film of the built-in model and say how far it is what the storyboard asks for.

    Per segment: subject, colour, place, time and action (what the prompt says, what is seen). Over the film:
    identity per second against each character's first second, flicker, colour drift, loudness of switches,
    unreadable rates. Optionally written as JSON and drawn as a chart. Raises GroundedError for films of other
    sizes.
    """
    path = Path(film_path)
    frames = small_frames(path)
    spans, fps = spans_of(storyboard_text, len(frames))
    if not spans:
        raise GroundedError(
            "the storyboard has no segments that fall into the film", "give the storyboard of this film"
        )
    result, _ = judge(frames, spans, fps, reader or load_reader())
    result = {"film": path.name, **result}
    if out_json is not None:
        write_json(result, Path(out_json))
    if out_png is not None:
        from .chart import draw_chart

        draw_chart(result, Path(out_png), frames)
    return result


__all__ = ["HIDDEN", "evaluate_film", "judge", "shrink", "spans_of"]
