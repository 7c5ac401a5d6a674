"""What a node has shown comes back: after undo, reload and a cached Run; on routes; and for every codec."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
from PIL import Image

from .browser import Browser, missing_browser, open_browser
from .server import Server
from .test_nodes import LOADER, node

BROWSER = pytest.mark.skipif(bool(missing_browser()), reason=missing_browser() or "a browser is there")
TEXT = """@seed 7

a red fox walks right in a meadow at noon | 1.3s
then: it jumps | 0.75s | mute
cut: a blue owl sleeps in the snow at night | 0.75s
"""


def graph(take: str, text: str = TEXT, **save: Any) -> dict[str, Any]:
    """Every node that shows something: 1 timeline, 3 sampler, 4 film, 5 report, 6 drift, 7 sheet (seen by 8)."""
    sampler = {"width": 0, "height": 0, "seed": 0, "take": take}
    saved = {"filename_prefix": f"{take}/film", "codec": "as rendered", "quality": 18}
    return {
        "1": node("GF_PromptTimeline", timeline=text),
        "2": node("GF_LoadModel", **LOADER),
        "3": node(
            "GF_StreamSampler", model=["2", 0], clip=["2", 1], vae=["2", 2], timeline=["1", 0], **sampler
        ),
        "4": node("GF_SaveVideo", take=["3", 0], **{**saved, **save}),
        "5": node("GF_TakeReport", take=["3", 0]),
        "6": node("GF_TakeDrift", take=["3", 0]),
        "7": node("GF_TakeSheet", take=["3", 0], columns=3),
        "8": node("PreviewImage", images=["7", 0]),
    }


SAID = """() => {
  const of = (id) => { const node = window.app.graph._nodes.find((one) => String(one.id) === id);
    return [...document.querySelectorAll('.gf-board, .gf-live, .gf-shown')].find((one) => one.graphNode === node); };
  const [text, src] = [(id) => of(id)?.querySelector('.gf-text')?.innerText ?? '', (img) => img?.naturalWidth || 0];
  return {
    thumbs: of('1')?.querySelectorAll('.gf-pictured').length, last: src(of('3')?.querySelector('.gf-screen img')),
    said: of('3')?.querySelector('.gf-said').innerText, gauge: of('3')?.querySelector('.gf-gauge > div').style.width,
    kept: of('3')?.querySelector('.gf-report').innerText.split('\\n').length,
    film: text('4'), plays: of('4')?.querySelector('video').videoWidth,
    note: of('4')?.querySelector('.gf-note').innerText, report: text('5').split('\\n')[0].slice(0, 4),
    drift: text('6').slice(0, 6), chart: src(of('6')?.querySelector('img')),
    sheet: src(of('7')?.querySelector('img')) };
}"""
TALL = """() => { const node = window.app.graph._nodes.find((one) => one.type === 'GF_SaveVideo');
  return document.querySelector(`[data-node-id="${node.id}"]`)?.offsetHeight ?? node.size[1]; }"""
WHOLE = {
    "thumbs": 2,
    "gauge": "100%",
    "plays": 768,
    "note": "",
    "report": "film",
    "drift": "shot 1",
    "chart": 1400,
}


def check(browser: Browser, film: str) -> dict[str, Any]:
    """Everything is there; what the page says."""
    said: dict[str, Any] = {}
    until = time.monotonic() + 30
    while time.monotonic() < until and not all(
        said.get(part) for part in ("plays", "chart", "thumbs", "last")
    ):
        browser.page.wait_for_timeout(300)
        said = browser.page.evaluate(SAID)
    assert {name: said[name] for name in WHOLE} == WHOLE, said
    assert said["last"] > 90 and said["sheet"] > 300 and said["film"] == f"saved as {film}", said
    assert said["kept"] >= 3, said  # lines of the report
    return said


@pytest.fixture(scope="module", params=[False, True], ids=["litegraph", "nodes-2.0"])
def browser(server: Server, request: pytest.FixtureRequest) -> Iterator[Browser]:
    with open_browser(server, settings={"Comfy.VueNodes.Enabled": request.param}) as opened:
        opened.mode = "vue" if request.param else "litegraph"  # type: ignore[attr-defined]
        yield opened


@BROWSER
def test_what_was_said_stays_said(browser: Browser, server: Server) -> None:
    """After a Run, an undo, opening it again, a reload, a cached Run, and when the host was started anew."""
    take = f"said_{browser.mode}"  # type: ignore[attr-defined]
    film = f"{take}/film_00001_.mp4"
    browser.load_api(graph(take))
    browser.errors.clear()
    assert browser.queue() == "success"
    check(browser, film)
    workflow = browser.serialize()
    browser.load(workflow)  # what undo does, and what another tab and back again does
    check(browser, film)
    browser.reload()
    browser.load(workflow)
    check(browser, film)
    assert browser.queue() == "success"
    check(browser, film)
    assert len(list((server.base / "output" / take).iterdir())) == 1
    assert browser.errors == []
    server.stop()
    server.start()
    browser.reload()
    browser.load(workflow)
    check(browser, film)
    assert browser.queue() == "success"
    # A host that was started anew knows of no film that it saved.
    said = check(browser, f"{take}/film_00002_.mp4")
    assert said["said"] == "2.06 s of film as it was: nothing had to be made"
    assert [
        error for error in browser.errors if "grounded" in error.lower()
    ] == []  # the page missed its host


@BROWSER
def test_the_film_of_another_text_is_told_as_such(browser: Browser) -> None:
    """A Take's name is free, and a film of one's own may be made under a template's."""
    take = f"other_{browser.mode}"  # type: ignore[attr-defined]
    one = graph(take, "a blue owl sleeps in the snow at night | 0.75s\n")
    browser.load_api({key: one[key] for key in "12345"})
    browser.errors.clear()
    assert browser.queue() == "success"
    browser.load_api(graph(take, "a red fox walks right in a meadow at noon | 0.75s\n"))
    browser.wait_until(f'() => ({SAID})().said.startsWith("another storyboard\'s last film, 0.56 s of film")')
    browser.wait_until(f'() => ({SAID})().note === "About another storyboard\'s last film."')
    assert browser.queue() == "success"
    said = browser.page.evaluate(SAID)
    assert said["said"].startswith("0.56 s of film") and said["note"] == "" and browser.errors == []


