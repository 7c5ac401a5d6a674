"""What a recorded rollout was made with, as settings of our memory and sampler: one row per code base.

A row is a function (plain settings, case) -> what differs from a frozen sink and a window of recent frames. What only
the recorded code does, and no method asks for (docs/method.md), is refused in words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dev.parity.case import Case, Refusal
from gf_core.config import MemorySpec, SampleSpec

Row = Callable[[dict[str, Any], Case], dict[str, Any]]
"""(settings of sink and window, case) -> settings that differ."""


def repo(case: Case) -> str:
    """owner/name of the recorded code; "" for an oracle."""
    upstream = case.doc.get("upstream")
    named = upstream.get("repo") if isinstance(upstream, dict) else None
    return named.split()[0] if isinstance(named, str) and named else ""


def calls(case: Case) -> list[dict[str, Any]]:
    """Every network call, in order, at its frame in the film; where blocks are told only, the first of each."""
    found = [call if "kind" in call else _first_call(call) for call in case.doc["calls"]]
    if repo(case) != KREA:
        return found
    sizes = case.doc["rollout"]["frames_per_block"]
    return [{**call, "current_start_frame": sum(sizes[: call["block"]])} for call in found]


def _first_call(block: dict[str, Any]) -> dict[str, Any]:
    frames = block["frames"]
    return {**block, "kind": "denoise", "step": 0, "current_start_frame": frames[0], "frames": len(frames)}


def sample_spec(case: Case) -> SampleSpec:
    """The recorded steps; Krea's are told as the timesteps they come to."""
    options = case.doc["rollout"]
    steps = options["denoising_step_list" if "denoising_step_list" in options else "timesteps"]
    return SampleSpec(
        steps=tuple(steps),
        first_steps=tuple(options.get("denoising_step_list_first_block") or ()) or None,
        warp=options.get("warp", False),
        shift=options["shift"],
        context_timestep=float(options.get("context_noise", 0)),
    )


def spans(case: Case) -> list[tuple[int, int]]:
    """First frame and number of frames of every call but recaches."""
    return [
        (c["current_start_frame"], c["frames"]) for c in calls(case) if c["kind"] in ("denoise", "context")
    ]


def _self_forcing(base: dict[str, Any], case: Case) -> dict[str, Any]:
    return {"positions": "absolute", "max_position": None}


def _longlive(base: dict[str, Any], case: Case) -> dict[str, Any]:
    found = {"positions": "relative" if relative(case) else "absolute", "max_position": None}
    if any(call["kind"] == "recache" for call in case.doc["calls"]):
        found |= {"switch": "recache", "recache_before_evict": True}
        found["recache_keeps_anchors"] = bool(case.doc["rollout"].get("global_sink", True))
    return found


def relative(case: Case) -> bool:
    """Whether a LongLive case was recorded with cache-relative positions."""
    options = {**case.doc["model"], **case.doc["rollout"]}
    named = any(("infinite" in k or "relative" in k) and v and v != "absolute" for k, v in options.items())
    said = any("relative" in v.lower() for v in options.values() if isinstance(v, str))
    said = said or "infinity" in case.doc["upstream"].get("entry", "")
    return named or said or "without rope" in " ".join(map(str, case.doc.get("layout", {}).values())).lower()


def _infinity(base: dict[str, Any], case: Case) -> dict[str, Any]:
    rollout = case.doc["rollout"]
    boundaries = rollout.get("scene_boundaries", [])
    if any(boundary.get("rope_cut") and not boundary.get("flush") for boundary in boundaries):
        raise Refusal("a cut without a flush is not supported")
    flushes = any(boundary.get("flush") for boundary in boundaries)
    return {
        "max_position": None,
        "switch": "flush" if flushes else "cross_only",
        "cut_position": rollout.get("rope_cut_start_frame") if flushes else None,
    }


def _reward(base: dict[str, Any], case: Case) -> dict[str, Any]:
    alpha = case.doc["rollout"].get("sink_ema_alpha")
    found: dict[str, Any] = {"max_position": None}
    if alpha is not None:
        found |= {"anchor_policy": "ema", "ema_keep": alpha, "anchor_update": "every_chunk"}
    return found


def _self_gradient(base: dict[str, Any], case: Case) -> dict[str, Any]:
    rollout = case.doc["rollout"]
    mode = {"top_aligned": "top_aligned", "contiguous": "relative"}[rollout["position_mode"]]
    return {"positions": mode, "max_position": rollout["train_frames"] - 1}


def _context_forcing(base: dict[str, Any], case: Case) -> dict[str, Any]:
    rollout = case.doc["rollout"]
    if rollout.get("promoted_frame_of_chunk", 0):
        raise Refusal("only the first frame of a chunk can be kept")
    return {
        "recent": rollout["fast_frames_including_current"] - base["chunk"],
        "positions": "top_aligned",
        "max_position": rollout["top_position"],
        "bank": rollout["slow_frames"],
        "bank_below": rollout["tau"],
        "bank_every": rollout["consolidation_period_chunks"],
        "bank_from": rollout["consolidation_first_frame"],
    }


