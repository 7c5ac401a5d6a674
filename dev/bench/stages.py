"""Where a film's time goes: processor seconds of every stage of a render from nothing, in a fresh process.

    python dev/bench/stages.py [STORYBOARD]

Seconds are those of the processor in the thread that does the work, so that another program beside it matters little.
What x264's own threads take is what is left of the whole process. `ms` is for one picture of the film.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gf_core.arguments import Parser
from gf_core.checkpoints.bundle import load_model
from gf_core.config import Encoding
from gf_core.engine import finish, render
from gf_core.engine.sheet import Rows
from gf_core.take.folder import RunWriter
from gf_core.take.states import StateStore
from gf_core.video import encoder, writer

DEMO = Path(__file__).resolve().parents[2] / "workflows" / "storyboards" / "first_film.txt"
WATCHED: dict[str, list[tuple[Any, str]]] = {
    "looking, estimating": [(render, "look"), (render, "preflight")],
    "sampling": [(render, "make")],
    "decoding": [(finish.Finisher, "_decode")],
    "enlarging, conversion": [(encoder.ToVideo, "__call__")],
    "encoding (without its threads)": [(writer.FilmWriter, "_encode")],
    "previews": [(finish, "preview")],
    "writing, hashing": [
        *((RunWriter, name) for name in ("save_latents", "commit")),
        (StateStore, "save"),
        (finish, "checksum"),
        (writer.FilmWriter, "_append"),
    ],
    "placing the film": [(render, "place_film")],
    "contact sheet": [(render, "draw_rows"), (Rows, "write")],
}
"""Stage -> functions; what one of them calls that is watched itself counts there alone."""


def watch() -> dict[str, float]:
    """Count every watched call from now on; returns the seconds, which grow."""
    seconds: dict[str, float] = defaultdict(float)
    here = threading.local()

    def counted(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            outer, here.inner, began = getattr(here, "inner", 0.0), 0.0, time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.thread_time() - began
                seconds[stage] += whole - here.inner
                here.inner = outer + whole

        return call

    for stage, places in WATCHED.items():
        for owner, name in places:
            setattr(owner, name, counted(stage, getattr(owner, name)))
    return seconds


def main() -> None:
    """Command line."""
    parser = Parser(description=__doc__)
    parser.add_argument("storyboard", nargs="?", type=Path, default=DEMO, help="default: the demo's")
    text = parser.parse_args().storyboard.read_text(encoding="utf-8")
    began, imported = time.perf_counter(), time.process_time()
    bundle = load_model("builtin")
    loaded, seconds = time.process_time(), watch()
    encoding = Encoding.usual(bundle.recipe.video)
    with tempfile.TemporaryDirectory() as folder:
        result = render.render_film(bundle, text, Path(folder) / "film.mp4", encoding=encoding)
    wall, whole, film = time.perf_counter() - began, time.process_time(), result.report["film"]
    rows = {"starting, importing": imported, "loading the model": loaded - imported, **seconds}
    rows["x264's threads, the rest"] = whole - sum(rows.values())
    for stage, spent in rows.items():
        print(f"{stage:<32} {spent:7.2f} s  {spent / whole:6.1%}  {spent / film['frames'] * 1000:6.2f} ms")
    print(
        f"{'in all':<32} {whole:7.2f} s of processor for {film['seconds']:.1f} s of film; {wall:.1f} s passed"
    )


if __name__ == "__main__":
    main()
