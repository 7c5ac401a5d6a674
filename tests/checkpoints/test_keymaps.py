"""Naming schemes: the tables are one to one and agree with hand-written pairs."""

import pytest

from gf_core.checkpoints import keymaps

PAIRS = {
    "patch_embedding.weight": "patch_embedding.weight",
    "time_embedding.0.bias": "condition_embedder.time_embedder.linear_1.bias",
    "time_projection.1.weight": "condition_embedder.time_proj.weight",
    "text_embedding.2.weight": "condition_embedder.text_embedder.linear_2.weight",
    "head.modulation": "scale_shift_table",
    "head.head.bias": "proj_out.bias",
    "blocks.7.modulation": "blocks.7.scale_shift_table",
    "blocks.7.norm3.weight": "blocks.7.norm2.weight",
    "blocks.12.ffn.0.weight": "blocks.12.ffn.net.0.proj.weight",
    "blocks.12.ffn.2.bias": "blocks.12.ffn.net.2.bias",
    "blocks.0.self_attn.q.weight": "blocks.0.attn1.to_q.weight",
    "blocks.0.self_attn.norm_k.weight": "blocks.0.attn1.norm_k.weight",
    "blocks.0.cross_attn.o.bias": "blocks.0.attn2.to_out.0.bias",
    "blocks.0.cross_attn.k_img.weight": "blocks.0.attn2.add_k_proj.weight",
}


@pytest.mark.parametrize("ours, theirs", PAIRS.items())
def test_hand_written_pairs(ours, theirs):
    assert keymaps.original_to_diffusers(ours) == theirs
    assert keymaps.diffusers_to_original(theirs) == ours


def test_tables_are_one_to_one():
    assert len(keymaps._GLOBAL_BACK) == len(keymaps._GLOBAL_MODULES)
    assert len(keymaps._BLOCK_BACK) == len(keymaps._BLOCK_MODULES)


def test_affine_norm_trades_places_once():
    assert keymaps.diffusers_to_original("blocks.0.norm2.weight") == "blocks.0.norm3.weight"
    assert keymaps.diffusers_to_original("blocks.0.norm3.weight") is None


def test_foreign_names_are_not_guessed():
    assert keymaps.original_to_diffusers("blocks.0.attn.qkv.weight") is None
    assert keymaps.original_to_diffusers("time_embedding.1.weight") is None


def test_rename_there_and_back():
    tensors = {name: index for index, name in enumerate(PAIRS)}
    there = keymaps.rename(tensors, keymaps.original_to_diffusers)
    assert keymaps.rename(there, keymaps.diffusers_to_original) == tensors


@pytest.mark.parametrize(
    "scheme, name",
    [
        ("original", str),
        ("comfyui", keymaps.COMFYUI_PREFIX.__add__),
        ("diffusers", keymaps.original_to_diffusers),
    ],
)
def test_the_scheme_is_told_by_the_names(scheme, name):
    assert keymaps.scheme_of(keymaps.rename(dict.fromkeys(PAIRS), name)) == scheme
