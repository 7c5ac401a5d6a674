"""The gap between seen and fresh clips: repeatable, and there when a net knows its clips by heart."""

from dataclasses import replace

import pytest
import torch

from gf_core.errors import GroundedError
from gf_core.train.context import ContextNet
from gf_core.train.data import read_shard
from gf_core.train.objectives.flow import per_frame
from gf_core.train.recipes import clips
from gf_core.train.recipes.clips import write_clips
from gf_core.train.recipes.holdout import flow_losses, gap
from gf_core.train.recipes.video import BUILTIN_SPEC, VideoNet
from gf_core.vae.builtin import BuiltinCodec


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    root, codec = tmp_path_factory.mktemp("holdout"), BuiltinCodec()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "SHARD", 3)
        for name, maker in (("seen", 1), ("fresh", 2)):
            write_clips(codec, root / name, clips=3, maker=maker, chunks=4)
    return root / "seen", root / "fresh"


def net() -> VideoNet:
    """A layer is enough: what it says is compared, or not asked."""
    return VideoNet(replace(BUILTIN_SPEC, num_layers=1))


def test_the_same_clips_give_the_same_losses(folders):
    video = net()
    first, again, other = (
        flow_losses(video, folder, 2, forget=0.5) for folder in (folders[0], folders[0], folders[1])
    )
    assert first == again and first != other


def test_clips_that_cannot_be_listed_are_not_none(folders, unlisted):
    unlisted(folders[1])
    with pytest.raises(GroundedError, match="fresh cannot be listed: Input/output error"):
        flow_losses(net(), folders[1], 1, forget=0.5)


def test_a_net_that_knows_its_clips_by_heart_shows_a_gap(folders, monkeypatch):
    """A net that answers with the nearest clip it was shown has no loss on those, and one on others."""
    seen, fresh = folders
    shown = read_shard(next(seen.iterdir()))[1]["latents"].float()
    forward = ContextNet.forward

    def by_heart(net, batch, context, noisy, sigma, drop):
        nearest = torch.cdist(batch.latents.flatten(1), shown.flatten(1)).argmin(1)
        out = forward(net, batch, context, noisy, sigma, drop)
        return replace(out, flow=(noisy - shown[nearest, None]) / per_frame(sigma, 3))

    monkeypatch.setattr(ContextNet, "forward", by_heart)
    for line in gap(net(), seen, fresh, batches=2):
        words = line.split()
        assert float(words[words.index("seen") + 1]) < 1e-6
        assert float(words[words.index("fresh") + 1]) > 0.1
