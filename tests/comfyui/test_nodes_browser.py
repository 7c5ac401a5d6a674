"""What a node looks like when an artist has just added it."""

from __future__ import annotations

import pytest

from .browser import missing_browser, open_browser
from .server import Server

pytestmark = pytest.mark.skipif(bool(missing_browser()), reason=missing_browser() or "a browser is there")

ADD = """(kind) => {
  const node = window.LiteGraph.createNode(kind);
  window.app.graph.add(node);
  return node.widgets.map(({ name, value }) => [name, value]);
}"""


def test_seeds_stay_as_they_are_until_somebody_asks(server: Server) -> None:
    with open_browser(server) as browser:
        for kind, seed in (("GF_StreamSampler", 0), ("GF_ShotCut", -1)):
            widgets = dict(browser.page.evaluate(ADD, kind))
            assert (widgets["seed"], widgets["control_after_generate"]) == (seed, "fixed"), kind
        assert browser.errors == []
