"""The contact sheet of a Take: rows that are kept, and what becomes of them."""

from __future__ import annotations

import json
import logging
import os
import time
from hashlib import sha256

import numpy as np
import pytest
from PIL import Image

from gf_core.engine import render as render_module
from gf_core.engine import sheet as sheet_module
from gf_core.engine.render import render_film
from gf_core.engine.sheet import draw_sheet
from gf_core.errors import ResourceError, TakeError
from gf_core.take.folder import Run
from gf_core.video.sheet import Page, spread

TEXT = "@seed 4\na fox runs | 1.5s\nthen: it jumps | 1.5s\ncut: a hen | 0.75s\n"


@pytest.fixture(autouse=True)
def rows(tmp_path, monkeypatch):
    """Where they are kept."""
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


@pytest.fixture
def decoded(monkeypatch):
    """Numbers of the pictures that are asked of the film, row by row."""
    asked, real = [], sheet_module.film_row

    def row(film, shown, fps, *said):
        asked.append(spread(shown, said[-1]))
        return real(film, shown, fps, *said)

    monkeypatch.setattr(sheet_module, "film_row", row)
    return asked


def render(bundle, tmp_path, text=TEXT):
    return render_film(bundle, text, tmp_path / "fox.mp4", take_folder=tmp_path / "take")


def pixels(path):
    assert path is not None
    with Image.open(path) as image:
        return np.asarray(image)


def test_what_was_seen_is_not_decoded_again(bundle, tmp_path, rows, decoded, monkeypatch):
    first = render(bundle, tmp_path)
    assert len(decoded) == len(list(rows.iterdir())) == 3
    decoded.clear()
    again = tmp_path / "again.png"
    draw_sheet(Run(first.run), first.path, again, "fox")
    assert decoded == [] and np.array_equal(pixels(again), pixels(first.sheet))
    # Nothing kept: the same page.
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "other"))
    draw_sheet(Run(first.run), first.path, again, "fox")
    assert len(decoded) == 3 and np.array_equal(pixels(again), pixels(first.sheet))


def test_rows_that_are_many_lie_on_the_disk(bundle, tmp_path, monkeypatch):
    first = render(bundle, tmp_path)
    monkeypatch.setattr(sheet_module, "IN_MEMORY", 1)
    again = tmp_path / "again.png"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "of no use"))  # they lie where the sheet will
    rows = sheet_module.draw_rows(Run(first.run), first.path, tmp_path)
    assert rows._data._rolled  # type: ignore[attr-defined]
    rows.write(again, "fox")
    assert first.sheet is not None and again.read_bytes() == first.sheet.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("again.png", "cache", "fox.mp4", "fox_report.json", "fox_sheet.png", "take"),
    }


def test_a_disk_that_takes_no_rows_is_said_once_and_no_more_are_drawn(bundle, tmp_path, decoded, monkeypatch):
    """The film is there; when there is room, the same command adds sheet and report."""
    segments = "".join(f"then: it jumps {number} times | 0.75s\n" for number in range(20))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    said = r"the disk is full: making the contact sheet.*; the film itself is saved: .+fox\.mp4"
    with monkeypatch.context() as patch, pytest.raises(ResourceError, match=said):
        patch.setattr(sheet_module, "IN_MEMORY", 1)
        patch.setattr("tempfile.TemporaryFile", full)
        patch.setattr("gf_core.engine.render.check_writable", lambda folder: None)
        render(bundle, tmp_path, TEXT + segments)
    assert len(decoded) < 23 and (tmp_path / "fox.mp4").is_file()
    result = render(bundle, tmp_path, TEXT + segments)
    assert (
        result.there and result.sheet is not None and result.sheet.is_file() and result.report_path.is_file()
    )


def test_an_error_of_the_sheet_says_where_the_film_is(bundle, tmp_path, monkeypatch):
    """Under the name that it got, as another one had its own."""

    def refused(*_):
        raise TakeError("film.mp4 cannot be read back for its contact sheet", "render the film again")

    (tmp_path / "fox.mp4").touch()
    monkeypatch.setattr(Page, "write", refused)
    with pytest.raises(TakeError, match=r"the film itself is saved: .+fox-2\.mp4\n  fix: ren"):
        render(bundle, tmp_path)
    assert (tmp_path / "fox-2.mp4").is_file()


