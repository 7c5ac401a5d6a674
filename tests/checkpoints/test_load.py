"""Filling a model: strict names, exact LoRA merges, dtype, fp8 scales, fingerprints."""

import json
import os
import time

import pytest
import torch
from safetensors.torch import save_file

from gf_core.checkpoints.families import family_of
from gf_core.checkpoints.keymaps import original_to_diffusers
from gf_core.checkpoints.load import build_network
from gf_core.checkpoints.lora import open_lora, parse_lora
from gf_core.errors import CheckpointError, ResourceError
from gf_core.files import scales
from gf_core.files.fingerprint import hash_tensors, remembered
from gf_core.files.lazy import LazyTensor
from gf_core.files.scales import unscaled
from gf_core.files.tensors import open_file


def lazy(tensor):
    return LazyTensor(tensor.dtype, tuple(tensor.shape), lambda: tensor)


@pytest.fixture
def tensors(state):
    return {name: lazy(value) for name, value in state.items()}


@pytest.fixture
def shapes(state):
    return {name: tuple(value.shape) for name, value in state.items()}


def test_model_holds_the_tensors_in_its_own_memory(spec, state, tensors):
    model = build_network(spec, tensors)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]) and value.data_ptr() != state[name].data_ptr()
    assert not model.training and not any(p.requires_grad or p.is_meta for p in model.parameters())


def test_dtype(spec, tensors):
    model = build_network(spec, tensors, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_missing_unexpected_and_misshapen_tensors_are_listed(spec, tensors):
    tensors["blocks.9.extra"] = tensors.pop("blocks.1.ffn.0.bias")
    tensors["head.modulation"] = lazy(torch.zeros(1, 3, spec.dim))
    with pytest.raises(CheckpointError) as error:
        build_network(spec, tensors)
    for word in ("1 missing (blocks.1.ffn.0.bias)", "1 unexpected (blocks.9.extra)", "1 of another shape"):
        assert word in error.value.message


def test_too_little_memory_is_said_before_reading(spec, tensors, monkeypatch):
    monkeypatch.setattr("gf_core.devices.free_bytes", lambda device: 1000)
    with pytest.raises(ResourceError, match="1 kB free"):
        build_network(spec, tensors)


FORMS = {
    "peft": ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight", None),
    "peft_default": (
        "base_model.model.{}.lora_A.default.weight",
        "base_model.model.{}.lora_B.default.weight",
        None,
    ),
    "comfyui": (
        "diffusion_model.{}.lora_down.weight",
        "diffusion_model.{}.lora_up.weight",
        "diffusion_model.{}.alpha",
    ),
    "kohya": ("lora_unet_{}.lora_down.weight", "lora_unet_{}.lora_up.weight", "lora_unet_{}.alpha"),
    "diffusers": ("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight", None),
}


@pytest.mark.parametrize("form", FORMS)
def test_lora_merge_is_exact(tmp_path, spec, state, tensors, shapes, form):
    torch.manual_seed(1)
    down_name, up_name, alpha_name = FORMS[form]
    content, expected = {}, {}
    for module in ("blocks.0.self_attn.q", "blocks.1.ffn.2", "blocks.1.cross_attn.o"):
        out, inner = state[f"{module}.weight"].shape
        down, up = torch.randn(4, inner), torch.randn(out, 4)
        name = {"kohya": module.replace(".", "_"), "diffusers": original_to_diffusers(module)}.get(
            form, module
        )
        content[down_name.format(name)], content[up_name.format(name)] = down, up
        scale = 2.0 / 4 if alpha_name else 1.0
        if alpha_name:
            content[alpha_name.format(name)] = torch.tensor(2.0)
        expected[f"{module}.weight"] = state[f"{module}.weight"] + 0.5 * scale * (up @ down)
    save_file(content, tmp_path / "l.safetensors")
    model = build_network(spec, tensors, loras=[open_lora(tmp_path / "l.safetensors", 0.5, shapes)])
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected.get(name, state[name]), atol=1e-6, rtol=1e-6)


