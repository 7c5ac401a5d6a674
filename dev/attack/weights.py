"""Hands broken and hostile model files to everything that opens one: each must end in a result or in words.

    python dev/attack/weights.py [--cases 1100] [--seed 1] [--seconds 5]

A small model, VAE, text encoder and LoRA are written as safetensors, GGUF, PyTorch archive and PyTorch's old format;
then bytes are turned, pieces cut, zeroed or doubled; and files are made that no model is: code in pickles, bombs,
pipes, huge numbers. Every case runs in a process of its own, with 1 GB beyond what the libraries take. Prints a row
per way of opening and each failure (traceback, hang, memory, code run, crash); ends with status 1 where there is one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import resource
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.attack.gguf_headers import HOSTILE
from dev.attack.tries import Tally, asked, damaged
from dev.bench.forms import write_gguf
from gf_core.checkpoints.companions import open_text
from gf_core.checkpoints.identify import identify
from gf_core.checkpoints.inspect import inspect_file
from gf_core.checkpoints.load import build_network
from gf_core.checkpoints.lora import open_lora
from gf_core.config import ModelSpec
from gf_core.errors import GroundedError
from gf_core.files.scales import unscaled
from gf_core.model.wan import WanModel
from gf_core.vae.load import load_vae
from gf_core.vae.taehv import TAEHV

MEMORY = 1 << 30
SPEC = ModelSpec(dim=256, ffn_dim=32, num_heads=2, num_layers=1, text_len=16, text_dim=16, freq_dim=16)
Q = "blocks.0.self_attn.q"


def _load(path: Path) -> None:
    item = identify(path, assume="self_forcing")
    if item.what.spec is not None:
        build_network(item.what.spec, unscaled(item.what.tensors))


def _lora(path: Path) -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in WanModel(SPEC).state_dict().items()}
    open_lora(path, 1.0, shapes)


DOORS: dict[str, Callable[[Path], Any]] = {
    "inspect": lambda path: str(inspect_file(path)),
    "load": _load,
    "vae": load_vae,
    "lora": _lora,
    "text": open_text,
}


class Code:
    """Runs something when it is unpickled without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def sound() -> dict[str, dict[str, torch.Tensor]]:
    """Tensors of one small file of each kind."""
    torch.manual_seed(0)
    tiny = TAEHV(16, (8, 8, 8, 8), encoder_width=8).state_dict()
    attention = "encoder.block.0.layer.0.SelfAttention"
    return {
        "model": {name: value.clone() for name, value in WanModel(SPEC).state_dict().items()},
        "vae": {name.replace("decoder_net.", "decoder."): value for name, value in tiny.items()},
        "lora": {f"{Q}.lora_A.weight": torch.randn(4, 256), f"{Q}.lora_B.weight": torch.randn(256, 4)},
        "text": {
            "shared.weight": torch.randn(8, 4), f"{attention}.q.weight": torch.randn(4, 4),
            f"{attention.replace('block.0', 'block.1')}.relative_attention_bias.weight": torch.randn(32, 2),
        },
    }  # fmt: skip


def _written(path: Path, tensors: dict[str, torch.Tensor], form: str) -> Path:
    path = path.with_suffix({"safetensors": ".safetensors", "gguf": ".gguf"}.get(form, ".pt"))
    if form == "gguf":
        write_gguf(path, tensors, "Q8_0", which=lambda name, value: value.dim() == 2)
    elif form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save({"generator": tensors}, path, _use_new_zipfile_serialization=form == "archive")
    return path


def _header(path: Path, content: Any, body: int = 0) -> Path:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(body))
    return path


