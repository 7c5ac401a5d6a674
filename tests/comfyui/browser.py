"""ComfyUI's front end in a real Chromium without a window: load a graph, queue it, look at it.

Needs the `browser` extra (playwright) and a Chromium: CHROMIUM names one, else it is looked for on the path.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

    from .server import Server

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
QUIET = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Release.Status": "skipped",
    "Comfy.InstalledVersion": "1.0.0",
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "LiteGraph.Canvas.LowQualityRenderingZoomThreshold": 0.1,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
"""settings under which no dialog opens by itself and the pictures show the graph alone"""
HOSTS_OWN = ("Failed to load resource", "Content Security Policy")
"""what the front end notes by itself: icons it lacks, and sites that it asks about its own example graph's models"""
HASTE = "graph accessed before initialization"
"""what front end 1.49 notes of itself while it opens, without this pack too; of an open page it counts"""
READY = "() => window.app && window.app.extensionManager && window.app.graph && window.app.graph._nodes"
PICTURES_READY = """async () => {
  const shown = [...document.querySelectorAll('img')].filter((img) => img.offsetParent);
  const loaded = Promise.all(shown.map((img) => img.decode().catch(() => 0)));
  await Promise.race([loaded, new Promise((done) => setTimeout(done, 4000))]);
}"""
CLOSE = """() => document.querySelectorAll(
  '.p-dialog-close-button, .p-toast-close-button, [role=dialog] button[aria-label=Close]')
  .forEach((button) => button.click())"""
FIT = """(margin) => {
  const {canvas, graph} = window.app;
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const node of graph._nodes) {
    left = Math.min(left, node.pos[0]); top = Math.min(top, node.pos[1] - 40);
    right = Math.max(right, node.pos[0] + node.size[0]); bottom = Math.max(bottom, node.pos[1] + node.size[1]);
  }
  const ratio = window.devicePixelRatio, box = canvas.canvas.getBoundingClientRect();
  const [width, height] = [box.width - margin.left - margin.right, box.height - margin.top - margin.bottom];
  const scale = Math.min(width / (right - left), height / (bottom - top), 1.2);
  canvas.ds.scale = scale;
  canvas.ds.offset[0] = margin.left / scale - left + (width / scale - (right - left)) / 2;
  canvas.ds.offset[1] = margin.top / scale - top + (height / scale - (bottom - top)) / 2;
  canvas.setDirty(true, true);
}"""


