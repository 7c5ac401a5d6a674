"""Training of the built-in codec: labels of latent cells, crops, loss, start, statistics, resuming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gf_core.training.codec import (
    CodecTraining,
    evaluate,
    fold_statistics,
    pixel_loss,
    start_from_principal_components,
    train_codec,
)
from gf_core.training.codec_data import BACKGROUND, IGNORED, Batch, Pool, cell_targets, render_clip
from gf_core.training.codec_optim import split_kernels

from gf_core.vae.builtin import BuiltinCodec, load_codec


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool(3, 4)


def test_clips_name_what_every_frame_shows() -> None:
    clip = render_clip(np.random.default_rng(1), 3)
    assert len(clip.frames) == len(clip.mask) == len(clip.boxes) == len(clip.labels) == 33
    assert clip.labels.shape == (33, 7) and (clip.labels >= 0).all()


def test_cells_are_labelled_by_their_cover() -> None:
    mask = torch.zeros(1, 5, 16, 16)
    mask[..., :8, :8] = 1
    mask[..., 8:10, :8] = 1
    labels = torch.arange(1, 8).expand(1, 5, 7).clone()
    labels[:, 0, 0] = 5
    targets = cell_targets(mask, labels)
    assert targets["subject"].shape == (1, 2, 2, 2)
    assert targets["subject"][0, :, 0, 0].tolist() == [5, 1]
    assert targets["subject"][0, 0, 0, 1] == BACKGROUND
    assert targets["subject"][0, 0, 1, 0] == IGNORED
    assert targets["hat"][0, 0].tolist() == [[4, IGNORED], [IGNORED, IGNORED]]
    assert (targets["time"] == 7).all()


def test_crops_hold_the_subject(pool: Pool) -> None:
    batch = pool.crops(8, 9, 48)
    assert batch.frames.shape == (8, 9, 48, 48, 3) and batch.mask.shape == (8, 9, 48, 48)
    assert batch.frames.min() >= 0 and batch.frames.max() <= 1
    assert (batch.mask.mean((1, 2, 3)) > 0.1).sum() >= 5


def test_errors_on_the_subject_cost_more() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    batch = Batch(torch.zeros(1, 1, 16, 16, 3), mask, torch.zeros(1, 1, 7, dtype=torch.int64))
    wrong_left, wrong_right = torch.zeros(2, 1, 1, 16, 16, 3)
    wrong_left[..., 2:4, :] = 0.5
    wrong_right[..., 12:14, :] = 0.5
    assert pixel_loss(wrong_left, batch, 4) > 4 * pixel_loss(wrong_right, batch, 4)
    assert pixel_loss(batch.frames, batch, 4) == 0


def test_start_is_already_a_picture(pool: Pool) -> None:
    torch.manual_seed(0)
    codec = BuiltinCodec()
    before = evaluate(codec, pool, rounds=1)
    start_from_principal_components(codec, pool)
    assert evaluate(codec, pool, rounds=1).everything > before.everything + 5


def test_statistics_are_folded_in(pool: Pool) -> None:
    torch.manual_seed(0)
    codec = BuiltinCodec()
    start_from_principal_components(codec, pool)
    frames = pool.full(2, 9).frames
    with torch.no_grad():
        before = codec.decode_batch(codec.encode_batch(frames))
        for _ in range(2):
            fold_statistics(codec, pool, rounds=2)
        latents = codec.encode_batch(torch.cat([pool.full(4, 33).frames for _ in range(3)]))
        after = codec.decode_batch(codec.encode_batch(frames))
    assert latents.mean((0, 1, 3, 4)).abs().max() < 0.5
    assert (latents.std((0, 1, 3, 4)) - 1).abs().max() < 0.4
    assert torch.allclose(before, after, atol=1e-4)


def test_kernels_and_the_rest_are_all_parameters() -> None:
    codec = BuiltinCodec()
    kernels, rest = split_kernels(codec)
    assert len(kernels) + len(rest) == len(list(codec.parameters()))
    assert all(k.ndim == 4 for k in kernels)
    assert not any(
        p is codec.net_encoder.linear.weight or p is codec.net_decoder.head.weight for p in kernels
    )


@pytest.mark.slow
def test_training_runs_resumes_and_spares_the_encoder(tmp_path) -> None:
    first = CodecTraining(minutes=0.05, ranks=1, pool=4, crops=3, save_seconds=0, statistics=8, held_out=4)
    path = train_codec(tmp_path / "all", first)
    codec = load_codec(path)
    seconds = torch.load(tmp_path / "all" / "state.pt", weights_only=True)["seconds"]
    assert seconds >= 3
    train_codec(tmp_path / "all", first)
    assert torch.load(tmp_path / "all" / "state.pt", weights_only=True)["seconds"] == seconds
    tuned = load_codec(train_codec(tmp_path / "decoder", first, decoder_of=path))
    frames = torch.rand(5, 16, 16, 3)
    assert torch.equal(tuned.encode(frames), codec.encode(frames))
    assert not torch.equal(tuned.net_decoder.head.weight, codec.net_decoder.head.weight)
