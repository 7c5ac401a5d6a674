"""Replay of one set of weights under the names of three code bases."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dev.parity.case import Case, Refusal
from gf_core.checkpoints.keymaps import diffusers_to_original, rename
from gf_core.model.bidirectional import bidirectional_flow
from gf_core.model.wan import WanModel


def serves(case: Case) -> bool:
    """Whether the case records the same transformer under other names."""
    return "rename_wan_to_diffusers" in case.doc and "num_layers" in case.doc.get("model", {})


def _companion(case: Case) -> Case:
    """The case whose weights and inputs this one shares; its JSON names it."""
    named = re.findall(r"case\w+", str(case.doc.get("weights", "")))
    paths = [case.path.with_name(f"{name}.safetensors") for name in named]
    path = next(
        (p for p in [*paths, *sorted(case.path.parent.glob("case1_*.safetensors"))] if p.is_file()), None
    )
    if path is None:
        raise Refusal("the case with the shared weights is not in the folder")
    return Case(path)


def replay(case: Case) -> None:
    """Give every recorded call under original (ComfyUI) and diffusers names, read through the key maps."""
    shared = _companion(case)
    as_diffusers = {n.removeprefix("diffusers."): t for n, t in case.weights.items()}
    sources = {
        "comfy": case.model(shared.weights),
        "diffusers": case.model(rename(as_diffusers, diffusers_to_original)),
    }
    for base, model in sources.items():
        prefix = f"out.{base}."
        for name in [n.removeprefix(prefix) for n in case.wanted if n.startswith(prefix)]:
            case.give(f"{base}.{name}", _call(case, shared, model, name))


def _call(case: Case, shared: Case, model: WanModel, name: str) -> Tensor:
    """One recorded call, by its name and the JSON's note on it; returns [c f h w]."""
    spec = case.model_spec()
    notes = case.doc["calls"]
    # A variation of the first call unless it says otherwise.
    said = re.findall(r"t=(\d+(?:\.\d+)?)", f"{notes.get(name, '')} {notes['a_short_ctx']}")
    prompt = shared.inputs["ctx_full" if "full" in name else "ctx_short"]
    x = case.inputs["x_odd"] if "odd" in name else shared.inputs["x"]
    timesteps = torch.tensor([[float(said[0])]])
    if name.startswith("per_"):
        timesteps = case.inputs["t_per_frame"][None]
    if "unpadded" in name:
        spec = replace(spec, text_len=len(prompt))
    height, width = x.shape[-2:]
    # ComfyUI fills odd sizes up to whole patches by wrapping round.
    padded = F.pad(x[None], (0, width % 2, 0, height % 2, 0, 0), mode="circular")
    flow = bidirectional_flow(model, spec, padded.transpose(1, 2), timesteps, prompt[None])
    return flow[0, :, :, :height, :width].transpose(0, 1)