@BROWSER
def test_a_node_that_is_added_behind_a_film_shows_it(browser: Browser) -> None:
    whole = graph("added")
    browser.load_api({key: whole[key] for key in ("1", "2", "3", "4")})
    browser.errors.clear()
    assert browser.queue() == "success"
    browser.page.evaluate(
        """() => { const {graph} = window.app; const sampler = graph._nodes.find((n) => n.type === 'GF_StreamSampler');
             for (const kind of ['GF_TakeReport', 'GF_TakeDrift']) {
               const node = window.LiteGraph.createNode(kind); graph.add(node); sampler.connect(0, node, 0); } }"""
    )
    texts = "[...document.querySelectorAll('.gf-text')].map((one) => one.innerText)"
    browser.wait_until(f"() => {texts}.some((text) => text.startsWith('film'))")  # before any Run
    assert browser.queue() == "success"
    browser.wait_until(f"() => {texts}.some((text) => text.startsWith('shot 1'))")
    assert browser.errors == []


@BROWSER
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "prores", "png"])
def test_the_film_that_was_saved_is_shown_in_every_codec(
    browser: Browser, server: Server, codec: str
) -> None:
    codecs = server.object_info()["GF_SaveVideo"]["input"]["required"]["codec"]
    choices = codecs[1]["options"] if codecs[0] == "COMBO" else codecs[0]
    if codec not in choices:
        pytest.skip(f"{codec} cannot be encoded here")
    take = "codecs"
    whole = graph(take, "@seed 7\na red fox walks right in a meadow at noon | 0.75s\n", codec=codec)
    whole["4"]["inputs"]["filename_prefix"] = f"{take}/{browser.mode}_{codec}"  # type: ignore[attr-defined]
    browser.load_api({key: whole[key] for key in ("1", "2", "3", "4")})
    browser.errors.clear()
    tall = browser.page.evaluate(TALL)
    assert browser.queue() == "success"
    browser.wait_until("() => document.querySelector('.gf-film').videoWidth > 0", 30)
    browser.wait_until(f"() => ({SAID})().film", 30)
    said = browser.page.evaluate(SAID)
    name = f"{browser.mode}_{codec}_00001_"  # type: ignore[attr-defined]
    assert said["film"].startswith(f"saved as {take}/{name}")
    assert said["film"].endswith("connect vae to encode from its latents, so only once")
    source = browser.page.evaluate("() => document.querySelector('.gf-film').currentSrc")
    if name in source:
        assert said["note"] == "" and codec not in ("prores", "png")
    else:
        assert "filename=film.mp4" in source and f"take{take}" not in source
        assert codec in said["note"] and said["note"].endswith("below is the Take's own film."), said
    assert browser.page.evaluate(TALL) == tall, "the film fits into its node"
    menu = browser.page.evaluate(
        """() => { const node = window.app.graph._nodes.find((n) => n.type === 'GF_SaveVideo');
             const items = window.app.extensions.flatMap((one) => one.getNodeMenuItems?.(node) ?? []);
             return items.map((one) => one?.content); }"""
    )
    assert "Copy the path of the film" in menu and any("Save the" in entry for entry in menu if entry)
    assert [error for error in browser.errors if "grounded" in error] == []


