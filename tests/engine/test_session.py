"""The session: events, files, verbs, cancelling, failing, and memory that does not grow."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch

from gf_core.engine.events import ChunkDone, Finished, Preview, Pulse, SegmentDone, Started, StepDone
from gf_core.engine.film import Film
from gf_core.engine.finish import Finisher
from gf_core.engine.report import report_lines
from gf_core.errors import GroundedError, ResourceError
from gf_core.model.forward import Call
from gf_core.sampling.noise import chunk_noise
from gf_core.sampling.sampler import Chunk
from gf_core.take.folder import RunWriter
from gf_core.vae.base import to_uint8
from gf_core.video import FilmWriter, probe, read_frames

TEXT = "a fox runs | 2.25s | seed 3\nthen: it jumps high | 2.25s\ncut: a hen sits | 1.5s | seed 5\nscene: a boat | 1.5s"


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("grounded")]


def test_a_film_with_every_verb_is_whole_and_told_in_order(bundle, films, take):
    plan = films.plan(bundle, TEXT)
    events = films.events(bundle, TEXT, take)
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    chunks, end = films.told(events, ChunkDone), events[-1]
    assert [chunk.index for chunk in chunks] == list(range(plan.chunks))
    assert [event.segment for event in films.told(events, SegmentDone)] == [0, 1, 2, 3]
    assert [(event.start_frame, event.frames) for event in films.told(events, SegmentDone)] == [
        (segment.start_frame, segment.frames) for segment in plan.segments
    ]
    assert (events[0].segments, events[0].shots) == (4, 3), "a then: goes on in its shot"
    assert [chunk.shot for chunk in chunks] == [max(0, chunk.segment - 1) for chunk in chunks]
    assert len(films.told(events, StepDone)) == plan.chunks * len(bundle.recipe.sample.steps)
    assert len(films.told(events, Preview)) == plan.chunks and films.told(events, Preview)[
        0
    ].frames.shape == (9, 32, 32, 3)
    assert chunks[-1].frames == end.frames == plan.frames == probe(end.path).frames
    assert chunks[-1].seconds_left == 0 and not end.cancelled
    assert not threads()


def test_pictures_are_shown_before_they_are_encoded(bundle, films, take, monkeypatch):
    """Encoding and the disk are no part of the time to the first picture."""
    shown, encode = threading.Event(), Finisher._write
    waited = []

    def write(self, index, pictures):
        waited.append(shown.wait(10))
        return encode(self, index, pictures)

    monkeypatch.setattr(Finisher, "_write", write)
    told = []

    def listen(event):
        told.append(event)
        if isinstance(event, Preview):
            shown.set()

    films.session(bundle, "a fox runs | 0.75s", take).play(listen)
    assert waited == [True]
    order = [type(event) for event in told if isinstance(event, Preview | ChunkDone)]
    assert order == [Preview, ChunkDone]


def test_the_run_holds_what_made_the_film(bundle, films, take):
    plan = Film(bundle, TEXT, bundle.recipe).plan
    end = films.events(bundle, TEXT, take)[-1]
    run = take.runs()[0]
    records = run.committed()
    assert [record["key"] for record in records] == [
        segment.chunk_key(chunk) for segment in plan.segments for chunk in range(segment.chunks)
    ]
    assert run.timeline.read_text() == TEXT
    assert json.loads(run.report.read_text()) == end.report
    assert json.loads(run.settings.read_text())["segments"][2]["seed"] == 5
    decoder, pictures = bundle.codec.decoder(), list(read_frames(run.film))
    for record in records:
        frames = to_uint8(decoder.decode(run.load_latents(record["index"])))
        assert len(frames) == record["frames"]
        shown = np.stack(pictures[record["first_frame"] : record["first_frame"] + record["frames"]])
        assert np.abs(frames.astype(int) - shown).mean() < 6
    assert any(line.startswith("speed") for line in report_lines(end.report))


def test_the_same_plan_gives_the_same_bytes_in_another_take(bundle, films, take, tmp_path):
    films.events(bundle, TEXT, take)
    first, (_, second) = take.runs()[0], films.render(bundle, tmp_path / "other", TEXT)
    assert [record["latents"] for record in first.committed()] == [
        record["latents"] for record in second.committed()
    ]
    assert first.film.read_bytes() == second.film.read_bytes()


def test_a_chunk_depends_on_what_came_before_it_and_on_nothing_later(bundle, films, take):
    films.events(bundle, TEXT, take)
    films.events(bundle, TEXT.replace("it jumps high", "it sits"), take)
    pairs = list(zip(*(run.committed() for run in take.runs())))
    assert [a["key"] == b["key"] for a, b in pairs] == [True] * 3 + [False] * (len(pairs) - 3)
    assert all(a["latents"] == b["latents"] for a, b in pairs[:3])
    assert not any(a["latents"] == b["latents"] for a, b in pairs[3:6])


def test_cancel_acts_within_one_step_and_keeps_a_playable_film(bundle, films, take):
    session = films.session(bundle, "a fox | 60s", take)
    after = []

    def listen(event):
        if after:
            after.append(event)
        elif isinstance(event, StepDone) and event.index == 4:
            session.cancel()
            after.append(event)

    session.play(listen)
    end = after[-1]
    assert len(films.told(after, StepDone)) == 1 and end.cancelled
    assert (
        probe(end.path).frames
        == end.frames
        == sum(r["frames"] for r in take.runs()[0].committed())
        == 9 + 3 * 12
    )
    assert end.report["film"]["cancelled"] and not threads()


def kept_chunks(run):
    """Numbers of the chunks whose latents are there, whether in the film or not."""
    return [record["index"] for record in run.records() if record["kind"] in ("chunk", "latents")]


def check_left_in_order(run, sampled):
    """What a render that was broken off leaves: latents of all that is sampled, a film that plays."""
    assert kept_chunks(run) == list(range(sampled)) and not threads()
    frames = sum(record["frames"] for record in run.committed())
    assert not frames or probe(run.film).frames == frames


def test_an_exception_of_the_listener_stops_the_render(bundle, films, take):
    def listen(event):
        if isinstance(event, StepDone) and event.index == 2:
            raise InterruptedError("the host said stop")

    with pytest.raises(InterruptedError):
        films.session(bundle, "a fox | 60s", take).play(listen)
    check_left_in_order(take.runs()[0], 2)


@pytest.mark.parametrize("call", range(9, 22))
def test_no_network_call_begins_after_a_cancel(bundle, films, take, monkeypatch, call):
    """Pressed at any moment: in a step, a clean pass, the recache of a `then:`, the first step after it."""
    pressed, calls = threading.Event(), []
    real = Call.run

    def counted(asked):
        calls.append(pressed.is_set())
        out = real(asked)
        if len(calls) == call:
            pressed.set()  # while it runs, as far as anybody can tell
        return out

    def listen(event):
        if pressed.is_set():
            raise InterruptedError("the host said stop")

    monkeypatch.setattr(Call, "run", counted)
    with pytest.raises(InterruptedError):
        films.session(bundle, TEXT, take).play(listen)
    assert len(calls) == call and not any(calls)


class Holding:
    """Holds the worker at a moment of the third chunk until the render was broken off."""

    def __init__(self, monkeypatch, bundle, moment):
        self.holds, self.broken, self.begun, self.written, self._heard = False, threading.Event(), 0, 0, []
        make, write, hurry = bundle.codec.decoder, FilmWriter.write, Finisher.hurry

        def decoder():
            own = make()
            decode = own.decode
            own.decode = lambda latents: (self._begin(moment == "decoding"), decode(latents))[1]
            return own

        def write_and_hold(film, frames, check):
            self.written += 1
            asked = []

            def held_check():
                asked.append(None)
                self._hold(len(asked) == {"encoding": 5, "draining": 17}.get(moment) and self.written == 3)
                check()

            write(film, frames, held_check)

        monkeypatch.setattr(bundle.codec, "decoder", decoder)
        monkeypatch.setattr(FilmWriter, "write", write_and_hold)
        monkeypatch.setattr(Finisher, "hurry", lambda finisher: (hurry(finisher), self.broken.set()))

    def _begin(self, hold):
        self.begun += 1
        assert not self.broken.is_set(), "nobody waits for these pictures"
        self._hold(hold and self.begun == 3)

    def _hold(self, hold):
        if hold:
            self.holds = True
            assert self.broken.wait(100)

    def listen(self, event):
        """Break off once the sampler stands still."""
        self._heard = [*self._heard[-7:], type(event)]
        if self.holds and self._heard == [Pulse] * 8:
            raise InterruptedError("the host said stop")


@pytest.mark.parametrize(("seconds", "sampled"), [(6, 6), (3.75, 5)], ids=["queue full", "all sampled"])
@pytest.mark.parametrize("moment", ["decoding", "encoding", "draining"])
def test_a_cancel_waits_for_no_pictures(bundle, films, take, tmp_path, monkeypatch, moment, seconds, sampled):
    """The chunk in work is left at its next safe point, those behind it are not begun; none is sampled again."""
    plan = films.plan(bundle, f"a fox | {seconds}s")
    whole = films.render(bundle, tmp_path / "whole", f"a fox | {seconds}s")[1].film.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        films.session(bundle, f"a fox | {seconds}s", take).play(Holding(patch, bundle, moment).listen)
    run = take.runs()[0]
    assert len(run.committed()) == 2
    check_left_in_order(run, sampled)
    again = films.events(bundle, f"a fox | {seconds}s", take)
    assert {event.index for event in films.told(again, StepDone)} == set(range(sampled, plan.chunks))
    assert [run.folder.name for run in take.runs()] == ["run-0001"] and run.film.read_bytes() == whole


def test_a_worker_that_fails_stops_the_sampler_at_the_next_step(bundle, films, take):
    """A host raises its Cancel wherever it looks first, which may be in the decoder."""
    failed, after = threading.Event(), []

    class Interrupted:
        def decode(self, latents):
            failed.set()
            raise InterruptedError("the host said stop")

    def listen(event):
        if isinstance(event, StepDone) and event.index and failed.wait(100):
            time.sleep(0 if after else 1)  # until the worker has said so
            after.append(event)

    bundle.codec.decoder = Interrupted
    with pytest.raises(InterruptedError):
        films.session(bundle, "a fox | 60s", take).play(listen)
    assert len([event for event in after if event.index == 1]) <= 1
    assert kept_chunks(take.runs()[0])[:1] == [0] and not threads()


@pytest.mark.parametrize("where", ["its latents", "decoding", "encoding", "the journal"])
def test_a_chunk_that_fails_leaves_no_gap_for_those_that_wait(
    bundle, films, take, tmp_path, monkeypatch, where
):
    """Chunk 1 fails while chunk 2 is queued: its pictures may not follow on chunk 0's, though they could be made."""
    seen = []
    ready, second, commit = threading.Event(), threading.Event(), RunWriter.commit
    whole = films.render(bundle, tmp_path / "whole", "a fox | 4.5s")[1].film.read_bytes()

    def failing(real, counts=lambda given: True):
        def once(*given):
            seen.append(None) if counts(given) else None
            if len(seen) == 2 and counts(given):
                assert ready.wait(100)
                raise ArithmeticError("once")
            return real(*given)

        return once

    def watched(run, *records):
        commit(run, *records)
        if records[0].get("index") == 2:
            second.set()

    def listen(event):
        if isinstance(event, StepDone) and event.index == 3 and not ready.is_set():
            ready.set()  # the sampler has handed over chunk 2 before it began with chunk 3
            assert second.wait(100)  # and does not break off before the worker has dealt with it

    with monkeypatch.context() as patch, pytest.raises(ArithmeticError, match="once"):
        patch.setattr(RunWriter, "commit", watched)
        if where == "decoding":
            decoder = type(bundle.codec.decoder())
            patch.setattr(decoder, "decode", failing(decoder.decode))
        elif where == "its latents":
            patch.setattr(RunWriter, "save_latents", failing(RunWriter.save_latents))
        elif where == "encoding":
            patch.setattr(FilmWriter, "write", failing(FilmWriter.write))
        else:
            is_chunk = lambda given: given[1]["kind"] == "chunk"  # noqa: E731
            patch.setattr(RunWriter, "commit", failing(watched, is_chunk))
        films.session(bundle, "a fox | 4.5s", take).play(listen)
    run = take.runs()[0]
    assert [record["index"] for record in run.committed()] == [0]
    lost = 1 if where == "its latents" else 3
    assert [index for index in kept_chunks(run) if index < 3] == [0, 1, 2][:lost] + [2][: lost == 1]
    assert not threads()
    assert probe(run.film).frames == (21 if where == "the journal" else 9)
    again = films.events(bundle, "a fox | 4.5s", take)
    assert min(event.index for event in films.told(again, StepDone)) >= lost
    assert take.runs()[-1].film.read_bytes() == whole


