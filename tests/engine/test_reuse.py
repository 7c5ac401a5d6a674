"""Never pay twice: after any edit the film has the bytes of one that was made from nothing, and less was sampled."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch

from gf_core.config import Encoding
from gf_core.engine.events import Finished, Replayed, Reused, SegmentDone, Started, StepDone
from gf_core.engine.report import report_lines
from gf_core.errors import GroundedError
from gf_core.take.changed import what_changed
from gf_core.take.folder import Run, RunWriter, Take
from gf_core.take.journal import encode_record

FILM = """@seed 7
a fox runs | 1.5s
then: it jumps high | 0.75s
then: it sits | 2.25s | blend 1.5s
cut: a hen sits | 0.75s
then: it sleeps | 0.75s
scene: a boat | 0.75s
then: it sinks | 0.75s
"""
LINES = FILM.splitlines()


def edited(number, line):
    """The film with segment `number` (from 1) written as `line`; None leaves it out."""
    return "\n".join(LINES[:number] + ([] if line is None else [line]) + LINES[number + 1 :])


def swapped(number):
    lines = list(LINES)
    lines[number], lines[number + 1] = lines[number + 1], lines[number]
    return "\n".join(lines)


EDITS = {
    "the last": (edited(7, "then: it dances | 0.75s"), 6, 0, "segment 7: another prompt"),
    "the middle": (edited(4, "cut: a cow sits | 0.75s"), 3, 0, "segment 4: another prompt"),
    "a new one": ("\n".join([*LINES[:5], "then: it hops | 0.75s", *LINES[5:]]), 4, 0, "segment 5: new"),
    "another order": (swapped(2), 1, 0, "segment 2: moved"),
    "one less": (edited(3, None), 2, 0, "a segment before segment 3 was removed"),
    "another seed": (edited(5, "then: it sleeps | 0.75s | seed 11"), 4, 0, "-> 11"),
    "longer": (edited(4, "cut: a hen sits | 1.5s"), 3, 1, "segment 4: 0.75 s -> 1.5 s"),
    "shorter": (edited(1, "a fox runs | 0.75s"), 1, 0, "segment 1: 1.31 s -> 0.56 s"),
    "muted": (
        edited(2, "then: it jumps high | 0.75s | mute"),
        1,
        0,
        "a segment before segment 3 was removed",
    ),
    "one more": (FILM + "cut: a cow | 0.75s", 7, 0, "segment 8: new"),
    "recache": (
        edited(2, "then: it jumps high | 0.75s | recache 0.3"),
        1,
        0,
        "segment 2: recache none -> 0.3",
    ),
}
"""Text, whole segments reused, chunks of the next one, and why the rest is not."""


@pytest.fixture(scope="module")
def first(make_bundle, films, tmp_path_factory):
    """A Take with FILM in it, to be copied."""
    folder = tmp_path_factory.mktemp("first") / "take"
    films.render(make_bundle(), folder, FILM)
    return folder


@pytest.fixture
def folder(first, tmp_path):
    shutil.copytree(first, tmp_path / "take")
    return tmp_path / "take"


@pytest.fixture
def fresh(bundle, films, tmp_path):
    """`fresh(text)`: the bytes of that film made from nothing."""
    made = iter(range(100))
    return lambda text, **options: films.bytes_of(
        films.render(bundle, tmp_path / f"fresh{next(made)}", text, **options)[1]
    )


def check_edit(bundle, films, folder, fresh, name, **options):
    text, segments, more, why = EDITS[name]
    old = Run(folder / "run-0001")
    before = films.bytes_of(old)
    events, run = films.render(bundle, folder, text, **options)
    plan, told = films.plan(bundle, text), films.told(events, Reused)[0]
    assert films.bytes_of(run) == fresh(text)
    assert films.bytes_of(old) == before and run.folder.name == "run-0002"
    assert why in told.changed
    there = plan.segments[segments].first_chunk if segments < len(plan.segments) else plan.chunks
    assert (told.segments, told.chunks) == (segments, there + more)
    assert len(films.told(events, StepDone)) == (plan.chunks - told.chunks) * len(bundle.recipe.sample.steps)
    assert [event.segment for event in films.told(events, SegmentDone)] == list(range(len(plan.segments)))
    return events


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_gives_the_bytes_of_a_fresh_render(bundle, films, folder, fresh, name):
    events = check_edit(bundle, films, folder, fresh, name)
    # A kept state lies at every segment's end, so only the start of a shortened one is replayed, in both parts.
    assert len(films.told(events, Replayed)) == (2 if name == "shorter" else 0)


def test_a_chunk_after_an_edit_takes_the_network_no_more_than_any_other(bundle, films, tmp_path, monkeypatch):
    calls, forward = [], bundle.model.forward
    monkeypatch.setattr(bundle.model, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))

    def taken(text, folder):
        calls.clear()
        films.render(bundle, tmp_path / folder, text)
        return len(calls)

    start = "a fox runs | 0.75s"
    chunk = taken(f"{start}\nthen: it sits | 0.75s", "take") - taken(start, "start")
    assert taken(f"{start}\nthen: it jumps | 0.75s", "take") == chunk > 0


def test_a_film_that_lies_there_is_told_as_when_it_was_made(bundle, films, tmp_path):
    """A blend weighs several frames for one chunk: the last that took a place is kept, and told, of each."""
    memory = replace(bundle.recipe.memory, anchor_update="every_chunk")
    bundle = replace(bundle, recipe=replace(bundle.recipe, memory=memory))
    text = "a fox runs | 3s\nthen: it sits | 3s | blend 2s"
    told = [
        films.render(bundle, tmp_path / "take", text, until=until)[0][-1].report["anchors"]
        for until in (1, None, None)
    ]
    assert len(told[0]) < len(told[1]) and told[1] == told[2]


@pytest.mark.parametrize("name", ["the last", "one less", "longer"])
def test_without_kept_states_the_replay_gives_the_same_bytes(bundle, films, folder, fresh, name):
    shutil.rmtree(folder / "states")
    events = check_edit(bundle, films, folder, fresh, name, state_budget=0)
    judged = [entry["frame"] for entry in events[-1].report["anchors"]]
    assert judged and len(set(judged)) == len(judged), "replayed chunks are told of once"
    assert films.told(events, Replayed) and events[-1].report["reuse"]["exact"] is True
    assert not (folder / "states").exists()


def test_a_scene_needs_no_replay_of_what_it_forgets(bundle, films, folder):
    shutil.rmtree(folder / "states")
    events, _ = films.render(bundle, folder, EDITS["the last"][0])
    sampler = films.plan(bundle, FILM).segments[5]
    again = [event.index for event in films.told(events, Replayed)]
    # The sampler, and the decoder, which looks back one chunk.
    assert again == [sampler.first_chunk, sampler.first_chunk]


def test_a_scene_is_replayed_where_it_does_not_forget_all(bundle, films, tmp_path):
    """A running mean outlives it: gone on with from nothing, the memory would not be what was recorded."""
    memory = replace(bundle.recipe.memory, anchor_policy="ema")
    films.render(bundle, tmp_path / "t", FILM, memory=memory)
    shutil.rmtree(tmp_path / "t" / "states")
    events, _ = films.render(bundle, tmp_path / "t", EDITS["the last"][0], memory=memory)
    assert films.told(events, Replayed)[0].index == 0


def test_a_finished_film_is_returned_as_it_is(bundle, films, folder, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "lock"}
    for part, name in ((bundle.text, "encode"), (bundle.model, "forward")):
        monkeypatch.setattr(part, name, None)  # neither is asked
    events, run = films.render(bundle, folder, FILM)
    plan = films.plan(bundle, FILM)
    assert [type(event) for event in events] == [Started, Reused] + [SegmentDone] * 7 + [Finished]
    assert events[1].chunks == plan.chunks and events[1].changed == ""
    assert run.folder.name == "run-0001" and events[-1].frames == plan.frames
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "lock"} == before
    assert any(line.startswith("reuse") for line in report_lines(events[-1].report))


def test_another_encoding_samples_nothing(bundle, films, folder, fresh):
    film = Encoding(quality=30)
    bundle.text.encode = None
    events, run = films.render(bundle, folder, FILM, encoding=film)
    assert (
        not films.told(events, StepDone) and films.told(events, Reused)[0].changed == "film: quality 18 -> 30"
    )
    del bundle.text.encode
    assert films.bytes_of(run) == fresh(FILM, encoding=film)


def test_another_decoder_keeps_the_latents_only(bundle, films, folder):
    bundle.codec.fingerprint = "another"
    events, run = films.render(bundle, folder, FILM)
    assert not films.told(events, StepDone) and films.told(events, Reused)[0].changed == "the decoder"
    assert [record["from"] for record in run.committed() if "from" in record] == []


def cooked(bundle, **changes):
    return replace(bundle, recipe=replace(bundle.recipe, **changes))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda bundle: replace(bundle, fingerprint="x"), "the model"),
        (
            lambda bundle: cooked(bundle, memory=replace(bundle.recipe.memory, alpha_max=0.5)),
            "memory: alpha_max 0.8 -> 0.5",
        ),
        (
            lambda bundle: cooked(bundle, video=replace(bundle.recipe.video, width=48)),
            "the size 32x32 -> 48x32",
        ),
        (
            lambda bundle: cooked(bundle, sample=replace(bundle.recipe.sample, steps=(1000, 250))),
            "sample: steps",
        ),
    ],
)
def test_what_changes_every_pixel_is_named_and_nothing_is_reused(bundle, films, folder, change, words):
    events, _ = films.render(change(bundle), folder, FILM, until=1)
    told = films.told(events, Reused)[0]
    assert words in told.changed and told.chunks == 0 and films.told(events, StepDone)


def test_pictures_made_again_after_their_film_was_removed_are_no_damage(bundle, films, folder):
    (folder / "run-0001" / "film.mp4").unlink()
    events, _ = films.render(bundle, folder, FILM)
    changed = films.told(events, Reused)[0].changed
    assert "pictures are made again" in changed and "removed to make room" in changed


def test_an_edit_and_back_again_samples_nothing(bundle, films, folder):
    films.render(bundle, folder, EDITS["the middle"][0])
    events, run = films.render(bundle, folder, FILM)
    assert not films.told(events, StepDone) and run.folder.name == "run-0001"


def test_a_change_is_told_against_the_film_that_was_changed(bundle, films, tmp_path):
    """And not against a newer one that holds as many of its chunks: an edit that was taken back is over."""
    text = "a fox runs | 0.75s\nthen: it sits | {}s\nthen: it {} | 0.75s"
    for length, deed in ((0.75, "jumps"), (1.5, "jumps"), (0.75, "jumps")):
        films.render(bundle, tmp_path, text.format(length, deed))
    events, _ = films.render(bundle, tmp_path, text.format(0.75, "sleeps"))
    (reused,) = films.told(events, Reused)
    assert (reused.chunks, reused.changed) == (2, "segment 3: another prompt")


def test_stopping_after_a_segment_and_going_on_gives_the_whole_film(bundle, films, tmp_path, first):
    events, run = films.render(bundle, tmp_path / "t", FILM, until=2)
    plan = films.plan(bundle, FILM)
    half = plan.segments[2].start_frame
    assert events[0].frames == events[-1].frames == half and not events[-1].cancelled
    assert events[0].segments == 2
    events, again = films.render(bundle, tmp_path / "t", FILM, until=4)
    assert films.told(events, Reused)[0] == Reused(
        2, plan.segments[2].first_chunk, half, "the rest was not made yet"
    )
    events, whole = films.render(bundle, tmp_path / "t", FILM)
    assert run.folder == again.folder == whole.folder and films.bytes_of(whole) == films.bytes_of(
        Run(first / "run-0001")
    )
    events, short = films.render(bundle, tmp_path / "t", FILM, until=2)
    assert short.folder != whole.folder and not films.told(events, StepDone) and events[-1].frames == half
    assert whole.film.read_bytes().startswith(short.film.read_bytes())


def test_nothing_before_the_gate_is_said_in_words(bundle, films, tmp_path):
    text = "a fox | 1s | mute\ncut: a hen | 1s"
    with Take.open(tmp_path) as take, pytest.raises(GroundedError, match="after segment 2"):
        films.session(bundle, text, take, until=1)


def test_a_cancelled_film_goes_on_in_its_own_run(bundle, films, tmp_path, first):
    with Take.open(tmp_path / "t") as take:
        session = films.session(bundle, FILM, take)
        told = []

        def listen(event):
            told.append(event)
            if isinstance(event, StepDone) and event.index == 4:
                session.cancel()

        session.play(listen)
    assert told[-1].cancelled
    events, run = films.render(bundle, tmp_path / "t", FILM)
    assert run.folder.name == "run-0001" and films.told(events, Reused)[0].chunks >= 3
    assert films.bytes_of(run) == films.bytes_of(Run(first / "run-0001"))


def test_of_a_film_that_was_stopped_before_its_first_chunk_nothing_is_told(bundle, films, tmp_path):
    """It was told that none of its segments is as it was, and the rest not made yet."""
    with Take.open(tmp_path / "t") as take:
        session = films.session(bundle, FILM, take)
        session.play(lambda event: isinstance(event, StepDone) and session.cancel())
    events, _ = films.render(bundle, tmp_path / "t", FILM)
    assert events[-1].report["film"]["frames"] and not films.told(events, Reused)


def test_a_stopped_film_with_latents_of_another_run_is_not_gone_on_with(bundle, films, tmp_path):
    """Chunk 1 is damaged, and another run has one of the same key: the first run's journal speaks of other bytes."""
    folder = tmp_path / "take"
    _, stopped = films.render(bundle, folder, FILM, until=3)
    _, twin = films.render(bundle, folder, FILM, until=3, encoding=Encoding(quality=30))
    twin.latents(1).unlink()
    # Made by another machine, say: as good, and not the same to the bit.
    writer = RunWriter(twin, FILM, twin.read_settings(), goes_on=True)
    digest = writer.save_latents(1, stopped.load_latents(1) * 1.001)
    writer.close()
    lines = [dict(record) for record in twin.records()]
    for line in lines:
        line.pop("sum", None)
        if line["kind"] == "chunk" and line["index"] == 1:
            line["latents"] = digest
    twin.journal.write_bytes(b"".join(map(encode_record, lines)))
    stopped.latents(1).unlink()
    stopped.latents(1).write_bytes(b"damaged")
    before = stopped.journal.read_bytes(), stopped.film.read_bytes()
    events, run = films.render(bundle, folder, FILM)
    assert run.folder.name == "run-0003" and films.told(events, Reused)[0].chunks > 3
    assert (stopped.journal.read_bytes(), stopped.film.read_bytes()) == before
    for record in run.committed():
        assert hashlib.sha256(run.latents(record["index"]).read_bytes()).hexdigest() == record["latents"]
    events, again = films.render(bundle, folder, FILM)
    assert again.folder == run.folder and not films.told(events, StepDone), "its own latents count as changed"