def test_films_of_one_name_have_sheets_of_their_own(bundle, tmp_path):
    first = render(bundle, tmp_path)
    seen = {path: path.read_bytes() for path in (first.path, first.sheet, first.report_path) if path}
    other = TEXT.replace("a hen", "a cow")
    second = render_film(bundle, other, tmp_path / "fox.mkv", take_folder=tmp_path / "take")
    assert second.sheet == tmp_path / "fox.mkv_sheet.png" and second.sheet.is_file()
    assert second.report_path == tmp_path / "fox.mkv_report.json" and second.report_path.is_file()
    assert {path: path.read_bytes() for path in seen} == seen


def test_after_an_edit_only_new_rows_are_decoded(bundle, tmp_path, decoded):
    render(bundle, tmp_path)
    decoded.clear()
    second = render(bundle, tmp_path, TEXT.replace("a hen", "a cow"))
    assert [at[0] for at in decoded] == [Run(second.run).committed()[-1]["first_frame"]]
    # Another number of columns shows other pictures.
    draw_sheet(Run(second.run), second.path, tmp_path / "two.png", "fox", columns=2)
    assert [len(at) for at in decoded[1:]] == [2, 2, 2]


def test_the_same_storyboard_encoded_otherwise_has_rows_of_its_own(bundle, tmp_path, decoded):
    result = render(bundle, tmp_path)
    run = Run(result.run)
    lines = run.committed()
    decoded.clear()
    lines[-1]["film_sum"] = "00000000"
    run.committed = lambda: lines
    draw_sheet(run, result.path, tmp_path / "a.png", "fox")
    assert len(decoded) == 1
    for line in lines:  # from before films had sums
        del line["film_sum"]
    draw_sheet(run, result.path, tmp_path / "a.png", "fox")
    draw_sheet(run, result.path, tmp_path / "a.png", "fox")
    assert len(decoded) == 1 + 3 + 3


def test_a_row_is_kept_with_all_that_is_seen_of_it(bundle, tmp_path, rows, decoded, monkeypatch):
    result = render(bundle, tmp_path)
    filmed = sheet_module.filmed_segments(Run(result.run))
    number, segment, first, end = filmed[0]
    for one in (
        (number, {**segment, "prompt": "a hen"}, first, end),
        (number, {**segment, "verb": "cut"}, first, end),
        (number, segment, first, end - 3),
        (number, segment, first + 1, end + 1),
    ):
        decoded.clear()
        monkeypatch.setattr(sheet_module, "filmed_segments", lambda _, one=one: [one, *filmed[1:]])
        draw_sheet(Run(result.run), result.path, tmp_path / "a.png", "fox")
        assert len(decoded) == 1, one
    # A page is as wide as its longest row: a short one stands in pages of two widths.
    for shown in (filmed, filmed[2:]):
        monkeypatch.setattr(sheet_module, "filmed_segments", lambda _, shown=shown: shown)
        draw_sheet(Run(result.run), result.path, tmp_path / "a.png", "fox", columns=20)
        kept = pixels(tmp_path / "a.png")
        for row in rows.iterdir():
            row.replace(row.with_suffix(".away"))
        draw_sheet(Run(result.run), result.path, tmp_path / "a.png", "fox", columns=20)
        assert np.array_equal(pixels(tmp_path / "a.png"), kept)
        for row in rows.glob("*.away"):
            row.replace(row.with_suffix(".row"))


def test_a_row_that_lacks_pictures_is_not_kept(bundle, tmp_path, rows, monkeypatch):
    real = sheet_module.film_row
    monkeypatch.setattr(
        sheet_module, "film_row", lambda *given: (row := real(*given))._replace(frames=row.frames[:-1])
    )
    assert render(bundle, tmp_path).sheet is not None
    assert not rows.exists() or list(rows.iterdir()) == []


