"""The film is the project: a saved film, dropped into the browser's page, brings back the graph that made it."""

from __future__ import annotations

from typing import Any

import pytest

from .browser import Browser, missing_browser
from .server import Server
from .test_browser import SET_TEXT, artefact, meaning
from .workflow_files import ui_graph

pytestmark = pytest.mark.skipif(bool(missing_browser()), reason=missing_browser() or "a browser is there")

FILM = """# a remark that must not get lost
@seed 21
a red fox walks right in a meadow at noon | 1.5s
cut: a blue owl stands still in the forest at night | 1.5s
"""
DROP = """async ({url, name, type}) => {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  const carried = new DataTransfer();
  carried.items.add(new File([await answer.blob()], name, {type}));
  const place = document.querySelector('canvas');
  place.dispatchEvent(new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true}));
}"""
EMPTY = "() => window.app.graph._nodes.length === 0"


def saved_film(browser: Browser) -> dict[str, Any]:
    """Queue the graph that is open; the film that its Save Video has shown."""
    browser.page.evaluate(
        """() => { window.__shown = [];
             const note = ({detail}) => window.__shown.push(...(detail.output?.video ?? []));
             window.app.api.addEventListener('executed', note);
             window.__forget = () => window.app.api.removeEventListener('executed', note); }"""
    )
    assert browser.queue() == "success"
    shown = browser.page.evaluate("() => { window.__forget(); return window.__shown; }")
    films = {entry["filename"]: entry for entry in shown if entry.get("filename", "").endswith(".mp4")}
    assert len(films) == 1, shown
    return films.popitem()[1]


def graph(browser: Browser) -> dict[str, Any]:
    """What would be queued, without the input that front ends give to a node that shows a clip."""
    nodes = meaning(browser.prompt())
    for _, inputs in nodes.values():
        inputs.pop("video-preview", None)
    return nodes


@pytest.mark.parametrize("codec", ["as rendered", "h264"])
def test_a_dropped_film_brings_its_graph_back(browser: Browser, server: Server, codec: str) -> None:
    browser.load(ui_graph("01_first_film"))
    browser.page.evaluate(SET_TEXT, FILM)
    browser.page.evaluate(
        """(codec) => { const node = window.app.graph._nodes.find((n) => n.type === 'GF_SaveVideo');
                        node.widgets.find((w) => w.name === 'codec').value = codec;
                        window.app.graph._nodes[0].title = 'named by the artist'; }""",
        codec,
    )
    film = saved_film(browser)
    before, title = graph(browser), browser.page.evaluate("() => window.app.graph._nodes[0].title")
    places = {node["id"]: (node["pos"][0], node["pos"][1]) for node in browser.serialize()["nodes"]}
    browser.page.evaluate("() => window.app.graph.clear()")
    assert browser.page.evaluate(EMPTY)
    browser.errors.clear()
    url = f"/api/view?filename={film['filename']}&subfolder={film['subfolder']}&type=output"
    browser.page.evaluate(DROP, {"url": url, "name": film["filename"], "type": "video/mp4"})
    browser.wait_until("() => window.app.graph._nodes.length > 4", 30)
    browser.page.wait_for_timeout(1000)
    assert graph(browser) == before
    assert title in browser.page.evaluate("() => window.app.graph._nodes.map((n) => n.title)")
    found = {node["id"]: (node["pos"][0], node["pos"][1]) for node in browser.serialize()["nodes"]}
    for node, place in places.items():
        assert found[node] == pytest.approx(place, abs=1)
    assert browser.red_nodes() == [] and browser.errors == []
    browser.fit()
    browser.screenshot(artefact(server, "dragged_back"))
