"""From text to a finished film with its sheet and report, in one call."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gf_core.config import Encoding, MemorySpec, Recipe, SampleSpec, VideoSpec
from gf_core.engine.events import Finished, StepDone
from gf_core.engine.render import output_path, render_film
from gf_core.engine.report import report_lines
from gf_core.errors import GroundedError, ResourceError, StoryboardError, TakeError
from gf_core.files import atomic
from gf_core.take.folder import Run, Take
from gf_core.timeline import parse
from gf_core.video import place, probe, read_frames, read_metadata

from .conftest import stopping

pytestmark = pytest.mark.usefixtures("own_cache")

TEXT = "@seed 4\na fox runs | 1.5s\nthen: it jumps | 1.5s\ncut: a hen | 0.75s\n"


def test_text_becomes_a_film_a_sheet_and_a_report(bundle, tmp_path):
    told = []
    result = render_film(bundle, TEXT, tmp_path / "films" / "fox.mp4", on_budget=told.append)
    assert result.path == tmp_path / "films" / "fox.mp4"
    assert probe(result.path).frames == told[0].frames == result.report["film"]["frames"]
    assert parse(read_metadata(result.path)["timeline"]) == parse(TEXT)
    assert json.loads(result.report_path.read_text())["speed"]["fps"] > 0
    assert result.report["estimate"]["disk"]["measured"] > result.path.stat().st_size
    assert result.sheet is not None
    with Image.open(result.sheet) as sheet:
        assert sheet.width > 300 and sheet.height > 300
    assert (result.run / "journal.jsonl").exists()


@pytest.mark.parametrize("killed", ["film.mp4", "film_sheet.png", "film_report.json"])
def test_what_a_kill_at_the_very_end_left_beside_the_film_goes_with_its_next_render(
    bundle, tmp_path, monkeypatch, killed
):
    """And nobody else's: another Take may be placing a film of that name."""
    out, text = tmp_path / "films" / "film.mp4", "a fox | 0.75s"
    render_film(bundle, text, out, take_folder=tmp_path / "take")
    whole = {path.name: path.read_bytes() for path in out.parent.iterdir() if path.suffix != ".json"}
    for path in out.parent.iterdir():
        path.unlink()
    with monkeypatch.context() as here:

        def stop(part: Path, *rest: object) -> None:
            if part.name.startswith(f".{killed}."):
                here.setattr(Path, "unlink", lambda *given, **named: None)
                raise KeyboardInterrupt
            atomic.sync_file(part)
            if rest:
                os.replace(part, str(rest[0]))

        here.setattr(atomic, "put", stop)
        here.setattr(place, "sync_file", stop)
        with pytest.raises(KeyboardInterrupt):
            render_film(bundle, text, out, take_folder=tmp_path / "take")
    (left,) = [path.name for path in out.parent.iterdir() if path.name not in whole]
    assert left.startswith(f".{killed}.")
    other = out.with_name(left.replace(left.split(".")[-2], "0123abcd"))
    other.write_bytes(b"half")
    (out.parent / left).unlink()
    (out.parent / left).symlink_to(tmp_path / "mine")  # never followed
    render_film(bundle, text, out, take_folder=tmp_path / "take")
    assert not (tmp_path / "mine").exists()
    there = {path.name for path in out.parent.iterdir()}
    assert there == {*whole, "film_report.json", other.name}
    assert all((out.parent / name).read_bytes() == data for name, data in whole.items())


def test_a_take_and_its_copy_have_marks_of_their_own(tmp_path):
    def mark(name: str) -> str:
        with Take.open(tmp_path / name) as take:
            (take.folder / "keep").touch()
            return take.mark

    first = mark("a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").rename(tmp_path / "c")
    assert mark("c") == mark("c") == first and mark("b") == mark("b") != first
    assert re.fullmatch("[0-9a-f]{8}", first)


