"""Shards and the store of clips: what is written is what is drawn, with its captions, labels and memories."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from gf_core.errors import GroundedError, ResourceError
from gf_core.train import data
from gf_core.train.data import Clips, Feed, Workers, read_shard
from gf_core.train.objectives import CPU, Precision
from gf_core.train.ranks import Ranks
from gf_core.train.recipes import clips
from gf_core.train.recipes.clips import MIXTURE, encoded, latent_share, world_shard, write_clips
from gf_core.train.recipes.video import BUILTIN_SPEC, STUDENT, TEACHER, VideoNet, objective_of
from gf_core.train.schedule import EMPTY
from gf_core.vae.builtin import BuiltinCodec
from gf_core.world import ATTRIBUTES


@pytest.fixture(scope="module")
def codec() -> BuiltinCodec:
    torch.manual_seed(0)
    return BuiltinCodec()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, codec) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "SHARD", 2)
        write_clips(codec, folder, clips=4, maker=3, chunks=6)
    return folder


def store(folder: Path) -> Clips:
    made = Clips(MIXTURE, CPU)
    for path in sorted(folder.iterdir()):
        made.add(*read_shard(path))
    return made


def test_a_batch_is_complete(folder):
    batch = store(folder).draw(2, forget=0.0)
    assert batch.latents.shape == (2, 18, 16, 8, 12) and batch.weight.shape == (2, 18, 8, 12)
    assert batch.labels.shape == (2, 6, len(ATTRIBUTES))
    assert batch.prompt.max() < batch.lengths.shape[1] - 1, "the empty prompt is never a chunk's own"
    assert (batch.lengths[:, -1] == 1).all() and (batch.ids[:, -1] == 0).all()
    assert 0.02 < batch.weight.mean() < 0.5


def test_some_chunks_are_made_without_memory(folder):
    """Only chunks whose caption names the character: nothing tells who `it` is when all is forgotten."""
    batch, usual = (store(folder).draw(2, forget) for forget in (1.0, 0.0))
    alone = (batch.schedule.slots == EMPTY).all(-1)
    assert alone[:, 0].all() and alone.float().mean() > 0.3
    assert (batch.schedule.own[alone] == 0).all() and (batch.schedule.positions[alone] == 0).all()
    assert (usual.schedule.slots == EMPTY).all(-1).sum() <= alone.sum()


def test_clips_are_drawn_from_before_and_after_a_merge():
    made = Clips(MIXTURE, CPU)
    kind, shard = world_shard(1, 0, size=1, chunks=3)
    shard["latents"] = torch.zeros(1, 9, 16, 8, 12)
    for value in range(12):
        made.add(kind, {**shard, "latents": shard["latents"] + value})
    assert made.count == 12
    drawn = set(torch.cat([made.draw(8, 0.0).latents[:, 0, 0, 0, 0] for _ in range(40)]).tolist())
    assert drawn == set(range(12)), "the last ones too, a merge having just come"


@pytest.mark.parametrize("kind", MIXTURE)
def test_shards_of_a_kind_have_one_shape(kind, monkeypatch):
    monkeypatch.setattr(clips, "MIXTURE", {kind: 1.0})
    shapes = []
    for number in range(3):
        made, shard = world_shard(5, number, size=1)
        assert made == kind
        shapes.append({name: value.shape for name, value in shard.items()})
    assert shapes[0] == shapes[1] == shapes[2]
    assert ("0.recache.frames" in shapes[0]) == (kind in ("switch", "mixed"))


def test_shards_are_kept_and_made_alike(folder, codec, monkeypatch, windows):
    monkeypatch.setattr(clips, "SHARD", 2)
    before = {path.name: read_shard(path) for path in folder.iterdir()}
    kept, lost = sorted(folder.iterdir())
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    write_clips(codec, folder, clips=4, maker=3, chunks=6)
    assert kept.stat().st_mtime_ns == stamp
    for name, (kind, tensors) in before.items():
        again, found = read_shard(folder / name)
        assert again == kind and all(torch.equal(found[key], value) for key, value in tensors.items())


def test_ranks_share_the_shards_out(folder):
    seen = []
    for rank in range(2):
        with Feed(folder, CPU, consume=False, ranks=Ranks(rank, 2)) as feed:
            assert feed.there == 1
            seen.append(feed.poll(wait=True)[1]["latents"])
            assert feed.poll() is None
    assert not torch.equal(*(s[:1, :1] for s in seen))


def test_a_feed_that_stays_empty_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PATIENCE", 0.2)
    with (
        pytest.raises(ResourceError, match="no clips came") as error,
        Feed(tmp_path, CPU, consume=True) as feed,
    ):
        feed.poll(wait=True)
    assert "--stage clips" in error.value.fix


def test_a_folder_that_can_no_longer_be_listed_is_said(tmp_path, unlisted):
    """To who waits for clips, which the thread that lists it does not."""
    with Feed(tmp_path, CPU, consume=True) as feed:
        unlisted(tmp_path)
        with pytest.raises(GroundedError, match="cannot be listed: Input/output error"):
            feed.poll(wait=True)
    with pytest.raises(GroundedError, match="cannot be listed"):
        data.of_others(tmp_path, "")


def test_workers_fill_a_folder_that_is_read_empty(tmp_path, windows):
    make = partial(world_shard, size=1, chunks=3)
    with Workers(make, 1, tmp_path, backlog=2), Feed(tmp_path, CPU, consume=True) as feed:
        found = [feed.poll(wait=True) for _ in range(3)]
    assert all(kind in MIXTURE and shard["frames"].shape == (1, 33, 64, 96, 3) for kind, shard in found)
    assert len({shard["frames"].sum().item() for _, shard in found}) == 3


def test_encoding_puts_latents_for_pictures(codec):
    _, shard = world_shard(2, 0, size=1, chunks=2)
    clip = encoded(shard, codec)
    assert "frames" not in clip and "boxes" not in clip
    expected = codec.encode_batch(shard["frames"].float() / 255).half()
    assert torch.equal(clip["latents"], expected)


def test_share_of_the_subject():
    mask = torch.zeros(5, 16, 16)
    mask[0, :8, :8] = 1
    mask[1:3, 8:, 8:] = 1
    share = latent_share(mask)
    assert share.tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 0.5]]]


def test_one_step_learns(folder):
    """A step along the gradient lowers the loss on the same noise, for teacher and student alike."""
    torch.manual_seed(0)
    batch = store(folder).draw(1, 0.0)
    video = VideoNet(replace(BUILTIN_SPEC, num_layers=2))
    plans = ((replace(TEACHER, draws=1), None), (replace(STUDENT, draws=1, solver_steps=1), video))
    for plan, teacher in plans:
        objective = objective_of(video, plan, Precision(), teacher)
        losses = []
        for _ in range(2):
            torch.manual_seed(1)
            loss = objective(batch)
            losses.append(loss.total.item())
            assert set(loss.parts) == {"flow", "attributes"}
            assert not any(part.requires_grad for part in loss.parts.values())
            video.zero_grad()
            loss.total.backward()
            with torch.no_grad():
                for p in video.parameters():
                    if p.grad is not None:
                        p -= 1e-3 * p.grad / (p.grad.norm() + 1e-6) * p.norm()
        assert losses[1] < losses[0]
