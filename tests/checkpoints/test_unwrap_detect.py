"""Every wrapping and naming scheme yields the same tensors; every family is recognised."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from gf_core.checkpoints.detect import detect
from gf_core.checkpoints.families import family_of
from gf_core.config import ModelSpec
from gf_core.errors import CheckpointError
from gf_core.files.lazy import LazyTensor
from gf_core.files.tensors import open_file
from gf_core.files.unwrap import unwrap
from gf_core.model.wan import build_meta

WRAPPINGS = (
    "original", "model_prefix", "comfyui", "comfyui_all_in_one", "diffusion_model", "diffusers", "generator",
    "generator_ema", "fsdp", "compiled", "state_dict", "model", "dotted",
)  # fmt: skip
"""Wrappings of the tiny state dict that the fixture `wrap` builds."""
FLAT = ("original", "model_prefix", "comfyui", "comfyui_all_in_one", "diffusion_model", "diffusers", "dotted")


def lazy(*shape, dtype=torch.float32):
    return LazyTensor(dtype, shape, lambda: torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize(
    "kind, form", [(kind, "pt") for kind in WRAPPINGS] + [(kind, "safetensors") for kind in FLAT]
)
def test_every_wrapping_gives_equal_tensors(tmp_path, wrap, state, spec, kind, form):
    path = tmp_path / f"m.{form}"
    if form == "pt":
        torch.save(wrap(kind), path)
    else:
        save_file(wrap(kind), path)
    what = detect(unwrap(open_file(path).tree))
    assert what.family == "wan_t2v" and what.spec == spec and what.dtype == torch.float32
    assert what.tensors.keys() == state.keys()
    assert all(torch.equal(what.tensors[name].load(), value) for name, value in state.items())
    assert what.parameters == sum(value.numel() for value in state.values())


def test_choice_of_weights(wrap, tmp_path, state):
    torch.save(wrap("generator_ema"), tmp_path / "m.pt")
    tree = open_file(tmp_path / "m.pt").tree
    assert unwrap(tree).outer == "generator_ema" and unwrap(tree).available == ("generator_ema", "generator")
    other = unwrap(tree, "generator")
    assert other.outer == "generator"
    assert not other.tensors["head.modulation"].load().any()
    with pytest.raises(CheckpointError, match="no weights called critic"):
        unwrap(tree, "critic")


def test_lora_beside_the_network_is_kept_aside(wrap):
    tree = {
        "generator": {"model.head.modulation": lazy(1, 2, 8)},
        "generator_lora": {"x.lora_A.weight": lazy(2, 4)},
    }
    found = unwrap(tree)
    assert list(found.tensors) == ["head.modulation"] and list(found.lora) == ["x.lora_A.weight"]


@pytest.mark.parametrize(
    "names",
    [
        ("a.weight", "_fsdp_wrapped_module.a.weight"),
        ("a._orig_mod.weight", "a.weight"),
        ("a._checkpoint_wrapped_module.weight", "a.weight"),
        ("model.a._orig_mod.weight", "model.a._fsdp_wrapped_module.weight", "model.b"),
        ("model.a", "model.b", "model.c", "a"),
    ],
)
@pytest.mark.parametrize("outer", [None, "generator", "model"])
def test_two_tensors_of_one_inner_name_are_refused(names, outer):
    """Which of them is the network's would be chance."""
    flat = {name: lazy(1) for name in names}
    with pytest.raises(CheckpointError, match="same inner name"):
        unwrap(flat if outer is None else {outer: flat})


@pytest.mark.parametrize(("with_prefix", "removed"), [(1, ""), (2, ""), (3, "model."), (4, "model.")])
def test_a_prefix_is_that_of_most_tensors(with_prefix, removed):
    """Of 4. What only some have is part of their names."""
    names = [f"model.part.{n}" for n in range(with_prefix)] + [f"other.{n}" for n in range(4 - with_prefix)]
    found = unwrap({name: lazy(1) for name in names})
    assert found.prefix == removed
    assert list(found.tensors) == [name.removeprefix(removed) for name in names]


def test_one_tensor_with_a_prefix_among_five_keeps_it():
    names = ["model.a", "b", "c", "d", "e"]
    assert list(unwrap({name: lazy(1) for name in names}).tensors) == names


def test_unknown_groups_are_listed():
    with pytest.raises(CheckpointError, match="student") as refused:
        unwrap({"student": {"a": lazy(1)}})
    assert "a file of its own, or call it model" in refused.value.fix


@pytest.mark.parametrize(
    "published, tensors, parameters",
    [
        (ModelSpec(), 825, 1_418_996_800),
        (ModelSpec(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40), 1095, 14_288_491_584),
    ],
)
def test_published_sizes_are_read_from_shapes(published, tensors, parameters):
    one_block = build_meta(replace(published, num_layers=1)).state_dict()
    shapes = {name: lazy(*value.shape) for name, value in one_block.items()}
    for name in [name for name in shapes if name.startswith("blocks.0.")]:
        shapes |= {name.replace(".0.", f".{n}.", 1): shapes[name] for n in range(1, published.num_layers)}
    what = detect(unwrap(shapes))
    assert (what.spec, what.parameters, len(shapes)) == (published, parameters, tensors)


WAN = {"head.modulation": lazy(1, 2, 8), "head.head.weight": lazy(64, 8)}