def test_a_run_that_can_no_longer_be_listed_took_nobody_knows_how_much(bundle, tmp_path, unlisted, caplog):
    """The film is made all the same."""

    def listen(event):
        if isinstance(event, Finished):
            unlisted(event.path.parent / "latents")

    result = render_film(bundle, "a fox | 0.75s", tmp_path / "fox.mp4", sheet=False, listener=listen)
    assert result.path.is_file() and result.report["estimate"]["disk"]["measured"] is None
    assert "latents cannot be listed: Input/output error" in caplog.text
    assert not any("(took" in part for part in str(report_lines(result.report)).split("disk")[1:])


def test_the_report_in_the_take_tells_of_the_making(bundle, tmp_path):
    """Estimate and notes included; a render that finds the film finished leaves it as it is."""
    bundle.notes = ("a patch has no effect",)
    first = render_film(bundle, TEXT, tmp_path / "fox.mp4", sheet=False, take_folder=tmp_path / "take")
    kept = json.loads(Run(first.run).report.read_text())
    assert kept == json.loads(first.report_path.read_text())
    lines = report_lines(kept)
    assert "note     a patch has no effect" in lines
    assert any(line.startswith("estimate") and "disk" in line for line in lines)
    again = render_film(bundle, TEXT, tmp_path / "fox.mp4", sheet=False, take_folder=tmp_path / "take")
    assert again.run == first.run and json.loads(Run(first.run).report.read_text()) == kept


def test_both_sizes_are_said_where_a_film_is_enlarged(bundle, tmp_path):
    told = []
    render_film(
        bundle, TEXT, tmp_path / "fox.mp4", sheet=False, encoding=Encoding(upscale=2), on_budget=told.append
    )
    assert "made at 32x32, shown at 64x64" in told[0].lines()[0]


def test_a_second_render_takes_the_next_name_and_the_same_bytes(bundle, tmp_path):
    first = render_film(bundle, TEXT, tmp_path / "fox.mp4", sheet=False)
    second = render_film(bundle, TEXT, tmp_path / "fox.mp4", sheet=False, take_folder=tmp_path / "other")
    assert (first.path.name, second.path.name) == ("fox.mp4", "fox-2.mp4")
    assert second.report_path.name == "fox-2_report.json" and first.run != second.run
    assert (first.run / "film.mp4").read_bytes() == (second.run / "film.mp4").read_bytes()


def test_a_film_that_lies_there_is_not_placed_again(bundle, tmp_path):
    first = render_film(bundle, TEXT, tmp_path / "fox.mp4", sheet=False)
    told = []
    second = render_film(bundle, TEXT, tmp_path / "fox.mp4", listener=told.append)
    assert second.run == first.run and second.path == first.path and second.there and not first.there
    assert second.sheet is not None and not any(isinstance(event, StepDone) for event in told)
    assert json.loads(first.report_path.read_text())["seconds"]["first chunk"] > 0  # of the making
    first.path.write_bytes(b"an edit of mine")
    third = render_film(bundle, TEXT, tmp_path / "fox.mp4", sheet=False)
    assert (third.path.name, third.there, first.path.read_bytes()) == ("fox-2.mp4", False, b"an edit of mine")
    other = render_film(bundle, TEXT, tmp_path / "hen.mp4", sheet=False, take_folder=tmp_path / "fox.take")
    assert other.run == first.run and not other.there


def test_a_film_can_stop_after_a_segment_and_go_on_later(bundle, tmp_path):
    half = render_film(bundle, TEXT, tmp_path / "fox.mp4", until=2)
    whole = render_film(bundle, TEXT, tmp_path / "fox.mp4")
    assert half.sheet is not None and whole.report["reuse"]["segments"] == 2
    assert probe(half.path).frames < probe(whole.path).frames and half.run == whole.run


def test_speed_is_remembered_for_the_next_estimate(bundle, tmp_path):
    told = []
    for name in ("fox", "hen"):
        render_film(bundle, TEXT, tmp_path / f"{name}.mp4", sheet=False, on_budget=told.append)
    assert told[0].minutes is None and told[1].minutes > 0


