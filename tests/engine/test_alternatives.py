"""Takes of one segment: each samples that segment only, and the picked one goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gf_core.take.shelf as shelf_module
from gf_core.engine.events import Reused, StepDone
from gf_core.engine.film import settle
from gf_core.engine.render import render_film
from gf_core.engine.segment_takes import render_each, render_takes
from gf_core.errors import GroundedError, StoryboardError, TakeError
from gf_core.take.folder import Take
from gf_core.take.shelf import (
    Alternative,
    Shelf,
    find_pick,
    identity,
    named_runs,
    other_seeds,
    own_seed,
    propose,
    shelves,
    with_take,
)  # fmt: skip
from gf_core.timeline import parse
from gf_core.video import SheetRow, probe, read_frames

pytestmark = pytest.mark.usefixtures("own_cache")


def text_of(segment=""):
    return f"# mine\n@seed 4\na fox runs | 1.5s\nthen: it jumps | 0.75s{segment}\nthen: it sits | 0.75s"


def sampled(events):
    return sum(isinstance(event, StepDone) for event in events)


def test_each_take_samples_one_segment_and_the_picked_one_goes_on(bundle, tmp_path):
    told: dict[str, list] = {}
    making = settle(bundle, text_of())
    made = render_takes(
        making,
        tmp_path / "take",
        2,
        3,
        listener=lambda take, event: told.setdefault(take.name, []).append(event),
    )
    steps = len(bundle.recipe.sample.steps)
    assert [sampled(events) for events in told.values()] == [3 * steps, steps, steps]
    assert [take.name for take in made.takes] == ["a", "b", "c"]
    assert made.takes[0].seed == own_seed(parse(text_of()), 2)
    pictures = [b"".join(frame.tobytes() for frame in read_frames(clip)) for clip in made.clips]
    assert len(set(pictures)) == 3 and all(probe(clip).frames == 12 for clip in made.clips)
    with Image.open(made.sheet) as sheet:
        assert sheet.height > 300

    picked = find_pick(tmp_path / "take", parse(text_of()), 2, "C")
    text = with_take(text_of(), 2, picked)
    assert text == text_of(f" | seed {picked.seed}")
    events: list = []
    film = render_film(
        bundle,
        text,
        tmp_path / "film.mp4",
        take_folder=tmp_path / "take",
        listener=events.append,
        sheet=False,
    )
    assert next(event for event in events if isinstance(event, Reused)).segments == 2
    assert sampled(events) == steps and film.run.name == made.takes[2].run
    whole = [frame.tobytes() for frame in read_frames(film.path)]
    assert b"".join(whole[21:33]) == pictures[2]


def test_more_takes_keep_the_names_and_seeds_of_the_first(bundle, tmp_path):
    first = render_takes(settle(bundle, text_of()), tmp_path, 2, 2)
    picked = text_of(f" | seed {first.takes[1].seed}")
    told: list = []
    again = render_takes(
        settle(bundle, picked), tmp_path, 2, 3, names=["sun"], listener=lambda _, event: told.append(event)
    )
    assert [take.name for take in again.takes] == ["sun", "b", "c"]
    assert [take.seed for take in again.takes[:2]] == [take.seed for take in first.takes]
    assert sampled(told) == len(bundle.recipe.sample.steps)
    assert sorted(path.name for path in (tmp_path / "segment-002").glob("*.mp4")) == [
        "b.mp4",
        "c.mp4",
        "sun.mp4",
    ]
    with pytest.raises(TakeError, match="no take called 'a'"):
        find_pick(tmp_path, parse(picked), 2, "a")


def test_a_take_whose_name_goes_to_another_keeps_its_clip_under_a_new_one(bundle, tmp_path):
    """As when the first alone is asked for, or a stop comes before the second has its new name."""
    first = render_takes(settle(bundle, text_of()), tmp_path, 2, 2)
    clips = [clip.read_bytes() for clip in first.clips]
    render_takes(settle(bundle, text_of()), tmp_path, 2, 1, names=["b"])
    entries = json.loads((tmp_path / "segment-002" / "takes.json").read_text())["takes"]
    assert {entry["name"]: entry["seed"] for entry in entries} == {
        name: take.seed for name, take in zip(("b", "c"), first.takes)
    }
    there = {path.stem: path.read_bytes() for path in (tmp_path / "segment-002").glob("*.mp4")}
    assert there.keys() == {"b", "c"} and there["c"] == clips[1]
    assert find_pick(tmp_path, parse(text_of()), 2, "c").seed == first.takes[1].seed


def test_a_kill_at_any_moment_leaves_no_name_with_the_clip_of_another(tmp_path, monkeypatch):
    """Whatever is on the disk between two changes of the folder, and after the next filling, too."""

    class Killed(BaseException):
        pass

    def row(shelf, take):
        changed(lambda: shelf.clip(take.name).write_text(str(take.seed)))
        return SheetRow("a row", [np.zeros((8, 8, 3), np.uint8)]), "a fox"

    def changed(act):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return act()

    def clips_are_those_of_their_takes():
        for _, takes in shelves(tmp_path).values():
            for take in takes:
                assert (tmp_path / "segment-002" / f"{take.name}.mp4").read_text() == str(take.seed)

    monkeypatch.setattr(Shelf, "_row", row)
    for name in ("put", "write_json"):
        act = getattr(shelf_module, name)
        monkeypatch.setattr(shelf_module, name, lambda *given, act=act: changed(lambda: act(*given)))
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path, **options: changed(lambda: unlink(path, **options)))

    def fill(*takes):
        Shelf(tmp_path, 2, "board", "film").fill([Alternative(name, seed, "run") for name, seed in takes])

    for after in (["b3"], ["b1", "a2"], ["a2", "b3", "c1"]):
        for moment in range(20):
            left = 1000
            fill(("a", 1), ("b", 2))
            left = moment
            with contextlib.suppress(Killed):
                fill(*((name, int(seed)) for name, seed in after))
            left = 1000
            clips_are_those_of_their_takes()
            fill(*((name, int(seed)) for name, seed in after))
            clips_are_those_of_their_takes()
            shutil.rmtree(tmp_path / "segment-002")


def test_a_storyboard_changed_before_the_segment_has_takes_of_its_own(bundle, tmp_path):
    render_takes(settle(bundle, text_of()), tmp_path, 2, 1)
    other = text_of().replace("runs", "walks")
    with pytest.raises(TakeError, match="was changed since"):
        find_pick(tmp_path, parse(other), 2, "a")
    render_takes(settle(bundle, other), tmp_path, 2, 1)
    assert (tmp_path / "segment-002-2" / "a.mp4").is_file()
    assert find_pick(tmp_path, parse(other), 2, "a").run == "run-0002"
    assert find_pick(tmp_path, parse(text_of()), 2, "a").run == "run-0001"
    later = text_of().replace("sits", "sleeps")
    assert find_pick(tmp_path, parse(later), 2, "a").run == "run-0001"


def test_what_was_made_before_a_stop_is_listed_and_not_made_again(bundle, tmp_path):
    def stop(take, event):
        if take.name == "b" and isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_takes(settle(bundle, text_of()), tmp_path, 2, 3, listener=stop)
    assert find_pick(tmp_path, parse(text_of()), 2, "a").run == "run-0001"
    told: list = []
    made = render_takes(
        settle(bundle, text_of()), tmp_path, 2, 2, listener=lambda _, event: told.append(event)
    )
    assert len(made.clips) == 2 and sampled(told) == len(bundle.recipe.sample.steps)


def test_nobody_else_opens_the_take_while_clips_are_written(tmp_path):
    """They would sweep away what is half-written."""
    filled = []

    class Filled:
        def fill(self, takes):
            with pytest.raises(TakeError, match="in use by"):
                Take.open(tmp_path)
            filled.extend(takes)

    one = Alternative("a", 1)
    made = render_each(Filled(), [one], lambda take: "run-0001", lambda: Take.open(tmp_path))
    assert made == filled == [replace(one, run="run-0001")]
    Take.open(tmp_path).close()


def test_of_two_models_takes_the_last_tried_are_picked(tmp_path):
    """Names are the same, and seeds may not be."""
    board = parse(text_of())
    for folder, film, seed, tried in (("", "one", 11, 200), ("-2", "other", 12, 100)):
        place = tmp_path / f"segment-002{folder}" / "takes.json"
        place.parent.mkdir()
        takes = [{"name": "a", "seed": seed, "run": "run-0001"}, {"name": film, "seed": 5, "run": "run-0002"}]
        place.write_text(json.dumps({"storyboard": identity(board, 2), "film": film, "takes": takes}))
        os.utime(place, (tried, tried))
    assert find_pick(tmp_path, board, 2, "a").seed == 11
    os.utime(tmp_path / "segment-002-2" / "takes.json", (300, 300))
    assert find_pick(tmp_path, board, 2, "A").seed == 12
    assert find_pick(tmp_path, board, 2, "one").seed == 5


def test_a_damaged_list_is_left_alone(bundle, tmp_path, caplog):
    render_takes(settle(bundle, text_of()), tmp_path, 2, 1)
    (tmp_path / "segment-002" / "takes.json").write_text("[1,")
    made = render_takes(settle(bundle, text_of()), tmp_path, 2, 1)
    assert made.sheet.parent.name == "segment-002-2" and "cannot be read" in caplog.text
    assert json.loads((made.sheet.parent / "takes.json").read_text())["takes"][0]["name"] == "a"


def test_takes_that_cannot_be_read_are_neither_made_again_nor_passed_over(
    tmp_path, unlisted, monkeypatch, caplog
):
    board = parse(text_of())
    for number in (2, 3):
        folder = tmp_path / f"segment-{number:03d}"
        folder.mkdir()
        whose = {"storyboard": identity(board, number), "film": "x"}
        takes = [{"name": "a", "seed": 1, "run": f"run-000{number}"}]
        (folder / "takes.json").write_text(json.dumps({**whose, "takes": takes}))
        (folder / "a.mp4").touch()
    assert named_runs(tmp_path) == {"run-0002", "run-0003"} and list(shelves(tmp_path)) == [2, 3]
    broken, real = tmp_path / "segment-002" / "takes.json", Path.read_bytes

    def read(path):
        if path == broken:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    reading = "the takes in .*segment-002 cannot be read: Permission denied"
    for ask in (
        lambda: named_runs(tmp_path),
        lambda: find_pick(tmp_path, board, 2, "a"),
        lambda: Shelf(tmp_path, 2, identity(board, 2), "x"),
    ):
        with pytest.raises(TakeError, match=reading):
            ask()
    assert list(shelves(tmp_path)) == [3] and "segment-002 cannot be read" in caplog.text
    unlisted(tmp_path)
    for ask in (lambda: find_pick(tmp_path, board, 3, "a"), lambda: Shelf(tmp_path, 3, "y", "x")):
        with pytest.raises(TakeError, match="cannot be listed"):
            ask()


def test_names_that_differ_in_their_case_only_are_one_name():
    """`A.mp4` and `a.mp4` are one file on Windows and macOS; so are the two ways to write an s doubled."""
    board = parse(text_of())
    seeds = other_seeds(board, 2, 2)
    known = [Alternative("B", seeds[0]), Alternative("c", seeds[1])]
    swapped = [Alternative("c", seeds[0]), Alternative("B", seeds[1])]
    for names, kept, want in (
        (["A"], (), ["A", "b"]),
        (["B"], (), ["B", "a", "c"]),
        (["C", "a"], (), ["C", "a", "b", "d"]),
        ([], known, ["B", "c", "a", "d"]),
        (["A"], known[:1], ["A", "c", "d"]),
        (["b"], swapped, ["b", "a", "d"]),  # given up by the take that had it
        (["STRASSE"], (), ["STRASSE", "a"]),
    ):
        called = [take.name for take in propose(board, 2, len(want), names, kept)]
        assert called == want and len({name.casefold() for name in called}) == len(called)
    for names in (["x", "X"], ["Straße", "STRASSE"], ["é", "É"]):
        with pytest.raises(GroundedError, match="twice"):
            propose(board, 2, 2, names)


def test_seeds_are_the_same_every_time_and_nonsense_is_refused():
    board = parse(text_of())
    assert propose(board, 2, 3) == propose(board, 2, 3)
    assert other_seeds(board, 2, 3) == [154568, 968898, 967117], (
        "the takes of yesterday are found by their seeds"
    )
    taken = Alternative("b", other_seeds(board, 2, 1)[0])
    assert [take.name for take in propose(board, 2, 4, known=[taken])] == ["b", "a", "c", "d"]
    with pytest.raises(StoryboardError, match="no segment 4"):
        propose(board, 4, 2)
    with pytest.raises(StoryboardError, match="muted"):
        propose(parse(text_of() + " | mute"), 3, 2)
    with pytest.raises(GroundedError, match="1 to 26"):
        propose(board, 2, 27)
    for names in (["../up"], ["x", "X"], ["a", "b", "c"], [""]):
        with pytest.raises(GroundedError, match="name"):
            propose(board, 2, 2, names)


def test_a_name_that_a_known_take_has_names_one_take_only():
    board = parse("a fox | 1s\nthen: it waits | 1s")
    known = propose(board, 2, 3, names=["a", "b", "c"])
    for names in (["c"], ["b", "a"], ["C"]):
        found = propose(board, 2, 4, names=names, known=known[1:])
        assert len({take.name.casefold() for take in found}) == 4
        assert [take.name for take in found[: len(names)]] == names


@pytest.mark.parametrize("given", [("take", "2", 3), ("take", 2, "3"), ("take", None, 3), (3, 2, 3)], ids=str)
def test_what_is_of_another_type_is_refused_in_words(bundle, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GroundedError, match=r"not a whole number|not the name of a file"):
        render_takes(settle(bundle, "a fox | 0.75s\nthen: it jumps | 0.75s"), *given)
