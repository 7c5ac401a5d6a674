"""The built-in codec and text encoder, with random weights, in place of the arithmetic ones; and a card."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.config import Recipe, VideoSpec
from gf_core.engine import finish as finish_module
from gf_core.engine.events import Reused
from gf_core.errors import PromptError
from gf_core.model.wan import WanModel
from gf_core.take.folder import Take
from gf_core.text.small import SmallTextEncoder
from gf_core.vae.base import to_uint8
from gf_core.vae.builtin import BuiltinCodec, CodecConfig
from gf_core.video import FilmWriter, probe

from ..vae.kinds import builtin, taehv, wan
from .test_compiled import play

TEXT = "a red fox | 1.5s\nthen: it runs | 1.5s\ncut: a red fox | 0.75s"


def real_bundle(tiny, device="cpu"):
    torch.manual_seed(1)
    words = ["a", "red", "fox", "it", "runs"]
    text = SmallTextEncoder(words, dim=8, layers=1, heads=2, max_words=6, text_dim=tiny.spec.text_dim)
    codec = BuiltinCodec(CodecConfig(encoder_widths=(8, 8, 8), decoder_widths=(8, 8, 8)))
    model = WanModel(tiny.spec).requires_grad_(False).eval()
    return ModelBundle(
        name="real parts",
        model=model.to(device),
        spec=tiny.spec,
        text=text.eval(),
        codec=codec.eval().to(device),
        recipe=Recipe(tiny.recipe.memory, tiny.recipe.sample, VideoSpec(width=48, height=32, fps=16)),
        fingerprint="random",
    )


@pytest.fixture
def given(monkeypatch):
    """Every array of pictures that the film is given, before it loses colour to the encoder."""
    arrays: list[np.ndarray] = []

    class Listening(FilmWriter):
        def write(self, frames, check):
            arrays.append(frames)
            super().write(frames, check)

    monkeypatch.setattr(finish_module, "FilmWriter", Listening)
    return arrays


def test_a_film_from_the_built_in_parts(bundle, films, tmp_path, given):
    real = real_bundle(bundle)
    events, run = films.render(real, tmp_path, TEXT)
    whole = torch.cat([run.load_latents(record["index"]) for record in run.committed()])
    assert np.array_equal(np.concatenate(given), to_uint8(real.codec.decoder().decode(whole)))
    assert probe(run.film).frames == events[-1].frames == len(np.concatenate(given))


def test_an_unknown_word_stops_before_a_run_is_begun(bundle, films, tmp_path):
    real = real_bundle(bundle)
    with Take.open(tmp_path) as take:
        with pytest.raises(PromptError, match="unicorn"):
            films.events(real, "a purple unicorn | 2s", take)
        assert take.runs() == []


@pytest.mark.gpu
def test_on_a_card_the_overlapped_film_is_the_one_decoded_alone(bundle, films, tmp_path, given):
    real = real_bundle(replace(bundle), "cuda")
    _, first = films.render(real, tmp_path / "a", TEXT)
    events, second = films.render(real, tmp_path / "b", TEXT)
    assert [r["latents"] for r in first.committed()] == [r["latents"] for r in second.committed()]
    whole = torch.cat([second.load_latents(record["index"]) for record in second.committed()])
    alone = to_uint8(real.codec.decoder().decode(whole.cuda())).astype(int)
    assert np.abs(np.concatenate(given)[-len(alone) :] - alone).max() <= 1
    assert events[-1].report["memory"]["peak card bytes"] > 0


@pytest.mark.parametrize("make", [pytest.param(wan, marks=pytest.mark.slow), taehv, builtin])
def test_film_and_decoder_keep_to_a_card(bundle, films, tmp_path, make, given, card):
    """Which need not be there: what is computed of two tensors lies on it, and the film is the processor's, but for
    the rounding of another layout."""
    films_of = []
    for place in ("cpu", card):
        real = replace(real_bundle(replace(bundle), place), codec=make().to(place))
        events, run = films.render(real, tmp_path / torch.device(place).type, TEXT)
        latents = torch.cat([run.load_latents(record["index"]) for record in run.committed()])
        films_of.append((latents, np.concatenate(given).astype(int)))
        given.clear()
    (latents, pictures), (found, shown) = films_of
    assert torch.equal(found, latents) and np.abs(shown - pictures).max() <= 1
    assert events[-1].report["memory"]["peak card bytes"] > 0


LONG = "a red fox | 6s\nthen: it runs | 3s\ncut: a red fox | 3s"


@pytest.mark.gpu
def test_on_a_card_a_compiled_film_goes_on_with_the_same_bytes(bundle, tmp_path, caplog):
    """Its calls are recorded and replayed; where it is torn is inside of a row of replays."""
    caplog.set_level(logging.WARNING, "grounded")
    real = replace(real_bundle(bundle, "cuda"), compiled=True)
    played = [
        play(real, LONG, tmp_path / name, at) for name, at in (("whole", None), ("torn", 6), ("torn", None))
    ]
    assert all(film.bundle.compiled for film, _ in played)
    assert next(event.chunks for event in played[-1][1] if isinstance(event, Reused)) >= 6
    latents = []
    for name in ("whole", "torn"):
        with Take.open(tmp_path / name) as take:
            run = take.runs()[0]
            latents.append([run.latents(record["index"]).read_bytes() for record in run.committed()])
    assert latents[0] == latents[1] and len(latents[0]) == 16
    assert not caplog.records, [record.message for record in caplog.records]


@pytest.mark.parametrize("make", [wan, taehv, builtin])
@pytest.mark.parametrize("states", ["kept", "replayed"])
def test_every_decoder_goes_on_to_the_same_bytes(bundle, films, tmp_path, make, states):
    torch.manual_seed(3)
    bundle.codec = make()
    edited = TEXT.replace("it runs", "a fox")
    budget = {} if states == "kept" else {"state_budget": 0}

    def film(folder, text):
        return films.render(bundle, tmp_path / folder, text, **budget)[0][-1]

    film("take", TEXT)
    assert bool(list(tmp_path.glob("take/states/*.decoder.*"))) == (states == "kept")
    end = film("take", edited)
    assert end.report["reuse"]["segments"] == 1
    assert (end.report["reuse"]["replayed"] > 0) == (states == "replayed")
    assert end.path.read_bytes() == film("fresh", edited).path.read_bytes()
