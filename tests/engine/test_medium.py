"""A film of a medium-sized model of random weights, from files as people have them: what was told is what it takes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from gf_core.config import ModelSpec, Recipe, VideoSpec
from gf_core.estimate.budget import estimate
from gf_core.estimate.order import Order
from gf_core.estimate.room import file_cost
from gf_core.model.wan import WanModel
from gf_core.timeline import Timing, make_plan, parse
from gf_core.vae.builtin import BuiltinCodec, CodecConfig, save_codec

ROOT = Path(__file__).resolve().parents[2]
SPEC = ModelSpec(dim=768, ffn_dim=3072, num_heads=6, num_layers=12, text_dim=1024)
BOARD = "a red fox walks in the snow | 1.5s\ncut: the owl sits on a tree | 1.5s\n"
NAMES = {
    "--model": "self_forcing_dmd.pt",
    "--text-encoder": "models_t5_umt5-xxl-enc-bf16.pth",
    "--vae": "wan_2.1_vae.safetensors",
}


def text_weights(width: int, hidden: int, layers: int, heads: int) -> dict[str, torch.Tensor]:
    """A random UMT5 under its original names, in bfloat16."""

    def random(*shape: int) -> torch.Tensor:
        return (torch.randn(shape) * 0.02).bfloat16()

    weights = {"token_embedding.weight": random(64, width), "norm.weight": torch.ones(width).bfloat16()}
    for n in range(layers):
        block = {
            "norm1.weight": torch.ones(width).bfloat16(),
            "norm2.weight": torch.ones(width).bfloat16(),
            **{f"attn.{name}.weight": random(width, width) for name in "qkvo"},
            "ffn.gate.0.weight": random(hidden, width),
            "ffn.fc1.weight": random(hidden, width),
            "ffn.fc2.weight": random(width, hidden),
            "pos_embedding.embedding.weight": random(32, heads),
        }
        weights |= {f"blocks.{n}.{name}": value for name, value in block.items()}
    return weights


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """119 M parameters of transformer, 154 M of text encoder, the built-in codec's shape; all in one folder."""
    import sentencepiece

    home = tmp_path_factory.mktemp("medium model")
    torch.manual_seed(0)
    weights = {
        f"model.{name}": value.detach() for name, value in WanModel(SPEC).bfloat16().state_dict().items()
    }
    torch.save({"generator_ema": weights}, home / NAMES["--model"])
    torch.save(text_weights(1024, 2816, 12, 16), home / NAMES["--text-encoder"])
    save_codec(BuiltinCodec(CodecConfig()), home / NAMES["--vae"])
    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([BOARD] * 40), model_writer=pieces, vocab_size=40, pad_id=0, eos_id=1, unk_id=2,
        bos_id=-1, hard_vocab_limit=False, num_threads=1, minloglevel=2,
    )  # fmt: skip
    (home / "spiece.model").write_bytes(pieces.getvalue())
    (home / "film.txt").write_text(BOARD)
    return home


def held(process: psutil.Process) -> int:
    info = process.memory_info()
    return info.rss - info.shared


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="another process's held memory is cheap to see on Linux only"
)
def test_a_film_takes_what_was_told_and_never_both_large_models(home, tmp_path):
    """The most that the process ever held, seen from outside, against the estimate in its report and in the plan."""
    out = tmp_path / "film.mp4"
    parts = [word for flag, name in NAMES.items() for word in (flag, str(home / name))]
    command = [sys.executable, "-m", "gf_core", "render", str(home / "film.txt"), *parts, "--size", "96x64"]
    command += ["--out", str(out), "--take", str(tmp_path / "take"), "--device", "cpu", "--no-sheet"]
    own = {"GROUNDED_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = (tmp_path / "log").open("w")
    with (
        log,
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, **own}, stdout=log, stderr=log) as render,
    ):
        process, peak = psutil.Process(render.pid), 0
        while render.poll() is None:
            try:
                peak = max(peak, held(process))
            except psutil.Error:
                break
            time.sleep(0.005)
    assert render.returncode == 0, (tmp_path / "log").read_text()
    memory = json.loads(out.with_name("film_report.json").read_text())["estimate"]["memory"]
    assert memory["expected"] == pytest.approx(peak, rel=0.2)
    assert memory["measured"] == pytest.approx(peak, rel=0.1)

    cost = file_cost(
        home / NAMES["--model"], device=torch.device("cpu"),
        text=home / NAMES["--text-encoder"], vae=home / NAMES["--vae"],
    )  # fmt: skip
    recipe = Recipe(video=VideoSpec(width=96, height=64))
    plan = make_plan(parse(BOARD), Timing(16, recipe.memory.chunk, 4))
    budget = estimate(Order(plan, cost, recipe))
    # Python, torch and the libraries, which are small beside real models.
    program = peak - sum(budget.parts.values())
    assert 100e6 < program < 500e6
    assert peak < program + cost.weight_bytes + cost.text, "the two large models were in memory together"
