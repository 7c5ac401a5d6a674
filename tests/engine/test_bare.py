"""A render that was stopped before anything was made leaves nothing, and what a kill left of one is begun again."""

from __future__ import annotations

import contextlib

import pytest

from gf_core.engine.events import StepDone
from gf_core.take.folder import Run, Take

TEXT = "a fox runs | 1.5s\nthen: it jumps | 2.25s\ncut: a hen | 1.5s"


@pytest.fixture(scope="module")
def whole(make_bundle, films, tmp_path_factory):
    """Everything of the whole film's run."""
    _, run = films.render(make_bundle(), tmp_path_factory.mktemp("whole") / "take", TEXT)
    return films.bytes_of(run)


@pytest.mark.parametrize("by", ["the listener", "a cancel"])
def test_a_render_that_was_stopped_before_anything_was_made_leaves_nothing(
    bundle, films, whole, tmp_path, by
):
    folder = tmp_path / "take"

    def break_off(text):
        def stop(event):
            if isinstance(event, StepDone) and by == "a cancel":
                session.cancel()
            elif isinstance(event, StepDone):
                raise KeyboardInterrupt

        with Take.open(folder) as take:
            session = films.session(bundle, text, take)
            with contextlib.nullcontext() if by == "a cancel" else pytest.raises(KeyboardInterrupt):
                session.play(stop)

    break_off(TEXT.replace("fox", "owl"))
    assert not folder.exists()
    _, run = films.render(bundle, folder, TEXT)
    assert films.bytes_of(run) == whole
    break_off(TEXT.replace("fox", "owl"))
    assert [path.name for path in folder.glob("run-*")] == ["run-0001"]
    assert films.bytes_of(run) == whole
    _, other = films.render(bundle, folder, TEXT.replace("fox", "hen"))
    assert other.folder.name == "run-0002"


def test_a_run_that_a_kill_left_without_a_journal_is_begun_again(bundle, films, whole, tmp_path):
    killed = Run(tmp_path / "run-0001")
    killed.folder.mkdir()
    killed.note(TEXT, {})
    _, run = films.render(bundle, tmp_path, TEXT)
    assert run.folder == killed.folder
    assert films.bytes_of(run) == whole
