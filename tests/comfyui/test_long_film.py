"""A film nine times as long takes no more memory: the host's largest resident size, film by film."""

from __future__ import annotations

import os
from itertools import islice, product
from typing import Any

import pytest

from gf_core.video import pick_frames, probe

from .listener import Listener
from .server import Result, Server
from .test_nodes import film, runs

ROOM = 50e6
"""Bytes by which the longer film's peak may lie above the shorter one's."""
TIME_OFF = 0.1 if os.environ.get("GROUNDED_IDLE") else 0.3
"""Share by which the time left may be wrong at half-way: on a machine that does nothing else, and on any other."""
PARTS = (
    ("a red fox", "a blue owl", "a yellow robot"),
    ("walks right", "stands still", "sleeps", "jumps"),
    ("in a meadow at noon", "in the forest at night", "on a beach at sunset"),
)


def story(segments: int) -> str:
    """A storyboard of segments of 5 seconds, each with a prompt of its own."""
    prompts = (" ".join(words) for words in islice(product(*PARTS), segments))
    return "@seed 3\n" + "\n".join(f"{'cut: ' if n else ''}{p} | 5s" for n, p in enumerate(prompts))


def rendered(server: Server, take: str, graph: dict[str, Any]) -> tuple[float, Result, float]:
    """Queue it; the peak of the host's memory in MB, the result, and how far off the time left was at half-way."""
    server.forget_peak()
    with server.listen() as heard:
        result = server.make(graph, timeout=3000)
        heard.wait_for("grounded.finished")
    made = runs(server, take)[0] / "film.mp4"
    assert len(pick_frames(made, [0, probe(made).frames - 1])) == 2
    return server.peak() / 1e6, result, half_way(heard)


def half_way(heard: Listener) -> float:
    """Time left as told at half of the film over what it took from there, less one."""
    end = next(at for kind, _, at in heard.messages if kind == "grounded.finished")
    told = [(data, at) for kind, data, at in heard.messages if kind == "grounded.progress"]
    data, at = next((data, at) for data, at in told if data["film_seconds"] >= data["seconds"] / 2)
    return data["seconds_left"] / (end - at) - 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_minutes_take_the_memory_of_twenty_seconds(server: Server) -> None:
    idle = server.rss() / 1e6
    short, first, _ = rendered(server, "short", film("short", story(4)))
    long, second, off = rendered(server, "long", film("long", story(36)))
    print(
        f"idle {idle:.0f} MB, 20 s {short:.0f} MB ({first.seconds:.0f} s), 180 s {long:.0f} MB "
        f"({second.seconds:.0f} s), after {server.rss() / 1e6:.0f} MB; time left at half-way {off:+.0%}"
    )
    assert probe(runs(server, "long")[0] / "film.mp4").frames / 16 == pytest.approx(180, abs=1)
    assert long - short < ROOM / 1e6
    assert abs(off) < TIME_OFF
