"""The forward against diffusers' own Wan transformer, and its parts against written-out numbers."""

import sys
from pathlib import Path

import pytest
import torch

from gf_core.checkpoints.keymaps import original_to_diffusers, rename
from gf_core.config import ModelSpec
from gf_core.model import layers
from gf_core.model.forward import Call, text_kv, trimmed
from gf_core.model.wan import RMSNorm, WanModel, build_meta
from gf_core.rope import axis_widths, inverse_frequencies, rotate, rotation, turns

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gf_core.model.bidirectional import Bidirectional, bidirectional_flow

SPEC = ModelSpec(
    dim=48, ffn_dim=64, num_heads=2, num_layers=2, in_dim=4, out_dim=4, text_len=6, text_dim=12, freq_dim=32
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    tree = WanModel(SPEC).eval().requires_grad_(False)
    for parameter in tree.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.15 + (parameter.ndim == 1) * 0.5)
    return tree


def test_equals_diffusers(model):
    from diffusers import WanTransformer3DModel

    theirs = WanTransformer3DModel(
        patch_size=SPEC.patch_size,
        num_attention_heads=SPEC.num_heads,
        attention_head_dim=SPEC.head_dim,
        in_channels=SPEC.in_dim,
        out_channels=SPEC.out_dim,
        text_dim=SPEC.text_dim,
        freq_dim=SPEC.freq_dim,
        ffn_dim=SPEC.ffn_dim,
        num_layers=SPEC.num_layers,
        cross_attn_norm=True,
    ).eval()
    theirs.load_state_dict(rename(model.state_dict(), original_to_diffusers), strict=True)
    latents, prompt = torch.randn(2, 3, 4, 4, 6), torch.randn(2, SPEC.text_len, SPEC.text_dim)
    timesteps = torch.tensor([[937.5], [250.0]])
    with torch.no_grad():
        want = theirs(latents.transpose(1, 2), timesteps[:, 0], prompt, return_dict=False)[0]
    got = bidirectional_flow(model, SPEC, latents, timesteps, prompt)
    # diffusers computes its time embedding in float32
    torch.testing.assert_close(got, want.transpose(1, 2), atol=2e-4, rtol=1e-4)


def test_full_size_has_the_published_parameters():
    tree = build_meta(ModelSpec())
    assert len(tree.state_dict()) == 825
    assert sum(p.numel() for p in tree.parameters()) == 1_418_996_800


def test_frequency_ladders():
    assert axis_widths(128) == (44, 42, 42)
    time, space = inverse_frequencies(44), inverse_frequencies(42)
    torch.testing.assert_close(
        time[[0, 1, 2, 10, 21]],
        torch.tensor([1.0, 0.6579332247, 0.4328761281, 0.0151991108, 0.000151991108], dtype=torch.float64),
        atol=1e-10,
        rtol=0,
    )
    torch.testing.assert_close(
        space[[0, 1, 10, 20]],
        torch.tensor([1.0, 0.6449466771, 0.0124519708, 0.000155051578], dtype=torch.float64),
        atol=1e-10,
        rtol=0,
    )


def test_sinusoid_numbers():
    got = layers.sinusoid(torch.tensor([937.5, 0.0]), 256)
    want = [0.2623021323, 0.5804872891, 0.2572233843, -0.9987613331, 0.9949295652]
    torch.testing.assert_close(
        got[0, [0, 1, 2, 64, 127]], torch.tensor(want, dtype=torch.float64), atol=1e-9, rtol=0
    )
    assert got[0, 128].item() == pytest.approx(0.9649857986, abs=1e-9)
    assert got[1].tolist() == [1.0] * 128 + [0.0] * 128


def test_rotation_is_complex_multiplication_of_neighbours():
    x = torch.randn(1, 8, 2, 24, dtype=torch.float64)
    cos, sin = rotation(torch.tensor([3, 5]), 2, 2, 24)
    want = torch.view_as_complex(x.unflatten(-1, (12, 2))) * torch.complex(cos, sin)[:, None, :]
    got = rotate(x, turns(torch.tensor([3, 5]), 2, 2, 24))
    torch.testing.assert_close(got, torch.view_as_real(want).flatten(-2), atol=1e-6, rtol=0)
    out = torch.zeros(1, 10, 2, 24, dtype=torch.bfloat16)
    rotate(x, turns(torch.tensor([3, 5]), 2, 2, 24), out=out[:, 1:9])
    assert torch.equal(out[:, 1:9], got.bfloat16()) and not out[:, [0, 9]].any()


def test_rotation_in_real_numbers_is_the_same(monkeypatch):
    """What compilers see is written without complex numbers."""
    x, turn = torch.randn(1, 8, 2, 24), turns(torch.tensor([3, 5]), 2, 2, 24)
    want = [rotate(x.to(dtype), turn) for dtype in (torch.float32, torch.bfloat16)]
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(torch, "view_as_complex", None)
    got = [rotate(x.to(dtype), turn) for dtype in (torch.float32, torch.bfloat16)]
    for one, other, rounding in zip(got, want, (1e-6, 2e-2)):
        torch.testing.assert_close(one, other, atol=rounding, rtol=0)