def test_a_start_image_is_part_of_what_is_reused(bundle, films, tmp_path, fresh):
    image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(3))
    text = EDITS["the middle"][0]
    films.render(bundle, tmp_path / "t", FILM, start=image)
    for states in (tmp_path / "t" / "states", None):
        events, run = films.render(bundle, tmp_path / "t", text, start=image)
        assert films.bytes_of(run) == fresh(text, start=image)
        if states is not None:
            shutil.rmtree(states)
            shutil.rmtree(run.folder)
    events, _ = films.render(bundle, tmp_path / "t", text, start=image.flip(1), until=1)
    assert films.told(events, Reused)[0].changed == "the start image or video"
    # A run of another memory was the last one: it is not what tells why.
    other = replace(bundle.recipe.memory, anchor_policy="none")
    films.render(bundle, tmp_path / "t", text, start=image, memory=other, until=1)
    events, _ = films.render(bundle, tmp_path / "t", text, start=image.flip(2), until=1)
    assert films.told(events, Reused)[0].changed == "the start image or video"


def test_segments_of_one_prompt_are_told_apart_by_their_seeds():
    def settings(*seeds):
        segments = [
            {"number": n, "prompt": "a fox", "seed": seed, "key": str(seeds[:n]), "chunks": 1}
            for n, seed in enumerate(seeds, 1)
        ]
        return {"facts": {}, "segments": segments}

    told = [
        what_changed(settings(1, 2, 3), settings(*now), latents=True)
        for now in ((1, 3), (1, 3, 2), (1, 4, 2, 3), (1, 2, 4))
    ]
    assert told == [
        "a segment before segment 2 was removed",
        "segment 2: moved",
        "segment 2: new",
        "segment 3: seed 3 -> 4",
    ]


