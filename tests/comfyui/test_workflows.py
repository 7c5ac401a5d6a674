"""The shipped workflows: their files, whether each fits every host, and that they run."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from .schema_check import problems
from .server import Result, Server
from .stand_ins import FILES, fill_models
from .workflow_files import FOLDER, NAMES, api_prompt, of_kind, shortened, thumbnail, ui_graph

EXPECTED = (
    "01_first_film",
    "02_cut_then_scene",
    "03_your_wan_model",
    "04_low_vram",
    "05_start_image",
    "06_compare_memories",
    "07_pick_a_take",
)


@pytest.fixture(scope="module")
def stocked(server: Server) -> Server:
    """The server, with files of the names that the workflows choose."""
    fill_models(server.base)
    return server


def films(server: Server, result: Result) -> list[Path]:
    """The files that the Save Video nodes of a run have shown."""
    shown = [
        entry for ui in result.outputs.values() for entry in [*ui.get("images", []), *ui.get("video", [])]
    ]
    paths = [server.base / entry["type"] / entry["subfolder"] / entry["filename"] for entry in shown]
    return [path for path in paths if path.suffix == ".mp4"]


def pictures_in(film: Path) -> int:
    with av.open(str(film)) as opened:
        return sum(1 for _ in opened.decode(video=0))


def test_every_workflow_is_there() -> None:
    assert NAMES == EXPECTED


@pytest.mark.parametrize("name", EXPECTED)
def test_it_has_a_square_picture(name: str) -> None:
    with Image.open(thumbnail(name)) as picture:
        assert picture.width == picture.height <= 400
    assert thumbnail(name).stat().st_size < 100_000


@pytest.mark.parametrize("name", EXPECTED)
def test_it_uses_only_this_pack_and_core(name: str) -> None:
    nodes = ui_graph(name)["nodes"]
    foreign = [
        n["type"]
        for n in nodes
        if n["type"].startswith("GF_") != (n["properties"].get("cnr_id") == "grounded-forcing")
    ]
    assert not foreign
    assert {n["type"] for n in nodes} >= {"MarkdownNote", "GF_StreamSampler", "GF_PromptTimeline"}


def tall(node: dict[str, Any]) -> float:
    """Pixels below a node's title."""
    return 0 if node["flags"].get("collapsed") else node["size"][1]


@pytest.mark.parametrize("name", EXPECTED)
def test_it_opens_where_its_words_can_be_read(name: str) -> None:
    """Front ends draw no text below a zoom of 0.572, and their bars lie over what is behind them.

    Some open a template as a whole in three quarters of the window, others as the file says.
    """
    graph = ui_graph(name)
    nodes, view = graph["nodes"], graph["extra"]["ds"]
    assert view["scale"] >= 0.58
    corner = [min(n["pos"][0] for n in nodes), min(n["pos"][1] - 30 for n in nodes)]
    left, top = ((at + offset) * view["scale"] for at, offset in zip(corner, view["offset"]))
    assert 70 <= left <= 110 and 100 <= top <= 140, "pixels of the page that bars take, and little more"
    wide = max(n["pos"][0] + n["size"][0] for n in nodes) - min(n["pos"][0] for n in nodes)
    high = max(n["pos"][1] + tall(n) for n in nodes) - min(n["pos"][1] - 30 for n in nodes)
    assert min(0.75 * 1600 / wide, 0.75 * 950 / high) > 0.6


@pytest.mark.parametrize("name", EXPECTED)
def test_its_note_says_what_it_is_for(name: str) -> None:
    notes = [n["widgets_values"][0] for n in ui_graph(name)["nodes"] if n["type"] == "MarkdownNote"]
    title, about, empty, *_ = notes[0].split("\n")
    assert title.startswith(f"## {int(name[:2])}. ") and about.endswith(".") and len(about) < 72 and not empty
    assert not [note for note in notes if "`" in note], "Nodes 2.0 writes code in blue on brown"


