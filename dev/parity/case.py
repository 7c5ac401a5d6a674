"""A recorded case: tensors and JSON of one file of golden vectors, and what a replay of it has produced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gf_core.config import ModelSpec
from gf_core.model.wan import WanModel


class Refusal(Exception):
    """This kind of case cannot be replayed; the message says why."""


class Case:
    """Inputs and weights of `<name>.safetensors` with its JSON beside it; recorded outputs are never read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        sidecar = path.with_suffix(".json")
        if not path.is_file() or not sidecar.is_file():
            raise Refusal(f"{path} needs its JSON beside it ({sidecar.name})")
        self.doc: dict[str, Any] = _document(sidecar)
        self.inputs: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}
        shapes: dict[str, dict[str, list[int]]] = {}
        """Of recorded outputs, for documents that list no tensors."""
        try:
            with safe_open(path, "pt") as file:
                for name in sorted(file.keys()):
                    if name.startswith("in."):
                        self.inputs[name.removeprefix("in.")] = file.get_tensor(name)
                    elif name.startswith("weights."):
                        self.weights[name.removeprefix("weights.")] = file.get_tensor(name)
                    elif name.startswith("out."):
                        shapes[name] = {"shape": file.get_slice(name).get_shape()}
        except SafetensorError as error:
            raise Refusal(f"{path.name} is damaged: {error}") from error
        recorded = self.doc.get("tensors", shapes)
        try:
            self.wanted: dict[str, list[int]] = {
                n: t["shape"] for n, t in recorded.items() if n.startswith("out.")
            }
        except (AttributeError, KeyError, TypeError) as error:
            raise Refusal(f"{sidecar.name}: `tensors` lists names with a shape each") from error
        self.got: dict[str, Tensor] = {}

    def give(self, name: str, value: Tensor | None) -> None:
        """Record an output as `out.<name>` if there is one and the case asks for it."""
        if value is not None and (not self.wanted or f"out.{name}" in self.wanted):
            self.got[f"out.{name}"] = value.detach().clone().contiguous()

    def shape(self, name: str) -> list[int] | None:
        """Recorded shape of `out.<name>`."""
        return self.wanted.get(f"out.{name}")

    def missing(self) -> list[str]:
        """Names that the case asks for and the replay has not given."""
        return sorted(set(self.wanted) - set(self.got))

    def save(self, path: Path) -> None:
        """Write everything given so far."""
        save_file(self.got, str(path))

    def model_spec(self) -> ModelSpec:
        """Shape of the recorded transformer."""
        fields = self.doc["model"]
        names = (
            "dim", "ffn_dim", "num_heads", "num_layers", "in_dim", "out_dim", "text_len", "text_dim", "freq_dim", "eps"
        )  # fmt: skip
        return ModelSpec(**{n: fields[n] for n in names}, patch_size=tuple(fields["patch_size"]))

    def model(self, weights: dict[str, Tensor] | None = None) -> WanModel:
        """The recorded transformer, from the case's weights unless others are given."""
        model = WanModel(self.model_spec())
        model.load_state_dict(self.weights if weights is None else weights, strict=True)
        return model.eval().requires_grad_(False)


def _document(sidecar: Path) -> dict[str, Any]:
    try:
        document = json.loads(sidecar.read_text("utf-8"))
    except ValueError as error:
        raise Refusal(f"{sidecar.name} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refusal(f"{sidecar.name} is no JSON object")
    return document


def float_scalars(values: list[float]) -> Tensor:
    """A float32 vector."""
    return torch.tensor(values, dtype=torch.float32)