def peft_folder(folder, config, name="adapter_model"):
    """A PEFT LoRA of rank 4 on one module; returns its B @ A."""
    torch.manual_seed(2)
    down, up = torch.randn(4, 256), torch.randn(256, 4)
    parts = {"lora_A": down, "lora_B": up}
    module = "base_model.model.blocks.0.self_attn.q"
    save_file({f"{module}.{p}.weight": value for p, value in parts.items()}, folder / f"{name}.safetensors")
    if config is not None:
        (folder / "adapter_config.json").write_text(config)
    return up @ down


def test_alpha_in_the_file_itself_wins_over_the_file_beside(spec, state, tensors, shapes):
    name = "blocks.0.self_attn.q"
    content = {f"{name}.lora_A.weight": torch.ones(2, 256), f"{name}.lora_B.weight": torch.ones(256, 2)}
    content[f"{name}.alpha"] = torch.tensor(4.0)
    lora = parse_lora(
        {n: lazy(t) for n, t in content.items()}, "l", 1.0, shapes, settings={"lora_alpha": 1.0}
    )
    model = build_network(spec, tensors, loras=[lora])
    torch.testing.assert_close(model.state_dict()[f"{name}.weight"], state[f"{name}.weight"] + 4)


def test_another_file_in_a_folder_with_an_adapter_has_no_part_in_it(tmp_path, spec, state, tensors, shapes):
    change = peft_folder(tmp_path, '{"lora_alpha": 8}', name="style")
    model = build_network(spec, tensors, loras=[open_lora(tmp_path / "style.safetensors", 1.0, shapes)])
    name = "blocks.0.self_attn.q.weight"
    torch.testing.assert_close(model.state_dict()[name], state[name] + change)


DAMAGED = r"adapter_config\.json beside adapter_model\.safetensors is damaged"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        *((config, DAMAGED) for config in ("{", "{}", "[]", '{"lora_alpha": "x"}', '{"lora_alpha": null}')),
        ("[" * 100_000, DAMAGED),
        ('{"peft_type": "LOHA", "alpha": 8}', "is a LOHA, which is not read"),
        ('{"peft_type": "LORA", "lora_alpha": 8, "use_dora": true}', "is a DoRA, which is not read"),
    ],
)
def test_an_adapter_config_that_is_damaged_or_of_another_kind_is_refused(tmp_path, shapes, config, words):
    peft_folder(tmp_path, config)
    with pytest.raises(CheckpointError, match=words):
        open_lora(tmp_path, 1.0, shapes)


def test_lora_that_does_not_fit_is_refused(spec, tensors, shapes):
    def lora(module, out=256, inner=256):
        parts = {
            f"{module}.lora_A.weight": torch.zeros(2, inner),
            f"{module}.lora_B.weight": torch.zeros(out, 2),
        }
        return parse_lora({n: lazy(t) for n, t in parts.items()}, "other.safetensors", 1.0, shapes)

    with pytest.raises(CheckpointError, match=r"1 of 1 update fits no weight .* blocks\.7\.self_attn\.q"):
        build_network(spec, tensors, loras=[lora("blocks.7.self_attn.q")])
    with pytest.raises(CheckpointError, match="as 256 x 128"):
        build_network(spec, tensors, loras=[lora("blocks.0.self_attn.q", inner=128)])
    with pytest.raises(CheckpointError, match="lacks one half"):
        parse_lora({"blocks.0.ffn.0.lora_A.weight": lazy(torch.zeros(2, 2))}, "l", 1.0, shapes)
    with pytest.raises(CheckpointError, match="no LoRA parts"):
        parse_lora({"conv.weight": lazy(torch.zeros(2, 2))}, "l", 1.0, shapes)