def _entry(shape: list[int], dtype: str = "F32", end: int = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


def _archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"data.pkl": b"\x80\x02}.", "version": b"3\n", **members}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def _raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _pickled(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _folder(path: Path, name: str, make: Callable[[Path], Any]) -> Path:
    path.mkdir()
    save_file(sound()["model"], path / "diffusion_pytorch_model.safetensors")
    (path / name).unlink(missing_ok=True)
    make(path / name)
    return path


def hostile(folder: Path, marker: Path) -> list[Path]:
    """Files that no training writes."""
    huge, code = int("9" * 4000), {"generator": {"a": torch.ones(1)}, "x": Code(marker)}
    made = iter(folder / f"h{n:03d}" for n in range(1000))

    def new(end: str = ".pt") -> Path:
        return Path(f"{next(made)}{end}")

    safe = ".safetensors"
    model = sound()["model"]
    files = [
        _header(new(safe), {"a": _entry([huge] * 2000)}),
        _header(new(safe), {"a": _entry([huge] * 2000 + [0])}),
        _header(new(safe), {"a": _entry([2**40] * 16)}),
        _header(new(safe), {"a": _entry([1] * 1_000_000, end=4)}, 4),
        _header(new(safe), {"a": _entry([1], "x" * 1_000_000, 4)}, 4),
        _header(new(safe), {f"n{n}": _entry([0]) for n in range(200_000)}),
        _header(new(safe), b'{"a":' + b"[" * 4_000_000),
        _header(new(safe), b'{"a":[' + b"[]," * 4_000_000 + b"[]]}"),
        _header(new(safe), b" " * 60_000_000),
        _header(new(safe), {"\x1b[2J\u202e": _entry([1], "\x07", 4)}, 4),
        _header(new(safe), {"__metadata__": {"grounded": "[" * 1_000_000}, "a": _entry([1], end=4)}, 4),
        _header(new(safe), {"__metadata__": {"lora_adapter_metadata": "[" * 100_000}, "a": _entry([1], end=4)}, 4),
        _header(new(safe), {f"blocks.{10**9}.a": _entry([1], end=4)}, 4),
        _archive(new(), {"data.pkl": b"\x80\x02" + bytes(200_000_000)}),
        _archive(new(), {"version": bytes(1_200_000_000)}),
        _archive(new(), {"byteorder": bytes(200_000_000)}),
        _archive(new(), {"data.pkl": b"\x80\x02" + b"]" * 2_900_000 + b"."}),
        _archive(new(), {}),
        _raw(new(), b"\x80\x02" + b"]" * 20_000_000 + b"."),
        _raw(new(), b"PK\x03\x04" + bytes(1000)), _raw(new(), b""), _raw(new(), bytes(5000)),
        _raw(new(".gguf"), b"GGUF" + b"\xff" * 100), _raw(new(safe), b"GGUF" + bytes(100)),
        *(_raw(new(".gguf"), content) for content in HOSTILE.values()),
        _raw(new(), b"a red fox | 1s\n"), _raw(new(safe), b"<!doctype html>"),
        _raw(new(), pickle.dumps(code["x"], 2)), _raw(new(), pickle.dumps(code["x"], 4)),
        _raw(new(), pickle.dumps(code["x"], 0)), _raw(new(safe), pickle.dumps(code["x"], 2)),
        _pickled(new(), code), _pickled(new(), code, _use_new_zipfile_serialization=False), _pickled(new(safe), code),
        _pickled(new(), {f"{n:0500d}": 0 for n in range(8000)}),
        _pickled(new(), {f"{n:0500d}": 0 for n in range(100_000)}, _use_new_zipfile_serialization=False),
        _pickled(new(), {"generator": {**model, "head.modulation": torch.zeros(1).expand(10**6, 10**6)}}),
        _pickled(new(), {f"{Q}.lora_A.weight": torch.zeros(1).expand(4, 10**12), f"{Q}.lora_B.weight": torch.ones(1)}),
        _pickled(new(), [torch.ones(1)]), _pickled(new(), torch.ones(1)), _pickled(new(), {"a": {}}),
        _pickled(new(), {"generator": {"a": torch.ones(2).to_sparse(), "b": torch.ones(2, device="meta")}}),
        _pipe(new()), _pipe(new(safe)),
    ]  # fmt: skip
    device = new()
    device.symlink_to("/dev/zero")
    loop = new()
    loop.symlink_to(loop.name)
    for name in ("config.json", "m.safetensors.index.json", "diffusion_pytorch_model.safetensors"):
        for make in (os.mkfifo, Path.mkdir, lambda path: path.write_bytes(b"[" * 10**7)):
            files.append(_folder(new(""), name, make))
    return [
        *files,
        device,
        loop,
        folder / "there is none.pt",
        Path("Owner/Name"),
        Path("https://example.org/a.pt"),
    ]


def _worker(door: str, path: str, answers: Any) -> None:
    """One case; the child is forked after the imports, so what it holds beyond its start is the case's."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer = "result"
    try:
        DOORS[door](Path(path))
    except GroundedError as error:
        said = str(error)
        answer = "words" if len(said) < 2000 and "\x1b" not in said else "raw or endless words"
    except BaseException as error:
        answer = f"traceback {type(error).__name__}: {str(error)[:100]}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began) * 1024
    answers.send("memory" if grown > MEMORY else answer)


def tried(door: str, path: Path, seconds: float) -> str:
    """How opening `path` ended."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_worker, args=(door, str(path), theirs))
    child.start()
    began = time.monotonic()
    while child.is_alive() and _spent(child.pid) < seconds and time.monotonic() - began < 12 * seconds:
        if ours.poll(0.05):
            break
    answer = ours.recv() if ours.poll(0.05) else "hang" if child.is_alive() else f"crash {child.exitcode}"
    child.kill()
    child.join()
    return answer


def _spent(pid: int | None) -> float:
    """Seconds of processor that a child has had: on a busy machine the clock on the wall says little."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def main() -> int:
    args = asked(__doc__, cases=1100, seed=1, seconds=5.0)
    torch.set_num_threads(1)
    chance, tally = random.Random(args.seed), Tally()
    with tempfile.TemporaryDirectory() as place:
        folder, marker = Path(place), Path(place) / "code was run"
        os.environ["GROUNDED_CACHE"] = f"{place}/cache"
        cases = [(door, path) for path in hostile(folder, marker) for door in DOORS]
        kinds = sound()
        for n in range(max(0, args.cases - len(cases)) // len(DOORS)):
            form = chance.choice(("safetensors", "gguf", "archive", "old"))
            kind = chance.choice(list(kinds))
            path = _written(folder / f"m{n:05d}", kinds[kind], form)
            path.write_bytes(damaged(path.read_bytes(), chance))
            cases += [(door, path) for door in DOORS]
        for door, path in cases:
            answer = tried(door, path, args.seconds)
            if marker.exists():
                marker.unlink()
                answer = "code run"
            fault = "" if answer in ("result", "words") else f"{path.name} {answer}"
            tally.count(f"{door}: {answer.split()[0]}", fault)
    return tally.told()


if __name__ == "__main__":
    sys.exit(main())
