"""Measures what loading a model costs in every form of its weights: seconds, memory at the peak, what is lost.

    python dev/bench/loading.py [--size tiny|1.3B] [--forms bf16,gguf_Q8_0] [--lora 256]

A network with random weights is written into a temporary folder, one form at a time, and loaded in a process of its own
as `grounded render` loads it: identified, checked, hashed, built in bfloat16. `peak` is memory that the system cannot
take back (pages of the mapped file are not counted), beyond what the libraries hold. The most allowed is 1.15 x the
file or the finished model, whichever is larger; what takes more is marked, and the status is 1.
`load` is seconds on the clock, `work` of the processor. `off` is the largest
difference of the network's output from that of the plain form, over its largest number; forms packed at random (their
packing has no packer in Python) have none. `--lora` adds a LoRA of that rank on every matrix. 64 MB
more are allowed, which libraries and allocator take once at any size; `x` is without them.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.bench.forms import FORMS, small
from gf_core.arguments import Parser
from gf_core.checkpoints.identify import identify, require_drivable
from gf_core.checkpoints.load import build_network
from gf_core.checkpoints.lora import open_lora
from gf_core.config import ModelSpec
from gf_core.devices import held_bytes
from gf_core.files.fingerprint import hash_tensors
from gf_core.files.scales import unscaled
from gf_core.model.bidirectional import bidirectional_flow
from gf_core.model.wan import WanModel

SIZES = {"tiny": ModelSpec(dim=512, ffn_dim=2048, num_heads=4, num_layers=8), "1.3B": ModelSpec()}
LARGE = ("bf16", "fp8_scaled", "gguf_Q8_0", "gguf_Q4_K")
"""Forms measured at full size unless others are asked for: each writes up to 3 GB."""
MOST, KEPT = 1.15, 64e6
"""Most of the file or model that may be held, and what libraries and allocator take besides, at any size."""


def wrote(size: str, form: str, folder: Path, rank: int) -> None:
    """Writes the network, in bfloat16 before it is packed, and a LoRA for it."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    state = {name: value.detach() for name, value in WanModel(SIZES[size]).state_dict().items()}
    torch.set_default_dtype(torch.float32)
    path = FORMS[form].write(folder, state)
    lora = {}
    for name, value in state.items() if rank else ():
        if small(name, value):
            module = name.removesuffix(".weight")
            lora[f"{module}.lora_A.weight"] = torch.randn(rank, value.shape[1], dtype=torch.bfloat16) / 64
            lora[f"{module}.lora_B.weight"] = torch.randn(value.shape[0], rank, dtype=torch.bfloat16) / 64
    if lora:
        save_file(lora, folder / "lora.safetensors")
    print(json.dumps(str(path)))


class Peak:
    """The most that this process held while it was open, beyond what it held before."""

    def __enter__(self) -> Peak:
        self.before = self.most = held_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.003):
            self.most = max(self.most, held_bytes())

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()
        self.bytes = max(self.most, held_bytes()) - self.before
        self.left = held_bytes() - self.before


def read(path: Path, lora: Path | None) -> None:
    """Loads it and prints what that took and what the network says."""
    torch.ones(512, 512) @ torch.ones(512, 512)  # the libraries take their own memory now
    with Peak() as peak:
        began, worked = time.perf_counter(), time.process_time()
        item = identify(path, assume="self_forcing")
        require_drivable(item, assumed=True)
        shapes = {name: tensor.shape for name, tensor in item.what.tensors.items()}
        loras = [open_lora(lora, 1.0, shapes)] if lora else []
        assert item.what.spec is not None  # drivable
        tensors = unscaled(item.what.tensors)
        model = build_network(item.what.spec, tensors, loras=loras, dtype=torch.bfloat16)
        loaded, worked = time.perf_counter() - began, time.process_time() - worked
        hash_tensors(item.what.tensors)
        hashed = time.perf_counter() - began - loaded
    chance = torch.Generator().manual_seed(1)
    latents, prompt = (
        torch.randn(shape, generator=chance).bfloat16() for shape in ((1, 2, 16, 4, 4), (1, 7, 4096))
    )
    with torch.no_grad():
        flow = bidirectional_flow(
            model, replace(item.what.spec, text_len=8), latents, torch.tensor([[750.0]]), prompt
        )
    size = sum(part.stat().st_size for part in item.file.parts)
    held = sum(value.nbytes for value in model.state_dict().values())
    told = {"file": size, "model": held, "peak": peak.bytes, "left": peak.left}
    times = {"load": loaded, "work": worked, "hash": hashed}
    print(json.dumps({**told, **times, "flow": flow.float().flatten().tolist()}))


def _child(*words: str) -> Any:
    run = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout.splitlines()[-1])


def measured(size: str, form: str, rank: int) -> dict[str, Any]:
    """Writes, loads and forgets one form."""
    with tempfile.TemporaryDirectory() as place:
        need = 3 * sum(v.numel() for v in _meta(size).values())
        if psutil.disk_usage(place).free < 2 * need or psutil.virtual_memory().available < 3 * need:
            raise SystemExit(
                f"{form} at {size} needs {2 * need / 1e9:.0f} GB of disk, {3 * need / 1e9:.0f} of memory"
            )
        path = _child("--write", place, "--size", size, "--forms", form, "--lora", str(rank))
        lora = Path(place, "lora.safetensors")
        return _child("--read", path, *(["--with", str(lora)] if lora.exists() else []))


def _meta(size: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return WanModel(SIZES[size]).state_dict()


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--forms", default="")
    parser.add_argument("--lora", type=int, default=0)
    for inner in ("--write", "--read", "--with"):
        parser.add_argument(inner, dest=inner.strip("-") + "_", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write_:
        wrote(args.size, args.forms, Path(args.write_), args.lora)
        return 0
    if args.read_:
        read(Path(args.read_), Path(args.with_) if args.with_ else None)
        return 0
    names = args.forms.split(",") if args.forms else list(FORMS) if args.size == "tiny" else list(LARGE)
    plain, over = measured(args.size, "bf16", args.lora), 0
    print(f"{args.size}: {asdict(SIZES[args.size])}")
    print("form              file MB    model     peak     x     left  load s  work s  hash s      off")
    for name in names:
        got = plain if name == "bf16" else measured(args.size, name, args.lora)
        most = (got["peak"] - KEPT) / max(got["file"], got["model"])
        off = max(abs(a - b) for a, b in zip(got["flow"], plain["flow"])) / max(map(abs, plain["flow"]))
        lost = f"{off:8.5f}" if FORMS[name].error < math.inf else f"{'-':>8}"
        sizes = " ".join(f"{got[part] / 1e6:8.1f}" for part in ("file", "model", "peak"))
        times = " ".join(f"{got[part]:7.2f}" for part in ("load", "work", "hash"))
        mark = " over" if most > MOST else ""
        print(f"{name:16} {sizes} {most:5.2f} {got['left'] / 1e6:8.1f} {times} {lost}{mark}", flush=True)
        over += most > MOST
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