def test_scaled_fp8_becomes_plain_weights(spec, state, tensors):
    name = "blocks.0.self_attn.q.weight"
    small = (state[name] / 0.25).to(torch.float8_e4m3fn)
    quantised = {
        **tensors,
        name: lazy(small),
        "blocks.0.self_attn.q.scale_weight": lazy(torch.tensor(0.25)),
        "blocks.0.self_attn.q.scale_input": lazy(torch.tensor(3.0)),
        "scaled_fp8": lazy(torch.zeros(0, dtype=torch.float8_e4m3fn)),
    }
    model = build_network(spec, unscaled(quantised))
    assert torch.equal(model.state_dict()[name], small.float() * 0.25)
    assert torch.equal(model.state_dict()["head.modulation"], state["head.modulation"])


def test_fingerprint_is_of_the_contents(tmp_path, state, tensors):
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    first = hash_tensors(open_file(tmp_path / "a.safetensors").tree)
    assert first == hash_tensors(open_file(tmp_path / "b.pt").tree) == hash_tensors(tensors)
    changed = {**tensors, "head.modulation": lazy(state["head.modulation"] + 1e-3)}
    assert hash_tensors(changed) != first
    assert hash_tensors({**tensors, "head.modulation": lazy(state["head.modulation"].half())}) != first


def test_fingerprint_is_remembered_until_the_file_changes(tmp_path, tensors):
    path = tmp_path / "a.safetensors"
    save_file({n: t.load().clone() for n, t in tensors.items()}, path)
    tree = open_file(path).tree
    first = remembered([path], "flat", tree)
    broken = {"x": LazyTensor(torch.float32, (1,), lambda: pytest.fail("hashed again"))}
    assert remembered([path], "flat", broken) == first
    save_file({n: t.load() + 1 for n, t in tensors.items()}, path)
    assert remembered([path], "flat", open_file(path).tree) != first


def test_a_fingerprint_of_other_files_is_not_believed(tmp_path, own_cache):
    paths, found = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"], []
    trees = [{"x": lazy(torch.tensor([value]))} for value in (1.0, 2.0)]
    for path, tree in zip(paths, trees):
        save_file({name: value.load() for name, value in tree.items()}, path)
        found.append(remembered([path], "flat", tree))
    notes = list((tmp_path / "cache" / "fingerprints").iterdir())
    held = [note.read_bytes() for note in notes]
    for note, other in zip(notes, reversed(held)):
        note.write_bytes(other)
    again = [remembered([path], "flat", tree) for path, tree in zip(paths, trees)]
    assert again == found and found[0] != found[1]


def test_a_damaged_fingerprint_is_not_believed(tmp_path, own_cache, caplog):
    path, tree = tmp_path / "a.safetensors", {"x": lazy(torch.ones(1))}
    save_file({"x": torch.ones(1)}, path)
    first = remembered([path], "flat", tree)
    (note,) = (tmp_path / "cache" / "fingerprints").iterdir()
    note.write_text(note.read_text().replace(first, f"{first[:-1]}{int(first[-1], 16) ^ 1:x}"))
    assert remembered([path], "flat", tree) == first and "its sum does not fit" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="Windows does not note when a file was put there")
def test_a_file_of_the_same_size_and_time_is_not_taken_for_the_other(tmp_path):
    path, found = tmp_path / "a.safetensors", []
    for value in (1.0, 2.0):
        save_file({"x": torch.tensor([value])}, path)
        os.utime(path, (1, 1))
        found.append(remembered([path], "flat", {"x": lazy(torch.tensor([value]))}))
        time.sleep(0.01)  # as fine as a disk's clock may be
    assert found[0] != found[1]


@pytest.mark.parametrize(
    "parts",
    [
        {"lora_A.weight": (4, 256), "lora_B.weight": (256, 5)},
        {"lora_A.weight": (0, 256), "lora_B.weight": (256, 0)},
        {"lora_A.weight": (256,), "lora_B.weight": (256,)},
        {"lora_A.weight": (), "lora_B.weight": ()},
        {"lora_A.weight": (4, 256), "lora_B.weight": (256, 4), "alpha": (3,)},
        {"diff": (3, 3)},
        {"diff_b": (3,)},
    ],
)
def test_lora_parts_that_do_not_go_together_are_refused_in_words(spec, tensors, shapes, parts):
    content = {f"blocks.0.self_attn.q.{name}": lazy(torch.zeros(shape)) for name, shape in parts.items()}
    with pytest.raises(CheckpointError, match=r"changes blocks\.0\.self_attn\.q as"):
        build_network(spec, tensors, loras=[parse_lora(content, "l", 1.0, shapes)])


