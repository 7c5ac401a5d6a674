"""Never lose a film: whatever is torn, full or gone, the next run goes on and ends with the bytes of a whole one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from gf_core.config import Encoding
from gf_core.engine import finish as finish_module
from gf_core.engine import shoot as shoot_module
from gf_core.engine.events import ChunkDone, Replayed, Reused, StepDone
from gf_core.engine.finish import film_header
from gf_core.errors import ResourceError, TakeError
from gf_core.sampling.director import Director
from gf_core.take.folder import Run, Take
from gf_core.vae.decoders import REACH
from gf_core.video import FilmWriter, probe, read_frames
from gf_core.video.boxes import read_layout

from ..films import film_at
from .conftest import flip
from .test_session import threads

TEXT = "a fox runs | 1.5s\nthen: it jumps | 2.25s\ncut: a hen | 1.5s"
CHUNKS = 7


@pytest.fixture(scope="module")
def whole(make_bundle, films, tmp_path_factory):
    """A Take with the whole film."""
    folder = tmp_path_factory.mktemp("whole") / "take"
    films.render(make_bundle(), folder, TEXT)
    return folder


@pytest.fixture(scope="module")
def half(make_bundle, films, tmp_path_factory):
    """A Take that was stopped in the middle of the second segment: chunks 0 to 3 are committed."""
    folder = tmp_path_factory.mktemp("half") / "take"

    def stop(event):
        if isinstance(event, StepDone) and event.index == 4:
            while len(run.committed()) < 4:  # a chunk that is not in the film yet would stay out of it
                time.sleep(0.01)
            raise KeyboardInterrupt

    bundle, run = make_bundle(), Run(folder / "run-0001")
    with Take.open(folder) as take, pytest.raises(KeyboardInterrupt):
        films.session(bundle, TEXT, take).play(stop)
    assert len(run.committed()) == 4
    return folder


@pytest.fixture
def stopped(half, tmp_path):
    shutil.copytree(half, tmp_path / "take")
    return tmp_path / "take"


def cut(path, size):
    with open(path, "r+b") as file:
        file.truncate(size)


def tear_the_line(run):
    with open(run.journal, "ab") as file:
        file.write(b'{"kind":"chunk","index":4,"seg')
    run.latents(4).write_bytes(b"half a file")


def damage_the_journal(run):
    flip(run.journal, run.journal.read_bytes().index(b'"index":2') + 8)


def tear_the_film(run):
    with open(run.film, "ab") as file:
        file.write(b"\0\0\x10\0moof" + b"x" * 100)


def shift_the_film(run):
    """An empty box behind the second chunk: the same pictures, and from there on not where the journal says."""
    data, place = run.film.read_bytes(), read_layout(run.film).fragments[1].end
    run.film.write_bytes(data[:place] + b"\0\0\0\x08free" + data[place:])


def of_other_quality(run):
    """A film of as many pictures in each chunk, from another encoder: only its bytes tell it from the one noted."""
    counts = [fragment.frames for fragment in read_layout(run.film).fragments]
    pictures, path = iter(read_frames(run.film)), run.folder / "other.mp4"
    blocks = [np.stack([next(pictures) for _ in range(count)]) for count in counts]
    film_at(path, *blocks, quality=40)
    assert [fragment.frames for fragment in read_layout(path).fragments] == counts
    return path


def another_key(name):
    """As of another film's settings, or one bit of them."""

    def damage(run):
        settings = json.loads(run.settings.read_text())
        run.settings.write_text(json.dumps({**settings, name: "0" * 64}))

    return damage


