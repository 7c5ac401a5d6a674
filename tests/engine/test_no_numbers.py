"""Numbers that are none, in latents or pictures, end a film in words and cost nothing that was made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gf_core.engine.events import Finished, StepDone
from gf_core.engine.finish import Finisher
from gf_core.errors import GroundedError

TEXT = "a fox runs | 2.25s | seed 3\nthen: it jumps high | 2.25s\ncut: a hen sits | 1.5s"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 2])
def test_a_film_of_which_nothing_would_be_seen_ends_in_words(bundle, films, take, monkeypatch, bad, at):
    """Of latents that are no numbers every decoder makes black, and the film would be placed as if nothing were."""
    real = Finisher.decode

    def spoilt(self, chunk):
        if chunk.index >= at:
            chunk = replace(
                chunk, latents=torch.where(chunk.latents == chunk.latents.max(), bad, chunk.latents)
            )
        return real(self, chunk)

    monkeypatch.setattr(Finisher, "decode", spoilt)
    with pytest.raises(GroundedError, match=f"chunk {at} came out with numbers that are none") as caught:
        films.events(bundle, TEXT, take)
    assert "LoRA" in caught.value.fix
    assert len(list(take.folder.glob("run-*/latents/*"))) == at
    monkeypatch.undo()
    ends = films.events(bundle, TEXT, take)
    assert isinstance(ends[-1], Finished)


def test_a_decoder_that_makes_nothing_ends_in_words_and_keeps_the_latents(bundle, films, take):
    real = type(bundle.codec.decoder())

    class Overflowing(real):
        def decode(self, latents):
            frames = super().decode(latents)
            return frames.index_fill(0, torch.tensor([-1]), float("nan")) if len(frames) == 12 else frames

    bundle.codec.decoder = Overflowing
    with pytest.raises(GroundedError, match="pictures of numbers that are none"):
        films.events(bundle, TEXT, take)
    bundle.codec.decoder = real
    steps = len(bundle.recipe.sample.steps)
    again = [event for event in films.events(bundle, TEXT, take) if isinstance(event, StepDone)]
    assert len(again) < films.plan(bundle, TEXT).chunks * steps
