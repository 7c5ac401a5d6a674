"""Cancel and kill -9 at moments nobody chose: the film so far plays; Queue ends in the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gf_core.video import probe, read_frames

from .server import Server
from .test_nodes import film, runs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

FILM = """@seed 5
a red fox walks right in a meadow at noon | 6s
then: it jumps | 6s
cut: a blue owl stands still in the forest at night | 6s
scene: a yellow robot walks left on a city street at noon | 6s
"""
TIMES = 3
PATIENCE = 0.5
"""Seconds from pressing Cancel until the render has stopped, on a machine that does nothing else.

ComfyUI then collects its garbage before its server answers again; that is no part of it."""
IDLE = bool(os.environ.get("GROUNDED_IDLE"))
"""Set it where that is so. Elsewhere the time of a chunk, which other work has made longer, is allowed besides."""


def made(folder: Path) -> tuple[bytes, dict[str, bytes]]:
    """A run's film and its latents by file name."""
    latents = {path.name: path.read_bytes() for path in sorted((folder / "latents").iterdir())}
    return (folder / "film.mp4").read_bytes(), latents


def chunk_seconds(run: Path) -> float:
    """What one chunk of an undisturbed run took on this machine now."""
    report = json.loads((run / "report.json").read_text())
    return report["seconds"]["total"] / len(list((run / "latents").iterdir()))


@pytest.fixture(scope="module")
def moment() -> random.Random:
    """GROUNDED_KILLS_SEED chooses other moments."""
    return random.Random(int(os.environ.get("GROUNDED_KILLS_SEED", "0")))


@pytest.fixture(scope="module")
def whole(server: Server) -> tuple[bytes, dict[str, bytes]]:
    """What is made when nobody interferes."""
    server.make(film("whole", FILM))
    return made(runs(server, "whole")[0])


def disturb(server: Server, graph: dict[str, Any], chunks: int, stop: Callable[[str], None]) -> None:
    """Queue; once `chunks` more chunks are on disk and a little later, `stop(prompt id)`."""
    with server.listen() as heard:
        asked = server.submit(graph)
        until = time.monotonic() + 280
        while len(heard.of("grounded.progress")) < chunks and time.monotonic() < until:
            time.sleep(0.02)
        stop(asked)


def check_playable(run: Path, at_least: int) -> int:
    """Frames of the partial film, all of which can be decoded."""
    frames = sum(1 for _ in read_frames(run / "film.mp4"))
    assert frames == probe(run / "film.mp4").frames >= at_least
    return frames


def test_cancel_at_any_moment(server: Server, whole: Any, moment: random.Random) -> None:
    graph, took = film("cancelled", FILM), []

    def cancel(asked: str) -> None:
        time.sleep(moment.uniform(0, 2))
        pressed = time.time()
        server.interrupt()
        result = server.wait(asked)
        assert result.status == "interrupted"
        [stopped] = [said["timestamp"] for name, said in result.messages if name == "execution_interrupted"]
        took.append(stopped / 1000 - pressed)

    frames = 0
    for _ in range(TIMES):
        disturb(server, graph, moment.randint(1, 3), cancel)
        now = check_playable(runs(server, "cancelled")[0], frames)
        assert now > frames, "it went on from where it was"
        frames = now
    server.make(graph)
    print(f"cancelled after {[f'{seconds:.2f} s' for seconds in took]}")
    assert made(runs(server, "cancelled")[0]) == whole and len(runs(server, "cancelled")) == 1
    assert max(took) < PATIENCE + (0 if IDLE else chunk_seconds(runs(server, "whole")[0]))


def test_kill_the_host_at_any_moment(server: Server, whole: Any, moment: random.Random) -> None:
    graph, frames = film("killed", FILM), 0

    def kill(_: str) -> None:
        time.sleep(moment.uniform(0, 2))
        server.kill()

    for _ in range(TIMES):
        disturb(server, graph, moment.randint(1, 3), kill)
        now = check_playable(runs(server, "killed")[0], frames)
        assert now > frames, "it went on from where it was"
        frames = now
        server.start()
    result = server.make(graph)
    print(f"{frames} frames survived {TIMES} kills; {result.seconds:.0f} s for the rest")
    assert made(runs(server, "killed")[0]) == whole and len(runs(server, "killed")) == 1
    assert "segments" in result.outputs["5"]["text"][0]