def test_every_file_that_a_template_names_can_be_fetched() -> None:
    """As core templates say it: the node holds name, folder and address of what it has chosen."""
    (loader,) = [n for n in ui_graph("03_your_wan_model")["nodes"] if n["type"] == "GF_LoadModel"]
    named = {
        v for v in loader["widgets_values"] if isinstance(v, str) and v.endswith((".pt", ".safetensors"))
    }
    models = loader["properties"]["models"]
    assert (
        {entry["name"] for entry in models} == named == {name for group in FILES.values() for name in group}
    )
    for entry in models:
        assert entry["name"] in FILES[entry["directory"]]
        assert entry["url"].startswith("https://huggingface.co/") and entry["url"].endswith(
            f"/{entry['name']}"
        )


@pytest.mark.parametrize("name", EXPECTED)
def test_a_seed_stands_in_one_place(name: str) -> None:
    """On the sampler, or in the text where several samplers share it: then a note says so."""
    graph = ui_graph(name)
    written = any(
        "@seed" in str(n["widgets_values"]) for n in graph["nodes"] if n["type"] == "GF_PromptTimeline"
    )
    samplers = [n for n in graph["nodes"] if n["type"] == "GF_StreamSampler"]
    assert written == (len(samplers) > 1)
    noted = any("@seed" in str(n["widgets_values"]) for n in graph["nodes"] if n["type"] == "MarkdownNote")
    assert noted == written


@pytest.mark.parametrize("name", EXPECTED)
def test_nothing_overlaps(name: str) -> None:
    title = 30
    boxes = [
        (n["type"], n["pos"][0], n["pos"][1] - title, n["pos"][0] + n["size"][0], n["pos"][1] + tall(n))
        for n in ui_graph(name)["nodes"]
    ]
    for (a, *one), (b, *two) in combinations(boxes, 2):
        apart = one[2] <= two[0] or two[2] <= one[0] or one[3] <= two[1] or two[3] <= one[1]
        assert apart, f"{a} and {b}"


@pytest.mark.parametrize("name", EXPECTED)
def test_it_fits_the_host(stocked: Server, name: str) -> None:
    assert problems(api_prompt(name), stocked.object_info()) == []


def test_the_host_offers_them_as_templates(stocked: Server) -> None:
    offered = stocked.get("/api/workflow_templates")
    assert sorted(offered["grounded_forcing"]) == list(EXPECTED)
    for name in EXPECTED:
        assert (
            stocked.read(f"/api/workflow_templates/grounded_forcing/{name}.jpg")
            == thumbnail(name).read_bytes()
        )


def test_the_first_film_runs(stocked: Server) -> None:
    prompt = shortened(api_prompt("01_first_film"))
    result = stocked.make(prompt)
    (film,) = films(stocked, result)
    assert film.is_relative_to(stocked.base / "output" / "grounded")
    assert pictures_in(film) == 33  # 3 chunks of 3 latent frames: 1 picture, then 4 for each of the other 8
    again = stocked.queue(prompt)
    assert set(of_kind(prompt, "GF_StreamSampler")) <= set(again.cached)


def test_cut_then_and_scene_run_side_by_side(stocked: Server) -> None:
    text = "@seed 12\n\na yellow robot walks left on a city street at noon | 0.75s\n"
    prompt = shortened(api_prompt("02_cut_then_scene"), text)
    (then,) = [n for n in of_kind(prompt, "GF_PromptTimeline") if prompt[n]["_meta"]["title"] == "then"]
    prompt[then]["inputs"]["timeline"] = text + "then: it dances | 0.75s\n"
    result = stocked.make(prompt)
    made = films(stocked, result)
    assert [pictures_in(film) for film in made] == [21, 21, 21]
    assert len({film.read_bytes() for film in made}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["04_low_vram", "05_start_image", "06_compare_memories", "07_pick_a_take"])
def test_the_others_run(stocked: Server, name: str) -> None:
    result = stocked.make(shortened(api_prompt(name)), timeout=280)
    shown: list[Any] = [ui for ui in result.outputs.values() if ui]
    assert shown


def test_the_api_twins_are_no_templates() -> None:
    assert sorted(path.stem for path in (FOLDER / "api").glob("*.json")) == list(EXPECTED)
