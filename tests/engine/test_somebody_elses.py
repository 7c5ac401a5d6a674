"""A Take that came from somewhere: what lies in it may be links, pipes, folders and names that no render has made."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from gf_core.engine.events import StepDone
from gf_core.engine.film import settle
from gf_core.engine.render import render_film
from gf_core.engine.segment_takes import render_takes
from gf_core.errors import GroundedError, TakeError
from gf_core.take import lock as lock_module
from gf_core.take.folder import Run, Take
from gf_core.take.own import checksum
from gf_core.take.states import StateStore
from gf_core.take.tidy import tidy

from .conftest import flip

pytestmark = pytest.mark.usefixtures("own_cache")

TEXT = "a fox runs | 0.75s\nthen: it jumps | 0.75s"
RUN = ("film.mp4", "journal.jsonl", "settings.json", "timeline.txt", "report.json", "latents")
PLACES = ("lock", "states", *(f"run-0001/{name}" for name in RUN), "run-0001/latents/000001.safetensors")
posix = pytest.mark.skipif(os.name == "nt", reason="links and pipes of a POSIX system")


@pytest.fixture(scope="module")
def first(make_bundle, tmp_path_factory):
    """A finished film and its Take, to be copied."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROUNDED_CACHE", str(folder / "cache"))
        render_film(make_bundle(), TEXT, folder / "film.mp4", take_folder=folder / "take", sheet=False)
    return folder


@pytest.fixture
def take(first, tmp_path):
    return shutil.copytree(first / "take", tmp_path / "take")


def again(bundle, take, text=TEXT):
    """Render into the Take; the placed film's bytes."""
    out = take.parent / "again" / "film.mp4"
    return render_film(bundle, text, out, take_folder=take, sheet=False).path.read_bytes()


def check_again(bundle, first, take, place):
    """The next film is what it was; only in place of the lock nothing else is taken."""
    if place == "lock":
        with pytest.raises(TakeError, match="not the lock"):
            again(bundle, take)
    else:
        assert again(bundle, take) == (first / "film.mp4").read_bytes()


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@posix
@pytest.mark.parametrize(
    ("place", "there"), [*((place, True) for place in PLACES), ("lock", False), ("states", False)]
)
def test_links_are_not_followed(bundle, first, take, tmp_path, place, there):
    """What lies outside stays as it is, whatever it is called, and the film is what it was or is refused in words."""
    outside, path = tmp_path / "outside", take / place
    outside.mkdir()
    inside = "a" * 24 + ".memory.safetensors"
    for name in (f"000001-{inside}", f".000001-{inside}.0123abcd.part", "models-umt5.safetensors", "1.part"):
        (outside / name).write_bytes(b"mine")
    target = outside if place in ("states", "run-0001/latents") else outside / "bashrc"
    if target != outside and there:
        target.write_bytes(path.read_bytes())
    remove(path)
    path.symlink_to(target if there else outside / "nothing")
    before = everything(outside)
    check_again(bundle, first, take, place)
    if place != "lock":
        again(bundle, take, TEXT.replace("jumps", "sits"))
        with Take.open(take) as held:
            tidy(held)
    assert everything(outside) == before


@posix
def test_a_lock_that_is_another_file_s_second_name_leaves_it_as_it_is(
    bundle, first, take, tmp_path, hard_links
):
    (tmp_path / "mine").write_bytes(b"mine")
    (take / "lock").unlink(missing_ok=True)
    (take / "lock").hardlink_to(tmp_path / "mine")
    assert again(bundle, take) == (first / "film.mp4").read_bytes()
    assert (tmp_path / "mine").read_bytes() == b"mine"


@posix
@pytest.mark.parametrize("lines", [1, 2])
def test_a_copy_made_of_second_names_does_not_grow(bundle, first, take, tmp_path, lines, hard_links):
    """As `cp -al` makes it: a stopped film goes on beside its files that have two names, and not in them."""
    journal = take / "run-0001" / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-lines]))
    shutil.copytree(take, tmp_path / "copy", copy_function=os.link)
    before = everything(tmp_path / "copy")
    assert again(bundle, take) == (first / "film.mp4").read_bytes()
    assert everything(tmp_path / "copy") == before


@posix
def test_a_run_that_is_a_link_is_no_run(bundle, first, take, tmp_path):
    (take / "run-0001").rename(tmp_path / "outside")
    (take / "run-0001").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / ".report.json.0123abcd.part").write_bytes(b"mine")
    before = everything(tmp_path / "outside")
    assert again(bundle, take) == (first / "film.mp4").read_bytes()
    assert everything(tmp_path / "outside") == before and (take / "run-0002").is_dir()


@posix
@pytest.mark.timeout(60)
@pytest.mark.parametrize("place", PLACES)
def test_a_pipe_is_not_waited_for(bundle, first, take, place):
    remove(take / place)
    os.mkfifo(take / place)
    check_again(bundle, first, take, place)


@pytest.mark.parametrize("place", [place for place in PLACES if place not in ("states", "run-0001/latents")])
def test_a_folder_in_place_of_a_file_is_none(bundle, first, take, place):
    remove(take / place)
    (take / place / "more").mkdir(parents=True)
    for _ in range(2):
        check_again(bundle, first, take, place)


@pytest.mark.parametrize("name", ["settings.json", "journal.jsonl"])
def test_what_is_nested_too_deeply_is_damaged(bundle, first, take, name):
    (take / "run-0001" / name).write_text("[" * 200_000)
    assert again(bundle, take) == (first / "film.mp4").read_bytes()


