"""Replay of single network calls: bidirectional Wan, and the same weights under other code bases' names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dev.parity.case import Case
from gf_core.config import ModelSpec
from gf_core.model import layers
from gf_core.model.bidirectional import Bidirectional, bidirectional_flow
from gf_core.model.forward import text_kv
from gf_core.rope import rotate, turns


def serves_bidirectional(case: Case) -> bool:
    """Whether the case lists independent calls with their own inputs and outputs."""
    calls = case.doc.get("calls")
    return isinstance(calls, list) and bool(calls) and "out" in calls[0] and "rollout" not in case.doc


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def replay_bidirectional(case: Case) -> None:
    """Run every recorded call, sample by sample (padding tokens of a common batch change nothing)."""
    model, spec = case.model(), case.model_spec()
    for call in case.doc["calls"]:
        outs, xs, contexts = (_listed(call[name]) for name in ("out", "x", "context"))
        for out, x, t, context in zip(outs, xs, call["t"], contexts):
            latents = case.inputs[x.removeprefix("in.")].transpose(0, 1)[None]  # 1 f c h w
            prompt = case.inputs[context.removeprefix("in.")][None]
            with torch.no_grad():
                flow = bidirectional_flow(model, spec, latents, torch.tensor([[t]]), prompt)
            name = out.removeprefix("out.")
            case.give(name, flow[0].transpose(0, 1))
            middle = f"{name.split('_')[0]}_mid"
            if any(wanted.startswith(f"out.{middle}.") for wanted in case.wanted):
                _give_intermediates(case, model, spec, middle, latents, t, prompt)


@torch.no_grad()
def _give_intermediates(
    case: Case, model: layers.Tree, spec: ModelSpec, name: str, latents: Tensor, t: float, prompt: Tensor
) -> None:
    """Give what the modules of one call put out, by walking the same layer calls as the forward."""
    e, e0 = layers.time_conditioning(model, torch.tensor([[t]]), latents.dtype)
    case.give(f"{name}.time_embedding", e[:, 0])
    case.give(f"{name}.time_projection", e0[:, 0].flatten(1))
    case.give(f"{name}.text_embedding", layers.embed_text(model, prompt, spec.text_len))
    case.give(f"{name}.patch_embedding", model.patch_embedding(latents.transpose(1, 2)))
    rows, columns = latents.shape[-2] // spec.patch_size[1], latents.shape[-1] // spec.patch_size[2]
    turn = turns(torch.arange(latents.shape[1]), rows, columns, spec.head_dim)
    padded = torch.nn.functional.pad(prompt, (0, 0, 0, spec.text_len - prompt.shape[1]))
    whole, text = Bidirectional(turn), text_kv(model, padded, spec.text_len)
    x = layers.embed_patches(model, latents.transpose(1, 2))
    captured: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, key=key: captured.__setitem__(key, out))
        for i, block in enumerate(model.blocks)
        for key, module in (
            (f"block{i}.self_attn", block.self_attn.o),
            (f"block{i}.cross_attn", block.cross_attn.o),
            (f"block{i}.cross.q", block.cross_attn.norm_q),
        )
    ]
    try:
        for i, block in enumerate(model.blocks):

            def attend(q: Tensor, raw_k: Tensor, v: Tensor, i: int = i) -> Tensor:
                case.give(f"{name}.block{i}.self.q", rotate(q, turn))
                case.give(f"{name}.block{i}.self.k", rotate(raw_k, turn))
                case.give(f"{name}.block{i}.self.v", v)
                return whole.attend(i, q, raw_k, v)

            x = layers.run_block(block, x, e0, attend, text[i])
            case.give(f"{name}.block{i}", x)
            case.give(f"{name}.block{i}.self_attn", captured[f"block{i}.self_attn"])
            case.give(f"{name}.block{i}.cross_attn", captured[f"block{i}.cross_attn"])
            cross_q = captured[f"block{i}.cross.q"].unflatten(-1, (spec.num_heads, -1))
            for letter, value in (("q", cross_q), ("k", text[i].k), ("v", text[i].v)):
                case.give(f"{name}.block{i}.cross.{letter}", value)
    finally:
        for hook in hooks:
            hook.remove()
