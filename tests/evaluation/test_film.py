"""From storyboard and frames to a verdict, on rendered truth."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gf_core.config import Encoding, Recipe, VideoSpec
from gf_core.engine.given.start import StartFile
from gf_core.errors import GroundedError
from gf_core.evaluation import film as film_module
from gf_core.evaluation import parts as parts_module
from gf_core.evaluation.film import evaluate_film, judge, shrink, spans_of
from gf_core.evaluation.report import text_report
from gf_core.video import Chapter
from gf_core.video.writer import FilmWriter
from gf_core.world import render, sample_script, storyboard
from gf_core.world.reader import load_reader

from ..films import film_at


@pytest.fixture(scope="module")
def script():
    return sample_script(random.Random(77), 12, "return")


def test_spans_follow_the_script(script) -> None:
    spans, fps = spans_of(storyboard(script))
    assert fps == 16
    assert [(s.start, s.stop, s.verb) for s in spans] == [
        (s.first_frame, s.first_frame + s.frames, s.verb) for s in script.segments
    ]
    for span, segment in zip(spans, script.segments):
        assert span.asked.subject == segment.character.subject
        assert (span.asked.place, span.asked.time) == (segment.place.place, segment.place.time)


def test_a_film_that_was_stopped_early_is_judged_as_far_as_it_goes(script) -> None:
    stop = script.segments[1].first_frame + 5
    spans, _ = spans_of(storyboard(script), stop)
    assert [s.stop for s in spans] == [script.segments[0].frames, stop]


def test_it_after_a_scene_means_nobody() -> None:
    spans, _ = spans_of("a red fox jumps in a meadow | 3s\nscene: it sleeps in a forest | 3s\n")
    assert spans[1].asked.subject is None


def test_shrink_averages_and_refuses_other_sizes() -> None:
    small = np.random.default_rng(0).integers(0, 255, (2, 64, 96, 3), np.uint8)
    assert np.array_equal(shrink(small.repeat(4, 1).repeat(4, 2)), small)
    with pytest.raises(GroundedError, match="832x480"):
        shrink(np.zeros((1, 480, 832, 3), np.uint8))


def test_truth_gets_full_marks_and_a_changed_hat_is_found(script) -> None:
    spans, fps = spans_of(storyboard(script))
    frames = render(script).frames
    result, _ = judge(frames, spans, fps, load_reader())
    assert min(result["adherence"].values()) > 0.6
    assert result["identity"]["return_hidden"] > 0.85
    # The second segment's character instead of the first one's: subject and identity must fall.
    wrong = frames.copy()
    last, other = spans[-1], spans[1]
    n = min(last.stop - last.start, other.stop - other.start)
    wrong[last.start : last.start + n] = frames[other.start : other.start + n]
    worse, _ = judge(wrong, spans, fps, load_reader())
    assert worse["identity"]["return_subject"] + worse["identity"]["return_colour"] < 1.5
    assert worse["identity"]["return_hidden"] < result["identity"]["return_hidden"]


def test_evaluate_film_reads_a_written_film(script, tmp_path: Path) -> None:
    frames = render(script).frames
    film = tmp_path / "film.mp4"
    writer = FilmWriter(film, VideoSpec(96, 64, 16), Encoding(upscale=4))
    writer.write(frames)
    writer.close()
    text = storyboard(script)
    result = evaluate_film(film, text, tmp_path / "r.json", tmp_path / "r.png")
    assert result["frames"] == len(frames)
    assert min(result["adherence"][name] for name in ("subject", "colour", "place")) > 0.6
    assert json.loads((tmp_path / "r.json").read_text())["film"] == "film.mp4"
    assert (tmp_path / "r.png").stat().st_size > 10_000
    assert "follows the prompt" in text_report(result)


@pytest.mark.parametrize("told", ["by the film", "by the storyboard", "by its chapters", "by nobody"])
def test_the_pictures_of_a_start_are_no_segments(script, tmp_path: Path, monkeypatch, told) -> None:
    """The film goes on from twelve pictures (nine, as whole latent frames), which show another character."""
    ours, other = script.segments[0], script.segments[1]
    frames = render(script).frames
    given = frames[other.first_frame :][:12]
    film = film_at(tmp_path / "film.mp4", np.concatenate([given, frames[:21]]))
    text = "\n".join(storyboard(script).splitlines()[:1]).split("|")[0] + "| 1.3125s"
    prompt, start = text.split(" |")[0], StartFile("a.mp4", "0", 9)
    made = SimpleNamespace(
        builtin=True, recipe=Recipe(), start_image=told != "by nobody",
        start=start if told in ("by the film", "by the storyboard") else None,
        segments=[{"verb": "start", "prompt": prompt, "chunks": 2}],
    )  # fmt: skip
    for module, name in ((film_module, "recorded"), (parts_module, "read_recorded")):
        monkeypatch.setattr(module, name, lambda path: made)
    monkeypatch.setattr(parts_module, "read_chapters", lambda path: [Chapter(0.0, 33 / 16, "1")])
    result = evaluate_film(film, text if told == "by the storyboard" else None)
    first = result["segments"][0]
    if told == "by nobody":
        assert first["start_seconds"] == 0 and "start_frames" not in result
        return
    assert first["start_seconds"] == 12 / 16 and first["seconds"] == 21 / 16
    assert first["read"]["subject"]["read"] == ours.character.subject != other.character.subject
    assert [row["second"] for row in result["identity_by_second"]] == [12 / 16]
    assert "not judged           the first 12 pictures" in text_report(result)
