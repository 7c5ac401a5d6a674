"""The shipped workflows as they are drawn: no node lies on another or on the rim of a frame, in either node mode."""

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
RIM = 6
"""pixels that stay free between a node and the frame around it"""


@pytest.fixture(scope="module", params=[False, True], ids=["litegraph", "nodes-2.0"])
def browser(server: Server, request: pytest.FixtureRequest) -> Iterator[Browser]:
    fill_models(server.base)
    with open_browser(server, settings={"Comfy.VueNodes.Enabled": request.param}) as opened:
        yield opened


def meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def within(inner: Box, outer: Box) -> bool:
    return inner[0] >= outer[0] and inner[1] >= outer[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


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
