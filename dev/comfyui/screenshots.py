"""Makes the pictures of the ComfyUI pack in docs/images, from a real run in a real front end.

python -m dev.comfyui.screenshots
"""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

from PIL import Image

from gf_core.arguments import Parser
from tests.comfyui.browser import Browser, open_browser
from tests.comfyui.hosts import ROOT, find_hosts
from tests.comfyui.server import Server
from tests.comfyui.stand_ins import fill_models
from tests.comfyui.test_drag_back import DROP

IMAGES = ROOT / "docs" / "images"
TEN_SEGMENTS = """@seed 7

a red fox walks right in a meadow at noon                  | 3s
then: it jumps                                             | 2.25s
then: it stands still                                      | 1.5s
cut: the same red fox dances on a beach at sunset          | 3s
then: it walks left                                        | 2.25s
scene: a blue owl stands still in the forest at night      | 3s
then: it dances                                            | 2.25s
cut: the same blue owl jumps in the snow at noon           | 2.25s
scene: a yellow robot walks right on a city street at noon | 3s
cut: the same yellow robot sleeps in a desert at night     | 3s
"""
SET_TIMELINE = """(text) => {
  const node = window.app.graph._nodes.find((n) => n.type === 'GF_PromptTimeline');
  node.widgets.find((w) => w.name === 'timeline').value = text;
}"""
SHOW_NODE = """([kind, width]) => {
  const {canvas, graph} = window.app, node = graph._nodes.find((n) => n.type === kind);
  canvas.ds.scale = width / node.size[0];
  canvas.ds.offset[0] = 300 / canvas.ds.scale - node.pos[0];
  canvas.ds.offset[1] = 62 / canvas.ds.scale + 30 - node.pos[1];
  canvas.setDirty(true, true);
  const [x, y] = [node.pos[0] + canvas.ds.offset[0], node.pos[1] - 30 + canvas.ds.offset[1]];
  const box = canvas.canvas.getBoundingClientRect();
  return {x: box.left + x * canvas.ds.scale, y: box.top + y * canvas.ds.scale,
          width: node.size[0] * canvas.ds.scale, height: (node.size[1] + 30) * canvas.ds.scale};
}"""
FIRST_FILM = "filename=first_film_00001_.mp4&subfolder=grounded&type=output"
PLAYING = "() => [...document.querySelectorAll('video')].some((video) => video.readyState >= 2)"
log = logging.getLogger("grounded")


def keep(shot: Path, name: str) -> None:
    """Store a screenshot as docs/images/NAME.webp, in true colours."""
    kept = IMAGES / f"{name}.webp"
    with Image.open(shot) as picture:
        picture.convert("RGB").save(kept, quality=90, method=6)
    log.info("%s: %d kB", kept.name, kept.stat().st_size // 1000)


def after_a_run(browser: Browser, shot: Path) -> None:
    """The first film's graph with its pictures."""
    browser.load(json.loads((ROOT / "workflows" / "01_first_film.json").read_text(encoding="utf-8")))
    browser.fit()
    if browser.queue(900) != "success":
        raise RuntimeError(f"the first film did not render:\n{browser.server.log[-3000:]}")
    browser.wait_until(PLAYING, 60)
    keep(browser.screenshot(shot), "comfyui_first_film")


def dragged_back(browser: Browser, shot: Path) -> None:
    """The graph of the first film, from nothing but the film: dropped on an empty page."""
    browser.page.evaluate("() => window.app.graph.clear()")
    browser.page.evaluate(DROP, {"url": "/api/view?" + FIRST_FILM, "name": "film.mp4", "type": "video/mp4"})
    browser.wait_until("() => window.app.graph._nodes.length > 4", 30)
    browser.fit()
    browser.wait_until(PLAYING, 60)
    keep(browser.screenshot(shot), "comfyui_drag_back")


def ten_segments(browser: Browser, shot: Path) -> None:
    """The storyboard widget, with the pictures of the film it made."""
    browser.page.evaluate(SET_TIMELINE, TEN_SEGMENTS)
    browser.queue(900)
    clip = browser.page.evaluate(SHOW_NODE, ["GF_PromptTimeline", 880])
    browser.page.wait_for_timeout(1500)
    browser.page.screenshot(path=str(shot), clip=clip)
    keep(shot, "comfyui_storyboard")


def main() -> None:
    Parser(description=__doc__).parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    hosts, reason = find_hosts()
    if not hosts:
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        with Server(hosts[0], fill_models(Path(folder) / "base")) as server, open_browser(server) as browser:
            after_a_run(browser, shot)
            dragged_back(browser, shot)
            ten_segments(browser, shot)


if __name__ == "__main__":
    main()
