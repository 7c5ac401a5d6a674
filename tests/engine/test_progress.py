"""How far a film is: one number that only grows, and begins where the film goes on; and what is said in the end."""

from __future__ import annotations

import time

import pytest

from gf_core.engine.events import ChunkDone, Reused, Started, StepDone
from gf_core.engine.meter import Meter
from gf_core.engine.report import report_lines
from gf_core.take.folder import RunWriter, Take

TEXT = "a fox runs | 1.5s\nthen: it jumps | 1.5s\ncut: a hen | 1.5s"


def play(bundle, films, folder, stop_at=None, **options):
    told = []
    with Take.open(folder) as take:
        session = films.session(bundle, TEXT, take, **options)

        def listen(event):
            told.append(event)
            if isinstance(event, StepDone) and event.index == stop_at:
                session.cancel()

        session.play(listen)
    return told


def shares(told):
    return [event.share for event in told if isinstance(event, StepDone | ChunkDone)]


def test_one_number_grows_from_nothing_to_the_whole_film(bundle, films, tmp_path):
    told = play(bundle, films, tmp_path)
    found = shares(told)
    assert found == sorted(found) and 0 < found[0] < 0.2 and found[-1] == 1.0
    assert [share for share in found if share == 1.0] == [1.0], (
        "the film is whole when its last chunk is in it"
    )


def test_storing_latents_counts_as_saving(bundle, films, tmp_path, monkeypatch):
    save = RunWriter.save_latents

    def slow(self, index, latents):
        time.sleep(0.1)
        return save(self, index, latents)

    monkeypatch.setattr(RunWriter, "save_latents", slow)
    told = play(bundle, films, tmp_path)
    seconds, chunks = told[-1].report["seconds"], len({e.index for e in told if isinstance(e, ChunkDone)})
    assert 0.1 * chunks <= seconds["save"] < seconds["total"]


def test_it_goes_on_where_the_film_goes_on(bundle, films, tmp_path):
    play(bundle, films, tmp_path, stop_at=4)
    told = play(bundle, films, tmp_path)
    kept = next(event for event in told if isinstance(event, Reused)).frames
    whole = next(event for event in told if isinstance(event, Started)).frames
    found = shares(told)
    assert kept and found == sorted(found) and found[0] >= kept / whole and found[-1] == 1.0


@pytest.mark.parametrize(
    ("stop_at", "until", "words"),
    [
        (None, None, "3 segments"),
        (None, 2, "2 of 3 segments (until 2)"),
        (4, None, "stopped after segment 2 of 3"),
        (3, 2, "stopped after segment 1 of 2"),
        (1, None, "stopped in segment 1 of 3"),
    ],
)
def test_a_report_says_how_far_the_film_came(bundle, films, tmp_path, stop_at, until, words):
    told = play(bundle, films, tmp_path, stop_at=stop_at, until=until)
    said = report_lines(told[-1].report)
    assert said[0].endswith(words) and " 1 evaluations" not in said[-1]


def test_the_first_chunk_alone_does_not_say_how_long_it_takes(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    known, unknown = Meter(expected=10.0), Meter()
    for meter in (known, unknown):
        meter.start_sampling()
    for moment, frames in ((60, 9), (61, 21), (62, 33)):  # the first one is slow
        now[0] = moment
        for meter in (known, unknown):
            meter.committed(frames)
        if frames == 9:
            assert known.seconds_left(100) == 10.0 and unknown.seconds_left(90) == 600.0
    assert known.pace == unknown.pace == known.fps == 12.0


def test_a_stage_leaves_out_what_stages_inside_it_count(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("gf_core.engine.meter.time.perf_counter", lambda: next(clock))
    meter = Meter()
    with meter.stage("waiting"):  # 1 to 10
        for _ in range(2):  # 2 to 5 and 6 to 9
            with meter.stage("showing"), meter.stage("asked"):  # 3 to 4 and 7 to 8
                pass
    assert meter.seconds == {"asked": 2, "showing": 4, "waiting": 3}
