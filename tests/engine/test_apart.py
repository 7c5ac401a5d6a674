"""Where memory begins anew the decoder does: a scene, and what is gone back to, have no ghost of the shot before."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gf_core.engine.events import Finished, Reused, StepDone
from gf_core.take.folder import Run
from gf_core.take.journal import encode_record, scan_journal
from gf_core.take.states import StateStore, decoder_name
from gf_core.timeline import make_plan, parse
from gf_core.vae.base import to_uint8
from gf_core.vae.decoders import look_of
from gf_core.video import read_frames

FILM = """@seed 7
a fox runs | 1.5s
then: it sits | 0.75s
cut: a hen sits | 0.75s
scene: a boat | 1.5s
back to 2: it sleeps | 0.75s
back to 5: it runs | 0.75s | motion
"""
APART = {4, 6}


def old(run: Run) -> None:
    """Make of a run one of a version that decoded every chunk behind the one in front of it."""
    records = scan_journal(run.journal).records
    for record in records:
        record.pop("apart", None)
    run.journal.write_bytes(b"".join(map(encode_record, records)))


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        (FILM, APART),
        ("scene: a fox | 1s\nscene: a fox | 1s | mute\nthen: it runs | 1s", {2}),
        ("a fox | 0.75s\ncut: a hen | 0.75s | mute\nback to 1: it runs | 0.75s", set()),
        ("a fox | 0.75s\ncut: a hen | 0.75s\nback to 1: it runs | 0.75s\nback to 2: a hen | 0.75s", {2, 3}),
    ],
)
def test_which_chunks_know_nothing_of_the_one_in_front(text, apart):
    assert make_plan(parse(text)).apart == apart


def test_a_scene_is_decoded_without_the_shot_in_front_of_it(bundle, films, take):
    end = films.events(bundle, FILM, take)[-1]
    run = Run(end.path.parent)
    records = run.committed()
    assert {record["index"] for record in records if record.get("apart")} == APART
    shown = list(read_frames(run.film))
    for record in records:
        if record["index"] in APART:
            alone = to_uint8(bundle.codec.decoder().decode(run.load_latents(record["index"])))
            here = np.stack(shown[record["first_frame"] : record["first_frame"] + record["frames"]])
            assert record["frames"] == len(alone) + 3
            # Where a clip's first picture is one, a scene's is four, of itself alone.
            alone = np.concatenate([alone[:1].repeat(3, 0), alone])
            assert np.abs(alone.astype(int) - here).mean((1, 2, 3)).max() < 6


@pytest.mark.parametrize("until", [3, 4, 5])
def test_going_on_at_a_scene_gives_the_same_bytes(bundle, films, take, tmp_path, until):
    films.events(bundle, FILM, take, until=until)
    end = films.events(bundle, FILM, take)[-1]
    _, whole = films.render(bundle, tmp_path / "whole", FILM)
    assert end.path.read_bytes() == whole.film.read_bytes()


def test_pictures_of_earlier_versions_are_made_again_from_the_first_scene_on(bundle, films, take):
    first = films.events(bundle, FILM, take)[-1]
    whole = first.path.read_bytes()
    old(Run(first.path.parent))
    events = films.events(bundle, FILM, take)
    again = films.told(events, Finished)[0]
    assert not films.told(events, StepDone) and again.path != first.path
    assert "show through" in films.told(events, Reused)[0].changed
    assert again.path.read_bytes() == whole
    assert films.told(films.events(bundle, FILM, take), Finished)[0].path == again.path, "once"


def test_those_without_latents_are_believed_as_they_are(bundle, films, take):
    first = films.events(bundle, FILM, take)[-1]
    run = Run(first.path.parent)
    old(run)
    for path in (run.folder / "latents").iterdir():
        path.unlink()
    events = films.events(bundle, FILM, take)
    assert films.told(events, Finished)[0].path == first.path and not films.told(events, StepDone)


def test_a_film_without_scenes_is_what_it_was(bundle, films, take):
    text = FILM.splitlines()
    run = Run(films.events(bundle, "\n".join(text[:4]), take)[-1].path.parent)
    assert not any("apart" in record for record in run.committed())


def test_states_of_decoders_of_earlier_versions_are_not_gone_on_from(bundle, films, take, tmp_path):
    """They look farther back than the beginning of a scene of fewer frames than a decoder's reach."""
    run = Run(films.events(bundle, FILM, take, until=2)[-1].path.parent)
    last = run.committed()[-1]
    for path in take.states.glob("*.decoder.*"):
        path.unlink()
    name = decoder_name(last["key"], look_of(bundle.codec))
    assert StateStore(take.states, [name]).save(name, last["index"] + 1, {"last": torch.zeros(32, 32, 3)})
    end = films.events(bundle, FILM, take)[-1]
    _, whole = films.render(bundle, tmp_path / "whole", FILM)
    assert end.path.read_bytes() == whole.film.read_bytes()


def test_a_replay_begins_anew_where_the_film_did(bundle, films, take, monkeypatch):
    text = "a fox | 0.75s\nscene: a boat | 0.75s\nthen: it sinks | 0.75s"
    films.events(bundle, text, take, until=2)
    for path in take.states.glob("*.decoder.*"):
        path.unlink()
    called, decoder = list[str](), type(bundle.codec.decoder())
    forget, decode = decoder.forget, decoder.decode
    monkeypatch.setattr(decoder, "forget", lambda self: (called.append("forget"), forget(self))[1])
    monkeypatch.setattr(decoder, "decode", lambda self, z: (called.append("decode"), decode(self, z))[1])
    films.events(bundle, text, take)
    assert called == ["forget", "decode", "decode"], "the scene once more, then the last chunk"