def test_latents_are_linked_not_copied(bundle, films, folder, hard_links):
    _, run = films.render(bundle, folder, EDITS["the last"][0])
    assert run.latents(0).samefile(folder / "run-0001" / "latents" / "000000.safetensors")


def test_a_disk_without_hard_links_gets_copies_and_a_line(bundle, films, folder, monkeypatch, caplog):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("gf_core.take.folder.os.link", refuse)
    with caplog.at_level("INFO", "grounded"):
        _, run = films.render(bundle, folder, EDITS["the last"][0])
    assert not run.latents(0).samefile(folder / "run-0001" / "latents" / "000000.safetensors")
    assert caplog.text.count("latents are copied") == 1


@pytest.mark.parametrize(
    "settings", ["[]", '"text"', "{}", '{"segments": [{"prompt": "a fox"}]}', '{"segments": 3}', "null"]
)
def test_of_a_run_without_settings_the_latents_are_known_by_their_keys(
    bundle, films, folder, first, settings, caplog
):
    caplog.set_level("INFO")
    (folder / "run-0001" / "settings.json").write_text(settings)
    events, run = films.render(bundle, folder, FILM)
    assert run.folder.name == "run-0002" and not films.told(events, StepDone)
    assert films.bytes_of(run) == films.bytes_of(Run(first / "run-0001"))
    assert films.told(events, Reused)[0].changed == "what an earlier run kept is damaged or gone"
    assert "run-0001: its film is not reused" in caplog.text


