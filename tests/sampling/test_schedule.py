import pytest
import torch

from gf_core.config import SampleSpec
from gf_core.errors import GroundedError
from gf_core.sampling.schedule import Schedule, add_noise, flow_to_x0, timesteps


@pytest.mark.parametrize(
    ("shift", "steps", "want"),
    [
        (3, (1000, 750, 500, 250), (1000, 900, 750, 500)),
        (5, (1000, 750, 500, 250), (1000, 937.5, 833.33331299, 625)),
        (5, (1000, 800, 600, 400, 200), (1000, 952.38104, 882.35291, 769.23077, 555.5556)),
        (8, (1000, 750, 500, 250), (1000, 960, 888.88892, 727.27277)),
        (12, (1000, 750, 500, 250), (1000, 972.973, 923.077, 800)),
    ],
)
def test_warped_steps(shift, steps, want):
    levels = timesteps(SampleSpec(steps=steps, shift=shift))
    assert [level.timestep for level in levels] == pytest.approx(want, abs=5e-4)
    assert [level.sigma for level in levels] == pytest.approx([t / 1000 for t in want], abs=1e-6)


def test_raw_steps_take_the_nearest_entry():
    levels = timesteps(SampleSpec(steps=(750, 500, 250, 0), warp=False))
    assert [level.timestep for level in levels] == [750, 500, 250, 0]
    assert [level.sigma for level in levels] == pytest.approx([0.75, 0.5006, 0.2516, 0.00498008], abs=5e-5)


@pytest.mark.parametrize(("shift", "last"), [(3, 0.0029940), (5, 0.0049801), (8, 0.0079444), (12, 0.0118694)])
def test_timestep_zero_means_the_last_sigma(shift, last):
    assert Schedule(shift).sigma(torch.tensor(0.0)).item() == pytest.approx(last, abs=1e-7)


@pytest.mark.parametrize("level", timesteps(SampleSpec()), ids=lambda level: f"{level.timestep:.0f}")
def test_noise_flow_round_trip(level):
    x0, noise = torch.randn(2, 1, 3, 4, 5, 5)
    x = add_noise(x0, noise, level.sigma)
    torch.testing.assert_close(flow_to_x0(x, noise - x0, level.sigma), x0, atol=1e-6, rtol=0)


def test_x0_keeps_low_bits_in_bfloat16():
    """The subtraction runs in float64: the only rounding left is the cast of the result."""
    x, flow = torch.randn(2, 1000).bfloat16()
    exact = x.double() - 0.9375 * flow.double()
    assert torch.equal(flow_to_x0(x, flow, 0.9375), exact.bfloat16())


def test_number_and_tensor_sigma_agree_bit_for_bit():
    x0, noise = torch.randn(2, 6, 4)
    sigma = Schedule(5.0).sigmas[[3]]
    assert torch.equal(add_noise(x0, noise, sigma.item()), add_noise(x0, noise, sigma))


def test_the_ends_of_the_table_are_positions_too():
    """0 is the entry behind the last: clean, and a timestep of exactly 0; 1000 is nothing but noise."""
    assert Schedule(5.0).warp(0) == 0.0 and Schedule(5.0).warp(1000) == 1000.0
    levels = timesteps(SampleSpec(steps=(1000, 1, 0)))
    assert [level.timestep for level in levels] == pytest.approx([1000, 4.98008, 0], abs=1e-4)
    assert levels[2].sigma == levels[1].sigma  # the nearest entry


@pytest.mark.parametrize(
    ("steps", "words"), [((), "empty"), *(((x,), "table position") for x in (937.5, 0.5, 999.999, -1, 1001))]
)
def test_warp_needs_table_positions(steps, words):
    with pytest.raises(GroundedError, match=words):
        timesteps(SampleSpec(steps=steps))
