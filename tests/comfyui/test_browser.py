"""The shipped workflows in the front end itself: they open clean, say the same as their API twins, and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .browser import Browser, missing_browser, open_browser
from .hosts import ROOT
from .server import Server
from .stand_ins import fill_models
from .workflow_files import NAMES, SHORT, api_prompt, of_kind, ui_graph

pytestmark = pytest.mark.skipif(bool(missing_browser()), reason=missing_browser() or "a browser is there")

ARTEFACTS = ROOT / "tests" / "artefacts"
SET_TEXT = """(text) => { const node = window.app.graph._nodes.find((n) => n.type === 'GF_PromptTimeline');
                          node.widgets.find((w) => w.name === 'timeline').value = text; }"""
PLAYING = "() => [...document.querySelectorAll('video')].some((video) => video.readyState >= 2)"
LIVE = "() => [...document.querySelectorAll('.gf-live img')].some((image) => image.naturalWidth > 0)"


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[Browser]:
    fill_models(server.base)
    with open_browser(server) as opened:
        yield opened


def artefact(server: Server, name: str) -> Path:
    return ARTEFACTS / f"{server.host.name}_{name}.png"


def meaning(prompt: dict[str, Any]) -> dict[str, Any]:
    """What the host acts on; newer front ends note more beside it."""
    return {key: (node["class_type"], node["inputs"]) for key, node in prompt.items()}


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_opens_clean(browser: Browser, server: Server, name: str) -> None:
    browser.errors.clear()
    browser.load(ui_graph(name))
    browser.fit()
    browser.screenshot(artefact(server, name))
    assert browser.red_nodes() == []
    assert browser.errors == []
    assert meaning(browser.prompt()) == meaning(api_prompt(name))


def test_the_first_film_shows_itself_and_its_result(browser: Browser, server: Server) -> None:
    browser.errors.clear()
    browser.load(ui_graph("01_first_film"))
    browser.page.evaluate(SET_TEXT, SHORT.replace("1.5s", "6s"))
    browser.fit()
    browser.start_queue()
    browser.wait_until(LIVE, 120)
    browser.screenshot(artefact(server, "while_rendering"))
    assert browser.wait_for_end(280) == "success"
    browser.wait_until(PLAYING, 30)
    browser.screenshot(artefact(server, "after_the_run"))
    assert browser.errors == []


def test_pressing_run_again_renders_nothing(browser: Browser, server: Server) -> None:
    """The clip that Save Video shows must not make the expensive node run again."""
    browser.load(ui_graph("01_first_film"))
    browser.page.evaluate(SET_TEXT, SHORT)
    assert browser.queue() == "success"
    browser.wait_until(PLAYING, 30)
    assert browser.queue() == "success"
    (said,) = [run["status"]["messages"] for run in server.get("/history?max_items=1").values()]
    (kept,) = [data["nodes"] for event, data in said if event == "execution_cached"]
    assert set(of_kind(browser.prompt(), "GF_StreamSampler")) <= set(kept)