FOREIGN_LINES = [
    {"kind": "chunk", "index": 0},
    {"kind": "latents", "index": "0", "segment": 0, "key": "", "latents": "", "anchor": None},
    {"kind": "latents", "index": 0, "segment": 0, "key": ["x"], "latents": "", "anchor": None},
    {"kind": "latents", "index": 0, "segment": 0, "key": "", "latents": "", "anchor": "deep"},
    {"kind": ["chunk"]},
    {"no": "kind"},
]  # fmt: skip


@pytest.mark.parametrize("line", FOREIGN_LINES, ids=str)
def test_a_journal_of_another_version_is_left_alone(bundle, films, folder, line):
    journal = folder / "run-0001" / "journal.jsonl"
    journal.write_bytes(encode_record(line) + journal.read_bytes())
    events, run = films.render(bundle, folder, FILM)
    assert run.folder.name == "run-0002" and films.told(events, StepDone)


def test_two_machines_takes_copied_over_each_other(bundle, films, folder, tmp_path):
    """Runs of the same number, the files of one film among those of another: only what belongs together is used."""
    other, whole = tmp_path / "other", tmp_path / "whole"
    films.render(bundle, other, FILM.replace("@seed 7", "@seed 8"))
    _, fresh = films.render(bundle, whole, FILM)
    for path in sorted((other / "run-0001" / "latents").iterdir())[:2]:
        shutil.copy(path, folder / "run-0001" / "latents")
    shutil.copy(other / "run-0001" / "film.mp4", folder / "run-0001")
    _, run = films.render(bundle, folder, FILM)
    assert run.film.read_bytes() == fresh.film.read_bytes()