class Broken:
    """A decoder that fails."""

    def decode(self, latents):
        raise ArithmeticError("decoder broke")


def test_a_decoder_that_fails_surfaces_as_it_is(bundle, films, take):
    bundle.codec.decoder = Broken
    with pytest.raises(ArithmeticError):
        films.events(bundle, "a fox | 9s", take)
    assert not threads()


def test_the_memory_of_a_failed_run_is_free_at_once(bundle, films, take):
    """Not at the next garbage collection: a card would still be full when the next film is tried."""
    seen = []

    def render():
        session = films.session(bundle, "a fox | 9s", take)
        make = session._make_sampler

        def remember(meter, emit):
            sampler = make(meter, emit)
            seen.append(weakref.ref(sampler.director.memory))
            return sampler

        session._make_sampler = remember
        with contextlib.suppress(ArithmeticError):
            session.play(lambda event: None)

    bundle.codec.decoder = Broken
    gc.collect()
    gc.disable()
    try:
        render()
        assert [reference() for reference in seen] == [None]
    finally:
        gc.enable()


def test_the_film_is_what_the_sampler_makes_when_driven_by_hand(bundle, films, take):
    plan = films.plan(bundle, TEXT)
    films.events(bundle, TEXT, take)
    embeds = [bundle.text.encode([segment.prompt])[0][None] for segment in plan.segments]
    sampler = bundle.sampler(bundle.recipe)
    director = sampler.director
    verbs = [director.start, director.switch, director.cut, director.scene]
    for segment, embed, verb in zip(plan.segments, embeds, verbs):
        verb(embed)
        for chunk in range(segment.chunks):
            noise = functools.partial(chunk_noise, segment.seed, chunk, shape=(1, 3, 16, 4, 4))
            (clean,) = sampler.feed(Chunk(segment.first_chunk + chunk, noise))
            assert torch.equal(clean.latents[0], take.runs()[0].load_latents(clean.index))


