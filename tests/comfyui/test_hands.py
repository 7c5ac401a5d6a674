"""Hands on the storyboard: mouse, one undo for text and strip, a linked text, errors, toasts and Stop."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from gf_core.editorial.others import understood
from gf_core.timeline import parse

from .browser import Browser, missing_browser
from .test_widget import FILM, SHORT, TEXT_BOX, drag, show, text_of

pytestmark = pytest.mark.skipif(bool(missing_browser()), reason=missing_browser() or "a browser is there")

SEEDS = count(1000)
THEIRS = Path(__file__).parents[1] / "fixtures" / "others"
VIEW = "() => { const {scale, offset} = window.app.canvas.ds; return [scale, ...offset]; }"
TIMELINE = "window.app.graph._nodes.find((n) => n.type === 'GF_PromptTimeline')"
TOASTS = "() => [...document.querySelectorAll('.p-toast-message')].map((one) => one.innerText)"
OVER = "() => [...document.querySelectorAll('.p-toast-message, .p-dialog')].map((one) => one.innerText)"
"""what lies over the page; where the host says a thing in a dialog of its own, that is enough"""
OURS = ("Grounded Forcing",)


def middle(browser: Browser, selector: str) -> Any:
    box: Any = browser.page.locator(selector).first.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


PLACES = [".gf-block[data-index='3']", ".gf-words", ".gf-bar .gf-total", ".gf-screen", ".gf-gauge"]


@pytest.mark.parametrize("place", PLACES)
def test_wheel_and_middle_button_move_the_canvas(browser: Browser, place: str) -> None:
    show(browser, FILM)
    page = browser.page
    before = page.evaluate(VIEW)
    page.mouse.move(*middle(browser, place))
    page.mouse.wheel(0, -120)
    page.wait_for_timeout(400)
    zoomed = page.evaluate(VIEW)
    assert zoomed[0] > before[0]
    x, y = middle(browser, place)
    page.mouse.move(x, y)
    page.mouse.down(button="middle")
    page.mouse.move(x + 30, y + 20, steps=4)
    page.mouse.move(x + 60, y + 40, steps=4)
    page.mouse.up(button="middle")
    page.wait_for_timeout(300)
    scale, *moved = page.evaluate(VIEW)
    assert scale == zoomed[0]
    assert moved == pytest.approx([zoomed[1] + 60 / scale, zoomed[2] + 40 / scale], abs=3)
    page.mouse.move(x + 200, y + 100)
    page.wait_for_timeout(200)
    assert page.evaluate(VIEW)[1:] == moved, "the canvas was let go"
    assert text_of(browser) == FILM and browser.errors == []


@pytest.mark.parametrize("place", [".gf-words", ".gf-block[data-index='3']"])
def test_a_paste_of_the_middle_button_pastes_nothing(browser: Browser, place: str) -> None:
    """On Linux the system sends one after it, to whatever has the focus."""
    show(browser, FILM)
    page = browser.page
    page.locator(place).first.click()
    nodes = page.evaluate("() => window.app.graph._nodes.length")
    seen = """() => { Object.assign(window, {__pasted: 0, __kept: undefined});
      for (const one of [document.activeElement, document]) one.addEventListener('paste', () => window.__pasted++); }"""
    page.evaluate(seen)
    send = (
        "document.activeElement.dispatchEvent(new ClipboardEvent('paste', {bubbles: true, cancelable: true}))"
    )
    soon = f"() => setTimeout(() => {{ window.__kept = {send}; }})"
    page.evaluate(f"() => window.addEventListener('pointerup', {soon}, {{capture: true, once: true}})")
    page.mouse.move(*middle(browser, place))
    page.mouse.down(button="middle")
    page.mouse.up(button="middle")
    browser.wait_until("() => window.__kept !== undefined")
    assert page.evaluate("() => window.__kept") is False, "prevented"
    assert page.evaluate("() => window.__pasted") == 0
    page.wait_for_timeout(600)
    page.evaluate(f"() => {send}")
    assert page.evaluate("() => window.__pasted") > 0, "later ones are somebody's own"
    assert page.evaluate("() => window.app.graph._nodes.length") == nodes


def test_text_and_strip_have_one_undo(browser: Browser) -> None:
    show(browser, SHORT)
    page = browser.page
    page.locator(TEXT_BOX).first.click()
    page.keyboard.press("Control+End")
    page.keyboard.type("then: it wakes | 1s")
    browser.wait_until("() => document.querySelectorAll('.gf-block').length === 3")
    typed = text_of(browser)
    page.wait_for_timeout(1000)
    page.locator(".gf-block[data-index='0']").click(position={"x": 12, "y": 30})
    page.keyboard.press("m")
    assert "noon | 1s | mute" in text_of(browser)
    page.locator(TEXT_BOX).first.click()
    page.keyboard.press("Control+z")
    page.wait_for_timeout(400)
    assert text_of(browser) == typed == page.locator(TEXT_BOX).first.input_value()
    page.keyboard.press("Control+z")
    page.wait_for_timeout(400)
    assert text_of(browser) == SHORT
    page.keyboard.press("Control+y")
    page.keyboard.press("Control+Shift+z")
    page.wait_for_timeout(400)
    assert "noon | 1s | mute" in text_of(browser)
    assert page.evaluate("() => window.app.graph._nodes.length") == 4 and browser.errors == []


def test_undo_outlives_the_node_that_the_host_makes_anew(browser: Browser) -> None:
    show(browser, FILM)
    page = browser.page
    drag(browser, ".gf-block[data-index='3'] .gf-edge", 30)
    longer = text_of(browser)
    assert longer != FILM
    browser.load(browser.serialize())  # what its own undo does
    browser.wait_until("() => document.querySelectorAll('.gf-block').length > 1")
    page.wait_for_timeout(600)
    page.locator(".gf-block[data-index='3']").click(position={"x": 12, "y": 30})
    page.keyboard.press("Control+z")
    page.wait_for_timeout(400)
    assert text_of(browser) == FILM


def test_an_empty_storyboard_can_be_begun(browser: Browser) -> None:
    show(browser, SHORT)
    page = browser.page
    page.locator(TEXT_BOX).first.fill("")
    browser.wait_until("() => document.querySelectorAll('.gf-block').length === 0")
    for key in ("s", "ArrowRight", "]", "Delete"):
        page.locator(".gf-keys").press(key)
    page.locator(".gf-fields [data-action=insert]").click()
    assert text_of(browser) == "a red fox walks left in a meadow | 5s"
    assert page.locator(".gf-block").count() == 1 and browser.errors == []


def test_blocks_are_numbered_as_messages_count_them(browser: Browser) -> None:
    show(browser, FILM)
    words = browser.page.locator(".gf-verb").all_text_contents()
    verbs = ["", "then", "then", "cut", "cut", "then", "then", "scene", "then", "cut"]
    whole = [f"{number} {verb}".strip() for number, verb in enumerate(verbs, 1)]
    assert all(word in (said, said.split()[0]) for word, said in zip(words, whole, strict=True))
    assert words[3] == "4 cut" and words[5] == "6", "a narrow block, or a muted one, has its number alone"


def test_no_length_is_cut_off(browser: Browser) -> None:
    show(browser, FILM)
    lengths = browser.page.locator(".gf-block:not(.gf-tiny) > .gf-length")
    said = lengths.all_text_contents()
    wide = lengths.evaluate_all(
        "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
    )
    assert wide == [] and sum(map(bool, said)) > 5


LINK = """(text) => { const graph = window.app.graph, node = %s;
  const source = LiteGraph.createNode('PrimitiveStringMultiline'); graph.add(source);
  source.pos = [-400, 80]; source.widgets[0].value = text;
  source.connect(0, node, node.inputs.findIndex((input) => input.name === 'timeline')); }"""


def test_a_linked_text_shows_what_came_in(browser: Browser) -> None:
    show(browser, SHORT + f"@seed {next(SEEDS)}\n")
    assert browser.queue() == "success"
    browser.wait_until("() => document.querySelectorAll('.gf-pictured').length === 2")
    linked = f"a yellow robot walks left on a city street at noon | 0.75s\n@seed {next(SEEDS)}\n"
    tall = browser.page.evaluate(f"() => {TIMELINE}.size[1]")
    browser.page.evaluate(LINK % TIMELINE, linked)
    browser.wait_until("() => document.querySelector('.gf-board').inert")
    aside = browser.page.locator(".gf-board .gf-aside")
    assert aside.inner_text().endswith("It is shown here after a Run.")
    browser.page.wait_for_timeout(300)
    line, board = aside.bounding_box(), browser.page.locator(".gf-board").bounding_box()
    assert line and board and line["y"] + line["height"] < board["y"] + board["height"] + 1, "not cut off"
    assert not browser.page.locator(".gf-block").first.is_visible()
    assert browser.page.evaluate(f"() => {TIMELINE}.size[1]") < tall - 200, "no room for what is not there"
    assert browser.queue() == "success"
    browser.wait_until("() => document.querySelectorAll('.gf-pictured').length === 1")
    assert browser.page.locator(".gf-block .gf-prompt").all_text_contents() == [linked.split(" | ")[0]]
    assert aside.inner_text().endswith("This is what came in last.")
    assert browser.queue() == "success"  # all cached
    assert browser.page.locator(".gf-block .gf-prompt").all_text_contents() == [linked.split(" | ")[0]]
    graph = browser.serialize()
    browser.load(graph)
    browser.wait_until("() => document.querySelectorAll('.gf-pictured').length === 1")
    assert browser.errors == []


def test_a_pasted_storyboard_of_another_program_is_offered_as_ours(browser: Browser) -> None:
    theirs = (THEIRS / "multishot.txt").read_text()
    show(browser, theirs)
    browser.wait_until("() => document.querySelector('.gf-offer:not([hidden])')")
    board, said = understood(theirs)
    assert browser.page.locator(".gf-offered").inner_text() == f"This is {said}."
    browser.page.locator(".gf-offer .gf-button").click()
    assert parse(text_of(browser)) == board
    browser.wait_until("() => !document.querySelector('.gf-offer:not([hidden])')")
    browser.page.locator(".gf-bar [data-action=undo]").click()
    assert text_of(browser) == theirs and browser.errors == []


def test_an_error_is_told_where_the_film_would_be(browser: Browser) -> None:
    show(browser, SHORT + f"@seed {next(SEEDS)}\n")
    assert browser.queue() == "success"
    page = browser.page
    page.locator(TEXT_BOX).first.fill("a red helicopter flies | 1s\n")
    page.wait_for_timeout(500)
    assert browser.queue() == "error"
    said = page.locator(".gf-said").inner_text()
    assert "helicopter" in said and "kept in the Take" not in said and said.count(". ") == 0
    assert page.evaluate("() => document.querySelector('.gf-gauge > div').style.width") == "0%"
    assert "words are in" in page.locator(".gf-report").inner_text()  # what to do
    assert page.locator(".gf-screen").inner_text() == "Nothing was made in this Run"
    assert page.locator(".gf-screen img[src]").count() == 0
    page.wait_for_timeout(1000)
    said = page.evaluate(OVER)
    assert sum("helicopter" in text for text in said) == 1, said
    page.locator(TEXT_BOX).first.fill(SHORT + f"@seed {next(SEEDS)}\n")
    page.wait_for_timeout(500)
    browser.start_queue()
    browser.wait_until(f"() => !({TOASTS})().some((text) => text.startsWith('{OURS[0]}'))", 60)
    assert browser.wait_for_end() == "success"


def test_nothing_is_said_over_the_hosts_own_messages(browser: Browser) -> None:
    show(browser, SHORT)
    page = browser.page
    page.evaluate(
        """() => { const {graph} = window.app;
             graph.remove(graph._nodes.find((n) => n.type === 'GF_LoadModel')); }"""
    )
    page.evaluate("async () => await window.app.queuePrompt(0, 1).catch(() => {})")
    browser.wait_until("() => Object.keys(window.app.lastNodeErrors || {}).length")
    page.wait_for_timeout(1500)
    assert [text for text in page.evaluate(TOASTS) if text.startswith(OURS)] == []


def test_a_refusal_goes_with_the_next_run(browser: Browser) -> None:
    show(browser, SHORT + f"@seed {next(SEEDS)}\n")
    page = browser.page
    right = text_of(browser)
    page.locator(TEXT_BOX).first.fill("a red fox | 5s\nthan: it jumps | 1s")
    page.wait_for_timeout(500)
    page.evaluate("async () => await window.app.queuePrompt(0, 1).catch(() => {})")
    browser.wait_until(f"() => ({OVER})().some((text) => text.includes('than:'))")
    page.wait_for_timeout(1000)
    said = page.evaluate(OVER)
    assert sum("than:" in text for text in said) == 1, said  # not by the host's dialog and by us
    page.evaluate("() => document.querySelector('.p-dialog-close-button')?.click()")
    page.locator(TEXT_BOX).first.fill(right)
    page.wait_for_timeout(500)
    browser.start_queue()
    browser.wait_until(f"() => !({OVER})().some((text) => text.includes('than:'))", 10)
    assert browser.wait_for_end() == "success"


def test_stop_keeps_its_words_until_it_has_stopped(browser: Browser) -> None:
    show(browser, SHORT.replace("| 1s\n", "| 12s\n") + f"@seed {next(SEEDS)}\n")
    browser.page.evaluate(
        """() => { window.__words = []; const press = (after) => {
             const [stop, said] = ['.gf-live .gf-button', '.gf-said'].map((one) => document.querySelector(one));
             if (!after) { stop.click(); new MutationObserver(() => window.__words.push(said.innerText))
               .observe(said, {childList: true, characterData: true, subtree: true}); } };
           window.app.api.addEventListener('grounded.progress', () => press(window.__words.length), {once: true}); }"""
    )
    assert browser.queue() == "success"
    said = browser.page.evaluate("() => window.__words")
    assert [words for words in said if words.startswith("shot ")] == [], said
    assert browser.page.locator(".gf-said").inner_text().startswith("stopped")


def test_several_segments_at_once(browser: Browser) -> None:
    show(browser, FILM)
    page = browser.page
    page.locator(".gf-block[data-index='7']").click(position={"x": 12, "y": 30})
    page.locator(".gf-block[data-index='8']").click(position={"x": 12, "y": 30}, modifiers=["Shift"])
    assert page.locator(".gf-selected").count() == 2
    page.keyboard.press("m")
    assert text_of(browser).count("| mute") == 3
    page.keyboard.press("m")
    assert text_of(browser) == FILM
    page.keyboard.press("Control+c")
    page.locator(".gf-block[data-index='0']").click(position={"x": 12, "y": 30})
    page.keyboard.press("Control+v")
    browser.wait_until("() => document.querySelectorAll('.gf-block').length === 12")
    lines = text_of(browser).splitlines()
    at = lines.index("{fox} walks right in a meadow at noon | 2s")
    assert lines[at + 1 : at + 3] == ["scene: an empty harbour at noon | 6s", "then: boats come in | 4s"]
    page.keyboard.press("Delete")
    assert text_of(browser) == FILM
    assert page.evaluate("() => window.app.graph._nodes.length") == 4 and browser.errors == []


def test_what_holds_for_the_film_and_for_a_then(browser: Browser) -> None:
    show(browser, FILM)
    page = browser.page
    page.locator(".gf-block[data-index='1']").click(position={"x": 12, "y": 30})
    page.locator("[data-field=blend]").fill("1.5")
    page.locator("[data-field=recache]").fill("0.8")
    assert "then: it jumps over a log | 4.5s | blend 1.5s | recache 0.8" in text_of(browser)
    page.locator(".gf-block[data-index='3']").click(position={"x": 12, "y": 30})
    assert not page.locator("[data-field=blend]").is_visible()
    page.locator("[data-action=film]").click()
    cast, fps = (page.locator(f"[data-film={name}]").bounding_box() for name in ("cast", "fps"))
    assert cast and fps and cast["width"] > 4 * fps["width"]
    page.locator("[data-film=style]").fill("film noir")
    page.locator("[data-film=fps]").fill("24")
    page.locator("[data-film=cast]").fill("fox = a red fox\nowl = a blue owl")
    text = text_of(browser)
    assert "@style film noir\n" in text and "@fps 24\n" in text and "@cast owl = a blue owl\n" in text
    assert page.locator(".gf-error").count() == 0
    page.locator("[data-action=film]").click()
    assert page.locator(".gf-words").first.is_visible()
    page.locator("[data-action=film]").click()
    page.locator(".gf-block[data-index='1']").click(position={"x": 12, "y": 30})
    assert page.locator(".gf-words").first.is_visible() and browser.errors == []


def test_the_ruler_shows_what_is_rendered_there(browser: Browser) -> None:
    show(browser, SHORT + f"@seed {next(SEEDS)}\n")
    assert browser.queue() == "success"
    browser.wait_until("() => document.querySelectorAll('.gf-pictured').length === 2")
    page = browser.page
    box: Any = page.locator(".gf-ruler").bounding_box()
    seen = set()
    for share in (0.2, 0.8):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)
        browser.wait_until("() => document.querySelector('.gf-scrub').naturalWidth > 0")
        page.wait_for_timeout(300)
        seen.add(page.locator(".gf-scrub").get_attribute("src"))
    assert len(seen) == 2
    page.mouse.move(box["x"] + 40, box["y"] + 300)
    browser.wait_until("() => document.querySelector('.gf-scrub').hidden")
    assert browser.errors == []


def test_sockets_have_colours_of_their_own_whatever_the_palette(browser: Browser) -> None:
    show(browser, SHORT)
    for palette in ("light", "dark"):
        browser.set("Comfy.ColorPalette", palette)
        browser.page.wait_for_timeout(600)
        browser.wait_until("() => window.app.canvas.default_connection_color_byType.GF_TAKE")
        tables = "[window.app.canvas.default_connection_color_byType, window.LGraphCanvas.link_type_colors]"
        colours = browser.page.evaluate(
            f"() => {tables}.map((one) => [one.GF_TAKE, one.GF_TIMELINE, one.GF_MEMORY])"
        )
        assert all(len(set(own)) == 3 and all(own) for own in colours), colours