def test_size_fps_upscale_and_start_image(bundle, tmp_path):
    Image.new("RGB", (200, 100), (128, 128, 128)).save(tmp_path / "start.png")
    result = render_film(
        bundle,
        TEXT,
        tmp_path / "fox.mp4",
        recipe=replace(bundle.recipe, video=VideoSpec(width=48, height=32, fps=8)),
        encoding=Encoding(upscale=2),
        start_image=tmp_path / "start.png",
    )
    info = probe(result.path)
    assert (info.width, info.height, info.fps) == (96, 64, 8)
    assert np.abs(next(iter(read_frames(result.path))).astype(int) - 128).mean() < 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": MemorySpec()}, "recipe is a MemorySpec, not a Recipe"),
        ({"encoding": "h264"}, "encoding is a str, not a Encoding"),
        ({"encoding": Encoding(quality=-5)}, "quality -5"),
        ({"encoding": Encoding(upscale=0)}, "enlargement 0"),
        (
            {"recipe": Recipe(MemorySpec(positions="sideways"), video=VideoSpec(32, 32))},
            "no positions called",
        ),
        ({"recipe": Recipe(sample=SampleSpec(steps=()), video=VideoSpec(32, 32))}, "step list is empty"),
        ({"until": "2"}, "after segment '2'"),
        ({"until": -1}, "after segment -1"),
        ({"until": 1.5}, "after segment 1.5"),
        ({"start_image": 3}, "start_image is a int, not the name of a file"),
        ({"take_folder": 3}, "take_folder is a int"),
    ],
)
def test_settings_that_cannot_be_leave_no_take_behind(bundle, tmp_path, options, words):
    with pytest.raises(GroundedError, match=words):
        render_film(bundle, TEXT, tmp_path / "films" / "fox.mp4", **options)
    assert not (tmp_path / "films").exists()


@pytest.mark.parametrize("text", [3, None, b"a fox"])
def test_a_storyboard_is_text(bundle, tmp_path, text):
    with pytest.raises(GroundedError, match="not text"):
        render_film(bundle, text, tmp_path / "fox.mp4")


@pytest.mark.parametrize(
    ("out", "placed"),
    [
        ("fox", "fox.mp4"),
        ("films/shot1.5", "films/shot1.5.mp4"),
        ("fox.final", "fox.final.mp4"),
        ("there", "there/name.mp4"),
        ("there/", "there/name.mp4"),
        ("new/", "new/name.mp4"),
        ("fox.MOV", "fox.MOV"),
        ("fox.mkv", "fox.mkv"),
        (".", "name.mp4"),
        ("狐" * 83, "狐" * 83 + ".mp4"),
    ],
)
def test_where_a_film_goes(tmp_path, monkeypatch, out, placed):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    assert output_path(out, "name") == Path(placed)


