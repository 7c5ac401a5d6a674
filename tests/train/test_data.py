"""Shards of encoded clips: what is written is what is drawn, with its captions, labels and layouts."""

from pathlib import Path

import pytest
import torch
from gf_core.training import clips
from gf_core.training.clips import LABELS, ClipStore, latent_share, write_shards
from gf_core.training.layout import EMPTY
from gf_core.training.video import BUILTIN_SPEC, Objective, VideoNet, VideoTraining
from safetensors.torch import load_file

from gf_core.config import MemorySpec
from gf_core.text.small import SmallTextEncoder
from gf_core.vae.builtin import BuiltinCodec, save_codec
from gf_core.world import words


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("clips")
    save_codec(BuiltinCodec(), root / "codec.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "SHARD", 2)
        write_shards(root / "codec.safetensors", root / "clips", clips=4, chunks=6, seed=3)
    return root / "clips"


def store(folder: Path, monkeypatch) -> ClipStore:
    monkeypatch.setattr(clips, "SHARD", 2)
    return ClipStore(folder, SmallTextEncoder(words()), MemorySpec(), seed=0, chunks=6)


def test_a_batch_is_complete(folder, monkeypatch):
    batch = store(folder, monkeypatch).draw(2)
    assert batch.latents.shape == (2, 18, 16, 8, 12) and batch.weight.shape == (2, 18, 8, 12)
    assert batch.labels.shape == (2, 6, len(LABELS))
    assert batch.prompt.max() < batch.lengths.shape[1] - 1, "the empty prompt is never a chunk's own"
    assert (batch.lengths[:, -1] == 1).all()
    assert 0.02 < batch.weight.mean() < 0.5


def test_some_chunks_are_made_without_memory(folder, monkeypatch):
    """Only chunks whose caption names the character: nothing tells who `it` is when all is forgotten."""
    forgetful = store(folder, monkeypatch)
    forgetful.forget = 1.0
    batch = forgetful.draw(2)
    alone = (batch.layout.slots == EMPTY).all(-1)
    assert alone[:, 0].all() and alone.float().mean() > 0.3
    assert (batch.layout.own[alone] == 0).all() and (batch.layout.positions[alone] == 0).all()
    usual = store(folder, monkeypatch).draw(2)
    assert (usual.layout.slots == EMPTY).all(-1).sum() <= alone.sum()


def test_shards_are_kept_and_made_alike(folder, monkeypatch):
    monkeypatch.setattr(clips, "SHARD", 2)
    before = {path.name: load_file(path) for path in folder.iterdir()}
    kept, lost = sorted(folder.iterdir())
    stamp = kept.stat().st_mtime_ns
    lost.unlink()
    write_shards(folder.parent / "codec.safetensors", folder, clips=4, chunks=6, seed=3)
    assert kept.stat().st_mtime_ns == stamp
    for name, tensors in before.items():
        for key, value in load_file(folder / name).items():
            assert torch.equal(value, tensors[key])


def test_share_of_the_subject():
    mask = torch.zeros(5, 16, 16)
    mask[0, :8, :8] = 1
    mask[1:3, 8:, 8:] = 1
    share = latent_share(mask)
    assert share.tolist() == [[[1, 0], [0, 0]], [[0, 0], [0, 0.5]]]


def test_one_step_learns(folder, monkeypatch):
    """A step along the gradient lowers the loss on the same noise, for teacher and student alike."""
    torch.manual_seed(0)
    batch = store(folder, monkeypatch).draw(1)
    net = VideoNet()
    assert net.model.spec == BUILTIN_SPEC
    for teacher in (None, net):
        objective = Objective(net, VideoTraining(draws=1, solver_steps=1), teacher)
        losses = []
        for _ in range(2):
            torch.manual_seed(1)
            loss, parts = objective(batch)
            losses.append(loss.item())
            assert set(parts) == {"flow", "attributes"}
            net.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in net.parameters():
                    if p.grad is not None:
                        p -= 1e-3 * p.grad / (p.grad.norm() + 1e-6) * p.norm()
        assert losses[1] < losses[0]
