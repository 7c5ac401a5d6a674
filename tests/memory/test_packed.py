"""Keys and values in a byte a number: what is lost, and that all else is as in a memory that keeps them whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gf_core.config import MemorySpec, as_facts
from gf_core.errors import GroundedError
from gf_core.memory.checks import check
from gf_core.memory.packed import fill, pack, packed_width, values_of
from gf_core.memory.presets import PRESETS


def packed(spec: MemorySpec) -> MemorySpec:
    return replace(spec, stored="int8")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_value_is_off_by_more_than_half_a_step(scale, dtype):
    values = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(0)).mul(scale).to(dtype)
    kept = pack(values)
    assert kept.shape == (2, 5, 3, packed_width(8)) and kept.dtype == torch.int8
    step = (values.float().abs().amax(-1, keepdim=True) / 127).clamp(min=2.0**-24)
    assert ((values_of(kept) - values.float()).abs() <= 0.502 * step).all()


def test_zeros_and_what_was_packed_before_come_back_as_they_were():
    zeros = torch.zeros(1, 2, 3, 4)
    assert torch.equal(values_of(pack(zeros)), zeros)
    kept = pack(torch.randn(4, 2, 6))
    assert torch.equal(pack(values_of(kept)), kept)


def test_packing_leaves_what_it_is_given():
    values = torch.randn(2, 6)
    before = values.clone()
    pack(values)
    assert torch.equal(values, before)


def test_slots_that_are_not_packed_are_filled_and_read_as_they_are():
    slots, values = torch.zeros(2, 6), torch.randn(2, 6)
    fill(slots, values)
    assert values_of(slots) is slots and torch.equal(slots, values)


@pytest.mark.parametrize(
    "name", ["grounded", "longlive", "reward_forcing", "sgf", "memrope", "context_forcing"]
)
def test_the_same_frames_are_remembered(film, name):
    """Frames that carry their number are found in the same slots, whatever moves them there."""
    spec = replace(PRESETS[name], bank_below=2.0)
    whole, small = film(spec), film(packed(spec))
    for story in (whole, small):
        for number in range(9):
            story.chunk()
            if number == 5:
                story.memory.cut()
    used = whole.memory.layout.past * whole.memory.tokens_per_frame
    for theirs, ours in ((whole.memory.raw_k, small.memory.raw_k), (whole.memory.v, small.memory.v)):
        torch.testing.assert_close(values_of(ours[:, :, :used]), theirs[:, :, :used], rtol=0.005, atol=0)
    assert small.anchors() == whole.anchors()


def test_it_is_another_film():
    """How memory is kept is in the facts that keys are made of, and a Take from before it could be chosen goes on."""
    assert "stored" not in as_facts(MemorySpec())
    assert as_facts(packed(MemorySpec()))["stored"] == "int8"


def test_heads_that_see_other_frames_are_refused():
    with pytest.raises(GroundedError, match="packed"):
        check(packed(replace(PRESETS["self_forcing"], heads=(((1, 1), (1, 1)),))))