@pytest.mark.parametrize(
    "out",
    [
        "x.webm",
        "x.gif",
        "x.AVI",
        "x.m4v",
        "x.png",
        "a" * 252,
        "狐" * 84,
        "a" * 300 + ".mp4",
        3,
        "x.mp4/",
        "a\0b",
        "\ud800",
    ],
)
def test_what_cannot_be_saved_is_refused_before_the_first_step(bundle, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    if out == "x.mp4/":
        Path("x.mp4").write_bytes(b"a file")
    with pytest.raises(GroundedError):
        render_film(bundle, TEXT, out, take_folder="take", listener=pytest.fail)
    assert not Path("take").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for a folder that takes no files")
def test_a_folder_that_takes_no_files_is_not_gone(bundle, tmp_path):
    with pytest.raises(TakeError, match="no file can be made in /proc"):
        render_film(bundle, TEXT, "/proc/fox.mp4", take_folder=tmp_path / "take")


@pytest.mark.parametrize("letter", ["a", "é", "狐", "🦊"])
def test_the_longest_names_have_film_sheet_and_report(bundle, tmp_path, letter):
    name = letter * ((255 - len(".mp4")) // len(letter.encode()))
    text = "a fox | 0.75s"
    first = render_film(bundle, text, tmp_path / name)
    second = render_film(bundle, f"@seed 1\n{text}", tmp_path / name, take_folder=first.run.parent)
    files = [(one.path, one.sheet, one.report_path) for one in (first, second)]
    assert first.path.name == f"{name}.mp4"
    assert len({path for three in files for path in three}) == 6 and all(
        path.is_file() for path in sum(files, ())
    )
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    before = set(tmp_path.iterdir())
    again = render_film(bundle, text, tmp_path / name, take_folder=first.run.parent)
    assert (again.path, again.sheet, again.report_path) == files[0] and set(tmp_path.iterdir()) == before


def test_a_film_that_cannot_fit_is_not_tried_first(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr("gf_core.checkpoints.model_bundle.free_bytes", lambda device: 1000)
    monkeypatch.setattr("gf_core.estimate.trial.try_out", None)  # would be called for a film of this length
    with pytest.raises(ResourceError, match="needs"):
        render_film(bundle, "a fox | 20s", tmp_path / "fox.mp4")
    assert not (tmp_path / "fox.take").exists()


def test_what_is_wrong_is_said_before_anything_is_written(bundle, tmp_path, monkeypatch):
    out = tmp_path / "films" / "fox.mp4"
    with pytest.raises(StoryboardError):
        render_film(bundle, "then: it jumps | 2s", out)
    with pytest.raises(GroundedError, match="start image"):
        render_film(bundle, TEXT, out, start_image=tmp_path / "none.png")
    monkeypatch.setattr("gf_core.checkpoints.model_bundle.free_bytes", lambda device: 1000)
    with pytest.raises(ResourceError, match="of memory"):
        render_film(bundle, TEXT, out)
    assert not (tmp_path / "films").exists()


def test_a_place_that_cannot_be_written_is_refused_before_the_film_is_made(bundle, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(TakeError, match="a file, not a folder"):
        render_film(bundle, TEXT, tmp_path / "taken" / "film.mp4", take_folder=tmp_path / "take")

    def read_only(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(TakeError, match="no permission to write"):
        render_film(bundle, TEXT, tmp_path / "film.mp4", take_folder=tmp_path / "take")
    assert not (tmp_path / "take").exists()


def test_stopping_keeps_the_film_in_the_take(bundle, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        render_film(bundle, TEXT, tmp_path / "fox.mp4", listener=stopping(2))
    run = Run(tmp_path / "fox.take" / "run-0001")
    # What is sampled is kept; how much of it is in the film already is a matter of the machine's speed.
    assert [path.name for path in sorted(run.latents(0).parent.iterdir())] == [
        "000000.safetensors",
        "000001.safetensors",
    ]
    shown = [record["frames"] for record in run.committed()]
    assert shown == [9, 12][: len(shown)] and (not shown or probe(run.film).frames == sum(shown))
    assert not (tmp_path / "fox.mp4").exists()


def test_the_storyboard_sets_the_speed(bundle, tmp_path):
    slow = replace(bundle, recipe=replace(bundle.recipe, video=replace(bundle.recipe.video, fps=16)))
    assert probe(render_film(slow, "@fps 24\n" + TEXT, tmp_path / "fox.mp4", sheet=False).path).fps == 24


@pytest.mark.parametrize("said", [None, "{", "[]", "[" * 100_000], ids=["none", "torn", "a list", "deep"])
def test_a_report_that_cannot_be_read_is_written_again(bundle, tmp_path, said):
    made = render_film(bundle, "a fox | 0.75s", tmp_path / "a.mp4", take_folder=tmp_path / "t", sheet=False)
    run = Run(made.run)
    before = run.read_report()
    run.report.unlink() if said is None else run.report.write_text(said)
    with pytest.raises(TakeError):
        run.read_report()
    render_film(bundle, "a fox | 0.75s", tmp_path / "b.mp4", take_folder=tmp_path / "t", sheet=False)
    assert run.read_report()["film"] == before["film"]