@pytest.mark.parametrize(
    "tensors, family",
    [
        ({**WAN, "patch_embedding.weight": lazy(8, 16, 1, 2, 2)}, "wan_t2v"),
        ({**WAN, "patch_embedding.weight": lazy(8, 36, 1, 2, 2)}, "wan_i2v"),
        (
            {**WAN, "patch_embedding.weight": lazy(8, 16, 1, 2, 2), "img_emb.proj.0.weight": lazy(8)},
            "wan_i2v",
        ),
        (
            {**WAN, "patch_embedding.weight": lazy(8, 48, 1, 2, 2), "head.head.weight": lazy(192, 8)},
            "wan_5b",
        ),
        ({**WAN, "patch_embedding.weight": lazy(8, 48, 1, 2, 2)}, "wan_other"),  # the head makes 16
        ({**WAN, "patch_embedding.weight": lazy(8, 32, 1, 2, 2)}, "wan_other"),
        ({**WAN, "patch_embedding.weight": lazy(8, 16, 1, 2, 2), "vace_blocks.0.x": lazy(1)}, "wan_vace"),
        ({"decoder.middle.0.residual.0.gamma": lazy(384, 1, 1, 1)}, "wan_vae"),
        ({"decoder.mid_block.resnets.0.norm1.gamma": lazy(384)}, "wan_vae"),
        ({"encoder.0.weight": lazy(64, 3, 3, 3), "decoder.1.weight": lazy(256, 16, 3, 3)}, "tiny_vae"),
        ({"blocks.0.pos_embedding.embedding.weight": lazy(32, 64)}, "umt5"),
        ({"encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight": lazy(32, 64)}, "umt5"),
        (
            {"encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": lazy(32, 64)},
            "other_text",
        ),
        ({"text_model.embeddings.token_embedding.weight": lazy(8, 8)}, "other_text"),
        ({"blocks.0.self_attn.q.lora_A.weight": lazy(4, 8)}, "lora"),
        ({"diffusion_model.blocks.0.self_attn.q.lora_down.weight": lazy(4, 8)}, "lora"),
        ({"conv_in.weight": lazy(320, 4, 3, 3)}, "unknown"),
    ],
)
def test_families(tensors, family):
    assert family_of(tensors) == family


def test_quantised_files_are_noticed(state):
    shapes = {name: lazy(*value.shape) for name, value in state.items()}
    plain = detect(unwrap(shapes))
    assert plain.quantised == ""
    fp8 = {n: lazy(*t.shape, dtype=torch.float8_e4m3fn) for n, t in shapes.items()}
    assert detect(unwrap(fp8)).quantised == "fp8"
    assert detect(unwrap({**fp8, "scaled_fp8": lazy(0)})).quantised == "scaled fp8"
    scaled = {**fp8, "blocks.0.ffn.0.scale_weight": lazy(1)}
    assert detect(unwrap(scaled)).quantised == "scaled fp8"


def test_head_count_comes_from_header_or_config(state):
    shapes = {name: lazy(*value.shape) for name, value in state.items()}
    header = {"grounded": json.dumps({"model": {"num_heads": 8, "text_len": 16}})}

    def spec_of(*given) -> ModelSpec:
        spec = detect(unwrap(shapes), *given).spec
        assert spec is not None
        return spec

    spec = spec_of(header)
    assert (spec.num_heads, spec.text_len) == (8, 16)
    assert spec_of({}, {"num_attention_heads": 4}).num_heads == 4
    both = spec_of(header, {"num_attention_heads": 4, "eps": 1e-5})
    assert (both.num_heads, both.text_len, both.eps) == (8, 16, 1e-5), "the header is this very file's"
    eps = {"grounded": json.dumps({"model": {"eps": 1e-4}})}
    assert spec_of(eps, {"num_attention_heads": 4, "eps": 1e-5}).eps == 1e-4
    with pytest.raises(CheckpointError, match="attention heads"):
        detect(unwrap(shapes), {}, {"num_attention_heads": 7})
    with pytest.raises(CheckpointError, match="header are damaged"):
        detect(unwrap(shapes), {"grounded": "{"})


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("blocks.999999999.ffn.0.weight", (1,), "layer 2 of 1000000000 is missing"),
        ("patch_embedding.weight", (256, 16, 0, 2, 2), None),
        ("head.head.weight", (), "has the shape"),
        ("head.head.weight", (63, 256), None),
        ("blocks.0.ffn.0.weight", (), "has the shape"),
        ("text_embedding.0.weight", (5,), "has the shape"),
        ("time_embedding.0.weight", (256, 31), "cannot be driven"),
    ],
)
def test_impossible_shapes_are_refused_before_anything_is_built(state, name, shape, said):
    shapes = {key: lazy(*value.shape) for key, value in state.items()} | {name: lazy(*shape)}
    if said is None:
        assert detect(unwrap(shapes)).family == "wan_other"
        return
    with pytest.raises(CheckpointError, match=said):
        detect(unwrap(shapes))


def test_a_missing_layer_is_named(state):
    shapes = {name: lazy(*value.shape) for name, value in state.items() if not name.startswith("blocks.0.")}
    with pytest.raises(CheckpointError, match=r"layer 0 of 2 is missing|no tensor blocks\.0"):
        detect(unwrap(shapes))


@pytest.mark.parametrize(
    "model", [{"num_heads": "two"}, {"num_heads": -2}, {"num_heads": 256}, {"text_len": 0}, {"eps": "x"}]
)
def test_impossible_settings_in_a_header_are_refused_in_words(state, model):
    shapes = {name: lazy(*value.shape) for name, value in state.items()}
    with pytest.raises(CheckpointError):
        detect(unwrap(shapes), {"grounded": json.dumps({"model": model})})
