"""What is chosen so that a film fits, in which order, and how it is said and asked for."""

from __future__ import annotations

import pytest

from gf_core.config import Fit, ModelSpec, Recipe
from gf_core.errors import GroundedError
from gf_core.estimate.fit import NOTHING, choose_fit, fit_line, read_fit, write_fit
from gf_core.estimate.room import MARGIN, ModelCost, parts_of

WAN = ModelCost(ModelSpec(), device="a card")
RECIPE = Recipe()


def needs(cost: ModelCost, fit: Fit) -> float:
    return sum(parts_of(cost.fitted(fit), RECIPE.fitted(fit), 1).values()) * MARGIN


@pytest.mark.parametrize(
    ("free", "kinds"),
    [
        (16, set()),
        (12, {"offload"}),
        (8.5, {"offload", "tiles"}),
        (7.5, {"tiles", "int8"}),
        (5, {"offload", "tiles", "int8"}),
        (4.15, {"offload", "tiles", "int8", "fp8"}),
        (2, set()),  # nothing helps: it is refused as it was asked for
    ],
)
def test_the_least_harm_that_fits_is_done(free, kinds):
    fit = choose_fit(WAN, RECIPE, int(free * 1e9))
    assert {part.partition("=")[0] for part in write_fit(fit).split(",")} - {"off"} == kinds
    if kinds:
        assert needs(WAN, fit) <= free * 1e9
    if fit.resident is not None and kinds:
        one_more = Fit(fit.resident + 1, fit.tile, fit.memory, fit.weights)
        assert needs(WAN, one_more) > free * 1e9, "as many blocks stay as can"


@pytest.mark.parametrize(("free", "resident"), [(16, False), (12, True), (8.5, False), (5, False)])
def test_what_is_free_alters_no_film_by_itself(free, resident):
    fit = choose_fit(WAN, RECIPE, int(free * 1e9), alter=False)
    assert fit == Fit(resident=fit.resident) and (fit.resident is not None) == resident


def test_on_a_processor_no_block_waits():
    """The computer's memory is the device's there."""
    cost = ModelCost(ModelSpec(), value_bytes=4, device="cpu")
    chosen = [choose_fit(cost, RECIPE, int(free * 1e9)) for free in range(4, 28)]
    assert any(fit != NOTHING for fit in chosen) and all(fit.resident is None for fit in chosen)


@pytest.mark.parametrize(
    "text", ["off", "offload=18", "tiles=32,int8", "offload=0,tiles=40,int8,fp8", "fp8-fast"]
)
def test_what_is_said_can_be_asked_for(text):
    fit = read_fit(text)
    assert fit is not None and write_fit(fit) == text
    line = fit_line(WAN.fitted(fit), RECIPE.fitted(fit))
    assert line.startswith(f"fit     {text}: ")


def test_asking():
    assert read_fit("auto") is None and read_fit("offload") == Fit(resident=0)
    for text in ("", "swap", "offload=x", "int8=3"):
        with pytest.raises(GroundedError, match="does nothing"):
            read_fit(text)


def test_the_line_says_what_is_fetched():
    line = fit_line(WAN.fitted(Fit(resident=0)), RECIPE)
    assert "30 of 30 blocks wait outside, 13.9 GB a chunk are fetched" in line
    assert fit_line(WAN.fitted(Fit(resident=99)), RECIPE).endswith("all 30 blocks stay, the same film")
