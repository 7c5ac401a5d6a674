"""The bridge to native MODEL, CLIP and VAE, in a real ComfyUI on tiny random weights. Figures are printed (-s)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

SCRIPTS = Path(__file__).parent / "native"
Run = Callable[..., dict[str, Any]]
EXACT = 1e-5
"""Largest difference, relative to the largest latent, of two ways to compute the same."""


def test_every_way_to_load_makes_the_same_film(run_in_host: Run) -> None:
    facts = run_in_host(SCRIPTS / "models.py")
    print({name: value for name, value in facts.items() if isinstance(value, float | int)})
    files = ("self_forcing_dmd.safetensors", "training.pt", "sfwan2.1_diffusers.safetensors")
    for name in (*files, "standalone", "lora", "partial", "unpatched_again"):
        assert facts[name] < EXACT, name
    assert facts["lora_changes"] > 0.01
    assert facts["fingerprints"] == 2 and facts["fingerprint_again"]
    assert facts["partial_modules"] > 0  # else the low-memory path was not taken
    assert 0 < facts["fp8"] < 0.2 and facts["fp8_stored"] == "torch.float8_e4m3fn"
    # A Take would mix films of one file otherwise.
    assert facts["told_apart"] == 3 and facts["as_it_is"]
    assert 0 < facts["scaled_fp8"] < 0.2
    assert facts["long_prompt"] == 512
    for said in (
        "Self Forcing 1.3B",
        "licence: Apache-2.0",
        "steps 1000, 750, 500, 250; shift 5",
        "chunk 3",
        "window 12",
    ):
        assert said in facts["info"]
    _check_words(facts["refusals"])


def _check_words(said: dict[str, str]) -> None:
    for name in ("not causal", "no file", "load not causal"):
        assert "nothing says that it is causal" in said[name] and "`assume`" in said[name]
    assert "renamed.safetensors" in said["not causal"]
    assert "2 of 2 updates fit no weight" in said["lora"]
    for part in (
        "self_forcing_dmdd",
        "5.7 GB",
        "huggingface.co/gdhe17",
        "models/diffusion_models",
        "built-in",
    ):
        assert part in said["missing"]
    assert "Close to it on this disk: self_forcing_dmd.safetensors" in said["missing"]
    for part in (
        "no text encoder (UMT5-XXL)",
        "6.7 GB",
        "huggingface.co",
        "models/text_encoders",
        "t5_small",
    ):
        assert part in said["no text encoder"]
    assert "no Wan 2.1 VAE" in said["no vae"] and "254 MB" in said["no vae"]
    assert "wrong.safetensors is not a Wan transformer" in said["wrong before missing"]
    assert said["assumed"] == ""
    assert "not trained together" in said["built-in vae"]


def test_streamed_decoding_equals_the_hosts_own(run_in_host: Run) -> None:
    facts = run_in_host(SCRIPTS / "decoding.py")
    print(facts["wan"], facts["tiny"])
    for kind in ("wan", "tiny"):
        if facts[kind] is None:
            continue  # this host has no tiny VAE
        assert facts[kind]["frames"] == 37 and facts[kind]["spread"] > 0.05
        assert facts[kind]["kind"] == {"wan": "wan", "tiny": "taehv"}[kind]
        for name in ("3", "2", "1", "mixed", "all", "restored", "tiled", "encode"):
            assert facts[kind][name] < EXACT, (kind, name)
    assert "the VAE is empty" in facts["empty"] and "wan_2.1_vae.safetensors" in facts["empty"]


def test_the_built_in_model_is_the_same_inside_and_outside(run_in_host: Run) -> None:
    facts = run_in_host(SCRIPTS / "builtin_film.py")
    print({name: value for name, value in facts.items() if isinstance(value, float | int)})
    for name in ("latents", "text", "decode", "encode"):
        assert facts[name] < EXACT, name
    assert facts["cond"] == [1, 512, 4096] and facts["padding"] == 0
    assert facts["chunks"] == 3 and facts["frames"] == 33 and facts["film_bytes"] > 1000
    assert "zeppelin" in facts["unknown"]


def test_two_chunks_equal_cores_own_autoregressive_sampler(run_in_host: Run) -> None:
    facts = run_in_host(SCRIPTS / "core_ar.py")
    print(facts)
    assert facts["kind"] == "CausalWanModel"  # known by its class, with no file name given
    assert max(facts["gaps"]) < EXACT


def test_the_recorded_clip_is_still_what_core_makes(run_in_host: Run, tmp_path: Path) -> None:
    """The record is what `sampling/test_core_clip.py` makes again without a host."""
    facts = run_in_host(SCRIPTS / "core_clip.py", tmp_path / "clip.safetensors")
    assert facts["kind"] == "CausalWanModel"  # known by its class, with no file name given
    recorded = load_file(SCRIPTS.parents[1] / "fixtures" / "comfyui" / "causal_clip.safetensors")
    for name, value in load_file(tmp_path / "clip.safetensors").items():
        assert (value - recorded[name]).abs().max() < EXACT * recorded[name].abs().max(), name


def test_overrides_and_replaced_modules_are_used(run_in_host: Run) -> None:
    facts = run_in_host(SCRIPTS / "hooks.py")
    print({name: value for name, value in facts.items() if name not in ("refusals", "notes")})
    assert facts["override"] < EXACT and facts["override_calls"] > 10
    assert facts["replaced"] < EXACT and facts["replaced_rows"] == [512] and facts["replaced_known"]
    assert facts["put_back"] == 0  # the fast path again
    said = facts["refusals"]
    assert "image-to-video" in said["i2v"] and "start image" in said["i2v"]
    assert "is a Linear" in said["other"]
    assert "l, g tokens" in said["clip"] and "UMT5" in said["clip"]
    assert "there is no VAE" in said["no vae"]
    _check_notes(facts["notes"])


NOTED = {
    "wrapper": "wrapper easycache",
    "unnamed wrapper": "wrapper told",
    "function wrapper": "a wrapper around the model's call",
    "cfg": "a CFG function",
    "after cfg": "what is done after CFG",
    "blocks": "2 replaced places of dit (told)",
    "patch": "patch attn1_patch (told)",
    "attention": "replaced blocks.self_attn.forward (2 layers)",
    "compiled": "replaced diffusion model",
}


def _check_notes(notes: dict[str, list[str]]) -> None:
    """What has an effect needs no words; the rest is named, once for all layers."""
    for kind in ("plain", "feed-forward", "callback"):
        assert notes.pop(kind) == []
    assert "steps and shift are those of Stream Sampler" in notes.pop("schedule")[0]
    said = "not used, the film is made as without: "
    assert notes == {kind: [said + words] for kind, words in NOTED.items()}


def test_the_text_encoder_as_published_gives_the_engines_rows(run_in_host: Run) -> None:
    facts = run_in_host(SCRIPTS / "text_files.py")
    print(facts)
    assert "spiece.model" in facts["no tokenizer"] and "text_encoders" in facts["no tokenizer"]
    assert facts["file"] == "models_t5_umt5-xxl-enc-bf16.pth" and facts["rows"] > 5
    assert facts["gap"] < 1e-5 and facts["padding"] == 0


def test_a_second_set_of_weights_writes_the_memory(run_in_host: Run) -> None:
    facts = run_in_host(SCRIPTS / "second_set.py")
    print(facts)
    assert facts["same"] < EXACT and facts["one_set"] > 0.01 and facts["assumed"]
    assert facts["notes"][0] == [] and "stay as they are" in facts["notes"][1][0]
    assert "two sets of weights" in facts["info"]


def test_load_model_opens_a_gguf_file(run_in_host: Run) -> None:
    facts = run_in_host(SCRIPTS / "gguf_loaded.py")
    print(facts)
    name = "wan/self_forcing_dmd-Q8_0.gguf"
    assert facts["listed"] == ["built-in", name] and facts["name"] == name.rpartition("/")[2]
    assert facts["same"] < EXACT and 0 < facts["half"] < 0.1 and facts["fingerprints"] == 2
    assert facts["licence"] == "Apache-2.0" and "stored as GGUF Q8_0" in facts["info"]
    assert "pip install gguf" in facts["refused"]


def gguf_pack() -> Path:
    """The ComfyUI-GGUF pack: GROUNDED_GGUF names its folder."""
    return Path(os.path.expanduser(os.environ.get("GROUNDED_GGUF", "~/comfy/gguf_pack")))


@pytest.mark.skipif(
    not gguf_pack().is_dir(), reason=f"no ComfyUI-GGUF at {gguf_pack()} (GROUNDED_GGUF names it)"
)
def test_a_gguf_file_makes_the_film_of_its_weights(run_in_host: Run, tmp_path: Path) -> None:
    packs = tmp_path / "base" / "custom_nodes"
    packs.mkdir(parents=True)
    (packs / "gguf_pack").symlink_to(gguf_pack(), target_is_directory=True)
    facts = run_in_host(SCRIPTS / "gguf_film.py")
    print(facts)
    assert facts["file"] == facts["name"] == "self_forcing_dmd-Q8_0.gguf"
    assert "8" in facts["stored"]  # Q8_0
    assert facts["same"] < EXACT and facts["lora"] < EXACT
    assert facts["half"] < 1e-3  # the pack's default unpacks into float16
    assert 0 < facts["quantised"] < 0.1 and facts["lora_changes"] > 0.01
    assert facts["fingerprints"] == 3 and facts["warnings"] == []


def test_what_a_first_use_brings_may_be_missing_or_asked_for_twice_at_once(run_in_host: Run) -> None:
    facts = run_in_host(SCRIPTS / "first_use.py")
    for name in ("judged", "loaded"):
        assert "pip install safetensors" in facts["missing"][name], name
    assert "no model called absent.pt" in facts["said"]["judged"]
    assert "NodeOutput" in facts["said"]["loaded"]
    assert "schedule of prompts" in facts["said"]["foreign"] == facts["missing"]["foreign"]
