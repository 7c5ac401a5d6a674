"""Every row of the catalogue as its authors publish it: recognised, opened, its memory chosen, its licence named."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gf_core.checkpoints.bundle import ModelBundle, load_model
from gf_core.checkpoints.catalog import CATALOG, KnownCheckpoint, named
from gf_core.checkpoints.identify import identify, require_drivable
from gf_core.checkpoints.inspect import inspect_file
from gf_core.config import VideoSpec
from gf_core.engine.film import settle
from gf_core.errors import CheckpointError
from gf_core.model.wan import WanModel
from gf_core.sampling.noise import chunk_noise
from gf_core.sampling.sampler import Chunk

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))
from published import SPEC, Codec, Text, build, plain, row_of

from dev.packaging.catalogue_table import PAGE, written

DRIVABLE = [row for row in CATALOG if row.causal and not row.refusal]
REFUSED = [row for row in CATALOG if row.refusal]


def ids(row: KnownCheckpoint) -> str:
    return row.id


def network(weights):
    model = WanModel(SPEC)
    model.load_state_dict(weights)
    return model.requires_grad_(False).eval()


def film(bundle: ModelBundle) -> torch.Tensor:
    """The first two chunks, under what the checkpoint wants."""
    recipe = replace(bundle.recipe, video=VideoSpec(32, 32, 16))
    sampler = bundle.sampler(recipe)
    sampler.director.start(torch.linspace(-1, 1, 3 * SPEC.text_dim).reshape(1, 3, SPEC.text_dim))
    shape = (1, recipe.memory.chunk, 16, 4, 4)
    made = []
    for index in range(2):
        made += sampler.feed(Chunk(index, lambda step, index=index: chunk_noise(7, index, step, shape)))
    return torch.cat([clean.latents for clean in (*made, *sampler.flush())], 1)


@pytest.mark.parametrize("row", DRIVABLE, ids=ids)
def test_a_published_file_makes_what_its_plain_weights_make(row, tmp_path):
    path = build(row, tmp_path)
    item = identify(path)
    require_drivable(item)
    assert item.known == row
    bundle = load_model(path, text=Text(), vae=Codec())
    assert bundle.recipe == row.recipe and bundle.licence == row.licence
    weights, second = plain(row)
    bare = replace(bundle, model=network(weights), writer=network(second) if second else None)
    assert (bundle.writer is not None) == row.writer
    worst = (film(bundle) - film(bare)).abs().max()
    assert worst <= (1e-6 if row.lora else 0), f"{row.id}: {worst}"
    told = dict(inspect_file(path).rows)
    assert told["licence"] == row.licence and told["memory"].startswith(f"{row.memory}: ")
    assert told["memory"].endswith(row.reason)


@pytest.mark.parametrize("row", REFUSED, ids=ids)
def test_a_published_file_that_is_not_driven_says_which_it_is_and_why(row, tmp_path):
    path = build(row, tmp_path)
    with pytest.raises(CheckpointError) as error:
        require_drivable(identify(path))
    assert row.title in error.value.message and row.refusal in error.value.message and error.value.fix
    assert dict(inspect_file(path).rows)["licence"] == row.licence


@pytest.mark.parametrize("row", CATALOG, ids=ids)
@pytest.mark.parametrize("folder", ["{0}", "{1}", "models--{2}/snapshots/0a1b"])
def test_a_published_name_is_one_row(row, folder):
    owner = row.repository.split("/")[1]
    home = folder.format(row.repository, owner, row.repository.replace("/", "--"))
    found = named(Path("/models") / home / row.file, row.groups[0] if row.groups else None)
    assert [one.id for one in found] == [row.id]


@pytest.mark.parametrize(
    "row, name, said, candidates",
    [
        (
            "rolling_forcing",
            "rolling_forcing_memflow.pt",
            "Rolling Forcing 1.3B",
            ("memflow", "rolling_forcing"),
        ),
        ("causal_forcing_init", "ar_diffusion.self_forcing_dmd.pt", "Self Forcing 1.3B and of", ()),
        ("sgf", "self_gradient_forcing_plus.pt", "lacks a second set", ()),
        ("sgf_plus", "self_gradient_forcing.pt", "holds a second set", ("sgf_plus", "sgf_plus_framewise")),
    ],
)
def test_a_name_that_does_not_tell_is_said_and_ended_by_the_user(row, name, said, candidates, tmp_path):
    path = build(row_of(row), tmp_path / "x", name).rename(tmp_path / name)
    item = identify(path)
    assert item.known is None and set(candidates) <= set(item.candidates)
    with pytest.raises(CheckpointError, match=said) as error:
        require_drivable(item)
    assert all(f"--assume {one}" in error.value.fix for one in candidates)
    ended = identify(path, assume=row)
    require_drivable(ended, assumed=True)
    assert ended.known == row_of(row)


def test_two_names_that_want_the_same_are_no_doubt(tmp_path):
    path = build(row_of("self_forcing"), tmp_path / "x").rename(
        tmp_path / "self_forcing_dmd_causal_forcing.pt"
    )
    item = identify(path)
    require_drivable(item)
    assert item.known is not None and item.known.recipe == row_of("causal_forcing").recipe


def test_the_documentation_holds_the_catalogue():
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page)


def test_the_licence_is_in_the_film_of_a_checkpoint_and_not_in_that_of_the_builtin(tmp_path):
    bundle = load_model(build(row_of("causvid"), tmp_path), text=Text(), vae=Codec())
    film = settle(bundle, "a fox | 1s", recipe=replace(bundle.recipe, video=VideoSpec(32, 32, 16)))
    assert film.settings["model"]["licence"] == row_of("causvid").licence
    without = settle(replace(bundle, licence=""), "a fox | 1s", recipe=film.recipe)
    assert "licence" not in without.settings["model"] and without.key == film.key


@pytest.mark.parametrize("folder", ["WaveForcing", "checkpoints", "diffusion_models"])
def test_the_long_file_of_causal_forcing_needs_no_folder_of_its_own(folder, tmp_path):
    """That of WaveForcing's runs is the same; as Self Forcing it would be driven with another memory."""
    item = identify(build(row_of("causal_forcing_long"), tmp_path).rename(tmp_path / "longvideo.pt"))
    assert item.known == row_of("causal_forcing_long")
    (path := tmp_path / folder / "longvideo.pt").parent.mkdir()
    assert named(path, "generator") == (item.known,) and not named(path)


