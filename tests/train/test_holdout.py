"""The gap between seen and fresh clips: repeatable, and there when a net knows its clips by heart."""

from dataclasses import replace

import pytest
import torch
from gf_core.training import clips
from gf_core.training.clips import write_shards
from gf_core.training.holdout import flow_losses, gap
from gf_core.training.video import Objective, VideoNet, per_frame
from safetensors.torch import load_file

from gf_core.vae.builtin import BuiltinCodec, save_codec


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("holdout")
    save_codec(BuiltinCodec(), root / "codec.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "SHARD", 3)
        for name, seed in (("seen", 1), ("fresh", 2)):
            write_shards(root / "codec.safetensors", root / name, clips=3, chunks=4, seed=seed)
        yield root / "seen", root / "fresh"


def test_the_same_clips_give_the_same_losses(folders):
    net = VideoNet()
    first, again, other = (
        flow_losses(net, folder, 2, chunks=4, forget=0.5) for folder in (folders[0], folders[0], folders[1])
    )
    assert first == again and first != other


def test_a_net_that_knows_its_clips_by_heart_shows_a_gap(folders, monkeypatch):
    """A net that answers with the nearest clip it was shown has no loss on those, and one on others."""
    seen, fresh = folders
    shown = load_file(next(seen.iterdir()))["latents"].float()
    run = Objective._run

    def by_heart(net, batch, context, noisy, sigma, drop):
        nearest = torch.cdist(batch.latents.flatten(1), shown.flatten(1)).argmin(1)
        level = per_frame(sigma, 3)
        out = run(net, batch, context, noisy, sigma, drop)
        return replace(out, flow=(noisy - shown[nearest, None]) / level)

    monkeypatch.setattr(Objective, "_run", staticmethod(by_heart))
    for line in gap(VideoNet(), seen, fresh, batches=2, chunks=4):
        words = line.split()
        assert float(words[words.index("seen") + 1]) < 1e-6
        assert float(words[words.index("fresh") + 1]) > 0.1