@pytest.mark.parametrize("states", [True, False], ids=["with states", "without"])
@pytest.mark.parametrize("holes", [(0,), (3, 4), (5, 8), (1, 2, 6)], ids=str)
def test_chunks_are_sampled_again_to_the_same_bytes(bundle, films, folder, first, holes, states):
    """In a blend, at a cut, behind a scene; one alone, and several."""
    run, plan = Run(folder / "run-0001"), films.plan(bundle, FILM)
    for index in holes:
        run.latents(index).write_bytes(b"damaged")
    if not states:
        shutil.rmtree(folder / "states")
    events, again = films.render(bundle, folder, FILM)
    assert {event.index for event in films.told(events, StepDone)} == set(holes) and max(holes) < plan.chunks
    assert again.folder.name == "run-0001" and films.bytes_of(again) == films.bytes_of(
        Run(first / "run-0001")
    )
    assert f"{len(holes)} of them damaged and made again" in "\n".join(report_lines(events[-1].report))


def test_a_chunk_that_came_out_otherwise_is_believed_from_then_on(bundle, films, folder, caplog):
    """Made by another machine, and damaged: what this one makes has other bits, and is noted as they are."""
    run = Run(folder / "run-0001")
    lines = [{name: value for name, value in record.items() if name != "sum"} for record in run.records()]
    (line,) = (line for line in lines if line["kind"] == "chunk" and line["index"] == 3)
    line["latents"] = "0" * 64
    run.journal.write_bytes(b"".join(map(encode_record, lines)))
    before = run.film.read_bytes()
    for sampled in ({3}, set()):
        events, again = films.render(bundle, folder, FILM)
        assert {event.index for event in films.told(events, StepDone)} == sampled
        assert again.folder == run.folder and again.film.read_bytes() == before
    assert caplog.text.count("came out otherwise") == 1


