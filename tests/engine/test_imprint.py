"""What a film says about itself."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image

from gf_core.engine.imprint import film_chapters, film_metadata
from gf_core.engine.render import render_film
from gf_core.errors import TakeError
from gf_core.take.folder import Run
from gf_core.take.journal import encode_record
from gf_core.video import read_chapters, read_metadata

pytestmark = pytest.mark.usefixtures("own_cache")

TEXT = "@seed 4\na fox runs | 1.5s\nthen: it jumps | 1.5s\ncut: a hen | 0.75s | seed 3\n"


def test_the_film_carries_text_settings_seeds_versions_and_chapters(bundle, tmp_path):
    result = render_film(bundle, TEXT, tmp_path / "fox.mp4", sheet=False)
    found = read_metadata(result.path)
    facts = json.loads(found["grounded"])
    assert found["timeline"] == TEXT and found["title"] == "fox"
    assert facts["settings"] == json.loads((result.run / "settings.json").read_text())
    assert facts["settings"]["segments"][2]["seed"] == 3
    assert facts["settings"]["model"]["fingerprint"] == bundle.fingerprint
    assert facts["versions"]["torch"] and facts["start_image"] is False
    chapters = read_chapters(result.path)
    assert [chapter.title for chapter in chapters] == ["1. a fox runs", "2. then: it jumps", "3. cut: a hen"]
    # Chapter times are whole milliseconds.
    assert [round(chapter.end_seconds * 16, 1) for chapter in chapters] == [21, 45, 57]


def test_a_start_image_shows(bundle, tmp_path):
    Image.new("RGB", (32, 32), (128, 90, 128)).save(tmp_path / "start.png")
    result = render_film(bundle, TEXT, tmp_path / "fox.mp4", start_image=tmp_path / "start.png", sheet=False)
    assert film_metadata(Run(result.run))["grounded"]["start_image"] is True
    assert film_chapters(Run(result.run))[0].end_seconds == 25 / 16


@pytest.mark.parametrize("start", [True, False])
def test_a_start_shows_where_the_first_chunk_is_a_short_one(bundle, tmp_path, start):
    """Of one latent frame: with a start's it has fewer pictures than a chunk of three without."""
    Image.new("RGB", (32, 32), (128, 90, 128)).save(tmp_path / "start.png")
    recipe = replace(bundle.recipe, sample=replace(bundle.recipe.sample, first_chunk_frames=1))
    given = {"start_image": tmp_path / "start.png"} if start else {}
    result = render_film(bundle, TEXT, tmp_path / "fox.mp4", recipe=recipe, sheet=False, **given)
    assert film_metadata(Run(result.run))["grounded"]["start_image"] is start


WHOLE = {
    "kind": "chunk", "index": 0, "segment": 9, "key": "k", "latents": "", "anchor": None,
    "first_frame": 0, "frames": 1, "film_bytes": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("settings", b"{", "settings"),
        ("journal", encode_record({"kind": "chunk", "index": 0}), "another version"),
        (
            "journal",
            encode_record({"kind": "chunk", "segment": 9, "first_frame": 0, "frames": 1}),
            "another version",
        ),
        ("journal", encode_record(WHOLE), "another film"),
        ("journal", encode_record({**WHOLE, "segment": -1}), "another film"),
    ],
    ids=str,
)
def test_what_is_damaged_or_of_another_film_or_version_is_said(bundle, tmp_path, name, content, words):
    run = Run(render_film(bundle, TEXT, tmp_path / "fox.mp4", sheet=False).run)
    getattr(run, name).write_bytes(content)
    with pytest.raises(TakeError, match=words):
        film_chapters(run)