def test_generic_names_count_with_their_outer_key_and_the_tensors_decide(tmp_path):
    for row in ("sgf", "sgf_plus"):
        path = build(row_of(row), tmp_path / row)
        home = tmp_path / row / "hf_weights" / "chunkwise"
        home.mkdir(parents=True)
        assert identify(path.rename(home / "model.pt")).known == row_of(row)


def test_a_renamed_generator_is_driven_and_those_that_it_may_be_are_named(tmp_path, caplog):
    path = build(row_of("rolling_forcing"), tmp_path / "x").rename(tmp_path / "mine.pt")
    bundle = load_model(path, text=Text(), vae=Codec())
    assert bundle.recipe.sample.steps == (1000, 750, 500, 250) and not bundle.licence
    said = caplog.text
    assert "taken for Self Forcing" in said and "--assume rolling_forcing" in said
    assert "rolling_forcing" in dict(inspect_file(path).rows)["saved like"]


@pytest.mark.parametrize(
    "row, without",
    [("self_forcing", "its weights"), ("longlive", "its lora"), ("sgf_plus", "its second set")],
)
def test_the_films_that_are_compared_follow_weights_lora_and_second_set(row, without, tmp_path):
    bundle = load_model(build(row_of(row), tmp_path), text=Text(), vae=Codec())
    lesser = {
        "its weights": lambda: replace(bundle, model=network(plain(row_of("sgf_plus"))[1])),
        "its lora": lambda: replace(bundle, model=network(plain(row_of("self_forcing"))[0])),
        "its second set": lambda: replace(bundle, writer=None),
    }[without]()
    assert (film(bundle) - film(lesser)).abs().max() > 1e-3
