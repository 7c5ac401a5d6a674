"""A long film of the built-in model: does memory grow, does it slow down, does the end look like the beginning?

    python dev/bench/long_film.py --minutes 10 --out films/long.mp4

Prints the memory held per minute (and its slope from minute 1 on), pictures per second per minute, and what
the reader says of the first and the last minute. Writes the same as JSON beside the film.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from gf_core.arguments import Parser
from gf_core.checkpoints.bundle import load_model
from gf_core.config import Encoding
from gf_core.devices import held_bytes
from gf_core.engine.events import ChunkDone, Event
from gf_core.engine.render import render_film
from gf_core.evaluation.film import judge, shrink, spans_of
from gf_core.evaluation.suite import SEED
from gf_core.video.reader import read_frames
from gf_core.world import sample_script, storyboard
from gf_core.world.reader import load_reader

SEGMENT_CHUNKS = 8


def long_storyboard(minutes: float) -> str:
    """Segments of 6 s, drawn from unseen scripts of all kinds until the film is long enough."""
    lines: list[str] = ["@seed 1"]
    segments = 0
    while segments * SEGMENT_CHUNKS * 0.75 < minutes * 60:
        script = sample_script(random.Random(SEED + 900_000 + segments), 5 * SEGMENT_CHUNKS, "mixed")
        parts = [
            replace(s, start_chunk=i * SEGMENT_CHUNKS, chunks=SEGMENT_CHUNKS)
            for i, s in enumerate(script.segments)
        ]
        if segments:
            parts[0] = replace(parts[0], verb="scene")
        lines += storyboard(replace(script, segments=tuple(parts))).splitlines()
        segments += len(parts)
    return "\n".join(lines) + "\n"


class Gauge:
    """Bytes held and wall time at every finished chunk."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, int]] = []
        """(seconds of film, wall seconds, bytes held)."""
        self._began = time.perf_counter()

    def __call__(self, event: Event) -> None:
        if isinstance(event, ChunkDone):
            wall = time.perf_counter() - self._began
            self.rows.append((event.film_seconds, wall, held_bytes()))

    def minutes(self) -> list[dict[str, float]]:
        """Per minute of film: most MB held and pictures per second."""
        film, wall, held = (np.array(column) for column in zip(*self.rows))
        out = []
        for minute in range(int(film[-1] // 60) or 1):
            inside = (film >= 60 * minute) & (film < 60 * (minute + 1))
            seconds = wall[inside][-1] - wall[inside][0]
            pictures = 16 * (film[inside][-1] - film[inside][0])
            out.append({"held_mb": float(held[inside].max() / 1e6), "fps": float(pictures / seconds)})
        return out


def judge_minute(path: Path, text: str, start: int, stop: int) -> dict[str, float]:
    """Shares of segments that follow the prompt among those wholly inside frames [start, stop)."""
    frames = np.concatenate([shrink(frame[None]) for frame in read_frames(path, start, stop)])
    spans, fps = spans_of(text)
    inside = [
        replace(s, start=s.start - start, stop=s.stop - start)
        for s in spans
        if s.start >= start and s.stop <= stop
    ]
    result, _ = judge(frames, inside, fps, load_reader())
    return result["adherence"] | {"flicker": result["picture"]["flicker"]}


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("films/long.mp4"))
    args = parser.parse_args()
    text, gauge = long_storyboard(args.minutes), Gauge()
    result = render_film(
        load_model("builtin"), text, args.out, encoding=Encoding(upscale=8), sheet=False, listener=gauge
    )
    minutes = gauge.minutes()
    later = np.array([row["held_mb"] for row in minutes[1:] or minutes])
    frames = int(args.minutes * 60 * 16)
    report = {
        "film_seconds": gauge.rows[-1][0],
        "wall_seconds": gauge.rows[-1][1],
        "minutes": minutes,
        "held_growth_mb_minute_1_to_end": float(later[-1] - later[0]),
        "held_slope_mb_per_minute": float(np.polyfit(range(len(later)), later, 1)[0])
        if len(later) > 1
        else 0.0,
        "last_over_first_fps": minutes[-1]["fps"] / minutes[0]["fps"],
        "first_minute": judge_minute(result.path, text, 0, 960),
        "last_minute": judge_minute(result.path, text, max(0, frames - 960), frames),
    }
    result.path.with_suffix(".bench.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