HARMS = {
    "bit": lambda data, _: bytes([*data[:-9], data[-9] ^ 1, *data[-8:]]),
    "first bit": lambda data, _: bytes([data[0] ^ 128, *data[1:]]),
    "another width": lambda data, _: data[:32] + b"\0\0\0\x01" + data[36:],
    "huge": lambda data, _: data[:32] + b"\xff" * 12 + data[44:],
    "short": lambda data, _: data[:-20],
    "long": lambda data, _: data + b"\0",
    "empty": lambda *_: b"",
    "the sum of nothing": lambda *_: sha256(b"").digest(),
    "another row": lambda _, other: other,
}


def test_a_damaged_row_is_drawn_anew(bundle, tmp_path, rows, decoded, caplog):
    result = render(bundle, tmp_path)
    whole, again = pixels(result.sheet), tmp_path / "a.png"
    kept = {row: row.read_bytes() for row in rows.iterdir()}
    for harm, spoilt in HARMS.items():
        for row, other in zip(kept, [*list(kept.values())[1:], *kept.values()]):
            row.write_bytes(spoilt(kept[row], other))
        for drawn in (3, 0):
            decoded.clear()
            caplog.clear()
            draw_sheet(Run(result.run), result.path, again, "fox")
            assert len(decoded) == drawn == caplog.text.count("drawn anew"), harm
            assert np.array_equal(pixels(again), whole), harm


def test_what_cannot_be_a_row_is_not_read(bundle, tmp_path, rows, decoded, caplog):
    result = render(bundle, tmp_path)
    first, second, _ = kept = list(rows.iterdir())
    os.truncate(first, sheet_module.MOST + 1)
    second.unlink()
    second.mkdir()
    for drawn in (2, 1):  # the folder stays in the way
        decoded.clear()
        draw_sheet(Run(result.run), result.path, tmp_path / "a.png", "fox")
        assert len(decoded) == drawn and "drawn anew" not in caplog.text
        assert np.array_equal(pixels(tmp_path / "a.png"), pixels(result.sheet))
    assert sorted(rows.iterdir()) == sorted(kept)


def test_a_stop_while_a_row_is_kept_leaves_nothing_of_it(bundle, tmp_path, rows, decoded, monkeypatch):
    result = render(bundle, tmp_path)
    whole = pixels(result.sheet)
    for row in rows.iterdir():
        row.unlink()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", stop)
        draw_sheet(Run(result.run), result.path, tmp_path / "a.png", "fox")
    assert list(rows.iterdir()) == []
    draw_sheet(Run(result.run), result.path, tmp_path / "a.png", "fox")
    assert np.array_equal(pixels(tmp_path / "a.png"), whole)


def test_a_stop_while_the_film_is_placed_does_not_wait_for_its_rows(bundle, tmp_path, decoded, monkeypatch):
    told, row, draw = [], sheet_module.film_row, render_module.draw_rows

    def drawing(*given, unwanted):
        told.append(unwanted)
        return draw(*given, unwanted=unwanted)

    def slow(*given):
        assert told[0].wait(60)
        return row(*given)

    def stop(*_, **__):
        while not told:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(render_module, "draw_rows", drawing)
    monkeypatch.setattr(sheet_module, "film_row", slow)
    monkeypatch.setattr(render_module, "place_film", stop)
    with pytest.raises(KeyboardInterrupt):
        render(bundle, tmp_path)
    assert told[0].is_set() and len(decoded) < 3


def test_a_stop_while_the_sheet_is_written_leaves_none_that_is_believed(bundle, tmp_path, monkeypatch):
    whole = pixels(render(bundle, tmp_path).sheet)

    def stop(_, path, *__):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    (tmp_path / "fox_sheet.png").unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sheet_module.Page, "write", stop)
        render(bundle, tmp_path)
    assert not list(tmp_path.glob("*.png*")) and not list(tmp_path.glob(".*"))
    assert np.array_equal(pixels(render(bundle, tmp_path).sheet), whole)


def test_a_cache_that_cannot_be_written_costs_nothing(bundle, tmp_path, rows, caplog):
    rows.parent.mkdir()
    rows.write_text("in the way")
    with caplog.at_level(logging.INFO, "grounded"):
        result = render(bundle, tmp_path)
    assert result.sheet is not None and "row of the contact sheet" not in caplog.text
    assert json.loads(result.report_path.read_text())["film"]["frames"]