@pytest.mark.parametrize("scales", [0, 7])
def test_scales_that_do_not_fit_are_refused_in_words(state, scales):
    name = "blocks.0.ffn.0.weight"
    packed = {name: lazy(state[name].to(torch.float8_e4m3fn)), "scaled_fp8": lazy(torch.zeros(1))}
    packed["blocks.0.ffn.0.scale_weight"] = lazy(torch.ones(scales))
    with pytest.raises(CheckpointError, match=f"comes with {scales} scales"):
        unscaled(packed)[name].load()


HALVES = {"down": torch.full((4, 256), 0.5), "up": torch.full((256, 4), 0.25)}
CHANGE = HALVES["up"] @ HALVES["down"]
Q = "blocks.0.self_attn.q"
WRITTEN = (
    "lora_unet_blocks_0_self_attn_q", "lora_unet__blocks_0_self_attn_q", "lora_unet_blocks_0.self_attn.q",
    "lora_unet_blocks_0_self_attn.q", "lora_transformer_blocks_0_attn1_to_q", "transformer.blocks.0.attn1.to_q",
    "diffusion_model.blocks.0.self_attn.q", "model.diffusion_model.blocks.0.self_attn.q", "blocks.0.self_attn.q",
    "pipe.dit.blocks.0.self_attn.q", "base_model.model.blocks.0.self_attn.q", "unet.blocks.0.attn1.to_q",
    "base_model.model.model.blocks.0.self_attn.q", "base_model.model.transformer.blocks.0.attn1.to_q",
    "diffusion_model._orig_mod.blocks.0.self_attn.q", "lora_unet_blocks_0_attn1_to_q",
)  # fmt: skip
"""How trainers write one module: kohya, musubi, diffusers, PEFT, DiffSynth, ComfyUI and mixtures that are about."""


def halves(written, down=".lora_A.weight", up=".lora_B.weight", **more):
    parts = {f"{written}{down}": HALVES["down"], f"{written}{up}": HALVES["up"]}
    return {n: lazy(t) for n, t in {**parts, **{f"{written}.{end}": t for end, t in more.items()}}.items()}


def change_of(spec, state, tensors, lora, name=f"{Q}.weight"):
    return build_network(spec, tensors, loras=[lora]).state_dict()[name] - state[name]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize(
    ("down", "up"),
    [(".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight"),
     (".lora.down.weight", ".lora.up.weight"), (".lora_A.default.weight", ".lora_B.default.weight")],
)  # fmt: skip
def test_every_trainers_name_of_a_module_is_read(shapes, written, down, up):
    lora = parse_lora(halves(written, down, up), "l", 1.0, shapes)
    assert list(lora.updates) == [Q] and not lora.note


