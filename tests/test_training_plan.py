"""What a training would take is counted as the network counts, and is of the size that papers report."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gf_core.attention import plain
from gf_core.cli import main
from gf_core.config import SHAPES, ModelSpec
from gf_core.estimate.training import Card, Setup, adapters, call_flops, memory_parts, plan_training
from gf_core.model.forward import Call, text_kv, time_conditioning
from gf_core.model.wan import WanModel, build_meta
from gf_core.train.lora import LoraSpec, add_lora
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


def test_memory_goes_where_it_should():
    parts = {cards: memory_parts(PAPER, cards) for cards in (1, 8, 64)}
    assert parts[1]["optimiser"] == pytest.approx(8 * parts[8]["optimiser"])
    assert parts[8]["activations"] == parts[64]["activations"]
    assert parts[8]["memory of the film"] == pytest.approx(287.5e6 * (1.5 * 12 + 21), rel=0.01)
    adapted = replace(PAPER, lora=256)
    assert memory_parts(adapted, 8)["optimiser"] < 0.3 * parts[8]["optimiser"]


def test_the_command_says_memory_time_and_how_to_start(capsys):
    assert main(["train", "plan", "--shape", "1.3b", "--teacher", "14b", "--cards", "1,8,64"]) == 0
    out = capsys.readouterr().out
    fits = next(line for line in out.splitlines() if line.startswith("fits 80 GB"))
    assert fits.split()[-3:] == ["no", "yes", "yes"]
    assert "torchrun --nproc-per-node 8 -m gf_core train" in out and "--nnodes 8" in out
    assert (
        "not measured" in out and "--teacher TEACHER --critic CRITIC --device" in out and "--batch" not in out
    )
    assert main(["train", "plan", "--size", "480x320", "--batch", "8", "--cards", "1"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("--model MODEL --size 480x320 --batch 8 --device cuda")
    assert main(["train", "plan", "--lora", "32", "--cards", "1"]) == 0
    out = capsys.readouterr().out
    assert "longlive --stage long" in out and "self_forcing" not in out
    assert main(["train", "plan", "--shape", "tiny", "--size", "96x64", "--cards", "1"]) == 0
    with pytest.raises(SystemExit):
        main(["train", "plan", "--cards", "none"])
