"""Names that some system refuses are refused in words before anything is sampled; dates in names are today's."""

from __future__ import annotations

import time
from typing import Any

import pytest

from .server import PromptRefused, Server
from .test_nodes import film

REFUSED = [
    "",
    " ",
    "nul",
    "COM1.txt",
    "a:b",
    "fox.",
    "x" * 300,
    "fo\ud83dx",
    "a\x00b",
    "monday/con/fox",
    "a/" * 600,
]
OUTSIDE = ["../x", "a/../../x", "/x", "..\\x"]


def words(server: Server, graph: dict[str, Any], node: str) -> str:
    with pytest.raises(PromptRefused) as refused:
        server.submit(graph)
    return str(refused.value.answer["node_errors"][node]["errors"])


@pytest.mark.parametrize(
    "name", [*REFUSED, "run-0001", "Run-0001", "../x"], ids=lambda name: ascii(name)[:12]
)
def test_a_take_cannot_be_called(server: Server, name: str) -> None:
    said = words(server, film(name), "3")
    assert "Take" in said and "Traceback" not in said


@pytest.mark.parametrize("name", [*REFUSED, *OUTSIDE], ids=lambda name: ascii(name)[:12])
def test_a_film_cannot_be_saved_as(server: Server, name: str) -> None:
    graph = film("named")
    graph["4"]["inputs"]["filename_prefix"] = name
    assert "the film cannot be saved as" in words(server, graph, "4")


def test_a_link_out_of_the_output_folder_is_refused_before_sampling(server: Server) -> None:
    """Where the host refuses it: older ones do not mind links."""
    if "def is_within_directory" not in (server.host.path / "folder_paths.py").read_text():
        pytest.skip("this host lets links lead out of its output folder")
    (server.base / "output" / "away").symlink_to(server.base.parent)
    graph = film("named")
    graph["4"]["inputs"]["filename_prefix"] = "away/film"
    assert "that leads out of the output folder" in words(server, graph, "4")


def test_a_file_or_a_ring_of_links_for_a_folder_is_refused_before_sampling(server: Server) -> None:
    ring = server.base / "output" / "ring"
    ring.symlink_to(ring)
    (server.base / "output" / "file").write_text("no folder")
    for name in ("ring", "file", "new/../ring"):
        graph = film("named")
        graph["4"]["inputs"]["filename_prefix"] = f"{name}/film"
        assert "the film cannot be saved as" in words(server, graph, "4")


def test_a_prefix_holds_dates_and_follows_the_take(server: Server) -> None:
    graph = film("monday/fox", "a red fox jumps in a meadow at noon | 0.75s\n")
    graph["4"]["inputs"]["filename_prefix"] = "grounded/film"
    graph["5"] = {
        "class_type": "GF_SaveVideo",
        "inputs": {**graph["4"]["inputs"], "filename_prefix": "%date%/fox %date:yy.M.dd% %width%"},
    }
    server.make(graph)
    now = time.localtime()
    day = f"{now.tm_year}-{now.tm_mon:02}-{now.tm_mday:02}"
    short = f"{now.tm_year % 100:02}.{now.tm_mon}.{now.tm_mday:02}"
    found = sorted(
        str(p.relative_to(server.base / "output")) for p in (server.base / "output").rglob("*_00001_.mp4")
    )
    assert found == [f"{day}/fox {short} 768_00001_.mp4", "grounded/monday/fox_00001_.mp4"]