def test_a_start_image_becomes_the_first_picture(bundle, films, take):
    plan = films.plan(bundle, "a fox | 3s")
    image = (
        torch.rand(1, 4, 4, 1).expand(-1, -1, -1, 3).repeat_interleave(8, 1).repeat_interleave(8, 2) * 0.8
        + 0.1
    )
    events = films.events(bundle, "a fox | 3s", take, start=image)
    end = events[-1]
    assert end.frames == events[0].frames == plan.frames + 4 == probe(end.path).frames
    first = next(iter(read_frames(end.path)))
    assert np.abs(first.astype(float) / 255 - image[0].numpy()).mean() < 0.03
    assert take.runs()[0].load_latents(0).shape[0] == 4
    assert [(event.start_frame, event.frames) for event in films.told(events, SegmentDone)] == [
        (0, end.frames)
    ]
    with pytest.raises(GroundedError, match="start from pictures"):
        films.session(bundle, "a fox | 3s", take, start=image[:, :16])


def test_prompts_are_encoded_once_each_and_before_the_first_step(bundle, films, take):
    asked = []
    encode = bundle.text.encode
    bundle.text.encode = lambda prompts: (asked.append(list(prompts)), encode(prompts))[1]
    films.events(bundle, "a fox | 1s\nthen: a hen | 1s\nthen: a fox | 1s", take)
    assert asked == [["a fox", "a hen"]]


