"""What a training would take is counted as the network counts, and is of the size that papers report."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gf_core.attention import plain
from gf_core.cli import main
from gf_core.config import SHAPES, ModelSpec, Recipe, SampleSpec, VideoSpec
from gf_core.estimate.training import (
    Card,
    Setup,
    adapters,
    call_flops,
    film_flops,
    memory_parts,
    plan_training,
)
from gf_core.memory.presets import PRESETS
from gf_core.model.forward import Call, text_kv, time_conditioning
from gf_core.model.wan import WanModel, build_meta
from gf_core.train import rollout
from gf_core.train.films import FilmBatch
from gf_core.train.lora import LoraSpec, add_lora
from gf_core.train.rollout import RolloutSpec
from gf_core.train.state import learned

PAPER = Setup(SHAPES["1.3b"], SHAPES["14b"])


def counted(q, k, v, where=None):
    """Attention in products, which the counter knows."""
    return plain(q, k, v)


class Itself:
    def attend(self, layer, q, raw_k, v):
        return plain(q, raw_k, v)


def test_a_call_is_counted_as_it_computes():
    spec = ModelSpec(dim=64, ffn_dim=160, num_heads=2, num_layers=2, text_len=16, text_dim=12, freq_dim=16)
    model = WanModel(spec)
    time = time_conditioning(model, torch.zeros(1, 1), torch.float32)
    text = text_kv(model, torch.ones(1, spec.text_len, spec.text_dim), spec.text_len, counted)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Call(model, torch.zeros(1, 3, 16, 8, 8), time, text, Itself()).run()
    patches_and_head = 2 * 48 * 2 * 64 * spec.dim
    assert call_flops(spec, 48, 48) + patches_and_head == counter.get_total_flops()


def test_adapters_are_counted_as_they_are_made():
    model = build_meta(SHAPES["tiny"])
    add_lora(model, LoraSpec(rank=8))
    assert sum(value.numel() for value in learned(model).values()) == adapters(SHAPES["tiny"], 8)


def test_self_forcing_takes_what_its_authors_report():
    """600 critic steps, so 120 cycles, in less than two hours on 64 H100, on cards of 80 GB."""
    plan = plan_training(PAPER, 64, Card())
    assert 0.5 < 120 * plan.seconds / 3600 < 2 and plan.accumulate == 1
    assert plan.peak < 80e9
    assert plan_training(PAPER, 8, Card()).seconds == pytest.approx(8 * plan.seconds)


@pytest.mark.parametrize("joint", [False, True])
def test_a_film_is_counted_as_it_is_made(monkeypatch, joint):
    """Rolling Forcing's, in the mean over lengths and over the steps that films are left at or the calls that learn."""
    spec = ModelSpec(dim=24, ffn_dim=32, num_heads=2, num_layers=2, in_dim=4, out_dim=4, text_len=6, text_dim=8,
                     freq_dim=16)  # fmt: skip
    net, steps = WanModel(spec), (1000, 600, 300)
    memory = replace(PRESETS["rolling_forcing"], recent=6, rolling=12)
    found, make = [], rollout.sampler_for

    def watched(*given):
        director = (sampler := make(*given)).director

        def watch(trace):
            frames = trace.latents.shape[1]
            seen = min(director.memory.layout.past + frames, 12)
            found.append((call_flops(spec, 2 * frames, 2 * seen), trace.flow.requires_grad))

        director.watch = watch
        return sampler

    monkeypatch.setattr(rollout, "sampler_for", watched)
    film = RolloutSpec(Recipe(memory, SampleSpec(steps=steps)), frames=18, window=12)

    class Draws:
        def __init__(self, chunks, drawn):
            self.wanted = {"joint": 0 if joint else 999, "chunks": chunks, "remainder": drawn, "exit": drawn}

        def whole(self, name, low, high):
            return self.wanted[name]

        def normal(self, name, shape):
            return torch.zeros(shape)

    prompt = torch.ones(1, 6, 8)
    for chunks, drawn in itertools.product((4, 5, 6), range(3)):
        rollout.roll_out(net, film, FilmBatch(prompt, prompt, (4, 2, 4), Draws(chunks, drawn)))
    made, back = (sum(flops for flops, grad in found if grad or every) / 9 for every in (True, False))
    video = VideoSpec(width=32, height=16)
    setup = Setup(spec, spec, video, memory, frames=18, window=12, steps=3, joint=float(joint))
    assert film_flops(setup) == pytest.approx((made, back))