def test_a_whole_film_of_another_encoder_stays_when_latents_are_made_again(
    bundle, films, folder, first, monkeypatch, caplog
):
    """Nothing is written behind its fragments, so how they are to be read does not matter."""
    Run(folder / "run-0001").latents(1).unlink()
    monkeypatch.setattr("gf_core.engine.finish.film_header", lambda *_: b"of another encoder")
    events, run = films.render(bundle, folder, FILM)
    assert {event.index for event in films.told(events, StepDone)} == {1} and run.folder.name == "run-0001"
    assert (
        films.bytes_of(run) == films.bytes_of(Run(first / "run-0001"))
        and "encoded otherwise" not in caplog.text
    )


def test_the_chunk_with_a_start_image_is_sampled_again(bundle, films, tmp_path):
    image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(3))
    _, run = films.render(bundle, tmp_path / "t", FILM, start=image, until=2)
    before = films.bytes_of(run)
    run.latents(0).unlink()
    events, run = films.render(bundle, tmp_path / "t", FILM, start=image, until=2)
    assert {event.index for event in films.told(events, StepDone)} == {0} and films.bytes_of(run) == before


def test_a_running_mean_is_brought_back_through_a_hole(bundle, films, tmp_path):
    memory = replace(bundle.recipe.memory, anchor_policy="ema")
    _, run = films.render(bundle, tmp_path / "t", FILM, memory=memory)
    before = films.bytes_of(run)
    for index in (2, 7):
        run.latents(index).unlink()
    shutil.rmtree(tmp_path / "t" / "states")
    events, run = films.render(bundle, tmp_path / "t", FILM, memory=memory)
    assert {event.index for event in films.told(events, StepDone)} == {2, 7} and films.bytes_of(run) == before