def test_a_state_that_cannot_be_removed_ends_nothing(bundle, first, take, monkeypatch):
    for path in (take / "states").iterdir():
        path.write_bytes(b"damaged")

    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "no", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        store = StateStore(take / "states", ())
        assert store.names() and all(store.load(name) is None for name in store.names())


def test_only_states_are_counted_and_removed(take):
    for name in ("000001-mine.safetensors", "wan2.1-vae.safetensors", "000001-" + "a" * 24 + ".memory.bin"):
        (take / "states" / name).write_bytes(b"mine")
    before = everything(take / "states")
    store = StateStore(take / "states", (), budget=1)
    assert len(store.names()) == len(before) - 3
    # An empty state fits once the others have gone.
    assert store.save("b" * 24 + ".memory", 1, {}) is not None
    assert {name for name in everything(take / "states") if "b" * 24 not in name} == {
        name for name in before if not name.endswith(("memory.safetensors", "decoder.safetensors"))
    }


@posix
@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/b", ".."])
def test_names_of_takes_stay_in_their_folder(bundle, take, tmp_path, name):
    film = settle(bundle, TEXT)
    made = render_takes(film, take, 2, 1)
    note = made.sheet.parent / "takes.json"
    said = json.loads(note.read_text())
    said["takes"][0]["name"] = name
    note.write_text(json.dumps(said))
    for path in (made.sheet, made.clips[0]):  # links where files are written
        path.unlink()
        path.symlink_to(tmp_path / "bashrc")
    made = render_takes(film, take, 2, 1)
    assert made.clips[0].parent == made.sheet.parent and made.clips[0].name == "a.mp4"
    assert not (tmp_path / "bashrc").exists() and not list(tmp_path.rglob("evil*"))


@posix
def test_a_shelf_that_is_a_link_is_no_shelf(bundle, take, tmp_path):
    (tmp_path / "outside").mkdir()
    (take / "segment-002").symlink_to(tmp_path / "outside")
    made = render_takes(settle(bundle, TEXT), take, 2, 1)
    assert made.sheet.parent.name == "segment-002-2" and not list((tmp_path / "outside").iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_used_without_one(tmp_path, monkeypatch, caplog, number):
    def none(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock_module, "_lock", none)
    with Take.open(tmp_path / "take") as take:
        take.begin("", {}).close()
    part = tmp_path / "take" / "run-0001" / "report.json.part"
    part.write_bytes(b"half")
    Take.open(tmp_path / "take").close()
    assert part.exists(), "somebody else may be writing it"
    assert caplog.text.count("has no locks") == 2
    monkeypatch.undo()
    Take.open(tmp_path / "take").close()
    assert not part.exists()


def test_a_lock_of_any_length_is_not_printed(tmp_path):
    with Take.open(tmp_path) as take:
        (tmp_path / "lock").write_text("x\x1b[2J" * 100_000)
        with pytest.raises(GroundedError, match="in use by another process") as caught:
            Take.open(tmp_path)
        assert len(str(caught.value)) < 400
        take.begin("", {}).close()


def test_a_sum_is_of_plain_files_only(take):
    film = Run(take / "run-0001").film
    size = film.stat().st_size
    assert checksum(film, 0, size) != checksum(film, 0, size - 1) is not None
    assert (
        checksum(film, 0, size + 1)
        is checksum(film, 9, 8)
        is checksum(film, -1, 8)
        is checksum(take, 0, 0)
        is None
    )


DAMAGED = {
    "gone": lambda run: run.film.unlink(),
    "a bit in its header": lambda run: flip(run.film, 100),
    "a bit in its last picture": lambda run: flip(run.film, -1),
    "shorter": lambda run: run.film.write_bytes(run.film.read_bytes()[:-1]),
    "a folder": lambda run: (run.film.unlink(), run.film.mkdir()),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_film_is_not_handed_on(take, name):
    run = Run(take / "run-0001")
    run.check_film()
    DAMAGED[name](run)
    with pytest.raises(TakeError, match="damaged or gone"):
        run.check_film()


def test_a_film_from_before_there_were_sums_is_handed_on():
    Run(Path(__file__).parents[1] / "fixtures" / "made_before" / "film.take" / "run-0001").check_film()


def load(path: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("flips", "deletions"), [(6, 3), pytest.param(60, 20, marks=pytest.mark.slow)])
def test_whatever_is_damaged_the_next_films_have_the_right_bytes(
    bundle, tmp_path, monkeypatch, flips, deletions
):
    module = load(Path(__file__).parents[2] / "dev" / "attack" / "take.py", "attack_take")
    outcomes = list(module.attack(bundle, tmp_path, seed=11, flips=flips, deletions=deletions))
    assert len(outcomes) == 2 * (flips + deletions)
    assert [(one.how, one.fault) for one in outcomes if one.fault] == []
    assert all(one.chunks <= 1 for one in outcomes if one.kind != "journal")


def test_a_damaged_take_samples_nothing_that_is_whole(bundle, take):
    seen = []
    (take / "run-0001" / "latents" / "000001.safetensors").write_bytes(b"damaged")
    out = take.parent / "b.mp4"
    render_film(bundle, TEXT, out, take_folder=take, sheet=False, listener=seen.append)
    assert {event.index for event in seen if isinstance(event, StepDone)} == {1}


@pytest.mark.parametrize("said", ["", None])
def test_a_journal_that_promises_more_than_the_film_has_is_not_believed(tmp_path, said):
    run = Run(tmp_path)
    run.film.write_bytes(b"film")
    assert run.pictures([{"film_bytes": 10**9, "film_sum": said}]) == 0
