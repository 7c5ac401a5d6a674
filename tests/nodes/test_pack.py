"""The pack as files: it imports without ComfyUI, every node has its page and texts, one place per host module."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from .conftest import ROOT

NODES = ROOT / "nodes"
SOURCES = sorted(NODES.rglob("*.py"))
IDS = sorted({found for path in SOURCES for found in re.findall(r'node_id="(\w+)"', path.read_text())})
HOST_MODULES = ("comfy.model_management", "folder_paths", "server", "comfy.utils")


def test_there_are_nodes():
    assert len(IDS) == 12 and all(name.startswith("GF_") for name in IDS)


def test_the_root_imports_without_comfyui(tmp_path):
    code = (
        "import importlib.util, sys;"
        f"s = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r},"
        f" submodule_search_locations=[{str(ROOT)!r}]);"
        "m = importlib.util.module_from_spec(s); s.loader.exec_module(m);"
        "sys.exit('torch' in sys.modules or m.WEB_DIRECTORY != './web')"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


@pytest.mark.parametrize("node", IDS)
def test_every_node_has_a_help_page(node):
    page = (ROOT / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
    assert page.startswith("# ") and len(page.splitlines()) >= 3


def test_no_page_without_a_node():
    assert sorted(path.stem for path in (ROOT / "web" / "docs").glob("*.md")) == IDS


def test_every_node_has_texts_to_translate():
    texts = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    assert sorted(texts) == IDS
    for node, text in texts.items():
        assert text["description"], node
        missing = [name for name, field in text["inputs"].items() if not field["tooltip"]]
        assert missing == [], f"{node}: inputs without a tooltip"


@pytest.mark.parametrize("language", ["zh", "ja", "ko"])
def test_every_name_on_a_node_is_translated(language):
    """Longer texts fall back to English; a name that is left out would too, without a word."""
    folder = ROOT / "locales"
    english, texts = (
        json.loads((folder / one / "nodeDefs.json").read_text(encoding="utf-8")) for one in ("en", language)
    )
    assert sorted(texts) == IDS
    for node, text in texts.items():
        assert text["display_name"] != english[node]["display_name"] and text["description"], node
        for part in ("inputs", "outputs"):
            assert text[part].keys() == english[node][part].keys(), node
            assert all(field["name"] for field in text[part].values()), node
        # @ { } | are syntax of the page's translator.
        assert not re.search(r"[@{}|]", json.dumps([text["description"], text["display_name"]])), node


def test_the_blueprint_holds_the_six_nodes_and_shows_widgets_that_they_have():
    graph = json.loads((ROOT / "subgraphs" / "Film.json").read_text(encoding="utf-8"))
    (box,), (inside,) = graph["nodes"], graph["definitions"]["subgraphs"]
    inner = {str(node["id"]): node["type"] for node in inside["nodes"]}
    six = [
        "GF_DualMemoryCache",
        "GF_LoadModel",
        "GF_PromptTimeline",
        "GF_SaveVideo",
        "GF_ShotCut",
        "GF_StreamSampler",
    ]
    assert sorted(inner.values()) == six and inside["name"] == "Film" and box["type"] == inside["id"]
    texts = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    shown = box["properties"]["proxyWidgets"]
    assert all(name in texts[inner[node]]["inputs"] for node, name in shown)
    assert {name for _, name in shown} >= {"model", "timeline", "seed", "take"}


@pytest.mark.parametrize(("kind", "shape"), [("Icon", 1.0), ("Banner", 21 / 9)])
def test_the_registry_finds_its_pictures(kind, shape):
    address = re.search(rf'^{kind} = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert address and address[1].startswith("https://")
    with Image.open(ROOT / address[1].partition("/main/")[2]) as picture:
        assert abs(picture.width / picture.height - shape) < 0.01 and (kind != "Icon" or picture.width <= 400)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for step in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(step, ast.Import):
            found |= {alias.name for alias in step.names}
        elif isinstance(step, ast.ImportFrom) and not step.level:
            found.add(step.module or "")
    return found


def test_the_pack_never_imports_itself_by_name():
    assert [path.name for path in SOURCES if imported(path) & {"gf_core", "nodes"}] == []


@pytest.mark.parametrize(
    "name",
    [
        "dual_memory_cache",
        "prompt_timeline",
        "shot_cut",
        "segment_takes",
        "save_video",
        "take/latent",
        "telling",
    ],
)
def test_a_node_asks_the_host_through_one_module(name):
    assert imported(NODES / f"{name}.py") & set(HOST_MODULES) == set()
