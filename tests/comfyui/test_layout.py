"""The shipped workflows as they open: beside the page's bars, in words that can be read, and no node lies on another.

In either node mode; zoomed as an artist's page is, with nothing set that makes small letters appear.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest

from .browser import Browser, missing_browser, open_browser
from .server import Server
from .stand_ins import fill_models
from .workflow_files import NAMES, ui_graph

pytestmark = pytest.mark.skipif(bool(missing_browser()), reason=missing_browser() or "a browser is there")

Box = tuple[float, float, float, float]
"""left, top, right, bottom in the graph's own pixels"""
DRAWN = """() => {
  const {canvas, graph} = window.app, {scale, offset} = canvas.ds, title = LiteGraph.NODE_TITLE_HEIGHT;
  const page = canvas.canvas.getBoundingClientRect();
  return graph._nodes.map((node) => {
    const box = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect();
    const [x, y] = box ? [(box.left - page.left) / scale - offset[0], (box.top - page.top) / scale - offset[1]]
                       : [node.pos[0], node.pos[1] - title];
    const [wide, tall] = node.flags?.collapsed ? [node._collapsed_width, 0] : node.size;
    const [width, height] = box ? [box.width / scale, box.height / scale] : [wide, tall + title];
    return [`${node.id} ${node.type}`, [x, y, x + width, y + height]];
  });
}"""
FRAMES = "() => window.app.graph._groups.map((group) => [...group.pos, ...group.size])"
BARS = """() => { const free = document.querySelector('.graph-canvas-panel').getBoundingClientRect();
  return [free.left, free.top]; }"""
"""where the side bar and the bars at the top end, in pixels of the page"""
VIEW = "() => { const {scale, offset} = window.app.canvas.ds; return [scale, ...offset]; }"
UNREADABLE = "() => Boolean(window.app.canvas.low_quality)"
"""whether the front end leaves titles and widgets without text, as it does far away"""
AS_AN_ARTIST = {
    "LiteGraph.Canvas.MinFontSizeForLOD": 8,
    "LiteGraph.Canvas.LowQualityRenderingZoomThreshold": 0.6,
}
"""the front end's own first values"""
RIM = 6
"""pixels that stay free between a node and the frame around it"""


@pytest.fixture(scope="module", params=[False, True], ids=["litegraph", "nodes-2.0"])
def browser(server: Server, request: pytest.FixtureRequest) -> Iterator[Browser]:
    fill_models(server.base)
    with open_browser(server, settings={"Comfy.VueNodes.Enabled": request.param, **AS_AN_ARTIST}) as opened:
        yield opened


def meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def within(inner: Box, outer: Box) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def under_the_bars(browser: Browser) -> list[str]:
    scale, x, y = browser.page.evaluate(VIEW)
    left, top = browser.page.evaluate(BARS)
    drawn: list[tuple[str, Box]] = browser.page.evaluate(DRAWN)
    return [node for node, box in drawn if (box[0] + x) * scale < left or (box[1] + y) * scale < top]


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_beside_the_bars_and_can_be_read(browser: Browser, name: str) -> None:
    browser.load(ui_graph(name))
    for _ in range(20):  # a page that has just begun draws its nodes in steps
        hidden = under_the_bars(browser)
        if not hidden:
            break
        browser.page.wait_for_timeout(500)
    assert hidden == []
    assert not browser.page.evaluate(UNREADABLE)


@pytest.mark.parametrize("name", NAMES)
def test_no_node_touches_another_or_a_frame(browser: Browser, name: str) -> None:
    workflow = ui_graph(name)
    browser.load(workflow)
    browser.fit()
    drawn: list[tuple[str, Box]] = browser.page.evaluate(DRAWN)
    assert len(drawn) == len(workflow["nodes"])
    assert [(a, b) for (a, one), (b, other) in combinations(drawn, 2) if meet(one, other)] == []
    frames = browser.page.evaluate(FRAMES)  # some front ends spread the whole graph in Nodes 2.0
    assert len(frames) == len(workflow["groups"])
    for x, y, width, height in frames:
        frame, inside = (x, y, x + width, y + height), (x + RIM, y + RIM, x + width - RIM, y + height - RIM)
        assert [(node, box) for node, box in drawn if meet(box, frame) and not within(box, inside)] == []


def test_the_cards_come_in_the_order_of_their_numbers(browser: Browser) -> None:
    found = browser.page.evaluate(
        "async () => (await window.app.api.getWorkflowTemplates()).grounded_forcing"
    )
    assert found == list(NAMES)