def missing_browser() -> str:
    """Why no browser can be driven here, "" when one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed (pip install -e '.[browser]')"
    return "" if _executable() else "no Chromium found (name one in CHROMIUM)"


def _executable() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One open page of the front end."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server
        self.errors: list[str] = []
        """console errors and uncaught exceptions since the page opened, without the host's own known ones"""
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))

    def _note(self, message: ConsoleMessage) -> None:
        place = urlsplit(message.location.get("url", ""))
        ours = "grounded" in place.path
        if message.type == "error" and (ours or not any(words in message.text for words in HOSTS_OWN)):
            self.errors.append(f"{message.text} ({place.path})")

    def reload(self) -> None:
        """Open the page (again) and wait until the front end can be used."""
        self.page.goto(self.server.url, wait_until="domcontentloaded", timeout=120_000)
        self.page.wait_for_function(READY, timeout=120_000)
        self.errors[:] = [error for error in self.errors if HASTE not in error]
        self.page.wait_for_timeout(1500)

    def set(self, setting: str, value: Any) -> None:
        """Change a setting of the front end, e.g. ("Comfy.VueNodes.Enabled", True); many need a reload."""
        self.page.evaluate(
            "async ([id, value]) => await window.app.extensionManager.setting.set(id, value)",
            [setting, value],
        )

    def version(self) -> str:
        """The front end's own version."""
        return self.page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__ || ''")

    def load_api(self, prompt: Mapping[str, Any], name: str = "api") -> None:
        """Show an API-format prompt as a graph."""
        self.page.evaluate(
            "async ([text, name]) => await window.app.loadApiJson(JSON.parse(text), name)",
            [json.dumps(prompt), name],
        )
        self.page.wait_for_timeout(800)

    def load(self, workflow: Mapping[str, Any]) -> None:
        """Open a saved workflow, on a page without messages of what was tried before."""
        self.page.evaluate(
            "async (text) => await window.app.loadGraphData(JSON.parse(text))", json.dumps(workflow)
        )
        self.page.wait_for_timeout(800)
        self.close_messages()

    def close_messages(self) -> None:
        """Close the host's dialogs and toasts: a dialog takes every click."""
        self.page.evaluate(CLOSE)

    def serialize(self) -> dict[str, Any]:
        """The graph as it would be saved."""
        return json.loads(self.page.evaluate("() => JSON.stringify(window.app.graph.serialize())"))

    def prompt(self) -> dict[str, Any]:
        """The graph as it would be queued (API format)."""
        text = self.page.evaluate("async () => JSON.stringify((await window.app.graphToPrompt()).output)")
        return json.loads(text)

    def red_nodes(self) -> list[str]:
        """Types of the nodes in the graph that the host does not know or that show an error."""
        return self.page.evaluate(
            """() => window.app.graph._nodes
                 .filter((n) => n.has_errors || !(n.type in LiteGraph.registered_node_types))
                 .map((n) => n.type)"""
        )

    def start_queue(self) -> None:
        """Press Queue; RuntimeError when the host refuses the graph."""
        self.page.evaluate(
            """() => { window.__ended = null;
                 for (const name of ['execution_success', 'execution_error', 'execution_interrupted'])
                   window.app.api.addEventListener(name, () => { window.__ended = name; }, {once: true}); }"""
        )
        self.page.evaluate("async () => await window.app.queuePrompt(0, 1)")
        refused = self.page.evaluate("() => JSON.stringify(window.app.lastNodeErrors || {})")
        if refused != "{}":
            raise RuntimeError(f"the host refused the graph: {refused[:2000]}")

    def wait_for_end(self, timeout: float = 280) -> str:
        """Wait until what was queued has ended: "success", "error" or "interrupted"."""
        self.page.wait_for_function("() => window.__ended", timeout=timeout * 1000)
        self.page.wait_for_timeout(1500)
        return self.page.evaluate("() => window.__ended").removeprefix("execution_")

    def queue(self, timeout: float = 280) -> str:
        """Press Queue and wait for the end."""
        self.start_queue()
        return self.wait_for_end(timeout)

    def fit(self, left: int = 90, top: int = 110, right: int = 30, bottom: int = 60) -> None:
        """Zoom so that the whole graph is seen; margins in pixels of the page."""
        self.page.evaluate(FIT, {"left": left, "top": top, "right": right, "bottom": bottom})
        self.page.wait_for_timeout(1200)

    def screenshot(self, path: Path) -> Path:
        """Save what is on the page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.close_messages()
        self.page.wait_for_timeout(700)
        self.page.evaluate(PICTURES_READY)
        self.page.screenshot(path=str(path))
        return path

    def wait_until(self, expression: str, timeout: float = 60) -> None:
        """Wait for a JavaScript condition, e.g. "() => document.querySelector('.x')"."""
        self.page.wait_for_function(expression, timeout=timeout * 1000)


@contextmanager
def open_browser(
    server: Server, width: int = 1600, height: int = 950, settings: Mapping[str, Any] | None = None
) -> Iterator[Browser]:
    """The front end of a running server, ready to use, in a Chromium of its own."""
    from playwright.sync_api import sync_playwright

    stamp = {"Comfy.Release.Timestamp": int(time.time() * 1000)}
    server.post("/settings", {**QUIET, **stamp, **(settings or {})})
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_executable(), args=FLAGS)
        try:
            page = chromium.new_page(viewport={"width": width, "height": height})
            browser = Browser(page, server)
            browser.reload()
            yield browser
        finally:
            chromium.close()
