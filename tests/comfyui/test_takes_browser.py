"""Segment Takes in a real browser: its takes are small players, and a button under each picks it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from .browser import Browser, missing_browser
from .workflow_files import api_prompt, of_kind

pytestmark = pytest.mark.skipif(bool(missing_browser()), reason=missing_browser() or "a browser is there")

ARTEFACTS = Path(__file__).resolve().parents[1] / "artefacts"
FILM = "a red fox walks right in a meadow at noon | 0.75s\nscene: a blue owl sleeps on a beach at sunset | 0.75s\n"
SEEDS = count(100)
PICK = """() => window.app.graph._nodes.find((n) => n.type === 'GF_SegmentTakes')
  .widgets.find((w) => w.name === 'pick').value"""
PLAYABLE = "() => [...document.querySelectorAll('.gf-take video')].filter((film) => film.readyState >= 2).length === 2"

RESIZE = "(size) => window.app.graph._nodes.find((n) => n.type === 'GF_SegmentTakes').setSize(size)"
CUT_OFF = """() => [...document.querySelectorAll('.gf-take')].filter((take) =>
  take.querySelector('button').getBoundingClientRect().bottom > take.getBoundingClientRect().bottom).length"""


def spread_out(browser: Browser) -> None:
    """Give every node room: in Nodes 2.0 they are taller than the host thinks where it lays out a graph itself."""
    graph = browser.serialize()
    for number, node in enumerate(graph["nodes"]):
        node["pos"] = [number % 4 * 620, number // 4 * 1000]
    browser.load(graph)


def test_a_take_is_watched_and_picked_on_the_node(browser: Browser, request: pytest.FixtureRequest) -> None:
    page, prompt, take = browser.page, api_prompt("07_pick_a_take"), f"picked_{next(SEEDS)}"
    for kind in ("GF_SegmentTakes", "GF_StreamSampler"):
        (node,) = of_kind(prompt, kind)
        prompt[node]["inputs"]["take"] = take
    (timeline,), (takes,) = of_kind(prompt, "GF_PromptTimeline"), of_kind(prompt, "GF_SegmentTakes")
    prompt[timeline]["inputs"]["timeline"] = FILM
    prompt[takes]["inputs"]["count"] = 2
    browser.load_api(prompt)
    spread_out(browser)
    browser.fit()
    assert browser.queue() == "success"
    browser.wait_until(PLAYABLE)
    assert page.locator(".gf-letter").all_inner_texts() == ["a", "b"]
    assert "Pick one" in page.locator(".gf-live:has(.gf-take) .gf-said").inner_text()

    page.evaluate(RESIZE, [300, 300])  # so narrow that one stands below the other
    page.wait_for_timeout(500)
    assert page.evaluate(CUT_OFF) == 0
    page.evaluate(RESIZE, [460, 766])
    page.locator(".gf-take .gf-button").nth(1).click()
    assert page.evaluate(PICK) == "b"
    assert page.locator(".gf-take.gf-chosen .gf-letter").all_inner_texts() == ["b"]
    browser.screenshot(ARTEFACTS / f"takes_{request.node.callspec.id}.png")
    runs = browser.server.base / "output" / "grounded" / "takes" / take
    made = sorted(runs.glob("run-*"))
    assert browser.queue() == "success"
    assert sorted(runs.glob("run-*")) == made
    assert "b goes on" in page.locator(".gf-live:has(.gf-take) .gf-said").inner_text()

    graph = browser.serialize()
    browser.errors.clear()  # a thumbnail of a take may be asked for when the next take has begun
    browser.reload()
    browser.load(graph)
    browser.wait_until(PLAYABLE)  # they lie in the Take
    assert page.locator(".gf-take.gf-chosen .gf-letter").all_inner_texts() == ["b"]
    assert not browser.errors
