"""Recorded runs of public reference code, replayed through our code to the recorded tolerance."""

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dev.parity.case import Refusal  # noqa: E402
from dev.parity.compare import compare, difference  # noqa: E402
from dev.parity.replay import replay  # noqa: E402
from dev.parity.rollouts import memory_spec  # noqa: E402

GOLDEN = ROOT / "tests" / "fixtures" / "golden"
CASES = sorted(GOLDEN.glob("*.safetensors"))


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_replay_agrees(path, tmp_path):
    case = replay(path)
    assert not case.missing()
    got = tmp_path / "got.safetensors"
    case.save(got)
    families = compare(got, path)
    assert families and not [f for family in families.values() for f in family.failures]


def test_a_key_one_frame_off_is_noticed(tmp_path, monkeypatch):
    """The recorded tolerance must be able to fail: past keys placed one frame late."""
    import gf_core.memory.cache as cache

    right = cache.positions
    monkeypatch.setattr(
        cache,
        "positions",
        lambda spec, layout, frames: tuple(
            at + (slot < layout.past) for slot, at in enumerate(right(spec, layout, frames))
        ),
    )
    path = GOLDEN / "case3b_self_forcing_rolling_w9_s3.safetensors"
    case = replay(path)
    case.save(tmp_path / "got.safetensors")
    families = compare(tmp_path / "got.safetensors", path)
    assert families["out.latents"].worst > 0.1


def test_comparison_refuses_nan_and_other_shapes():
    want = torch.zeros(3)
    assert difference(torch.tensor([0.0, float("nan"), 0.0]), want, "x") == float("inf")
    assert difference(torch.zeros(1), want, "x") == float("inf")
    assert difference(torch.full((3,), 0.25), want, "x") == 0.25


def test_missing_output_is_a_failure(tmp_path):
    path = GOLDEN / "case7_flow_schedule.safetensors"
    case = replay(path)
    del case.got["out.shift5.sigmas"]
    case.save(tmp_path / "got.safetensors")
    families = compare(tmp_path / "got.safetensors", path)
    assert families["out.shift#.sigmas"].failures == ["out.shift5.sigmas: missing"]


def test_unknown_kind_is_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"in.x": torch.zeros(1)}, path)
    path.with_suffix(".json").write_text(
        '{"case": "something else", "upstream": {"repo": "a/b"}, "rollout": {}}'
    )
    with pytest.raises(Refusal, match="something else"):
        replay(path)


class Described:
    """A case that says how it was recorded and holds no tensors."""

    def __init__(self, doc):
        self.doc = doc


@pytest.mark.parametrize(
    ("repo", "window", "sink", "frames", "said"),
    [
        ("NVlabs/LongLive", 8, 4, 3, "attends to 4 sink frames when its first call has filled 3"),
        ("JaydenLyh/Reward-Forcing", 9, 3, 2, "attends to 3 sink frames when its first call has filled 2"),
        ("yesiltepe-hidir/infinity-rope", 7, 1, 3, "places queries and keys differently"),
        ("yesiltepe-hidir/infinity-rope", 6, 0, 3, "leaves its oldest key unrotated"),
    ],
)
def test_what_only_the_recorded_code_does_is_refused_in_words(repo, window, sink, frames, said):
    calls = [{"kind": "denoise", "current_start_frame": n * frames, "frames": frames} for n in range(5)]
    rollout = {"sink_frames": sink, "kv_cache_frames": window}
    case = Described({"model": {}, "upstream": {"repo": repo}, "rollout": rollout, "calls": calls})
    with pytest.raises(Refusal, match=said):
        memory_spec(case)
