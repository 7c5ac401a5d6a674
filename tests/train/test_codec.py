"""Training of the built-in codec: labels of latent cells, crops, loss, start, statistics, resuming."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch

from gf_core.train.loop import Pace
from gf_core.train.objectives import CPU, Precision
from gf_core.train.ranks import Ranks
from gf_core.train.recipes.clips import fresh_pictures
from gf_core.train.recipes.codec import (
    CONFIG,
    CodecPlan,
    Meaning,
    evaluate,
    fold_statistics,
    pixel_loss,
    split_kernels,
    start_from_principal_components,
    train_codec,
)
from gf_core.train.recipes.codec_data import BACKGROUND, HEADS, IGNORED, Batch, Pictures, cell_targets
from gf_core.vae.builtin import BuiltinCodec, load_codec

SMALL = replace(CONFIG, encoder_widths=(8, 8, 16), decoder_widths=(8, 8, 16))


@cache
def rendered() -> Pictures:
    pictures = Pictures(6, 2, CPU)
    fresh = fresh_pictures(3)
    while not pictures.full:
        pictures.add(next(fresh))
    return pictures


def filled() -> Pictures:
    """A store of its own; the clips are rendered once."""
    return deepcopy(rendered())


@pytest.fixture(scope="module")
def pool() -> Pictures:
    return filled()


@pytest.fixture(scope="module")
def begun(pool: Pictures) -> tuple[BuiltinCodec, BuiltinCodec]:
    """A small codec before it begins with principal components and afterwards; not to be changed."""
    torch.manual_seed(0)
    codec = BuiltinCodec(SMALL)
    before = deepcopy(codec)
    start_from_principal_components(codec, pool)
    return before, codec


def test_clips_name_what_every_frame_shows() -> None:
    shard = next(fresh_pictures(1, size=2))
    assert all(shard[name].shape[:2] == (2, 33) for name in ("frames", "mask", "boxes", "seen"))
    assert shard["seen"].shape == (2, 33, 7) and shard["share"].shape == (2, 9, 8, 12)


def test_a_shard_may_end_where_the_store_does() -> None:
    pictures, fresh = Pictures(4, 1, CPU), fresh_pictures(1, chunks=2, size=3)
    old, new = next(fresh)["frames"], next(fresh)
    for shard in ({**new, "frames": old}, new):
        pictures.add(shard)
    expected = (old[0], new["frames"][1], new["frames"][2], new["frames"][0])
    assert torch.equal(pictures.tensors["frames"], torch.stack(expected)), "the held one stays"


def test_what_is_held_out_stays() -> None:
    pictures = filled()
    kept, others = pictures.tensors["frames"][:2].clone(), pictures.tensors["frames"][2:].clone()
    shard = next(fresh_pictures(9, size=5))
    pictures.add(shard)
    assert torch.equal(pictures.tensors["frames"][:2], kept) and pictures.count == 6
    assert not torch.equal(pictures.tensors["frames"][2:], others)
    assert [len(batch.frames) for batch in pictures.held_out(33)] == [2]
    assert torch.equal(pictures.held_out(33)[0].frames, kept.float() / 255)


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


def test_crops_hold_the_subject(pool: Pictures) -> None:
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


def test_start_is_already_a_picture(pool: Pictures, begun: tuple[BuiltinCodec, BuiltinCodec]) -> None:
    before, after = (evaluate(codec, pool).everything for codec in begun)
    assert after > before + 5


def test_statistics_are_folded_in(pool: Pictures, begun: tuple[BuiltinCodec, BuiltinCodec]) -> None:
    torch.manual_seed(0)
    codec = deepcopy(begun[1])
    frames = pool.whole(2, 9).frames
    with torch.no_grad():
        before = codec.decode_batch(codec.encode_batch(frames))
        for _ in range(2):
            fold_statistics(codec, pool, rounds=4)
        latents = codec.encode_batch(torch.cat([pool.whole(4, 33).frames for _ in range(6)]))
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


def test_heads_without_a_target_count_for_nothing() -> None:
    torch.manual_seed(0)
    meaning, latents = Meaning(16), torch.randn(1, 2, 16, 2, 2)
    targets = {name: torch.zeros(1, 2, 2, 2, dtype=torch.long) for name in HEADS}
    some = meaning(latents, targets | {"hat": torch.full((1, 2, 2, 2), IGNORED)})
    logits = meaning.read(latents.flatten(0, 1)).split(list(HEADS.values()), 1)
    each = [torch.nn.functional.cross_entropy(x, torch.zeros(2, 2, 2, dtype=torch.long)) for x in logits]
    without = [loss for name, loss in zip(HEADS, each) if name != "hat"]
    torch.testing.assert_close(some, torch.stack(without).mean())


def test_training_runs_resumes_and_spares_the_encoder(tmp_path) -> None:
    pace = Pace(steps=9, decay_from=0.3)
    first = CodecPlan(pace=pace, crops=3, statistics=8, config=SMALL)

    def train(folder: str, plan: CodecPlan, after=lambda: None):
        return train_codec(tmp_path / folder, plan, filled(), after, Precision(), Ranks())

    path = train("all", first)
    codec, before = load_codec(path), path.read_bytes()
    train("all", first)
    assert path.read_bytes() == before
    longer = replace(first, pace=replace(pace, steps=10))
    train("all", longer)
    assert path.read_bytes() != before and torch.load(tmp_path / "all" / "codec.pt")["step"] == 10
    tuned = load_codec(train("decoder", replace(first, decoder_of=path)))
    frames = torch.rand(5, 16, 16, 3)
    assert not torch.equal(tuned.net_decoder.head.weight, codec.net_decoder.head.weight)
    changed = load_codec(path)
    assert torch.equal(tuned.encode(frames), changed.encode(frames))
