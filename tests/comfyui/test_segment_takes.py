"""Segment Takes on a real host: the sampler behind it waits for a pick, and then samples nothing that is there."""

from __future__ import annotations

import time
from typing import Any

from .server import Server
from .test_nodes import film, node

FILM = """@seed 7
a red fox walks right in a meadow at noon | 1.5s
cut: a blue owl stands still in the forest at night | 1.5s
then: it sleeps | 1.5s
"""


def graph(take: str, pick: str, count: int = 2) -> dict[str, Any]:
    """Segment 2 of a film of three, between its timeline (2) and its sampler (3); 6 takes, 7 their sheet."""
    whole = film(take, FILM)
    settings = {"width": 0, "height": 0, "seed": 0, "take": take, "timeline": ["2", 0]}
    choice = {"segment": 2, "count": count, "pick": pick}
    whole["6"] = node("GF_SegmentTakes", model=["1", 0], clip=["1", 1], vae=["1", 2], **settings, **choice)
    whole["7"] = node("PreviewImage", images=["6", 0])
    whole["3"]["inputs"]["timeline"] = ["6", 1]
    return whole


def test_a_film_waits_for_the_pick_and_goes_on_from_it(server: Server) -> None:
    take = "takes_of_two"
    first = server.make(graph(take, ""))
    assert "4" not in first.outputs and first.outputs["7"]["images"]
    folder = server.base / "output" / "grounded" / "takes" / take
    assert sorted(path.name for path in (folder / "segment-002").iterdir()) == [
        "a.mp4",
        "b.mp4",
        "sheet.png",
        "takes.json",
    ]
    runs = sorted(folder.glob("run-*"))
    assert len(runs) == 2

    second = server.make(graph(take, "B"))
    assert sorted(folder.glob("run-*")) == runs
    assert "2 whole segments" in second.outputs["5"]["text"][0]
    timeline = (runs[1] / "timeline.txt").read_text(encoding="utf-8")
    assert "| seed " in timeline.splitlines()[2]

    wrong = server.queue(graph(take, "z"))
    assert wrong.status == "error" and "Pick one of: a, b" in wrong.error


def test_stop_keeps_the_takes_that_are_whole_and_queue_goes_on(server: Server) -> None:
    graph_of_three = graph("stopped_takes", "", count=3)
    graph_of_three["2"]["inputs"]["timeline"] = FILM.replace("1.5s", "6s")
    with server.listen() as heard:
        asked = server.submit(graph_of_three)
        while not heard.of("grounded.finished"):  # the first take is whole
            time.sleep(0.02)
        told = len(heard.of("grounded.progress"))
        while len(heard.of("grounded.progress")) == told:
            time.sleep(0.02)
        assert server.post("/grounded/stop", {"node": "6"}) == {"stopped": True}
        result = server.wait(asked)
    assert result.status == "success", result.error
    sheet = server.base / "output" / "grounded" / "takes" / "stopped_takes" / "segment-002"
    assert [path.stem for path in sorted(sheet.glob("*.mp4"))] == ["a"]

    server.make(graph_of_three)
    assert [path.stem for path in sorted(sheet.glob("*.mp4"))] == ["a", "b", "c"]
