"""Recorded runs of public reference code, replayed through our code to the recorded tolerance."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dev.parity import rollouts  # noqa: E402
from dev.parity.case import Case, Refusal  # noqa: E402
from dev.parity.compare import compare, difference  # noqa: E402
from dev.parity.methods import memory_spec  # noqa: E402
from dev.parity.prompts import prompts_of  # noqa: E402
from dev.parity.replay import replay  # noqa: E402
from gf_core.sampling.director import Director  # noqa: E402

GOLDEN = ROOT / "tests" / "fixtures" / "golden"
MORE = [Path(folder) for folder in os.environ.get("GROUNDED_RECORDINGS", "").split(os.pathsep) if folder]
"""Folders of further recordings, which are too large to lie here."""
CASES = sorted(path for folder in (GOLDEN, *MORE) for path in folder.glob("*.safetensors"))


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
    import gf_core.memory.store as cache

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
    path = tmp_path / "other.safetensors"
    save_file({"in.x": torch.zeros(1)}, path)
    path.with_suffix(".json").write_text(
        '{"case": "something else", "upstream": {"repo": "a/b"}, "rollout": {}}'
    )
    with pytest.raises(Refusal, match="something else"):
        replay(path)


class Described(Case):
    """A case that says how it was recorded and holds no weights."""

    def __init__(self, doc, **inputs):
        self.doc, self.inputs = doc, inputs


@pytest.mark.parametrize(
    "name",
    [
        "dummy_two_chunks",
        "infinity_early_flush_no_sink",
        "krea_moving_prompt",
        "longlive_sink_over_chunk",
        "memrope_sink_over_chunk",
        "reward_sink_over_chunk",
    ],
)
def test_what_only_the_published_code_does_is_noticed(name, tmp_path, monkeypatch):
    """Without what is laid over our memory these recordings differ."""
    monkeypatch.setattr(rollouts, "director_of", lambda case: Director)
    path = GOLDEN / f"{name}.safetensors"
    case = replay(path)
    case.save(tmp_path / "got.safetensors")
    assert any(family.failures for family in compare(tmp_path / "got.safetensors", path).values())


def test_a_window_smaller_than_a_chunk_is_refused_in_words():
    case = Described(
        {
            "model": {},
            "upstream": {"repo": "guandeh17/Self-Forcing"},
            "calls": [],
            "rollout": {"sink_frames": 1, "kv_cache_frames": 2},
        }
    )
    case.doc["calls"] = [{"kind": "denoise", "current_start_frame": 0, "frames": 3}]
    with pytest.raises(Refusal, match="a window of 2 frames cannot hold 3"):
        memory_spec(case)


@pytest.mark.parametrize(
    ("told", "frames"),
    [([2], [4]), ([{"block": 3}], [6]), ([[1, "p1"], [4, "p2"]], [2, 8]), ([{"start_frame": 5}], [5])],
)
def test_switches_are_found_however_they_are_told(told, frames):
    case = Described(
        {"rollout": {"batch": 1, "frames_per_block": [2] * 5, "prompt_switches": told}},
        prompt_embeds=torch.zeros(len(told) + 1, 3, 4),
    )
    prompts, switches = prompts_of(case)
    assert len(prompts) == len(told) + 1 and [switch.frame for switch in switches] == frames


def damaged(case_path, folder, change):
    """A copy of a case whose tensors (name to tensor) and JSON (a dict) `change` has altered."""
    tensors, document = load_file(case_path), json.loads(case_path.with_suffix(".json").read_text())
    change(tensors, document)
    path = folder / "damaged.safetensors"
    save_file(tensors, path)
    path.with_suffix(".json").write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda t, d: t.pop("in.noise"),
        lambda t, d: t.pop("in.renoise.block1.step0"),
        lambda t, d: t.pop("weights.head.modulation"),
        lambda t, d: t.update({"in.noise": t["in.noise"][..., :3].clone()}),
        lambda t, d: t.update({"in.prompt_embeds": t["in.prompt_embeds"][..., :3].clone()}),
        lambda t, d: d["model"].pop("dim"),
        lambda t, d: d["model"].update(dim=81),
        lambda t, d: d["rollout"].pop("denoising_step_list"),
        lambda t, d: d["rollout"].update(denoising_step_list=[]),
        lambda t, d: d["rollout"].update(denoising_step_list=[1000.5]),
        lambda t, d: d["rollout"].update(latent_hw=[5, 7]),
        lambda t, d: d["rollout"].update(kv_cache_frames=2),
        lambda t, d: d.update(calls=[]),
        lambda t, d: d.update(calls=None),
        lambda t, d: d.update(rollout=None),
        lambda t, d: d.update(tensors=[1, 2]),
        lambda t, d: [call.update(current_start_frame=1) for call in d["calls"]],
    ],
)
def test_a_damaged_case_is_refused_in_words(tmp_path, change):
    path = damaged(GOLDEN / "case10a_reward_forcing_w9_s3.safetensors", tmp_path, change)
    with pytest.raises(Refusal) as caught:
        replay(path)
    assert str(caught.value)


def test_files_that_are_no_case_are_refused_in_words(tmp_path):
    path = tmp_path / "case.safetensors"
    with pytest.raises(Refusal, match="needs its JSON beside it"):
        replay(path)
    path.write_bytes(b"\x00" * 20)
    sidecar = path.with_suffix(".json")
    for text, said in (("{", "no JSON"), ("[]", "no JSON object"), ("{}", "damaged")):
        sidecar.write_text(text)
        with pytest.raises(Refusal, match=said):
            replay(path)
