"""Old films make room; what is needed stays, and what went comes back without sampling."""

from __future__ import annotations

import pytest

from gf_core.engine.events import StepDone
from gf_core.engine.film import settle
from gf_core.engine.render import render_film
from gf_core.engine.segment_takes import render_takes
from gf_core.errors import TakeError
from gf_core.take.folder import Take
from gf_core.take.run import Run
from gf_core.take.tidy import tidy

from .conftest import stopping

pytestmark = pytest.mark.usefixtures("own_cache")

TEXT = "a fox runs | 1.5s\nthen: it {} | 0.75s"
DEEDS = ("jumps", "sits", "sleeps", "dances")


@pytest.fixture
def folder(bundle, tmp_path):
    """A Take with four runs."""
    for deed in DEEDS:
        render(bundle, tmp_path, deed)
    return tmp_path / "take"


def render(bundle, place, deed, listener=None):
    return render_film(
        bundle,
        TEXT.format(deed),
        place / "film.mp4",
        take_folder=place / "take",
        sheet=False,
        listener=listener,
    )


def films(folder):
    return [path.parent.name for path in sorted(folder.glob("run-*/film.mp4"))]


def test_an_edit_taken_back_is_only_decoded_again(bundle, folder, tmp_path):
    first = (folder / "run-0001" / "film.mp4").read_bytes()
    with Take.open(folder) as take:
        done = tidy(take)
    assert done.removed == ("run-0001", "run-0002", "run-0003") and done.kept == 1 and done.freed > len(first)
    assert films(folder) == ["run-0004"]
    told: list = []
    again = render(bundle, tmp_path, DEEDS[0], told.append)
    assert not any(isinstance(event, StepDone) for event in told)
    assert (again.run / "film.mp4").read_bytes() == first


def test_only_as_much_goes_as_is_too_much(folder):
    sizes = [path.stat().st_size for path in sorted(folder.glob("run-*/film.mp4"))]
    with Take.open(folder) as take:
        assert tidy(take, limit=sum(sizes)).removed == ()
        assert tidy(take, keep=2, limit=sum(sizes) - 1).removed == ("run-0001",)
        assert tidy(take, keep=2).removed == ("run-0002",)
        assert tidy(take, keep=9).removed == ()
        assert tidy(take, keep=0).removed == ("run-0003",), "the newest stays in any case"


def test_a_run_that_a_kill_left_with_an_empty_film_is_not_the_newest(folder):
    killed = Run(folder / "run-0005")
    killed.folder.mkdir()
    killed.note(TEXT, {})
    killed.film.touch()
    killed.journal.touch()
    with Take.open(folder) as take:
        assert tidy(take).kept == 1
    assert films(folder) == ["run-0004"] and not killed.folder.exists()


def test_what_is_needed_stays(bundle, folder, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        render(bundle, tmp_path, "stands", stopping(2))
    made = render_takes(settle(bundle, TEXT.format("waits")), folder, 2, 2)
    render(bundle, tmp_path, "walks")
    newest = films(folder)[-1]
    later = render_takes(settle(bundle, TEXT.format("rests")), folder, 2, 2)
    named = [take.run for takes in (made, later) for take in takes.takes]
    assert "run-0005" in films(folder)  # the unfinished one
    with Take.open(folder) as take:
        tidy(take, using="run-0002")
    left = set(films(folder))
    assert {"run-0002", "run-0005", newest, *named} <= left
    assert not left & {"run-0001", "run-0003", "run-0004"} and newest not in named


def test_a_take_that_grows_too_large_tidies_itself(bundle, folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("gf_core.engine.making.FILMS", 1)
    caplog.set_level("INFO")
    render(bundle, tmp_path, "stands")
    assert films(folder) == ["run-0003", "run-0004", "run-0005"]
    assert caplog.text.count("of old films removed") == 1


def test_what_a_kill_left_half_written_goes(folder):
    left = [
        *(
            folder / "states" / f".000002-{'b' * 24}.{kind}.safetensors.0123abcd.part"
            for kind in ("memory", "decoder", "window")
        ),
        folder / "run-0001" / "latents" / ".000001.safetensors.0123abcd.part",
        folder / "run-0001" / ".report.json.0123abcd.part",
    ]
    for path in left:
        path.write_bytes(b"half")
    with Take.open(folder):
        assert not any(path.exists() for path in left)


def test_films_stay_where_it_cannot_be_told_whose_they_are(bundle, folder, tmp_path, monkeypatch, caplog):
    """By hand that is refused; a render that is finished only says so."""

    def refuse(take):
        raise TakeError("segment-002 cannot be read")

    monkeypatch.setattr("gf_core.take.tidy.named_runs", refuse)
    before = films(folder)
    with Take.open(folder) as take, pytest.raises(TakeError):
        tidy(take)
    render(bundle, tmp_path, "walks")
    assert set(before) < set(films(folder)) and "films of old runs stay: segment-002" in caplog.text
