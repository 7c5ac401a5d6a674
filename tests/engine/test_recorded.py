"""Reading back how a film was made: what another version wrote is said."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from gf_core.config import MemorySpec, SampleSpec, VideoSpec
from gf_core.engine import recorded
from gf_core.errors import TakeError


@pytest.mark.parametrize(
    ("change", "said"),
    [({}, None), ({"rings": 3}, "newer version, with unknown rings"), ({"anchors": "3"}, "newer version")],
)
def test_settings_of_a_newer_version_are_named(monkeypatch, change, said):
    settings = {
        "model": {"name": "builtin", "fingerprint": "f"},
        "machine": {"dtype": "float32", "device": "cpu"},
        "memory": asdict(MemorySpec(anchors=2)) | change,
        "sample": asdict(SampleSpec(steps=(1000, 500))),
        "video": asdict(VideoSpec(32, 32)),
        "film": {},
    }
    whole = json.dumps({"settings": settings, "start_image": False})
    monkeypatch.setattr(recorded, "read_metadata", lambda path: {"grounded": whole, "timeline": "a fox | 1s"})
    if said is None:
        assert recorded.read_recorded("a.mp4").recipe.sample == SampleSpec(steps=(1000, 500))
        return
    with pytest.raises(TakeError, match=said):
        recorded.read_recorded("a.mp4")
