"""The reader: geometry of its crops, independence of the batch, and the shipped weights on fresh clips."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gf_core.errors import CheckpointError
from gf_core.train.recipes.reader import accuracy
from gf_core.train.recipes.reader_data import ClipPool, corrupt, draw_script, render_clip
from gf_core.world.reader import (
    BUILTIN_WEIGHTS,
    WINDOW,
    Reader,
    action_windows,
    cut_out,
    halve,
    load_reader,
    read,
    save_reader,
)
from gf_core.world.vocabulary import PICTURED


def test_it_is_small() -> None:
    assert sum(p.numel() for p in Reader().parameters()) <= 510_000


def test_a_crop_is_the_pixels_around_its_centre() -> None:
    images = torch.arange(64 * 96, dtype=torch.float32).reshape(1, 1, 64, 96)
    crop = cut_out(images, torch.tensor([40.0]), torch.tensor([30.0]), 8)
    assert torch.allclose(crop[0, 0], images[0, 0, 26:34, 36:44], atol=1e-2)


def test_the_action_window_stands_still_while_the_subject_moves() -> None:
    frames = torch.zeros(1, WINDOW, 3, 64, 96)
    boxes = torch.zeros(1, WINDOW, 4)
    for t in range(WINDOW):
        frames[0, t, :, 30:34, 40 + 2 * t : 44 + 2 * t] = 1
        boxes[0, t] = torch.tensor([42.0 + 2 * t, 32, 4, 4])
    windows = action_windows(halve(frames), boxes).unflatten(1, (WINDOW, 3))[0, :, 0]
    columns = windows.sum(1).argmax(-1)
    assert columns[-1] - columns[0] == pytest.approx(11, abs=1)  # 22 px at half resolution


def test_a_frame_is_read_alike_in_any_batch() -> None:
    torch.manual_seed(0)
    reader = Reader()
    frames = np.random.default_rng(0).integers(0, 255, (30, 64, 96, 3), np.uint8)
    whole, split = read(reader, frames), read(reader, frames, batch=7)
    assert np.abs(whole.boxes - split.boxes).max() < 1e-2
    for name in PICTURED:
        assert np.abs(whole.confidence[name] - split.confidence[name]).max() < 1e-3
    assert len(whole.actions) == len(range(0, 30 - WINDOW + 1, 3))
    assert len(read(reader, frames[: WINDOW - 1]).actions) == 0


def test_saving_and_loading_keeps_the_weights(tmp_path: Path) -> None:
    reader = Reader()
    save_reader(reader, tmp_path / "r.safetensors")
    (tmp_path / "plain").touch()
    rights = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(rights) == 1  # those of any other file that its maker writes
    loaded = load_reader(tmp_path / "r.safetensors")
    for a, b in zip(reader.parameters(), loaded.parameters()):
        assert torch.equal(a.half().float(), b)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, str(tmp_path / "x.safetensors"))
    with pytest.raises(CheckpointError, match="not a reader"):
        load_reader(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not there"):
        load_reader(tmp_path / "missing.safetensors")


def test_batches_are_windows_of_one_segment() -> None:
    pool = ClipPool(0, 8)
    pool.refresh(6)
    batch = pool.batch(5)
    assert batch.frames.shape == (5, WINDOW, 64, 96, 3) and batch.mask.shape == (5, WINDOW, 16, 24)
    assert (batch.labels == batch.labels[:, :1]).all()
    assert (batch.boxes[..., 2:] > 0).all()
    assert (batch.halves.float().mean() - batch.frames.float().mean()).abs() < 1


def test_corruption_is_mild() -> None:
    pool = ClipPool(1, 4)
    pool.refresh(3)
    clean = pool.batch(4).frames[:, :2].permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    dirty = corrupt(clean, torch.Generator().manual_seed(0))
    assert dirty.shape == clean.shape and not torch.equal(dirty, clean)
    assert (dirty - clean).abs().mean() < 0.15


def test_the_shipped_reader_reads_fresh_clips() -> None:
    assert BUILTIN_WEIGHTS.is_file()
    clips = [render_clip(draw_script(random.Random(3_000_000_000 + i))) for i in range(14)]
    values = accuracy(load_reader(), clips)
    assert values["box_px"] < 1.5
    for name in (*PICTURED, "action"):
        assert values[name] > 0.9, (name, values[name])
