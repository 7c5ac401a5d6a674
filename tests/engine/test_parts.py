"""Text encoder and decoder on another device than the network: the same film, and nothing of it where it is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
from safetensors.torch import load_file

from gf_core.engine.events import ChunkDone
from gf_core.engine.film import Film
from gf_core.estimate.room import bundle_cost, parts_of

META = torch.device("meta")
TEXT = "a fox | 3s\nthen: it runs | 2s"


class Elsewhere:
    """A decoder whose device holds no numbers: it gets latents there, and takes the numbers from the Take's files."""

    def __init__(self, codec, folder):
        self._stream, self._folder, self.decoded = codec.decoder(), folder, []

    def decode(self, latents):
        assert latents.device == META
        (run,) = self._folder.glob("run-*")
        files = sorted(run.glob("latents/*.safetensors"))
        (stored,) = load_file(files[len(self.decoded)]).values()
        assert stored.shape == latents.shape
        self.decoded.append(latents.shape)
        return self._stream.decode(stored)

    def snapshot(self):
        return self._stream.snapshot()

    def restore(self, state):
        self._stream.restore(state)


def test_the_decoder_gets_latents_where_it_is_and_the_film_is_the_same(make_bundle, films, tmp_path):
    made = []
    for folder, device in ((tmp_path / "one", None), (tmp_path / "two", META)):
        bundle = make_bundle()
        bundle.parts_on = device
        if device is not None:
            decoder = Elsewhere(bundle.codec, folder)
            bundle.codec.decoder = lambda decoder=decoder: decoder
        events, run = films.render(bundle, folder, TEXT)
        made.append((run.film.read_bytes(), len(films.told(events, ChunkDone))))
    assert made[0] == made[1]
    assert len(decoder.decoded) == made[1][1]


def test_what_is_elsewhere_is_in_the_key_where_it_is_of_another_kind_and_in_no_estimate(make_bundle):
    here, there = make_bundle(), make_bundle()
    there.parts_on = META
    keys = [Film(bundle, TEXT, bundle.recipe).key for bundle in (here, there)]
    there.parts_on = torch.device("cpu")
    assert keys[0] != keys[1] and keys[0] == Film(there, TEXT, there.recipe).key
    there.parts_on = META
    assert "decoder" in parts_of(bundle_cost(here), here.recipe, 1)
    assert "decoder" not in parts_of(bundle_cost(there), there.recipe, 1)


def test_the_number_of_ranks_is_in_the_key(make_bundle):
    """Each rounds over rows of its own, so films of one, two and three are not mixed."""
    keys = set()
    for count in (None, 2, 3):
        bundle = make_bundle()
        bundle.team = cast(Any, count and SimpleNamespace(count=count))
        keys.add(Film(bundle, TEXT, bundle.recipe).key)
    assert len(keys) == 3
