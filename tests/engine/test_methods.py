"""Films under memories that hold more than anchors and recent frames: stopped, gone on with, lengthened."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from gf_core.engine.events import Reused
from gf_core.engine.film import settle
from gf_core.engine.finish import Finisher
from gf_core.memory.policies import POLICIES
from gf_core.memory.presets import PRESETS
from gf_core.take.facts import kernels
from gf_core.take.folder import Run, RunWriter, Take

from ..heads import PICKING
from .conftest import stopping

TEXT = "a fox runs | 3s\nthen: it jumps | 2.25s\ncut: a hen | 1.5s\nscene: rain | 2.25s"
CHUNKS = 12

SMALL = {"bank_from": 3, "bank_below": 2.0}
MEMORIES = {
    "changes": replace(PRESETS["context_forcing"], anchors=2, bank=2, **SMALL),
    "means": replace(PRESETS["memrope"], anchors=1, recent=2),
    "adaptive": replace(PRESETS["memrope_adaptive"], anchors=1, recent=2, switch="apr"),
    "cut": PRESETS["infinity_rope_cut"],
    "refresh": PRESETS["krea"],
    "heads": replace(
        PRESETS["sgf"], anchors=1, recent=3, heads=(((1, 3), (0, 1)), ((1, 0), (1, 3))), heads_from=2
    ),
    "heads that pick": replace(PRESETS["sgf"], **PICKING),
    "rolling": replace(PRESETS["rolling_forcing"], recent=6, rolling=12),
    "wave": replace(PRESETS["wave_forcing"], recent=6, rolling=15),
    "walk": replace(PRESETS["rolling_sink"], anchors=3, recent=3),
}


def render(bundle, films, folder, memory, text=TEXT, stop_at=None):
    events = []
    with Take.open(folder) as take:
        try:
            films.session(bundle, text, take, memory=memory).play(stopping(stop_at, told=events))
        except KeyboardInterrupt:
            return None, events
    return Run(events[-1].path.parent), events


SLOW = ("wave", "walk")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MEMORIES]
)
def test_a_stopped_film_goes_on_with_the_same_bytes(bundle, films, tmp_path, name):
    bundle.recipe = replace(bundle.recipe, sample=replace(bundle.recipe.sample, steps=(1000, 750, 500)))
    whole, _ = render(bundle, films, tmp_path / "whole", MEMORIES[name])
    assert len(whole.committed()) == CHUNKS
    for stop_at in (3, 6, 8, 11):  # in the first two, chunks of the segment are finished and on the way
        take = tmp_path / f"at{stop_at}"
        assert render(bundle, films, take, MEMORIES[name], stop_at=stop_at)[0] is None
        run, events = render(bundle, films, take, MEMORIES[name])
        assert films.bytes_of(run) == films.bytes_of(whole), stop_at
        assert events[-1].report["reuse"]["exact"] is not False


BLENDED = "a fox runs | 3s\nthen: it jumps | 5.25s | blend 2.25s\ncut: a hen | 0.75s"


@pytest.mark.parametrize(
    ("text", "stop_at", "lost", "kept"),
    [(TEXT, 3, "nothing", 1), (BLENDED, 9, "states", 7), (BLENDED, 9, "the window", 4)],
)
def test_a_film_made_in_windows_goes_on_within_a_segment(bundle, films, tmp_path, text, stop_at, lost, kept):
    """With what was on the way; where that is damaged, from the segment's beginning. To the same bytes."""
    bundle.recipe = replace(bundle.recipe, sample=replace(bundle.recipe.sample, steps=(1000, 750, 500)))
    memory = MEMORIES["rolling"]
    whole, _ = render(bundle, films, tmp_path / "whole", memory, text)
    assert not list((tmp_path / "whole" / "states").glob("*.window.*")), "used up"
    render(bundle, films, tmp_path / "t", memory, text, stop_at=stop_at)
    (window,) = (tmp_path / "t" / "states").glob("*.window.*")
    if lost == "the window":
        window.write_bytes(window.read_bytes()[:-1] + b"\xff")
    for state in (tmp_path / "t" / "states").glob("*.memory.*") if lost == "states" else ():
        state.unlink()
    run, events = render(bundle, films, tmp_path / "t", memory, text)
    assert films.bytes_of(run) == films.bytes_of(whole)
    told = [event.chunks for event in events if isinstance(event, Reused)]
    assert told == [kept]
    assert events[-1].report["reuse"]["exact"] is not False


@pytest.mark.parametrize("name", ["rolling", "wave"])
def test_a_kill_behind_a_journal_s_line_loses_no_chunk(bundle, films, tmp_path, monkeypatch, name):
    """What is on the way behind a chunk lies on the disk before the journal says that the chunk is done."""
    bundle.recipe = replace(bundle.recipe, sample=replace(bundle.recipe.sample, steps=(1000, 750, 500)))
    whole, _ = render(bundle, films, tmp_path / "whole", MEMORIES[name])

    def killed(run, *records):
        commit(run, *records)
        if any(record.get("index") == 2 for record in records):
            shutil.copytree(tmp_path / "t", tmp_path / "killed")  # as the disk is in that moment

    commit = RunWriter.commit
    monkeypatch.setattr(RunWriter, "commit", killed)
    render(bundle, films, tmp_path / "t", MEMORIES[name])
    monkeypatch.setattr(RunWriter, "commit", commit)
    run, events = render(bundle, films, tmp_path / "killed", MEMORIES[name])
    assert [event.chunks for event in events if isinstance(event, Reused)] == [3]
    assert films.bytes_of(run) == films.bytes_of(whole)


