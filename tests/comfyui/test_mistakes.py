"""What a mistake looks like in the browser: a node that is marked, words that help, and a queue that goes on."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .browser import Browser, missing_browser, open_browser
from .server import Server
from .test_nodes import CUT, FILM, MEMORY, film, node

BROWSER = pytest.mark.skipif(bool(missing_browser()), reason=missing_browser() or "a browser is there")
PRESS_QUEUE = """async () => {
  window.__ended = null;
  for (const name of ['execution_success', 'execution_error', 'execution_interrupted'])
    window.app.api.addEventListener(name, () => { window.__ended = name; }, {once: true});
  await window.app.queuePrompt(0, 1);
}"""
SAID = """() => [...document.querySelectorAll(
  '.p-dialog, [role=dialog], .comfy-modal, .p-toast-message, [role=alert]')]
  .map((box) => box.innerText).join('\\n')"""
MARKED = """() => { const errors = window.app.lastNodeErrors || {}, last = window.app.lastExecutionError;
  return [...Object.keys(errors), ...(last ? [String(last.node_id)] : [])]; }"""
ENDED = "() => window.__ended || Object.keys(window.app.lastNodeErrors || {}).length"
OWN = "PromptExecutionError"
"""how the front end itself notes that the host has refused a graph"""
AT_TWO = {**CUT, "at": "2"}


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[Browser]:
    with open_browser(server) as opened:
        yield opened


def extended() -> dict[str, Any]:
    """A film with every node of the pack."""
    graph = film("mistakes", timeline=["6", 0], memory=["7", 0])
    graph["3"]["inputs"]["steps"] = (
        ""  # front end 1.49 gives a node the text that one of the same number had before
    )
    graph["6"] = node("GF_ShotCut", timeline=["2", 0], **AT_TWO)
    graph["7"] = node("GF_DualMemoryCache", **MEMORY)
    graph["8"] = node("GF_TakeToImages", take=["3", 0], start_seconds=0.0, seconds=0.5, every_nth=4)
    graph["9"] = node("PreviewImage", images=["8", 0])
    graph["10"] = node("GF_TakeToLatent", model=["1", 0], take=["3", 0], segment=1)
    graph["11"] = node("SaveLatent", samples=["10", 0], filename_prefix="latent")
    graph["12"] = node("GF_TakeSheet", take=["3", 0], columns=3)
    graph["13"] = node("PreviewImage", images=["12", 0])
    return graph


MISTAKES = [
    ("1", {"model": "self_forcing_dmd.pt"}, "huggingface.co/gdhe17/Self-Forcing"),
    ("2", {"timeline": "a red fox | 5\nthan: it jumps"}, "line 1, column 13"),
    ("2", {"timeline": "a red helicopter flies | 1.5s\nthen: it jumps | 1.5s"}, "helicopter"),
    ("3", {"take": "../outside"}, "cannot be the name of a Take"),
    ("3", {"steps": "fast"}, "not a list of numbers"),
    ("4", {"filename_prefix": "../../x"}, "inside the output folder"),
    ("6", {"at": "tomorrow"}, "no place in the film"),
    ("6", {"at": "99s"}, "99"),
    ("7", {"recent": 30}, "models have learned 21"),
    ("8", {"start_seconds": 500.0}, "500"),
    ("10", {"segment": 44}, "44"),
]


def _said(browser: Browser, words: str) -> str:
    """All messages on the page, once `words` are among them or ten seconds have passed."""
    until = time.monotonic() + 10
    while True:
        browser.page.wait_for_timeout(500)
        said = browser.page.evaluate(SAID)
        if words in said or time.monotonic() > until:
            return said


@BROWSER
@pytest.mark.parametrize(("which", "inputs", "words"), MISTAKES)
def test_a_mistake_is_said_on_its_node(
    browser: Browser, server: Server, which: str, inputs: dict[str, Any], words: str
) -> None:
    graph = extended()
    graph[which]["inputs"].update(inputs)
    browser.load_api(graph)
    browser.errors.clear()
    browser.page.evaluate(PRESS_QUEUE)
    browser.wait_until(ENDED, 120)
    said = _said(browser, words)
    marked = browser.page.evaluate(MARKED)
    browser.close_messages()
    browser.page.wait_for_timeout(500)
    print(which, inputs, "->", marked, said[:600])
    assert words in said, said
    assert "Traceback" not in said and "site-packages" not in said
    assert which in marked or words == "helicopter"
    assert [error for error in browser.errors if not error.startswith(OWN)] == []


def test_a_mistake_between_two_films_harms_neither(server: Server) -> None:
    first, second = film("one"), film("two", FILM.replace("fox", "owl"))
    wrong = copy.deepcopy(first)
    wrong["3"]["inputs"]["steps"] = "fast"
    asked = [server.submit(graph) for graph in (first, wrong, second)]
    results = [server.wait(prompt) for prompt in asked]
    assert [result.status for result in results] == ["success", "error", "success"]
    assert "not a list of numbers" in results[1].error


def test_an_unchanged_film_is_there_at_once(server: Server) -> None:
    graph = film("one")
    server.make(graph)
    start = time.monotonic()
    result = server.queue(graph)
    print(f"again: {time.monotonic() - start:.2f} s")
    assert sorted(result.cached) == sorted(graph) and result.seconds < 3
    saved = copy.deepcopy(graph)
    saved["4"]["inputs"]["filename_prefix"] = "one/other"
    with server.listen() as heard:
        result = server.queue(saved)
    print(f"another name: {result.seconds:.2f} s")
    assert "3" in result.cached and not heard.of("grounded.started") and result.seconds < 5
