"""Pictures of the cast: which segment gives them to the memory, what they change, and the same bytes every way."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from gf_core.config import MemorySpec
from gf_core.engine.events import Reused, StepDone
from gf_core.engine.film import Film, look, settle
from gf_core.engine.session import Session
from gf_core.errors import GroundedError, StoryboardError
from gf_core.memory.presets import PRESETS
from gf_core.sampling.film import Cues, film_chunks
from gf_core.take.folder import Take
from gf_core.timeline import make_plan, parse

CAST = "@cast mara = a woman | mara.png\n@cast boat = a boat | boat.png\n"
TEXT = f"{CAST}{{mara}} waits | 1.5s\nthen: {{boat}} comes to {{mara}} | 1.5s\ncut: a hen | 1s\n"
ENDS = f"{TEXT}scene: {{mara}} sleeps | 1.5s\nback to 1: {{boat}} leaves {{mara}} | 1.5s\n"


def paint(folder, **greys):
    folder.mkdir(exist_ok=True)
    for name, grey in greys.items():
        Image.new("RGB", (32, 32), (grey, 255 - grey, grey // 2)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    return paint(tmp_path / "board", mara=200, boat=40)


def made(film, place, until=None):
    events = []
    with Take.open(place) as take:
        found = look(film, place, until)
        Session(take, found).play(events.append)
        run = take.runs()[-1]
        return events, run, [record["latents"] for record in run.committed()], run.film.read_bytes()


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("{mara} waits\nthen: {boat} comes\ncut: {mara} sleeps", [["mara"], ["boat"], []]),
        (
            "a hen\ncut: {mara} and {boat}\nscene: {boat}\nthen: {mara}",
            [[], ["mara", "boat"], ["boat"], ["mara"]],
        ),
        ("{mara} | mute\nthen: {mara} waits\nscene: a hen | mute\nthen: {mara}", [["mara"], ["mara"]]),
        ("@cast crew = {mara} on {boat}\n@style with {mara}\na hen\ncut: {crew}", [["mara"], ["boat"]]),
        ("@cast twin = her sister | mara.png\n{mara}\nthen: {twin}", [["mara"], []]),
        (
            "{mara}\nscene: {boat}\nback to 1: {mara} and {boat}\nback to 2: {boat}",
            [["mara"], ["boat"], ["boat"], []],
        ),
    ],
    ids=["once each", "again behind a scene", "muted lines", "in other words", "one picture of two", "back"],
)
def test_a_picture_is_given_where_somebody_first_appears(text, given):
    plan = make_plan(parse(CAST + text))
    assert [list(segment.pictures) for segment in plan.segments] == [
        [f"{name}.png" for name in names] for names in given
    ]


def test_it_decides_the_film_from_there_on(bundle, tmp_path, folder):
    with_it = made(settle(bundle, TEXT, folder=folder), tmp_path / "a")[2]
    without = made(settle(bundle, TEXT.replace(" | boat.png", ""), folder=folder), tmp_path / "b")[2]
    none = made(settle(bundle, TEXT.replace(" | boat.png", "").replace(" | mara.png", "")), tmp_path / "c")[2]
    assert with_it[:2] == without[:2] and not set(with_it[2:]) & set(without[2:])
    assert not set(without) & set(none)


MEMORIES = {
    "own": MemorySpec(anchors=2, recent=3),
    "one anchor": MemorySpec(anchors=1, recent=3),
    "frame-wise": MemorySpec(anchors=2, recent=2, chunk=1),
    **{
        name: PRESETS[name]
        for name in (
            "longlive",
            "infinity_rope",
            "sgf",
            "context_forcing",
            "krea",
            "rolling_forcing",
            "memrope",
        )
    },
    "packed": MemorySpec(anchors=2, recent=3, stored="int8"),
    "rebuilt": replace(PRESETS["longlive"], recache_keeps_anchors=False),
}


QUICK = ("own", "frame-wise", "rolling_forcing", "packed")
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MEMORIES]


@pytest.mark.parametrize("name", EACH)
def test_stopped_and_gone_on_with_it_has_the_same_bytes(bundle, tmp_path, folder, name):
    bundle.recipe = replace(bundle.recipe, memory=MEMORIES[name])
    film = settle(bundle, ENDS, folder=folder)
    _, _, *whole = made(film, tmp_path / "whole")
    for states in (True, False):
        place = tmp_path / f"t{states}"
        made(film, place, until=2)
        if not states:
            shutil.rmtree(place / "states", ignore_errors=True)
        events, run, *again = made(film, place)
        assert again == whole and run.folder.name == "run-0001"
        first_new = film.plan.segments[2].first_chunk
        assert min(event.index for event in events if isinstance(event, StepDone)) == first_new


def test_what_is_seen_counts_and_not_the_files_name(bundle, tmp_path, folder):
    first = settle(bundle, TEXT, folder=folder)
    moved = paint(tmp_path / "other", anna=200, boat=40)
    renamed = settle(bundle, TEXT.replace("mara.png", "anna.png"), folder=moved)
    assert renamed.plan.chunk_keys == first.plan.chunk_keys
    repainted = settle(bundle, TEXT, folder=paint(tmp_path / "third", mara=200, boat=41))
    same = [a == b for a, b in zip(repainted.plan.chunk_keys, first.plan.chunk_keys)]
    assert same == [place[0] == 0 for place in first.plan.places]
    made(first, tmp_path / "t")
    events, _, *_ = made(repainted, tmp_path / "t")
    (reused,) = [event for event in events if isinstance(event, Reused)]
    assert (reused.chunks, reused.changed) == (2, "segment 2: the picture boat.png")


def test_pictures_fill_the_first_anchors_and_stay_until_a_scene(bundle, folder):
    bundle.recipe = replace(
        bundle.recipe,
        memory=MemorySpec(anchors=2, recent=3, anchor_update="every_chunk", anchor_policy="paper"),
    )
    film = settle(bundle, ENDS.replace("1s", "9s"), folder=folder)
    sampler = bundle.sampler(film.recipe)
    mara, boat = (bundle.codec.encode(p) for p in film.pictures.values())
    memory = sampler.director.memory
    embeds = [rows[None] for rows in bundle.text.encode([s.prompt for s in film.plan.segments])]
    seen = []
    with torch.no_grad():
        for clean in film_chunks(
            sampler, Cues(film.plan, embeds, {"mara.png": mara[None], "boat.png": boat[None]})
        ):
            seen.append(film.plan.places[clean.index][0])
            held = memory.anchor_latents[0, : memory.layout.anchors]
            if seen[-1] == 0:
                assert torch.equal(held[0], mara[0]) and memory.ledger.pictures == 1
            elif seen[-1] < 3:
                assert torch.equal(held, torch.cat([mara, boat]))
            elif seen[-1] == 3:
                assert torch.equal(held[0], mara[0]) and memory.ledger.pictures == 1
            else:
                assert torch.equal(held, torch.cat([mara, boat]))
    assert seen[-1] == 4


def test_the_oldest_of_too_many_pictures_leaves(bundle, folder):
    bundle.recipe = replace(bundle.recipe, memory=MemorySpec(anchors=1, recent=3))
    director = bundle.sampler(bundle.recipe).director
    with torch.no_grad():
        director.start(bundle.text.encode(["a hen"])[0][None])
        for value in (1.0, 2.0):
            director.give(torch.full((1, 1, 16, 4, 4), value))
    assert director.memory.layout.anchors == 1 and (director.memory.anchor_latents == 2.0).all()


def test_a_picture_that_cannot_be_used_is_told_with_its_line(bundle, tmp_path, folder):
    (folder / "boat.png").unlink()
    with pytest.raises(StoryboardError, match=r"line 2.*there is no picture boat.png of boat in board"):
        settle(bundle, TEXT, folder=folder)
    with pytest.raises(StoryboardError, match=r"did you mean mara.png\?"):
        settle(bundle, TEXT.replace("mara.png", "maar.png"), folder=folder)
    (folder / "boat.png").write_text("no picture")
    with pytest.raises(StoryboardError, match=r"line 2.*the picture of boat"):
        settle(bundle, TEXT, folder=folder)
    with pytest.raises(StoryboardError, match=r"line 2.*there is no picture"):
        settle(bundle, TEXT.replace("boat.png", f"{'x' * 300}.png"), folder=folder)
    assert settle(bundle, f"{CAST}{{mara}} waits | 1s", folder=folder).pictures.keys() == {"mara.png"}


@pytest.mark.parametrize(
    ("memory", "words"),
    [(PRESETS["self_forcing"], "keeps no anchors"), (PRESETS["reward_forcing"], "averages its anchors")],
)
def test_a_memory_without_a_place_for_pictures_is_refused(bundle, tmp_path, folder, memory, words):
    film = settle(bundle, TEXT, folder=folder, recipe=replace(bundle.recipe, memory=memory))
    with pytest.raises(GroundedError, match=words):
        look(film, tmp_path / "t")
    look(film.retold("a hen | 1s"), tmp_path / "t")


def test_settings_name_pictures_without_their_folder(bundle, folder):
    film = settle(bundle, TEXT, folder=folder)
    assert str(folder) not in str(film.settings)
    assert list(film.settings["segments"][1]["pictures"]) == ["boat.png"]
    assert "pictures" not in Film(bundle, "a hen", bundle.recipe).settings["segments"][0]