def test_memory_goes_where_it_should():
    parts = {cards: memory_parts(PAPER, cards) for cards in (1, 8, 64)}
    assert parts[1]["optimiser"] == pytest.approx(8 * parts[8]["optimiser"])
    assert parts[8]["activations"] == parts[64]["activations"]
    assert parts[8]["memory of the film"] == pytest.approx(287.5e6 * (1.5 * 12 + 21), rel=0.01)
    adapted = replace(PAPER, lora=256)
    assert memory_parts(adapted, 8)["optimiser"] < 0.3 * parts[8]["optimiser"]


def test_calls_over_several_chunks_may_learn_from_frames_in_front_of_the_window():
    """As many chunks more as a call holds beside its newest, where the film has so many."""
    rolling = replace(PAPER, memory=PRESETS["rolling_forcing"], window=21, steps=5, joint=0.5)
    held = [memory_parts(replace(rolling, frames=frames), 8)["activations"] for frames in (27, 33, 60)]
    chunk = 3 * PAPER.tokens * PAPER.student.num_layers * 2 * PAPER.student.dim
    assert [round((more - held[0]) / chunk, 6) for more in held] == [0, 2, 2]


def test_no_more_cards_are_proposed_than_there_are_films_in_a_step(printed):
    out = printed("train", "plan", "--recipe", "rolling_forcing")
    assert "1 card " in out and "8 cards" in out and "64 cards" not in out


def test_the_command_says_memory_time_and_how_to_start(capsys, printed, refused):
    planned = partial(printed, "train", "plan")
    out = planned("--shape", "1.3b", "--teacher", "14b", "--cards", "1,8,64")
    fits = next(line for line in out.splitlines() if line.startswith("fits 80 GB"))
    assert fits.split()[-3:] == ["no", "yes", "yes"]
    assert "torchrun --nproc-per-node 8 -m gf_core train" in out and "--nnodes 8" in out
    assert (
        "not measured" in out and "--teacher TEACHER --critic CRITIC --device" in out and "--batch" not in out
    )
    out = planned("--size", "480x320", "--batch", "8", "--cards", "1")
    assert out.rstrip().endswith("--model MODEL --size 480x320 --batch 8 --device cuda")
    out = planned("--recipe", "rolling_forcing", "--cards", "8")
    assert "27 latent frames of 832x480, 8 films in a step, 50 % of them with chunks denoised together" in out
    assert out.rstrip().endswith("train rolling_forcing --data prompts.txt --model MODEL --device cuda")
    # As the training that it would tell how to start.
    assert "a multiple of 3, such as 21" in refused("train", "plan", "--frames", "20")
    out = planned("--lora", "32", "--cards", "1")
    assert "longlive --stage long" in out and "self_forcing" not in out
    planned("--shape", "tiny", "--size", "96x64", "--cards", "1")
    for wrong, said in (
        ("--size 97x64 --shape tiny", "97x64 does not fit the model's grid of 16 pixels\n  fix: use 96x64"),
        (
            "--cards 3",
            "64 films in a step cannot be shared out by 3 ranks, 1 at a time\n  fix: give --batch as a",
        ),
        ("--batch 4 --cards 1,8", "4 films in a step cannot be shared out by 8 ranks"),
    ):
        assert main(["train", "plan", *wrong.split()]) == 2
        found = capsys.readouterr()
        assert said in found.err and not found.out
    # Of those that are usual, what such a step can be shared out by.
    assert "1 card\n" in planned("--batch", "12")
    out = planned("--batch", "24", "--cards", "12")
    assert "--nnodes 2 " in out and "--nproc-per-node 6 " in out
    refused("train", "plan", "--cards", "none")
