"""Causality and refusals: what drives a film, what does not, and that the words say which is which."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gf_core.checkpoints.catalog import CATALOG, by_id, match
from gf_core.checkpoints.identify import identify, require_drivable
from gf_core.errors import CheckpointError
from gf_core.memory.presets import PRESETS


def test_plain_wan_is_refused_and_can_be_assumed(tmp_path, state):
    path = tmp_path / "wan2.1_t2v_1.3B_bf16.safetensors"
    save_file(state, path)
    item = identify(path)
    with pytest.raises(CheckpointError, match="nothing says that it is causal") as error:
        require_drivable(item)
    assert "--assume self_forcing" in error.value.fix and "self_forcing_dmd.pt" in error.value.fix
    vouched = identify(path, assume="self_forcing")
    require_drivable(vouched, assumed=True)
    assert vouched.known == by_id("self_forcing")


def test_unknown_assumption_lists_the_choices(tmp_path, state):
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=r"self_forcing, .*longlive"):
        identify(tmp_path / "m.safetensors", assume="selfforcing")


@pytest.mark.parametrize("kind", ["generator", "generator_ema", "fsdp"])
def test_outer_keys_of_generators_count(tmp_path, wrap, kind):
    torch.save(wrap(kind), tmp_path / "m.pt")
    item = identify(tmp_path / "m.pt")
    require_drivable(item)
    assert item.found.outer in item.evidence


def test_state_dict_of_unknown_origin_does_not_count(tmp_path, wrap):
    torch.save(wrap("state_dict"), tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="causal"):
        require_drivable(identify(tmp_path / "m.pt"))


def test_own_header_counts(tmp_path, state, own_header):
    save_file(state, tmp_path / "m.safetensors", own_header)
    item = identify(tmp_path / "m.safetensors")
    require_drivable(item)
    assert item.what.spec.text_len == 16


def test_known_but_not_drivable_names_the_reason(tmp_path, wrap):
    torch.save(wrap("generator_ema"), tmp_path / "ar_diffusion.pt")
    item = identify(tmp_path / "ar_diffusion.pt")
    with pytest.raises(CheckpointError, match=r"Causal Forcing.*initialisation"):
        require_drivable(item)
    require_drivable(identify(tmp_path / "ar_diffusion.pt", assume="self_forcing"), assumed=True)


@pytest.mark.parametrize("name", ["rolling_forcing_dmd.pt", "chunkwise/longvideo.pt"])
def test_chunks_that_are_trained_together_are_denoised_together(tmp_path, wrap, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    torch.save(wrap("generator_ema"), path)
    require_drivable(identify(path))
    recipe = match(Path("/models") / name, 1536, "generator_ema").recipe
    assert recipe.memory.rolling == 21 and recipe.latency == len(recipe.sample.steps) - 1


@pytest.mark.parametrize(
    "tensors, words",
    [
        ({"decoder.conv1.weight": (8, 16, 3, 3, 3), "decoder.middle.0.residual.0.gamma": (8,)}, "Wan VAE"),
        ({"encoder.0.weight": (8, 3, 3, 3), "decoder.1.weight": (8, 16, 3, 3)}, "tiny VAE"),
        ({"blocks.0.pos_embedding.embedding.weight": (32, 2)}, "UMT5 text encoder"),
        ({"blocks.0.self_attn.q.lora_A.weight": (2, 8)}, "a LoRA"),
        ({"patch_embedding.weight": (8, 36, 1, 2, 2), "head.modulation": (1, 2, 8)}, "image-to-video"),
        ({"patch_embedding.weight": (8, 48, 1, 2, 2), "head.modulation": (1, 2, 8)}, "48 channels"),
        ({"conv_in.weight": (8, 4, 3, 3)}, "not a Wan transformer"),
    ],
)
def test_wrong_files_are_named(tmp_path, tensors, words):
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=words) as error:
        require_drivable(identify(tmp_path / "m.safetensors"))
    assert error.value.fix


@pytest.mark.parametrize(
    "path, dim, outer, expected",
    [
        ("checkpoints/self_forcing_dmd.pt", 1536, "generator_ema", "self_forcing"),
        ("models/wan2.1_t2v_1.3B_self_forcing_dmd_bf16.safetensors", 1536, None, "self_forcing"),
        ("checkpoints/ode_init.pt", 1536, "generator", "self_forcing_init"),
        ("models/longlive_base.pt", 1536, "generator", "longlive"),
        ("rolling_forcing_dmd.pt", 1536, "generator_ema", "rolling_forcing"),
        ("chunkwise/causal_forcing.pt", 1536, "generator", "causal_forcing"),
        ("framewise/causal_forcing.pt", 1536, "generator_ema", "causal_forcing_framewise"),
        ("chunkwise/longvideo.pt", 1536, "generator", "causal_forcing_long"),
        ("causal-forcing++/framewise-2step.pt", 1536, "generator_ema", "causal_forcing_2step"),
        ("causal-forcing++/framewise-1step.pt", 1536, "generator_ema", "causal_forcing_1step"),
        ("ema_model.pt", 1536, "generator_ema", "infinite_forcing"),
        ("ema_model.pt", 1536, None, None),
        ("rewardforcing.pt", 1536, None, "reward_forcing"),
        ("Self_Gradient_Forcing/chunkwise/model.pt", 1536, "generator_ema", "sgf"),
        ("self-gradient-forcing-plus.safetensors", 1536, None, "sgf_plus"),
        ("krea-realtime-video-14b.safetensors", 5120, None, "krea"),
        ("autoregressive_checkpoint/model.pt", 1536, "generator", "causvid"),
        ("Wan2.1-T2V-14B-CausVid/diffusion_pytorch_model.safetensors", 5120, None, "causvid_14b"),
        ("SFWan2.1-T2V-1.3B-Diffusers", 1536, None, "self_forcing_diffusers"),
        (
            "hub/models--wlsaidhi--SFWan2.1-T2V-1.3B-Diffusers/snapshots/0a1b",
            1536,
            None,
            "self_forcing_diffusers",
        ),
        ("Wan2.1-T2V-1.3B/diffusion_pytorch_model.safetensors", 1536, None, "wan"),
        ("self_forcing_dmd.pt", 5120, None, None),
        ("Self-Forcing/some_other_model.safetensors", 1536, None, None),
        ("my_model.pt", 1536, "generator", None),
    ],
)
def test_catalogue_knows_published_names(path, dim, outer, expected):
    row = match(Path("/models") / path, dim, outer)
    assert (row.id if row else None) == expected


def test_catalogue_rows_are_consistent():
    assert len({row.id for row in CATALOG}) == len(CATALOG)
    for row in CATALOG:
        assert row.memory in PRESETS and row.trained_memory in PRESETS
        assert list(row.sample.steps) == sorted(row.sample.steps, reverse=True)
        assert row.dim in (1536, 3072, 5120)


def test_both_step_lists_are_told():
    [two_steps] = [row for row in CATALOG if row.id == "causal_forcing_2step"]
    assert two_steps.sample.steps_in_words() == "1000, 500; where there is no memory yet 1000, 750, 500, 250"
    [usual] = [row for row in CATALOG if row.id == "self_forcing"]
    assert usual.sample.steps_in_words() == "1000, 750, 500, 250"


@pytest.mark.parametrize(
    "config, causal",
    [
        ('{"transformer": {"causal_ar": true}}', True),
        ('{"transformer": {"causal_ar": false}}', False),
        ('{"transformer": []}', False),
        ("[", False),
    ],
)
def test_comfyuis_own_mark_counts_under_any_name(tmp_path, state, config, causal):
    save_file(state, tmp_path / "mine.safetensors", {"config": config})
    item = identify(tmp_path / "mine.safetensors")
    assert bool(item.evidence) == causal
    if causal:
        require_drivable(item)