def test_a_size_that_does_not_fit_is_refused_before_anything_is_made(bundle, films, take):
    bundle.recipe = replace(bundle.recipe, video=replace(bundle.recipe.video, width=40))
    with pytest.raises(ResourceError, match=r"use 48x32|use 32x32"):
        films.session(bundle, "a fox | 2s", take)
    assert take.runs() == []


def test_a_session_runs_once(bundle, films, take):
    session = films.session(bundle, "a fox | 1s", take)
    session.play(lambda event: None)
    with pytest.raises(GroundedError, match="once"):
        session.play(lambda event: None)


def test_memory_does_not_grow_with_the_film(bundle, films, take):
    """What is there after a chunk's first step when decoder and encoder have caught up, early in the film and late.

    What these have in hand comes and goes, and so do 26 tensors of a call: counted is always at the same place, and the
    listener, in whose thread chunks are sampled, waits until no more goes. It is 61 each time then. One tensor kept of
    every ten chunks would be 7 more, and one chunk's latents, pictures or notes kept of each at least 70.
    """
    process, early, late = psutil.Process(), range(30, 50, 5), range(100, 120, 5)
    held, tensors = {}, {}

    def listen(event):
        if isinstance(event, StepDone) and event.step == 1 and (event.index in early or event.index in late):
            gc.collect()
            least, since = counted(), time.monotonic()
            while time.monotonic() < since + 0.15:
                time.sleep(0.01)
                if (now := counted()) < least:
                    least, since = now, time.monotonic()
            held[event.index], tensors[event.index] = process.memory_info().rss, least

    def counted():
        return sum(type(thing) is torch.Tensor for thing in gc.get_objects())

    films.session(bundle, "a fox | 95s", take).play(listen)
    assert len(tensors) == len(early) + len(late)
    for counts, most in ((tensors, 2), (held, 24 * 2**20)):
        assert min(counts[index] for index in late) - min(counts[index] for index in early) <= most