@pytest.mark.parametrize("prefix", ["vace_", "audio_", "text_encoder.", "controlnet.", "motion_"])
def test_a_module_of_another_part_is_not_taken_for_ours(shapes, prefix):
    with pytest.raises(CheckpointError, match="1 of 1 update fits no weight"):
        parse_lora(halves(f"{prefix}blocks.0.self_attn.q"), "l", 1.0, shapes)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 1.0),
        ({"lora_alpha": 8}, 2.0),
        ({"lora_alpha": 1, "r": 4}, 0.25),
        ({"lora_alpha": 6.0}, 1.5),
        ({"lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"lora_alpha": 8, "alpha_pattern": {"self_attn.q": 2}}, 0.5),
        ({"lora_alpha": 8, "alpha_pattern": {"blocks.0.self_attn.q": 2, "ffn.0": 100}}, 0.5),
        ({"lora_alpha": 8, "alpha_pattern": {"^blocks\\.0\\.self_attn\\.q": 2}, "use_rslora": True}, 1.0),
        ({"lora_alpha": 8, "alpha_pattern": {"n.q": 2}, "rank_pattern": {"self_attn.q": 4}}, 2.0),
        ({"lora_alpha": 4, "r": 16, "rank_pattern": {"self_attn.q": 4}}, 1.0),
    ],
)
@pytest.mark.parametrize("place", ["beside", "in its folder", "header"])
def test_what_is_said_of_the_scale_is_obeyed(tmp_path, spec, state, tensors, shapes, settings, scale, place):
    """PEFT writes alpha nowhere else; left out, a LoRA works at another strength without a word."""
    content = {
        name: tensor.load()
        for name, tensor in halves(Q if place == "header" else f"base_model.model.{Q}").items()
    }
    packed = {
        "lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in settings.items()})
    }
    save_file(content, tmp_path / "adapter_model.safetensors", packed if place == "header" else None)
    if settings and place != "header":
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **settings}))
    path = tmp_path if place == "in its folder" else tmp_path / "adapter_model.safetensors"
    lora = open_lora(path, 0.5, shapes)
    torch.testing.assert_close(change_of(spec, state, tensors, lora), 0.5 * scale * CHANGE)


def test_a_bias_of_the_upper_half_counts_with_its_scale(spec, state, tensors, shapes):
    content = halves(Q) | {f"{Q}.lora_B.bias": lazy(torch.ones(256)), f"{Q}.diff_b": lazy(torch.ones(256))}
    lora = parse_lora(content, "l", 0.5, shapes, settings={"lora_alpha": 8})
    torch.testing.assert_close(
        change_of(spec, state, tensors, lora, f"{Q}.bias"), torch.full((256,), 0.5 * 2 + 0.5)
    )


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("diffusion_model.blocks.0.modulation.diff", "blocks.0.modulation"),
        ("diffusion_model.blocks.0.diff_m", "blocks.0.modulation"),
        ("transformer.blocks.0.scale_shift_table.diff", "blocks.0.modulation"),
        ("head.diff_m", "head.modulation"),
        ("diffusion_model.blocks.1.norm3.diff", "blocks.1.norm3.weight"),
        ("lora_unet_blocks_1_norm3.w_norm", "blocks.1.norm3.weight"),
        ("lora_unet_blocks_1_norm3.b_norm", "blocks.1.norm3.bias"),
        ("diffusion_model.patch_embedding.diff", "patch_embedding.weight"),
        ("blocks.0.ffn.0.diff", "blocks.0.ffn.0.weight"),
        ("blocks.0.ffn.0.diff_b", "blocks.0.ffn.0.bias"),
    ],
)
def test_differences_of_anything_are_added(spec, state, tensors, shapes, key, name):
    lora = parse_lora({key: lazy(torch.ones(shapes[name]))}, "l", 0.5, shapes)
    torch.testing.assert_close(change_of(spec, state, tensors, lora, name), torch.full(shapes[name], 0.5))


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        ("dora_scale", "DoRA"), ("lora_magnitude_vector.weight", "DoRA"),
        ("lora_magnitude_vector.default.weight", "DoRA"),
        ("lokr_w1", "LoKr"), ("lokr_w2_a", "LoKr"), ("hada_w1_a", "LoHa"), ("oft_blocks", "OFT"),
        ("lora_mid.weight", "middle factor"),
    ],
)  # fmt: skip
def test_other_kinds_are_called_by_their_names(shapes, ending, kind):
    for content in (
        halves(Q, **{ending: torch.ones(4, 4)}),
        {f"lora_unet_blocks_0_self_attn_q.{ending}": lazy(torch.ones(4, 4))},
    ):
        with pytest.raises(CheckpointError, match=f"l is a .*{kind}") as error:
            parse_lora(content, "l", 1.0, shapes)
        assert "ComfyUI" in error.value.fix
    assert family_of({f"diffusion_model.blocks.0.ffn.0.{ending}": lazy(torch.ones(1))}) == "lora"