@pytest.mark.parametrize("again", ["stopped", "killed"])
def test_a_film_that_ends_twice_loses_no_chunk(bundle, films, tmp_path, monkeypatch, again):
    """While a second run makes pictures of the first one's latents, what was on the way behind them stays."""
    bundle.recipe = replace(bundle.recipe, sample=replace(bundle.recipe.sample, steps=(1000, 750, 500)))
    memory, take = MEMORIES["rolling"], tmp_path / "t"
    begin, commit = Finisher.__init__, RunWriter.commit

    def hurried(finisher, *args):
        begin(finisher, *args)
        finisher.hurry()

    def killed(run, *records):
        commit(run, *records)
        if any(record["kind"] == "chunk" and record["index"] == 1 for record in records):
            shutil.copytree(take, tmp_path / "killed")  # as the disk is in that moment

    with monkeypatch.context() as patch:
        patch.setattr(Finisher, "__init__", hurried)
        render(bundle, films, take, memory, BLENDED, stop_at=9)  # leaves latents only
        if again == "stopped":
            render(bundle, films, take, memory, BLENDED, stop_at=9)
    if again == "killed":
        monkeypatch.setattr(RunWriter, "commit", killed)
        render(bundle, films, take, memory, BLENDED)
        monkeypatch.setattr(RunWriter, "commit", commit)
        take = tmp_path / "killed"
    run, events = render(bundle, films, take, memory, BLENDED)
    assert run is not None
    assert [event.chunks for event in events if isinstance(event, Reused)] == [7]
    assert films.bytes_of(run) == films.bytes_of(
        render(bundle, films, tmp_path / "whole", memory, BLENDED)[0]
    )


def test_a_segment_made_in_windows_is_lengthened(bundle, films, tmp_path):
    """Chunks near a segment's end have seen that it ends: their keys say so, and earlier segments stay."""
    memory, longer = MEMORIES["rolling"], TEXT.replace("2.25s\ncut", "3.75s\ncut")
    bundle.recipe = replace(bundle.recipe, sample=replace(bundle.recipe.sample, steps=(1000, 750, 500)))
    render(bundle, films, tmp_path / "edited", memory)
    edited, events = render(bundle, films, tmp_path / "edited", memory, longer)
    fresh, _ = render(bundle, films, tmp_path / "fresh", memory, longer)
    assert films.bytes_of(edited) == films.bytes_of(fresh)
    assert [event.chunks for event in events if isinstance(event, Reused)] == [4]
    plan = {
        text: films.plan(replace(bundle, recipe=replace(bundle.recipe, memory=memory)), text)
        for text in (TEXT, longer)
    }
    same = [a == b for a, b in zip(plan[TEXT].chunk_keys, plan[longer].chunk_keys)]
    assert same[:7] == [True] * 5 + [False] * 2


@pytest.mark.parametrize("index", [0, 2, 4, CHUNKS - 1])
def test_a_damaged_chunk_of_a_film_made_in_windows_is_made_again(bundle, films, tmp_path, index):
    """It goes on at the last segment's end in front of it, which for the first segment is the film's beginning."""
    whole, _ = render(bundle, films, tmp_path, MEMORIES["rolling"])
    before = films.bytes_of(whole)
    data = whole.latents(index).read_bytes()
    whole.latents(index).write_bytes(bytes([data[0] ^ 1]) + data[1:])
    run, _ = render(bundle, films, tmp_path, MEMORIES["rolling"])
    assert films.bytes_of(run) == before


@pytest.mark.parametrize("name", ["rolling", "wave"])
def test_ranks_are_in_the_key_where_they_change_bits(bundle, name):
    recipe = replace(bundle.recipe, memory=MEMORIES[name])
    alone = kernels(bundle, recipe)
    bundle.team = SimpleNamespace(count=2)
    assert (kernels(bundle, recipe) == alone) is recipe.memory.wave


def test_where_noise_is_drawn_for_a_whole_clip_its_length_counts(bundle):
    def key(text, noise):
        recipe = replace(bundle.recipe, sample=replace(bundle.recipe.sample, noise=noise))
        return settle(bundle, text, recipe=recipe).plan.chunk_keys[0]

    short, long = "a fox runs | 3s", "a fox runs | 6s"
    assert key(short, "chunk") == key(long, "chunk")
    assert len({key(short, "chunk"), key(short, "comfyui"), key(long, "comfyui")}) == 3


def test_of_several_frames_that_were_weighed_one_is_told(bundle, films, tmp_path, monkeypatch):
    """The one that took a place, else the last: three are weighed for every chunk but the first."""
    asked = itertools.count()
    policy = replace(POLICIES["diversity"], accepts=lambda similarity, redundancy: next(asked) == 5)
    monkeypatch.setitem(POLICIES, "diversity", policy)
    memory = replace(bundle.recipe.memory, anchor_update="every_chunk")
    run, _ = render(bundle, films, tmp_path, memory, "a fox runs | 6s")
    told = [record["anchor"] for record in run.committed() if record["anchor"]]
    assert [anchor["frame"] for anchor in told] == [2, 5, 7, 11, 14, 17]
    assert [anchor["frame"] for anchor in told if anchor["replaced"]] == [7]