def _memrope(base: dict[str, Any], case: Case) -> dict[str, Any]:
    rollout = case.doc["rollout"]
    return {
        "recent": rollout["recent_frames"],
        "max_position": None,
        "bank": rollout["memory_frames"],
        "bank_policy": "adaptive" if rollout["ema_adaptive"] else "means",
        "bank_shares": (rollout["ema_alpha_long"], rollout["ema_alpha_short"]),
    }


def _krea(base: dict[str, Any], case: Case) -> dict[str, Any]:
    return {
        "anchors": 1,
        "recent": case.doc["rollout"]["context_frames"] - 1,
        "max_position": None,
        "refresh": True,
    }


def _forcing_kv(base: dict[str, Any], case: Case) -> dict[str, Any]:
    rollout = case.doc["rollout"]
    if rollout["context_noise"]:
        raise Refusal("the recorded code writes no memory unless the context timestep is 0")
    sink, narrow, wide = (rollout[f"{n}_frames"] for n in ("sink", "static_recent", "dynamic_recent"))
    picks, chunk = rollout["dynamic_temporal_enabled"], base["chunk"]
    runs = round(chunk * rollout["num_frame_patch"] * rollout["sim_retention_ratio"]) if picks else 0
    static, dynamic = (sink, narrow), (sink, wide, runs) if runs else (sink, wide)
    before, heads = (sink, max(narrow, wide)), range(case.doc["model"]["num_heads"])
    table: list[list[tuple[int, ...]]] = [[before for _ in heads]]  # the first layer is never split
    table += [
        [static if head in row["static"] else dynamic for head in heads] for row in rollout["head_table"][1:]
    ]
    return {
        "anchors": sink,
        "recent": max(narrow, wide + chunk if runs else wide),
        "heads_before": before,
        "heads_runs": rollout["num_frame_patch"] if runs else 1,
        "positions": "absolute",
        "max_position": None,
        "heads": tuple(map(tuple, table)),
        "heads_from": rollout["switch_after_block"] + 1,
    }


def _dummy_forcing(base: dict[str, Any], case: Case) -> dict[str, Any]:
    rollout, heads = case.doc["rollout"], case.doc["model"]["num_heads"]
    recent = rollout["local_context_chunks"] * base["chunk"]
    sees = {"first": (1, 0), "last": (0, 1), "mid": (0, recent)}
    table = [
        tuple(next(sees[name] for name in sees if head in row[name]) for head in range(heads))
        for row in rollout["head_groups"]
    ]
    return {
        "anchors": 1,
        "recent": recent,
        "positions": "absolute",
        "max_position": None,
        "heads": tuple(table),
        "heads_from": rollout["switch_after_block"] + 1,
    }


CONTEXT_FORCING = ""
"""An oracle, written from the paper."""
KREA = "krea-ai/realtime-video"
FORCING_KV = "zju-jiyicheng/Forcing-KV"
DUMMY_FORCING = "csguoh/DummyForcing"
INFINITY = "yesiltepe-hidir/infinity-rope"
LONGLIVE = "NVlabs/LongLive"
MEMROPE = "YoungRaeKimm/MemRoPE"
REWARD_FORCING = "JaydenLyh/Reward-Forcing"

ROWS: dict[str, Row] = {
    "guandeh17/Self-Forcing": _self_forcing,
    "thu-ml/Causal-Forcing": _self_forcing,
    LONGLIVE: _longlive,
    INFINITY: _infinity,
    REWARD_FORCING: _reward,
    CONTEXT_FORCING: _context_forcing,
    KREA: _krea,
    FORCING_KV: _forcing_kv,
    DUMMY_FORCING: _dummy_forcing,
    MEMROPE: _memrope,
    "zhuang2002/Self_Gradient_Forcing": _self_gradient,
    "Zihan-Su/Self_Gradient_Forcing_Plus": _self_gradient,
}


def memory_spec(case: Case) -> MemorySpec:
    """The recorded method as settings of our memory."""
    rollout: dict[str, Any] = case.doc["rollout"]
    chunk = max(frames for _, frames in spans(case))
    sink = rollout.get("sink_frames", 0)
    window = rollout.get("kv_cache_frames", sink + chunk)
    film = max(start + frames for start, frames in spans(case))
    if 0 < rollout.get("max_attention_frames", window) < min(window, film):
        raise Refusal(
            f"attention over {rollout['max_attention_frames']} of {window} cached frames is not supported"
        )
    if window < chunk:
        raise Refusal(f"a window of {window} frames cannot hold {chunk} current frames")
    sink = min(sink, window - chunk)  # the slots that are left are written anew by every block
    base: dict[str, Any] = {
        "anchors": sink,
        "recent": window - sink - chunk,
        "chunk": chunk,
        "anchor_policy": "frozen",
        "anchor_update": "never",
        "anchor_index": "slot",
        "switch": "cross_only",
    }
    return MemorySpec(**{**base, **ROWS[repo(case)](base, case)})