@pytest.fixture(scope="module")
def made(server: Server) -> str:
    """A Take with a film, on a host that only its routes are asked of."""
    server.make(graph("monday/routes", TEXT))
    return "monday/routes"


def test_a_take_says_what_its_nodes_show(made: str, server: Server) -> None:
    facts = server.get(f"/grounded/take?take={quote(made)}")
    assert sorted(facts) == [
        "GF_SaveVideo",
        "GF_SegmentTakes",
        "GF_StreamSampler",
        "GF_TakeDrift",
        "GF_TakeReport",
        "GF_TakeSheet",
    ]
    [sampler] = facts["GF_StreamSampler"]
    assert sampler["timeline"] == TEXT and sampler["take"] == made and sampler["share"] == 1.0
    assert list(sampler["pictures"]) == ["0", "2"], "places in the text, the muted one counted"
    for address in (*sampler["pictures"].values(), sampler["picture"], f"{sampler['any']}3"):
        with Image.open(io.BytesIO(server.read(address))) as picture:
            assert max(picture.size) <= 256
    for kind in ("GF_TakeDrift", "GF_TakeSheet"):
        assert server.read(facts[kind][0]["picture"])[:4] == b"\x89PNG"
    assert server.read(facts["GF_SaveVideo"][0]["film"])[4:8] == b"ftyp"
    assert facts["GF_TakeSheet"][0]["of"] == {"columns": 3}


def test_what_is_gone_is_not_shown(made: str, server: Server) -> None:
    saved = Path(server.get(f"/grounded/take?take={quote(made)}")["GF_SaveVideo"][0]["path"])
    away = saved.with_suffix(".away")
    saved.rename(away)
    assert server.get(f"/grounded/take?take={quote(made)}")["GF_SaveVideo"] == []
    away.rename(saved)
    run = server.base / "output" / "grounded" / "takes" / made / "run-0001"
    film = run / "film.mp4"
    shutil.copy2(film, away)
    with film.open("ab") as more:
        more.write(b"more")  # another film, as when a render went on
    facts = server.get(f"/grounded/take?take={quote(made)}")
    away.replace(film)
    assert facts["GF_TakeDrift"] == facts["GF_TakeSheet"] == [] and facts["GF_StreamSampler"]


@pytest.mark.parametrize(
    "name", ["", "no such", "../../..", "..", "run-0001", "monday", "a/../b", "x" * 300, "\x00"]
)
def test_a_take_that_is_none_shows_nothing(server: Server, name: str) -> None:
    assert server.get(f"/grounded/take?take={quote(name)}") == {}


@pytest.mark.parametrize(
    "asked",
    [
        "run=run-0001&frame=9999",
        "run=run-0009&frame=0",
        "run=../run-0001&frame=0",
        "frame=0",
        "run=run-0001&frame=-1",
        "run=run-0001",
    ],
)
def test_a_picture_that_is_none_is_not_found(made: str, server: Server, asked: str) -> None:
    with pytest.raises(HTTPError) as refusal:
        server.read(f"/grounded/picture?take={quote(made)}&{asked}")
    assert refusal.value.code == 404


def test_a_damaged_note_costs_only_itself(made: str, server: Server) -> None:
    run = server.base / "output" / "grounded" / "takes" / made / "run-0001"
    note = run / "shown" / "GF_TakeDrift.json"
    kept = note.read_bytes()
    for damage in (b"", b"{", b"[]", b'{"film": 1}', json.dumps({"facts": 3, "film": []}).encode()):
        note.write_bytes(damage)
        facts = server.get(f"/grounded/take?take={quote(made)}")
        assert facts["GF_TakeDrift"] == [] and facts["GF_TakeReport"]
    note.write_bytes(kept)
