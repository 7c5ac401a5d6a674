"""One step of every training gives the loss, the gradient and the step that it gave before the trainer was rebuilt.

The figures were recorded with the old trainer on the inputs of `fixed`. In bfloat16 products differ from one kind of
processor to the next, so there the bounds are wide.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gf_core.train.batch import ClipBatch, RecacheTable, ScheduleTable
from gf_core.train.objectives import Precision
from gf_core.train.optim import Muon, adamw, split_parameters
from gf_core.train.recipes.codec import CodecPlan, Meaning, Reconstruction, split_kernels
from gf_core.train.recipes.codec_data import Batch
from gf_core.train.recipes.reader import Reading
from gf_core.train.recipes.reader_data import Windows
from gf_core.train.recipes.video import BUILTIN_SPEC, STUDENT, TEACHER, VideoNet, objective_of
from gf_core.vae.builtin import BuiltinCodec
from gf_core.world.reader import Reader

HERE = Path(__file__).parent
RECORDED = json.loads((HERE.parent / "fixtures" / "train" / "losses.json").read_text())
spec = importlib.util.spec_from_file_location("fixed", HERE / "fixed.py")
assert spec is not None and spec.loader is not None
fixed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixed)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def precision(name: str) -> Precision:
    return Precision(dtype=DTYPES[name])


def table() -> ScheduleTable:
    tables = {name: torch.tensor(value) for name, value in RECORDED["tables"].items() if name != "recache"}
    recache = {name: torch.tensor(value) for name, value in RECORDED["tables"]["recache"].items()}
    return ScheduleTable(**tables, recache=RecacheTable(**recache))


def norm(tensors) -> float:
    return torch.stack([t.norm() for t in tensors]).norm().item()


def compare(case: str, name: str, loss, groups: dict[str, list[nn.Parameter]], optimisers) -> None:
    """Against the recorded loss and its parts, the gradient's norm and the length of the step, per group."""
    old, bound = RECORDED[name][case], 1e-6 if name == "float32" else 3e-3
    loss.total.backward()
    assert loss.total.item() == pytest.approx(old["loss"], rel=bound)
    assert {k: v.item() for k, v in loss.parts.items()} == pytest.approx(old["parts"], rel=bound)
    gradients = {k: norm([p.grad for p in ps if p.grad is not None]) for k, ps in groups.items()}
    assert gradients == pytest.approx(
        old["gradient"], rel=max(bound, 1e-5) * (1 if name == "float32" else 10)
    )
    before = {k: [p.detach().clone() for p in ps] for k, ps in groups.items()}
    for optimiser in optimisers:
        optimiser.step()
    moved = {k: norm([p.detach() - b for p, b in zip(ps, before[k])]) for k, ps in groups.items()}
    assert moved == pytest.approx(old["moved"], rel=3e-3)  # Muon orthogonalises in bfloat16


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize(("case", "half"), [("codec", False), ("codec half size", True)])
def test_codec(case, half, name):
    codec, meaning = BuiltinCodec(), Meaning(16)
    fixed.fill(codec.named_parameters())
    fixed.fill(meaning.named_parameters(), "meaning ")
    torch.manual_seed(3)
    loss = Reconstruction(codec, meaning, CodecPlan(), precision(name))(Batch(**fixed.pictures(), half=half))
    kernels, rest = split_kernels(codec)
    rest += list(meaning.parameters())
    optimisers = [Muon(kernels, 1.5e-3, decay=0.0, conv=True), adamw(rest, 1.5e-3)]
    compare(case, name, loss, {"kernels": kernels, "rest": rest}, optimisers)


def net(salt: str = "") -> VideoNet:
    video = VideoNet()
    old_names = {"net.model.": "model.", "net.text.": "text.", "heads.read.": "attributes."}

    def named():
        for name, p in video.named_parameters():
            start = next(start for start in old_names if name.startswith(start))
            yield old_names[start] + name.removeprefix(start), p

    fixed.fill(named(), salt)
    return video


SLOW = ("student", "bfloat16")


@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, marks=pytest.mark.slow if (case, name) == SLOW else ())
        for case in ("teacher", "student")
        for name in DTYPES
    ],
)
def test_video(case, name):
    student = case == "student"
    plan = replace(STUDENT, guess=1.0) if student else replace(TEACHER, draws=2)
    video, teacher = net(), net("teacher ").requires_grad_(False) if student else None
    torch.manual_seed(3)
    loss = objective_of(video, plan, precision(name), teacher)(ClipBatch(**fixed.clips(), schedule=table()))
    hidden, rest = split_parameters(video)
    optimisers = [Muon(hidden, 0.02), adamw(rest, 1.5e-3)]
    compare(case, name, loss, {"hidden": hidden, "rest": rest}, optimisers)


@pytest.mark.parametrize("name", DTYPES)
def test_reader(name):
    reader = Reader()
    fixed.fill(reader.named_parameters())
    loss = Reading(reader, torch.Generator().manual_seed(3), precision(name))(Windows(**fixed.windows()))
    params = list(reader.parameters())
    compare("reader", name, loss, {"all": params}, [adamw(params, 2.5e-3, decay=0.02)])


def to(device: str, value) -> Any:
    """Tensors and tables of them on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, (ScheduleTable, RecacheTable)):
        return type(value)(**{name: to(device, part) for name, part in vars(value).items()})
    return value


@pytest.mark.parametrize("case", ["teacher", "student", "codec"])
def test_a_step_stays_on_its_device_and_never_waits(case, monkeypatch):
    """On the meta device a tensor from elsewhere is refused, and so is everything that asks for a value."""
    place = Precision(torch.device("meta"), torch.float32)
    if case == "codec":
        codec, meaning = BuiltinCodec().to("meta"), Meaning(16).to("meta")
        objective, params = Reconstruction(codec, meaning, CodecPlan(), place), list(codec.parameters())
        batch: Any = Batch(**{name: to("meta", value) for name, value in fixed.pictures().items()}, half=True)
    else:
        spec = replace(BUILTIN_SPEC, num_layers=2)
        video, teacher = (VideoNet(spec).to("meta") for _ in range(2))
        objective = objective_of(
            video, replace(STUDENT, guess=1.0), place, teacher if case == "student" else None
        )
        params = list(video.parameters())
        inputs = {**fixed.clips(), "schedule": table()}
        batch = ClipBatch(**{name: to("meta", value) for name, value in inputs.items()})
    loss = objective(batch)
    loss.total.backward()
    grads = [p for p in params if p.grad is not None]
    nn.utils.clip_grad_norm_(grads, 1.0)
    Muon([p for p in grads if p.ndim in (2, 4)], 0.02, conv=case == "codec").step()
    assert all(value.device.type == "meta" for value in [loss.total, *loss.parts.values()])