def flip_in_fragment(number):
    def damage(run):
        fragment = read_layout(run.film).fragments[number]
        flip(run.film, (fragment.offset + fragment.end) // 2)

    return damage


def make_folder(name):
    def damage(run):
        (run.folder / name).unlink()
        (run.folder / name).mkdir()

    return damage


# What is done to the stopped run; the chunk that sampling goes on with; how many in front of it are sampled again;
# the chunk that decoding goes on with; and the run gone on with.
DAMAGE = {
    "nothing": (lambda run: None, 4, 0, 4, 1),
    "a torn journal line": (tear_the_line, 4, 0, 4, 1),
    "a torn end of the film": (tear_the_film, 4, 0, 4, 1),
    "a damaged journal": (damage_the_journal, 4, 1, 2, 2),
    "changed latents": (lambda run: flip(run.latents(2), -3), 4, 1, 4, 1),
    "missing latents": (lambda run: run.latents(0).unlink(), 4, 1, 4, 1),
    "torn latents": (lambda run: cut(run.latents(3), 100), 4, 1, 4, 1),
    "two of the latents": (lambda run: (flip(run.latents(1), 0), run.latents(3).unlink()), 4, 2, 4, 1),
    "no latents": (lambda run: shutil.rmtree(run.folder / "latents"), 4, 4, 4, 1),
    "a shorter film": (lambda run: cut(run.film, read_layout(run.film).fragments[2].end - 9), 4, 0, 2, 2),
    "a film whose pictures lie elsewhere": (shift_the_film, 4, 0, 2, 2),
    "another film under its name": (lambda run: shutil.copy(of_other_quality(run), run.film), 4, 0, 0, 2),
    "a bit in a picture": (flip_in_fragment(2), 4, 0, 2, 2),
    "a bit in the film's header": (lambda run: flip(run.film, 300), 4, 0, 0, 2),
    "no film": (lambda run: run.film.unlink(), 4, 0, 0, 2),
    "a folder for a film": (make_folder("film.mp4"), 4, 0, 0, 2),
    "no settings": (lambda run: run.settings.unlink(), 4, 0, 0, 2),
    "settings that are none": (lambda run: run.settings.write_text("[" * 100_000), 4, 0, 0, 2),
    "a folder for settings": (make_folder("settings.json"), 4, 0, 0, 2),
    "settings of another key": (another_key("film_key"), 4, 0, 0, 2),
    "settings of other pictures": (another_key("pictures_key"), 4, 0, 0, 2),
    "no storyboard": (lambda run: run.timeline.unlink(), 4, 0, 4, 1),
    "an empty storyboard": (lambda run: cut(run.timeline, 0), 4, 0, 4, 1),
    "a folder for a storyboard": (make_folder("timeline.txt"), 4, 0, 4, 2),
    "an empty journal": (lambda run: cut(run.journal, 0), 0, 0, 0, 2),
    "a folder for a journal": (make_folder("journal.jsonl"), 0, 0, 0, 2),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_stopped_film_goes_on_from_what_is_whole(bundle, films, stopped, whole, name):
    damage, latents, again, pictures, number = DAMAGE[name]
    damage(Run(stopped / "run-0001"))
    events, run = films.render(bundle, stopped, TEXT)
    assert films.bytes_of(run) == films.bytes_of(Run(whole / "run-0001"))
    assert run.timeline.read_text() == TEXT
    assert json.loads(run.settings.read_text()) == json.loads(Run(whole / "run-0001").settings.read_text())
    assert run.folder.name == f"run-000{number}"
    told = films.told(events, Reused)
    assert (told[0].chunks if told else 0) == latents
    assert events[-1].report["reuse"]["mended"] == again
    assert len(films.told(events, StepDone)) == (CHUNKS - latents + again) * len(bundle.recipe.sample.steps)
    assert [event.index for event in films.told(events, ChunkDone)] == list(range(pictures, CHUNKS))
    events, same = films.render(bundle, stopped, TEXT)
    assert same.folder == run.folder and not films.told(events, StepDone) + films.told(events, ChunkDone)


# The same of a finished one: how many chunks are sampled, the chunk that decoding goes on with, and the run.
FINISHED_DAMAGE = {
    "nothing": (lambda run: None, 0, 7, 1),
    "changed latents": (lambda run: flip(run.latents(0), -3), 1, 7, 1),
    "the last latents": (lambda run: run.latents(6).unlink(), 1, 7, 1),
    "no latents": (lambda run: shutil.rmtree(run.folder / "latents"), 0, 7, 1),
    "no states and no latents in the middle": (
        lambda run: (shutil.rmtree(run.folder.parent / "states"), run.latents(4).unlink()), 1, 7, 1,
    ),
    "a bit in the first picture": (flip_in_fragment(0), 0, 0, 2),
    "a bit in the last picture": (flip_in_fragment(6), 0, 6, 2),
    "a bit in the film's header": (lambda run: flip(run.film, 40), 0, 0, 2),
    "a film twice over": (lambda run: run.film.write_bytes(run.film.read_bytes() * 2), 0, 7, 1),
    "another storyboard": (lambda run: run.timeline.write_text("a cow"), 0, 7, 1),
    "a number in the settings": (
        lambda run: run.settings.write_text(run.settings.read_text().replace('"width": 32', '"width": 48')), 0, 7, 1,
    ),
    "settings of another key": (another_key("film_key"), 0, 0, 2),
    "the last journal line": (lambda run: cut(run.journal, run.journal.stat().st_size - 9), 0, 7, 1),
    "a journal line in the middle": (damage_the_journal, 1, 2, 2),
    "no report": (lambda run: run.report.unlink(), 0, 7, 1),
    "a report that is none": (lambda run: run.report.write_text("{"), 0, 7, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FINISHED_DAMAGE)
def test_a_finished_film_is_had_again_whatever_has_happened_to_it(bundle, films, whole, tmp_path, name):
    damage, again, pictures, number = FINISHED_DAMAGE[name]
    shutil.copytree(whole, tmp_path / "take")
    damage(Run(tmp_path / "take" / "run-0001"))
    events, run = films.render(bundle, tmp_path / "take", TEXT)
    want = Run(whole / "run-0001")
    assert run.folder.name == f"run-000{number}"
    assert len(films.told(events, StepDone)) == again * len(bundle.recipe.sample.steps)
    assert [event.index for event in films.told(events, ChunkDone)] == list(range(pictures, CHUNKS))
    assert run.film.read_bytes() == want.film.read_bytes() and run.timeline.read_text() == TEXT
    assert run.settings.read_bytes() == want.settings.read_bytes()
    if name != "no latents":  # which are not made as long as nobody wants them
        assert films.bytes_of(run) == films.bytes_of(want)
    edited = TEXT.replace("a hen", "an owl")
    _, run = films.render(bundle, tmp_path / "take", edited)
    _, fresh = films.render(bundle, tmp_path / "fresh", edited)
    assert films.bytes_of(run) == films.bytes_of(fresh)


@pytest.mark.parametrize("finished", [True, False])
def test_what_is_only_a_remark_comes_into_the_run(bundle, films, stopped, whole, tmp_path, finished):
    folder = shutil.copytree(whole, tmp_path / "whole") if finished else stopped
    events, run = films.render(bundle, folder, f"# a new remark\n{TEXT}")
    assert run.folder.name == "run-0001" and bool(films.told(events, StepDone)) != finished
    assert run.timeline.read_text().startswith("# a new remark\n")
    assert run.film.read_bytes() == Run(whole / "run-0001").film.read_bytes()


def test_a_film_that_another_encoder_began_is_made_again_of_its_latents(
    bundle, films, stopped, whole, monkeypatch, caplog
):
    """The header says how all fragments are to be read, so this one cannot be gone on with."""
    with monkeypatch.context() as patch:
        patch.setattr("gf_core.engine.finish.film_header", lambda *_: b"of another encoder")
        events, run = films.render(bundle, stopped, TEXT)
    assert "encoded otherwise" in caplog.text and run.folder.name == "run-0002"
    assert films.bytes_of(run) == films.bytes_of(Run(whole / "run-0001"))
    assert [event.index for event in films.told(events, ChunkDone)] == list(range(CHUNKS))
    assert not films.told(films.render(bundle, stopped, TEXT)[0], StepDone)


def test_settings_of_two_runs_that_have_changed_places_are_not_believed(bundle, films, whole, tmp_path):
    """A journal says itself how the pictures are encoded that it promises."""
    want = Run(whole / "run-0001").film.read_bytes()
    folder = shutil.copytree(whole, tmp_path / "take")
    coarse = films.render(bundle, folder, TEXT, encoding=Encoding(quality=40))[1]
    first, second = Run(folder / "run-0001").settings, coarse.settings
    said = first.read_bytes(), second.read_bytes()
    second.write_bytes(said[0])
    first.write_bytes(said[1])
    other = coarse.film.read_bytes()
    for quality, film in ((40, other), (Encoding().quality, want)):
        events, run = films.render(bundle, folder, TEXT, encoding=Encoding(quality=quality))
        assert run.film.read_bytes() == film and not films.told(events, StepDone)


def test_the_header_is_the_same_whatever_is_in_the_film(bundle, stopped):
    video, film = bundle.recipe.video, Run(stopped / "run-0001").film
    assert film.read_bytes().startswith(film_header(video, Encoding()))
    for other in (Encoding(upscale=2), Encoding(quality=30)):
        assert film_header(video, other) != film_header(video, Encoding())


@pytest.mark.parametrize(
    ("kind", "damage"),
    [("memory", "a bit"), ("decoder", "a bit"), ("memory", "another"), ("decoder", "another")],
)
def test_a_damaged_state_is_replaced_by_a_replay(
    bundle, films, stopped, whole, kind, damage, caplog, monkeypatch, windows
):
    monkeypatch.setitem(REACH, "builtin", 99)  # else the decoder would not look for a state so far back
    others = {path.name: path for path in (whole / "states").glob(f"*.{kind}.safetensors")}
    for path in (stopped / "states").glob(f"*.{kind}.safetensors"):
        if damage == "a bit":
            flip(path, -1)
        else:  # whole, and of another chunk
            path.write_bytes(next(other for name, other in others.items() if name != path.name).read_bytes())
    events, run = films.render(bundle, stopped, TEXT)
    assert films.bytes_of(run) == films.bytes_of(Run(whole / "run-0001"))
    assert ("its bytes have changed" if damage == "a bit" else "under another name") in caplog.text
    assert events[-1].report["reuse"]["exact"] is True


def test_a_replay_that_differs_is_said(bundle, films, stopped, monkeypatch, caplog):
    """As on a machine whose sums come out otherwise."""
    shutil.rmtree(stopped / "states")
    real = Director.prefill
    monkeypatch.setattr(Director, "prefill", lambda self, latents: real(self, latents * 1.001))
    events, _ = films.render(bundle, stopped, TEXT)
    assert events[-1].report["reuse"]["exact"] is False and "differs from the recorded" in caplog.text


def test_a_full_disk_loses_no_chunk_and_the_film_goes_on(bundle, films, tmp_path, whole, monkeypatch):
    class Full(FilmWriter):
        def _append(self, data):
            if self._fragments == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            super()._append(data)

    events = []
    with monkeypatch.context() as patch, Take.open(tmp_path) as take:
        patch.setattr(finish_module, "FilmWriter", Full)
        with pytest.raises(ResourceError, match="disk is full"):
            films.session(bundle, TEXT, take).play(events.append)
        run = take.runs()[0]
    assert [record["index"] for record in run.committed()] == [0, 1, 2]
    assert probe(run.film).frames == 9 + 2 * 12
    assert len(films.told(events, ChunkDone)) == 3 and not threads()
    events, run = films.render(bundle, tmp_path, TEXT)
    assert films.told(events, Reused)[0].chunks > 3, "the latents of the chunk that did not fit are kept"
    assert films.bytes_of(run) == films.bytes_of(Run(whole / "run-0001"))


def test_a_state_that_cannot_be_written_does_not_stop_the_film(
    bundle, films, tmp_path, whole, monkeypatch, caplog
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gf_core.take.states.write_atomic", full)
    _, run = films.render(bundle, tmp_path, TEXT)
    assert films.bytes_of(run) == films.bytes_of(Run(whole / "run-0001")) and "not kept" in caplog.text


def test_a_card_that_stays_full_stops_the_film_in_words(bundle, films, tmp_path, whole, monkeypatch):
    real, tries = Director._clean, []

    def fail(self, latents, view, kind, *rest):
        if self.memory.ledger.frame == 3:
            tries.append(kind)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        real(self, latents, view, kind, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Director, "_clean", fail)
        with pytest.raises(ResourceError, match="graphics card ran out of memory"):
            films.render(bundle, tmp_path, TEXT)
    assert tries == ["clean", "clean"]
    _, run = films.render(bundle, tmp_path, TEXT)
    assert films.bytes_of(run) == films.bytes_of(Run(whole / "run-0001"))


def test_a_take_that_is_deleted_meanwhile_is_said_in_words(bundle, films, tmp_path, posix):
    def delete(event):
        if isinstance(event, ChunkDone) and event.index == 1:
            (tmp_path / "take").rename(tmp_path / "bin")  # at once, while the worker goes on writing

    with Take.open(tmp_path / "take") as take, pytest.raises(TakeError, match="folder is gone"):
        films.session(bundle, "a fox | 60s", take).play(delete)


def test_a_folder_that_may_not_be_written_is_said_in_words(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("gf_core.take.lock.os.open", refuse)
    with pytest.raises(TakeError, match="no permission to write"):
        Take.open(tmp_path / "take")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_take_is_said_in_words(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(TakeError, match="no permission to write"):
        Take.open(tmp_path / "take")


@pytest.mark.parametrize("replayed", [True, False], ids=["after a replay", "from a state"])
def test_chunks_that_were_replayed_count_for_the_next_state(bundle, films, tmp_path, monkeypatch, replayed):
    """A state spares the replay of all since the last one, of those replayed now as well as of those made now."""
    monkeypatch.setattr(shoot_module, "pays", lambda size, chunks, seconds: chunks >= 5)
    text = "a fox runs | 4.5s\nthen: it jumps | 0.75s\nthen: it sits | 0.75s"
    plan = films.plan(bundle, text)
    assert [segment.chunks for segment in plan.segments] == [6, 1, 1]
    films.render(bundle, tmp_path, text)
    assert kept_memories(tmp_path) == [6]
    if replayed:
        shutil.rmtree(tmp_path / "states")
    events, _ = films.render(bundle, tmp_path, text.replace("it jumps", "it hops"))
    again = [event.index for event in films.told(events, Replayed)]
    assert again.count(3) == int(replayed)  # the memory is rebuilt, or read; the decoder looks back a chunk
    assert kept_memories(tmp_path) == ([7] if replayed else [6])


def kept_memories(take):
    """After how many chunks a sampler's state lies in a Take."""
    return sorted(int(path.name[:6]) for path in take.glob("states/*.memory.safetensors"))


@pytest.mark.parametrize("positions", ["relative", "absolute"])
@pytest.mark.parametrize(
    ("first", "given"), [(None, 0), (1, 0), (None, 5)], ids=["even", "image first", "from a start"]
)
def test_behind_a_scene_frames_are_counted_on(bundle, films, tmp_path, first, given, positions):
    """A scene forgets all but the count, of which an image-first model's short first chunk and a start are parts."""
    absolute = {"positions": "absolute", "max_position": None, "anchor_update": "never"}
    memory = replace(
        bundle.recipe.memory, **(absolute if positions == "absolute" else {"anchor_update": "every_chunk"})
    )
    sample = replace(bundle.recipe.sample, first_chunk_frames=first)
    bundle = replace(bundle, recipe=replace(bundle.recipe, sample=sample, memory=memory))
    text = "a fox | 1.5s\ncut: a cow | 0.75s\nscene: a boat | 3s\nthen: it sinks | 3s"
    start = torch.full((given, 32, 32, 3), 0.5) if given else None
    _, want = films.render(bundle, tmp_path / "whole", text, start=start)
    films.render(bundle, tmp_path / "take", text, until=2, start=start)
    shutil.rmtree(tmp_path / "take" / "states")
    events, run = films.render(bundle, tmp_path / "take", text, start=start)
    plan = films.plan(bundle, text)
    assert len(films.told(events, StepDone)) == (plan.chunks - plan.segments[2].first_chunk) * len(
        bundle.recipe.sample.steps
    )
    assert films.bytes_of(run) == films.bytes_of(want)
    noted = [[record["anchor"] for record in each.committed()] for each in (run, want)]
    assert noted[0] == noted[1] and any(noted[0][-3:]) == (positions == "relative")
    states = [
        {r["name"]: r["digest"] for r in each.records() if r["kind"] == "state"} for each in (run, want)
    ]
    both = states[0].keys() & states[1].keys()
    assert both and all(states[0][name] == states[1][name] for name in both)


class Forgetful:
    """A decoder that is settled after four latent frames: its pictures lean on all of them."""

    def __init__(self, inner):
        self.inner, self.past = inner, []

    def decode(self, latents):
        self.past = [*self.past, *latents.float().clone()][-4:]
        return self.inner.decode(latents)

    def snapshot(self):
        return {**self.inner.snapshot(), "past": torch.stack(self.past)} if self.past else {}

    def restore(self, state):
        self.inner.restore(state)
        self.past = list(state["past"]) if state else []


@pytest.mark.parametrize("reach", [6, 99])
def test_a_state_that_is_not_settled_yet_is_not_held_against_the_recorded_one(
    bundle, films, tmp_path, monkeypatch, caplog, reach
):
    """Within the decoder's reach the replay has not seen all that the film's decoder had; pictures are the same."""
    monkeypatch.setitem(REACH, "builtin", reach)
    make = bundle.codec.decoder
    monkeypatch.setattr(bundle.codec, "decoder", lambda: Forgetful(make()))
    text = "".join(f"{'cut: ' if n else ''}picture {n} | 0.75s\n" for n in range(6))
    films.render(bundle, tmp_path / "take", text)
    shutil.rmtree(tmp_path / "take" / "states")
    edit = text.replace("picture 5", "another")
    events, run = films.render(bundle, tmp_path / "take", edit)
    assert events[-1].report["reuse"]["exact"] is True and "differs from the recorded" not in caplog.text
    assert films.bytes_of(run) == films.bytes_of(films.render(bundle, tmp_path / "fresh", edit)[1])


def test_a_resumed_film_counts_only_what_it_made(bundle, films, stopped):
    events, _ = films.render(bundle, stopped, TEXT)
    report = events[-1].report
    made = [event for event in films.told(events, ChunkDone)]
    assert made[0].frames == 9 + 4 * 12 and report["reuse"]["chunks"] == 4
    assert report["speed"]["sampling fps"] == pytest.approx(36 / report["seconds"]["sampling"])
    # The memory goes on from the state at the segment's end; the decoder looks back one chunk.
    assert [event.index for event in films.told(events, Replayed)] == [2, 3, 3]