def test_a_common_time_offset_changes_nothing():
    """Only differences of positions reach attention."""
    q, k, v = torch.randn(3, 1, 12, 2, 24, dtype=torch.float64).unbind(0)
    outs = []
    for offset in (0, 137):
        turn = torch.stack(rotation(torch.arange(3) + offset, 2, 2, 24), -1).unsqueeze(1)
        outs.append(Bidirectional(turn).attend(0, q, k, v))
    torch.testing.assert_close(outs[0], outs[1], atol=1e-10, rtol=0)


def test_one_timestep_for_all_frames_equals_one_each(model):
    latents, prompt = torch.randn(1, 3, 4, 4, 4), torch.randn(1, 4, SPEC.text_dim)
    one = bidirectional_flow(model, SPEC, latents, torch.tensor([[500.0]]), prompt)
    each = bidirectional_flow(model, SPEC, latents, torch.full((1, 3), 500.0), prompt)
    torch.testing.assert_close(one, each, atol=1e-5, rtol=0)


def test_text_padding_is_attended(model):
    """A short prompt is padded with zero rows before the text network, and the padding has an effect."""
    latents, prompt = torch.randn(1, 1, 4, 4, 4), torch.randn(1, 3, SPEC.text_dim)
    short = bidirectional_flow(model, SPEC, latents, torch.tensor([[500.0]]), prompt)
    padded = torch.cat([prompt, torch.zeros(1, SPEC.text_len - 3, SPEC.text_dim)], dim=1)
    full = bidirectional_flow(model, SPEC, latents, torch.tensor([[500.0]]), padded)
    torch.testing.assert_close(short, full, atol=1e-5, rtol=0)  # one padding row stands for all
    with torch.no_grad():
        unpadded = text_kv(model, prompt, text_len=3)
        turn = turns(torch.arange(1), 2, 2, SPEC.head_dim)
        time = layers.time_conditioning(model, torch.tensor([[500.0]]), torch.float32)
        other = Call(model, latents, time, unpadded, Bidirectional(turn)).run()
    assert (other - short).abs().max() > 1e-3


def test_padding_is_taken_off_where_no_sample_has_a_word():
    """A batch is as long as its longest prompt; zero rows between words stay."""
    rows = torch.randn(2, 6, SPEC.text_dim)
    rows[0, 2:] = 0
    rows[1, 4:] = 0
    for prompts, kept in ((rows, 4), (rows.flip(0), 4), (rows[:1], 2), (rows * 0, 1)):
        assert torch.equal(trimmed(prompts), prompts[:, :kept])
    rows[:, 1] = 0
    assert torch.equal(trimmed(rows), rows[:, :4])


def test_prompts_of_different_length_do_not_meet_in_a_batch(model):
    prompts = torch.randn(2, 5, SPEC.text_dim)
    prompts[0, 2:] = 0
    latents, time = torch.randn(2, 1, 4, 4, 4), torch.tensor([[500.0]])
    both = bidirectional_flow(model, SPEC, latents, time, trimmed(prompts))
    for sample in range(2):
        one = slice(sample, sample + 1)
        alone = bidirectional_flow(model, SPEC, latents[one], time, trimmed(prompts[one]))
        torch.testing.assert_close(both[one], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_norm_statistics_are_float32_and_the_weight_comes_after_the_cast(dtype):
    """The order that the weights were trained with: elsewhere the last bit of half types differs."""
    torch.manual_seed(0)
    norm = RMSNorm(48, 1e-6).to(dtype).requires_grad_(False)
    norm.weight.copy_(torch.randn(48) * 0.4 + 1)
    x = (torch.randn(3, 20, 48) * 5).to(dtype)
    plain = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)
    assert torch.equal(norm(x), plain.to(dtype) * norm.weight) and norm(x).dtype == dtype
    other_order = (plain * norm.weight.float()).to(dtype)
    assert torch.equal(norm(x), other_order) == (dtype == torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_patches_are_handed_over_in_float32(dtype):
    """Hosts keep this layer in float32 whatever the rest is, and it would refuse anything narrower."""
    seen = []

    class Strict(torch.nn.Conv3d):
        def forward(self, input):
            seen.append(input.dtype)
            return super().forward(input.to(self.weight.dtype))

    tree = type("Tree", (), {"patch_embedding": Strict(4, 48, (1, 2, 2), (1, 2, 2))})
    tokens = layers.embed_patches(tree, torch.randn(1, 4, 3, 4, 6).to(dtype))
    assert tokens.shape == (1, 3 * 2 * 3, 48) and tokens.dtype == dtype
    assert seen == [torch.float64 if dtype == torch.float64 else torch.float32]


def test_a_replaced_cross_attention_is_called_as_a_whole(model):
    """Packs put their own forward on a host's modules; cached keys and values would pass them by."""
    prompt = torch.randn(1, 3, SPEC.text_dim)
    block, seen = model.blocks[0], []

    def forward(x, context):
        seen.append((x.shape, context.shape))
        return x

    block.cross_attn.forward = forward
    try:
        text = text_kv(model, prompt, SPEC.text_len)
        assert text[0].v is None and text[0].k.shape == (1, SPEC.text_len, SPEC.dim)
        x = torch.randn(1, 4, SPEC.dim)
        assert torch.equal(layers.cross_attend(block, block.norm3(x), text[0]), block.norm3(x))
        assert len(seen) == 1
    finally:
        del block.cross_attn.forward
    block.norm3.forward = block.norm3.forward  # what a host leaves behind when it takes a replacement off
    assert not layers.replaced(block.norm3)
