"""Every loop makes the same film: the engine, the evaluation and the loop itself, on a storyboard with every verb."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gf_core.engine.film import settle
from gf_core.evaluation.suite import in_memory
from gf_core.sampling.film import Cues, film_chunks
from gf_core.vae.base import to_uint8
from gf_core.vae.decoders import begin_apart

EVERYTHING = """@seed 5
a fox walks | 3s
then: it jumps | 3s | recache 0.6
then: it strolls | 3s | blend 1.5s
cut: the fox dances | 2.25s | seed 11
then: it waits | 1.5s | mute
then: it sleeps | 2.25s
scene: an owl stands | 2.25s
then: it flies | 1.5s
back to 2: it runs | 1.5s
back to 3: it rests | 1.5s | motion
"""


@pytest.mark.parametrize("first", [None, 1], ids=["even chunks", "image first"])
@torch.no_grad()
def test_every_loop_makes_the_same_film(bundle, films, tmp_path, first):
    sample = replace(bundle.recipe.sample, first_chunk_frames=first)
    bundle.recipe = replace(bundle.recipe, sample=sample)
    (events, run), film = films.render(bundle, tmp_path, EVERYTHING), settle(bundle, EVERYTHING)
    embeds = [bundle.text.encode([segment.prompt])[0][None] for segment in film.plan.segments]
    made = list(film_chunks(bundle.sampler(film.recipe), Cues(film.plan, embeds)))
    assert [clean.index for clean in made] == list(range(film.plan.chunks))
    for clean in made:
        assert torch.equal(clean.latents[0], run.load_latents(clean.index))
    decoder = bundle.codec.decoder()
    pictures = []
    for clean in made:
        if clean.index in film.plan.apart:
            begin_apart(decoder)
        pictures.append(to_uint8(decoder.decode(clean.latents[0])))
    pictures = np.concatenate(pictures)
    assert np.array_equal(in_memory(bundle, bundle.recipe.memory)(EVERYTHING), pictures)
    assert len(pictures) == events[-1].frames