@pytest.mark.parametrize(
    ("further", "said"),
    [
        (["blocks.0.cross_attn.k_img", "blocks.0.cross_attn.v_img", "img_emb.proj.1"], "image-to-video"),
        (["lora_te1_text_model_encoder_layers_0_mlp_fc1"], "1 of them for the text encoder"),
        (["text_encoder.block.0.q", "text_encoder.block.1.q"], "2 of them for the text encoder"),
        (["blocks.7.self_attn.q"], "left out: blocks.7.self_attn.q"),
    ],
)
def test_a_lora_that_fits_in_part_says_how_much(caplog, spec, state, tensors, shapes, further, said):
    content = halves(f"diffusion_model.{Q}")
    for module in further:
        content |= halves(module)
    lora = parse_lora(content, "style.safetensors", 1.0, shapes)
    assert f"style.safetensors fits 1 of {1 + len(further)} updates" in lora.note and said in lora.note
    assert lora.note in caplog.text
    torch.testing.assert_close(change_of(spec, state, tensors, lora), CHANGE)


def test_a_lora_of_another_width_is_refused_though_some_of_it_fits(shapes):
    content = halves(Q) | {f"blocks.1.ffn.0.lora_{half}.weight": lazy(torch.zeros(shape)) for half, shape in
                           (("A", (4, 1536)), ("B", (8960, 4)))}  # fmt: skip
    with pytest.raises(CheckpointError, match=r"as 8960 x 1536, the model has 96 x 256; 1 of 2 updates fits"):
        parse_lora(content, "l", 1.0, shapes)


@pytest.mark.parametrize("part", ["down", "up", "alpha", "diff", "diff_b", "up_bias"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_that_are_none_are_refused_before_they_are_merged(shapes, part, bad, dtype):
    content = {f"{Q}.{end}": torch.ones(shape, dtype=dtype) for end, shape in {
        "lora_A.weight": (4, 256), "lora_B.weight": (256, 4), "alpha": (), "diff": (256, 256), "diff_b": (256,),
        "lora_B.bias": (256,),
    }.items()}  # fmt: skip
    end = {"down": "lora_A.weight", "up": "lora_B.weight", "up_bias": "lora_B.bias"}.get(part, part)
    content[f"{Q}.{end}"].view(-1)[-1] = bad
    with pytest.raises(CheckpointError, match=rf"none \(NaN or infinite\) in {part} of {Q}"):
        parse_lora({n: lazy(t) for n, t in content.items()}, "l", 1.0, shapes)


def test_a_change_beyond_all_numbers_is_refused(spec, tensors, shapes):
    lora = parse_lora(halves(Q, alpha=torch.tensor(3e38)), "l", 1e30, shapes)
    with pytest.raises(CheckpointError, match=r"makes blocks\.0\.self_attn\.q\.weight too large"):
        build_network(spec, tensors, loras=[lora])
    with pytest.raises(CheckpointError, match="strength"):
        parse_lora(halves(Q), "l", float("nan"), shapes)


def test_scaled_weights_come_in_the_type_asked_for_to_the_bit(spec, state, tensors, monkeypatch):
    monkeypatch.setattr(scales, "_PIECE", 1000)
    name, factors = "blocks.0.ffn.0", torch.rand(96)
    small = state[f"{name}.weight"].to(torch.float8_e4m3fn)
    packed = {**tensors, f"{name}.weight": lazy(small), f"{name}.scale_weight": lazy(factors)}
    whole = small.float() * factors[:, None]
    for dtype in (torch.float32, torch.bfloat16):
        model = build_network(spec, unscaled(packed), dtype=dtype)
        assert torch.equal(model.state_dict()[f"{name}.weight"], whole.to(dtype))
