"""The estimate: exact where it claims to be, refusing in words, importable without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gf_core.config import Encoding, Fit, MemorySpec, ModelSpec, Recipe, VideoSpec
from gf_core.devices import held_bytes
from gf_core.engine.events import Finished
from gf_core.engine.film import look, settle
from gf_core.engine.making import bits_name, learn, pace_name, preflight
from gf_core.engine.render import render_film
from gf_core.errors import ResourceError
from gf_core.estimate.budget import SHRINK, check_budget, estimate
from gf_core.estimate.disk import DiskCost, _slots
from gf_core.estimate.measured import (
    Pace,
    recall_bits,
    recall_pace,
    remember_bits,
    remember_pace,
    size_key,
    speed_key,
)
from gf_core.estimate.order import Order
from gf_core.estimate.room import ModelCost, bundle_cost, count_parameters
from gf_core.estimate.trial import try_out
from gf_core.memory.presets import PRESETS
from gf_core.model.wan import build_meta
from gf_core.sampling.director import Director
from gf_core.sampling.film import Cues, replay
from gf_core.take.reuse import Kept, Reuse
from gf_core.take.run import Run
from gf_core.take.states import pays
from gf_core.vae.decoders import STATE_VALUES

pytestmark = pytest.mark.usefixtures("own_cache")

ROOT = Path(__file__).resolve().parents[2]
WAN = ModelCost(ModelSpec())


def of_size(bundle, video):
    return replace(bundle, recipe=replace(bundle.recipe, video=video))


@pytest.fixture
def film(bundle, films):
    return films.plan(of_size(bundle, VideoSpec()), "a fox | 60s")


def test_parameters_are_counted_exactly(bundle):
    for spec in (ModelSpec(), bundle.spec):
        assert count_parameters(spec) == sum(weight.numel() for weight in build_meta(spec).parameters())


@pytest.mark.parametrize("stored", ["full", "int8"])
@pytest.mark.parametrize("name", PRESETS)
def test_the_memory_estimate_is_what_the_memory_takes(bundle, name, stored):
    recipe = Recipe(replace(PRESETS[name], stored=stored), video=VideoSpec(width=48, height=32))
    held_by = bundle.sampler(recipe).director.memory
    own = vars(held_by).values()
    bank = [*held_by.bank.means, held_by.bank.mean_key] if held_by.bank is not None else []
    held = [*(thing for thing in own if hasattr(thing, "nbytes")), *held_by.means, *bank]
    cost = bundle_cost(bundle)
    assert cost.sizes(recipe).buffers == sum(tensor.nbytes for tensor in held)


def test_the_paper_film_comes_to_known_figures(film):
    budget = estimate(Order(film, WAN, Recipe()))
    assert budget.parts["weights"] == pytest.approx(2.84e9, rel=0.01)
    # 287.5 MB per latent frame for keys and values, half as much again for the rotated keys; 12 frames.
    assert budget.parts["memory"] == pytest.approx(12 * 287.5e6 * 1.5, rel=0.01)
    assert 2e9 < budget.parts["decoder"] < 4e9 and 8e9 < budget.peak < 16e9
    # 48 MB of latents a minute in bfloat16.
    assert budget.disk.latents == pytest.approx(48e6, rel=0.01)
    assert budget.disk.films == 2 * film.frames * 832 * 480 // 8 and not budget.disk.known
    assert any("60" in line and "chunks" in line for line in budget.lines())


def test_length_costs_disk_and_no_memory(bundle, films):
    short, long = (estimate(Order(films.plan(bundle, f"a fox | {s}s"), WAN, Recipe())) for s in (30, 600))
    assert short.peak == long.peak and long.disk.needed > 15 * short.disk.needed


def test_states_are_told_apart_from_what_the_film_needs(bundle, films):
    plan = films.plan(bundle, "a fox | 6s\nthen: it runs | 6s\nscene: an owl | 3s")
    budget = estimate(Order(plan, WAN, Recipe()))
    # 12 latent frames of 287.5 MB each behind every segment (3 anchors, 6 recent, the chunk just made).
    frame, decoder = 287.5e6, 2365 * 832 * 480 * 2
    assert budget.disk.states == pytest.approx(3 * (12 * frame + decoder), rel=0.02)
    assert "states" in budget.lines()[2]
    quick = estimate(Order(plan, replace(WAN, device="quick"), Recipe()))
    assert quick.disk.states == budget.disk.states
    remember_pace(speed_key(replace(WAN, device="quick"), Recipe()), Pace(100.0))
    quick = estimate(Order(plan, replace(WAN, device="quick"), Recipe()))
    assert quick.disk.states == 0  # replaying is quicker than reading
    long = films.plan(bundle, "a fox | 6s\n" + "then: it runs | 6s\n" * 40)
    assert estimate(Order(long, WAN, Recipe())).disk.states == 20 * 10**9


def test_disk_is_told_from_the_films_before(bundle, tmp_path, monkeypatch):
    text = "a fox runs | 3s\nthen: it jumps | 3s\ncut: a hen | 3s"
    monkeypatch.setattr("gf_core.estimate.trial.try_out", lambda *_: None)
    monkeypatch.setitem(STATE_VALUES, "builtin", 3)  # what the tiny decoder holds
    first, second = [], []
    for told, name in ((first, "one"), (second, "two")):
        result = render_film(bundle, text, tmp_path / f"{name}.mp4", on_budget=told.append)
    disk = result.report["estimate"]["disk"]
    assert not first[0].disk.known and "at most" in first[0].lines()[2]
    assert second[0].disk.known and disk["expected"] == pytest.approx(disk["measured"], rel=0.1)
    latents = result.run / "latents"
    assert second[0].disk.latents == sum(path.stat().st_size for path in latents.iterdir())


def test_what_lies_in_the_take_is_not_counted_again(bundle, tmp_path):
    text = "a fox runs | 3s\nthen: it jumps | 3s\ncut: a hen | 3s"
    render_film(bundle, text, tmp_path / "one.mp4", sheet=False)
    for changed, kept in ((text, 12), (text.replace("a hen", "an owl"), 8)):
        budget = preflight(look(settle(bundle, changed), tmp_path / "one.take"))
        assert (budget.chunks, budget.kept) == (12, kept)
        assert budget.disk.latents == (12 - kept) * (3 * 16 * 4 * 4 * 4 + 80)
    assert "8 of 12 chunks are there already; segment 3: another prompt" in "\n".join(budget.lines())
    assert preflight(look(settle(bundle, text), tmp_path / "one.take")).minutes == 0.0
    assert preflight(look(settle(bundle, text), tmp_path / "none", 1)).chunks == 4


def test_a_film_that_cannot_fit_is_refused_with_the_size_that_would(film, tmp_path):
    memory, video = MemorySpec(), VideoSpec(width=1280, height=720)
    budget = estimate(Order(film, WAN, Recipe(memory, video=video)))
    with pytest.raises(ResourceError, match=r"needs .* GB of memory, 12.0 GB are free") as told:
        check_budget(budget, free_memory=12_000_000_000, folder=tmp_path)
    width, height = map(int, told.value.fix.split(" fits")[0].split("x"))
    smaller = VideoSpec(width=width, height=height)
    assert width % 16 == height % 16 == 0
    fitting = estimate(Order(film, WAN, Recipe(memory, video=smaller)))
    check_budget(fitting, free_memory=12_000_000_000, folder=tmp_path)


@pytest.mark.parametrize("free", [1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("loaded", [False, True])
def test_the_size_that_is_advised_is_the_largest_that_fits(film, tmp_path, loaded, free):
    """What is in memory already need not fit again."""
    cost = replace(WAN, loaded=loaded)
    memory, video = MemorySpec(), VideoSpec(width=1280, height=720)
    sizes = [[max(16, int(side * share) // 16 * 16) for side in (1280, 720)] for share in SHRINK]
    needs = [estimate(Order(film, cost, Recipe(memory, video=VideoSpec(*size)))).to_come for size in sizes]
    fitting = [size for size, need in zip(sizes, needs) if need <= free * 10**9]
    budget = estimate(Order(film, cost, Recipe(memory, video=video)))
    with pytest.raises(ResourceError) as told:
        check_budget(budget, free_memory=free * 10**9, folder=tmp_path)
    assert told.value.fix.startswith("{}x{} fits".format(*fitting[0]) if fitting else "use a smaller model")


STORIES = {
    "cut early": "a | 0.5s\ncut: b | 0.75s\ncut: c | 0.75s\nscene: d | 0.75s\ncut: e | 0.75s\nthen: f | 5s",
    "cuts in a row": "a | 3s\ncut: b | 0.75s\ncut: c | 0.75s\ncut: d | 3s",
    "scenes": "a | 3s\nscene: b | 0.75s\nthen: c | 0.75s\nscene: d | 5s\ncut: e | 0.75s",
    "long": "a | 5s\nthen: b | 5s\ncut: c | 5s",
}


@pytest.mark.parametrize("text", STORIES.values(), ids=STORIES)
@pytest.mark.parametrize(
    "name", ["grounded", "longlive", "self_forcing", "reward_forcing", "one anchor", "none"]
)
def test_the_frames_in_a_state_are_those_of_a_real_memory(bundle, films, name, text):
    own = {"one anchor": MemorySpec(anchors=1, recent=2), "none": MemorySpec(anchors=3, anchor_policy="none")}
    memory = replace(own.get(name) or PRESETS[name], switch="cross_only", recache_before_evict=False, chunk=3)
    plan = films.plan(bundle, text)
    sampler = bundle.sampler(Recipe(memory, video=VideoSpec(16, 16)))
    embeds = [torch.zeros(1, 1, bundle.spec.text_dim)] * len(plan.segments)
    director = sampler.director
    latents = torch.zeros(director.shape(3))
    done = replay(sampler, Cues(plan, embeds), lambda index: latents, 0, plan.chunks)
    ends = {segment.end - 1 for segment in plan.segments}
    real = [director.memory.layout.past for index in done if index in ends]
    assert list(_slots(plan, memory)) == real


WAN_STATE, TINY_STATE = (STATE_VALUES[name] * 832 * 480 for name in ("wan", "taehv"))


@pytest.mark.parametrize(
    ("size", "chunks", "seconds", "kept"),
    [
        (2 * WAN_STATE, 13, 0.273, False),  # on a card, bfloat16: 4.6 s for 3.5
        (4 * WAN_STATE, 13, 20.0, True),  # on a processor
        (2 * TINY_STATE, 3, 0.015, False),
        (10**9, 1, 2.4, False),
        (10**9, 1, 2.5, True),
    ],
)
def test_a_state_is_kept_where_writing_and_reading_it_pays(size, chunks, seconds, kept):
    """The film waits for every state that is written, and an edit reads one of them."""
    assert pays(size, chunks, seconds) == kept


def test_the_frames_in_a_state_by_hand(bundle, films):
    """3 anchors, 6 recent, and the chunk just made: what leaves at a cut fills up the anchors."""
    plan = films.plan(bundle, "a | 0.5s\ncut: b | 0.75s\ncut: c | 3s\nscene: d | 0.75s")
    assert [segment.chunks for segment in plan.segments] == [1, 1, 4, 1]
    assert list(_slots(plan, MemorySpec())) == [3, 6, 12, 3]


def test_no_size_fits_is_said_too(film, tmp_path):
    budget = estimate(Order(film, WAN, Recipe()))
    with pytest.raises(ResourceError, match="no picture size fits"):
        check_budget(budget, free_memory=10**9, folder=tmp_path)


def test_a_small_disk_is_noticed_before_the_folder_exists(film, tmp_path):
    budget = replace(estimate(Order(film, WAN, Recipe())), disk=DiskCost(latents=10**18))
    with pytest.raises(ResourceError, match="on the disk"):
        check_budget(budget, free_memory=10**15, folder=tmp_path / "not" / "yet")


@pytest.mark.parametrize(
    "change",
    [
        {"bank": 2},
        {"rolling": 21},
        {"rolling": 21, "wave": True},
        {"refresh": True},
        {"sparse": 0.5},
        {"heads": (((1, 2),),)},
        {"stored": "int8"},
        {"walk": True},
        {"cut_blind": 1},
    ],
    ids=str,
)
def test_a_memory_that_takes_other_work_has_a_pace_of_its_own(change):
    others = [MemorySpec(), MemorySpec(rolling=change["rolling"])] if "wave" in change else [MemorySpec()]
    own = speed_key(WAN, Recipe(replace(MemorySpec(), **change)))
    assert own not in [speed_key(WAN, Recipe(other)) for other in others]


@pytest.mark.parametrize(
    "change",
    [{"fit": Fit(tile=32)}, {"compiled": True}, {"ranks": 2}, {"device": "card"}, {"value_bytes": 4}],
    ids=str,
)
def test_a_model_that_computes_otherwise_has_a_pace_of_its_own(change):
    assert speed_key(replace(WAN, **change), Recipe()) != speed_key(WAN, Recipe())


def test_a_second_set_of_weights_is_a_second_network(bundle):
    two = replace(bundle, writer=bundle.model)
    one, both = bundle_cost(bundle), bundle_cost(two)
    assert (one.networks, both.networks) == (1, 2) and both.weight_bytes == 2 * one.weight_bytes
    held, saved = Fit(resident=0, weights="fp8"), []
    for cost in (one, both):
        saved.append(cost.weight_bytes - cost.fitted(held).weight_bytes)
    assert saved[1] == 2 * saved[0] > 0


@pytest.mark.parametrize(("decoded", "said"), [(0, "nothing is sampled"), (1, "nothing has to be made")])
def test_what_is_there_is_told_in_place_of_a_time(film, decoded, said):
    kept = (Kept(Run(Path("run-0001")), {}),) * film.chunks
    reuse = Reuse(kept, film=({"frames": 12},) * film.chunks * decoded)
    order = Order(film, WAN, Recipe(), reuse=reuse)
    assert estimate(order).lines()[-1].endswith(said)
    assert (
        "not measured" in estimate(replace(order, reuse=replace(reuse, chunks=(*kept[1:], None)))).lines()[-1]
    )


def test_minutes_come_from_the_last_film_with_the_same_settings(film):
    def ask(video=None):
        return estimate(Order(film, WAN, Recipe(video=video or VideoSpec())))

    assert ask().minutes is None and "not measured" in ask().lines()[-1]
    key = speed_key(WAN, Recipe())
    remember_pace(key, Pace(8.0, 6.0))
    assert ask().minutes == pytest.approx(film.frames / 8 / 60 + 0.1)
    assert ask().lines()[-1].endswith(" min at 8.0 pictures/s and 6 s besides")
    assert ask(VideoSpec(width=416)).minutes is None
    for other in (replace(WAN, value_bytes=4), replace(WAN, decoder="taehv"), replace(WAN, device="other")):
        assert estimate(Order(film, other, Recipe())).minutes is None


@pytest.mark.parametrize("noise", ["chunk", "comfyui"])
def test_a_film_never_made_is_tried_once_and_remembered(bundle, tmp_path, monkeypatch, noise):
    monkeypatch.setattr("gf_core.estimate.trial.PATIENCE", 60.0)
    bundle.recipe = replace(bundle.recipe, sample=replace(bundle.recipe.sample, noise=noise))
    making = settle(bundle, "a fox runs | 9s")
    budget = preflight(look(making, tmp_path))
    assert budget.pace is not None and budget.pace.fps > 0 and budget.disk.known
    monkeypatch.setattr("gf_core.estimate.trial.try_out", None)
    again = preflight(look(making, tmp_path))
    assert (again.pace, again.disk) == (budget.pace, budget.disk)
    short = settle(of_size(bundle, VideoSpec(48, 32)), "a fox runs | 2s")
    assert preflight(look(short, tmp_path)).pace is None


def test_slow_models_and_hosts_are_not_tried(bundle, monkeypatch):
    settings = ["a fox", bundle.recipe, Encoding(), None]
    monkeypatch.setattr("gf_core.estimate.trial.PATIENCE", -1.0)
    assert try_out(bundle, *settings) is None
    passes, prefill = [], Director.prefill
    monkeypatch.setattr(Director, "prefill", lambda self, x: (passes.append(x), prefill(self, x))[1])
    monkeypatch.setattr("gf_core.estimate.trial.COLD", -1.0)
    assert try_out(bundle, *settings) is None and len(passes) == 1, "a slow model is asked once"
    monkeypatch.setattr("gf_core.estimate.trial.COLD", 60.0)
    monkeypatch.setattr("gf_core.estimate.trial.PATIENCE", 60.0)
    trial = try_out(bundle, *settings)
    assert trial is not None and trial.frames % 12 == 0 and 0 < (trial.bits or 0) < 24
    assert try_out(replace(bundle, ready=lambda free: None), *settings) is None


def test_on_the_processor_the_whole_program_counts(film):
    held = 400 * 2**20
    cost = replace(WAN, loaded=True, resident=held)
    small, large = (estimate(Order(film, cost, Recipe(), Encoding(upscale=upscale))) for upscale in (1, 2))
    assert (
        small.peak == held + small.to_come
        and small.to_come > small.parts["memory"] + small.parts["work"] + small.parts["decoder"]
    )
    assert large.peak - small.peak == 3 * small.parts["encoder"] > 0
    assert "program" in small.lines()[1] and "encoder" in small.lines()[1]


@pytest.mark.parametrize("held", [0, 9 * 10**9])
def test_the_text_encoder_counts_where_it_is_read(film, tmp_path, held):
    """Alone where the model is not loaded yet, beside it where it is; the larger of the two moments is the peak."""
    cost = replace(WAN, loaded=held > 0, resident=held)
    kept, read = (estimate(Order(film, replace(cost, text=text), Recipe())) for text in (0, 11 * 10**9))
    large = estimate(Order(film, replace(cost, text=30 * 10**9), Recipe()))
    assert read.text >= held + 11e9 and kept.text == 0
    assert read.peak == max(kept.peak, read.text) and large.peak == large.text > kept.peak
    assert "while prompts are encoded" in read.lines()[1] and "while" not in kept.lines()[1]
    with pytest.raises(ResourceError) as told:
        check_budget(large, free_memory=20 * 10**9, folder=tmp_path)
    assert "the text encoder alone" in told.value.fix


@pytest.mark.parametrize("resident", [0, 6 * 10**9])
@pytest.mark.parametrize("value_bytes", [2, 4])
def test_the_narrower_numbers_that_would_fit_are_named(film, tmp_path, value_bytes, resident):
    """By what a film in them would need, opened anew; half widths are not halved again."""
    cost = replace(WAN, value_bytes=value_bytes, decoder_bytes=4, loaded=resident > 0, resident=resident)
    wide = estimate(Order(film, cost, Recipe()))
    narrow = estimate(Order(film, cost.halved(), Recipe()))
    assert narrow.parts["weights"] == wide.parts["weights"] // 2
    assert narrow.parts["decoder"] == wide.parts["decoder"], "the decoder's numbers are its own"
    for free, fits in ((wide.to_come - 1, True), (narrow.peak - wide.cost.held - 1, False)):
        with pytest.raises(ResourceError) as told:
            check_budget(wide, free_memory=free, folder=tmp_path)
        assert ("bfloat16 fits" in told.value.fix) == (fits and value_bytes == 4)


def test_what_is_held_is_memory_that_cannot_be_taken_back(tmp_path):
    """Pages of a mapped file that was read are not; what is written to is."""
    path = tmp_path / "weights"
    path.write_bytes(bytes(64 * 2**20))
    before = held_bytes()
    mapped = torch.from_file(str(path), shared=False, size=2**26, dtype=torch.uint8)
    assert int(mapped.sum()) == 0
    assert held_bytes() - before < 16 * 2**20
    own = torch.ones(2**26, dtype=torch.uint8)
    assert 56 * 2**20 < held_bytes() - before < 96 * 2**20 and len(own)


def test_damaged_measurements_are_dropped_with_a_log_line(tmp_path, caplog):
    remember_pace("a", Pace(3.0))
    file = tmp_path / "cache" / "measured" / "measured.json"
    for damage in ("[1,", '{"a": 3}', '{"a": [1]}'):
        file.write_text(damage)
        assert recall_pace("a") is None and "dropped" in caplog.text
    remember_pace("a", Pace(float("nan")))
    remember_pace("a", Pace(4.0, -1.0))
    assert recall_pace("a") == Pace(4.0, 0.0)


def test_the_newest_films_weigh_in_the_size():
    key = size_key("model", VideoSpec(), Encoding())
    assert recall_bits(key) is None and key != size_key("model", VideoSpec(), Encoding(quality=23))
    remember_bits(key, 1.0, 12)
    remember_bits(key, 0.2, 468)
    assert recall_bits(key) == pytest.approx(0.22)
    for _ in range(20):
        remember_bits(key, 0.5, 2000)
    assert recall_bits(key) == pytest.approx(0.5, rel=1e-4)


def test_what_a_film_took_is_learned_and_what_joining_took_is_not(bundle, tmp_path):
    """An edit's or a stopped film's ends say nothing about the next film's, and three chunks are the least."""
    film, path = settle(bundle, "a fox | 6s"), tmp_path / "film.mp4"
    path.write_bytes(bytes(1000))
    frames = film.frames(film.plan.chunks)

    def learned(kept: int, total: float, fps: float, cancelled: bool = False) -> Pace | None:
        report = {"reuse": {"frames": kept}, "speed": {"fps": fps}, "seconds": {"total": total}}
        learn(film, Finished(path, frames, 0.0, cancelled, report))
        return recall_pace(pace_name(film))

    first = learned(0, 20.0, 10.0)
    assert first is not None and first.fps == 10.0 and first.extra == pytest.approx(20 - frames / 10)
    size = recall_bits(bits_name(film))
    assert size == pytest.approx(8000 / (frames * 32 * 32))
    assert learned(frames - 36, 90.0, 12.0) == Pace(12.0, first.extra)
    assert learned(0, 90.0, 8.0, cancelled=True) == Pace(8.0, first.extra)
    assert learned(frames - 35, 20.0, 99.0) == Pace(8.0, first.extra)


def test_planning_needs_no_torch():
    code = "import sys, gf_core.estimate.budget, gf_core.engine.events\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((96, 64), ""),
        ((128, 80), ""),
        ((640, 480), "50 times"),
        ((64, 32), "33 % of"),
        ((4096, 64), "43 times"),
    ],
)
def test_a_size_that_the_model_never_learned_is_said(films, bundle, size, said):
    recipe = Recipe(video=VideoSpec(width=size[0], height=size[1]))
    budget = replace(
        estimate(Order(films.plan(bundle, "a fox | 4s"), WAN, recipe)), own=VideoSpec(width=96, height=64)
    )
    lines = [line for line in budget.lines() if line.startswith("size ")]
    assert len(lines) == bool(said) and all(said in line and "made for 96x64" in line for line in lines)
