"""The estimate: exact where it claims to be, refusing in words, importable without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gf_core.config import MemorySpec, ModelSpec, SampleSpec, VideoSpec
from gf_core.engine.budget import (
    ModelCost,
    bundle_cost,
    check_budget,
    count_parameters,
    estimate,
    memory_bytes,
)
from gf_core.engine.settings import FilmSpec
from gf_core.engine.speeds import recall_speed, remember_speed, speed_key
from gf_core.errors import ResourceError
from gf_core.memory.presets import PRESETS
from gf_core.model.wan import build_meta
from gf_core.sampling.rollout import Rollout

ROOT = Path(__file__).resolve().parents[2]
WAN = ModelCost(ModelSpec())


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def film(bundle, planned):
    return planned(replace(bundle, video=VideoSpec()), "a fox | 60s")


def test_parameters_are_counted_exactly(bundle):
    for spec in (ModelSpec(), bundle.spec):
        assert count_parameters(spec) == sum(weight.numel() for weight in build_meta(spec).parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_the_memory_estimate_is_what_the_memory_takes(bundle, name):
    memory = PRESETS[name]
    rollout = Rollout(bundle.model, bundle.spec, memory, bundle.sample, latent_height=4, latent_width=6)
    own = vars(rollout.memory).values()
    held = [*(thing for thing in own if hasattr(thing, "nbytes")), *rollout.memory._means]
    cost = bundle_cost(bundle)
    assert memory_bytes(cost, memory, VideoSpec(width=48, height=32)) == sum(tensor.nbytes for tensor in held)


def test_the_paper_film_comes_to_known_figures(film):
    budget = estimate(film, WAN, MemorySpec(), SampleSpec(), VideoSpec())
    assert budget.weights == pytest.approx(2.84e9, rel=0.01)
    # 287.5 MB per latent frame for keys and values, half as much again for the rotated keys; 12 frames.
    assert budget.memory == pytest.approx(12 * 287.5e6 * 1.5, rel=0.01)
    assert 2e9 < budget.decode < 4e9 and 8e9 < budget.peak < 16e9
    # 48 MB of latents a minute in float32, half of it in bfloat16.
    assert 24e6 < budget.disk < 300e6
    assert any("60" in line and "chunks" in line for line in budget.lines())


def test_length_costs_disk_and_no_memory(bundle, planned):
    short, long = (
        estimate(planned(bundle, f"a fox | {s}s"), WAN, MemorySpec(), SampleSpec(), VideoSpec())
        for s in (30, 600)
    )
    assert short.peak == long.peak and long.disk > 15 * short.disk


def test_states_are_told_apart_from_what_the_film_needs(film):
    budget = estimate(film, WAN, MemorySpec(), SampleSpec(), VideoSpec())
    assert budget.states == pytest.approx(
        len(film.segments) * 9 * 287.5e6, rel=0.01
    )  # docs/benchmarks: 2.59 GB each
    assert any(line.startswith("disk") and "states" in line for line in budget.lines())
    many = replace(film, segments=film.segments * 100)
    assert estimate(many, WAN, MemorySpec(), SampleSpec(), VideoSpec()).states == 20 * 10**9


def test_a_film_that_cannot_fit_is_refused_with_the_size_that_would(film, tmp_path):
    memory, video = MemorySpec(), VideoSpec(width=1280, height=720)
    budget = estimate(film, WAN, memory, SampleSpec(), video)
    with pytest.raises(ResourceError, match=r"needs .* GB of memory, 12.0 GB are free") as told:
        check_budget(budget, WAN, memory, video, free_memory=12_000_000_000, folder=tmp_path)
    width, height = map(int, told.value.fix.split(" fits")[0].split("x"))
    smaller = VideoSpec(width=width, height=height)
    assert width % 16 == height % 16 == 0
    fitting = estimate(film, WAN, memory, SampleSpec(), smaller)
    check_budget(fitting, WAN, memory, smaller, free_memory=12_000_000_000, folder=tmp_path)


def test_no_size_fits_is_said_too(film, tmp_path):
    budget = estimate(film, WAN, MemorySpec(), SampleSpec(), VideoSpec())
    with pytest.raises(ResourceError, match="no picture size fits"):
        check_budget(budget, WAN, MemorySpec(), VideoSpec(), free_memory=10**9, folder=tmp_path)


def test_a_small_disk_is_noticed_before_the_folder_exists(film, tmp_path):
    budget = replace(estimate(film, WAN, MemorySpec(), SampleSpec(), VideoSpec()), disk=10**18)
    with pytest.raises(ResourceError, match="on the disk"):
        check_budget(
            budget, WAN, MemorySpec(), VideoSpec(), free_memory=10**15, folder=tmp_path / "not" / "yet"
        )


def test_minutes_come_from_the_last_film_with_the_same_settings(film):
    def ask(video=None):
        return estimate(film, WAN, MemorySpec(), SampleSpec(), video or VideoSpec())

    assert ask().minutes is None and "not measured" in ask().lines()[-1]
    remember_speed(speed_key(WAN.device, WAN.fingerprint, MemorySpec(), SampleSpec(), VideoSpec()), 8.0)
    assert ask().minutes == pytest.approx(film.frames / 8 / 60)
    assert ask(VideoSpec(width=416)).minutes is None


def test_a_speed_never_measured_is_tried_once_and_kept(bundle, monkeypatch):
    from gf_core.engine import calibrate

    asked = [bundle_cost(bundle), bundle.memory, bundle.sample, bundle.video, FilmSpec()]
    fps = calibrate.expected_speed(bundle, *asked)
    assert fps is not None and fps > 0
    monkeypatch.setattr(calibrate, "calibrate", None)
    assert calibrate.expected_speed(bundle, *asked) == fps


def test_slow_models_and_hosts_are_not_tried(bundle, monkeypatch):
    from gf_core.engine import calibrate

    settings = [bundle.memory, bundle.sample, bundle.video, FilmSpec()]
    monkeypatch.setattr(calibrate, "PATIENCE", -1.0)
    assert calibrate.calibrate(bundle, *settings) is None
    monkeypatch.setattr(calibrate, "PATIENCE", 60.0)
    assert calibrate.calibrate(bundle, *settings) is not None
    assert calibrate.calibrate(replace(bundle, ready=lambda free: None), *settings) is None


def test_on_the_processor_the_whole_program_counts(film):
    held = 400 * 2**20
    cost = replace(WAN, loaded=True, resident=held)
    small, large = (
        estimate(film, cost, MemorySpec(), SampleSpec(), VideoSpec(), upscale) for upscale in (1, 2)
    )
    assert small.peak == held + small.to_come and small.to_come > small.memory + small.work + small.decode
    assert large.peak - small.peak == 3 * small.encode > 0
    assert "program" in small.lines()[1] and "encoder" in small.lines()[1]


def test_a_damaged_speed_file_is_dropped_with_a_log_line(tmp_path, caplog):
    remember_speed("a", 3.0)
    file = tmp_path / "cache" / "speeds" / "speeds.json"
    file.write_text("[1,")
    assert recall_speed("a") is None and "dropped" in caplog.text
    remember_speed("a", float("nan"))
    remember_speed("a", 4.0)
    assert recall_speed("a") == 4.0


def test_planning_needs_no_torch():
    code = "import sys, gf_core.engine.budget, gf_core.engine.events\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
