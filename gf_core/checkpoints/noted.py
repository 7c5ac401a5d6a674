"""What is known of a small model without opening it, so that a film that lies finished is not made to wait for torch.

Opening takes a moment and torch's import two seconds, and all that a finished film asks of either is what it was told
before: fingerprints, sizes, how sums are computed here. That is noted in the cache folder, under a name that is a hash
of everything that decides it: the state of the model's files, of this program's and of torch's, the processor, and what
the environment says to torch. Where any of it is another, there is no such note, and the model is opened.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import runpy
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from ..builtin import BUILTIN_FILES, model_file
from ..config import ModelSpec, Recipe
from ..devices import vectors
from ..files.cache import cache_dir, prune, recall, remember
from ..files.fingerprint import combine, sealed, states, unsealed
from ..foreign import with_values
from ..text.vocabulary import Vocabulary
from .model_bundle import ModelBundle, Weight

PROCESSOR: Any = SimpleNamespace(type="cpu")
"""In the place of a `torch.device`."""
MOST = 1_000_000
"""Bytes of notes that are kept."""
TOLD = (
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "ATEN_",
    "DNNL_",
    "ONEDNN_",
    "TORCH",
    "PYTORCH_",
    "CUDA_",
    "LD_",
    "DYLD_",
    "NPY_",
)
"""How variables begin by which torch, or what it stands on, is told how to compute, or which libraries to take."""
PROGRAM = Path(__file__).parent.parent


class NotedText(Vocabulary):
    """What a text encoder can read; it encodes nothing."""

    def __init__(self, fingerprint: str, words: list[str], max_words: int) -> None:
        super().__init__(words, max_words)
        self.fingerprint = fingerprint


@dataclass
class NotedBundle(ModelBundle):
    """A bundle whose parts are not open; asked for anything but facts, they are not there."""

    kernels: Mapping[str, Any] = field(default_factory=dict)
    """As `take.facts.kernels` says, but for the threads, which are torch's own."""
    weighed: Weight = field(default_factory=lambda: Weight(0, 0, 0, None, 0))
    """What it took when it was open."""
    opens: Callable[[], ModelBundle] = field(default=lambda: NotImplemented)
    """Gives the same, open; more than one call gives the same one."""

    @property
    def weight(self) -> Weight:
        """What it took when it was open."""
        return self.weighed

    @property
    def own_threads(self) -> int:
        """How many threads torch takes."""
        return self.kernels["threads"]

    def opened(self) -> ModelBundle:
        """The same, open."""
        return replace(self.opens(), compiled=self.compiled, threads=self.threads)


def without_card() -> bool:
    """Whether torch would find no card here, as far as that can be told without importing it."""
    told = runpy.run_path(str(_version_of_torch()))
    if told.get("hip") or told.get("xpu"):
        return False
    if told.get("cuda") is None:
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:  # there is no driver
        return True
    return False


def note_of(model: str, dtype: str | None) -> Path:
    """Where is noted what opening the small `model` on the processor in this number type comes to, here and now."""
    home = model_file(model).parent
    program = [
        Path(folder, file) for folder, _, files in os.walk(PROGRAM) for file in files if file.endswith(".py")
    ]
    looked_at = [home / name for name in BUILTIN_FILES] + program + [_version_of_torch()]
    there = sorted(filter(os.path.isfile, looked_at))  # what is missing is told where the model is opened
    return cache_dir("models") / f"{combine([model, str(dtype), *states(there), *_machine()])}.json"


def _version_of_torch() -> Path:
    """The file in which torch says what it is; an update writes it anew."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    return Path(spec.origin).with_name("version.py")


def _machine() -> list[str]:
    """What torch takes its instructions and its number of threads from."""
    told = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(TOLD))
    usable = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    cores = [os.cpu_count(), psutil.cpu_count(logical=False), usable]
    return [platform.machine(), platform.processor(), str(cores), str(vectors()), *told]


def note_bundle(note: Path, bundle: ModelBundle, kernels: Mapping[str, Any]) -> None:
    """Note what `bundle`, which is open, says of itself; `kernels` are those of its films."""
    text, codec = bundle.text, bundle.codec
    if not isinstance(text, Vocabulary):
        return
    names = ("fingerprint", "channels", "spatial_stride", "time_stride", "kind", "arithmetic")
    value = {
        "name": bundle.name,
        "spec": asdict(bundle.spec),
        "text": [text.fingerprint, text.words, text.max_words],
        "codec": {name: getattr(codec, name) for name in names if hasattr(codec, name)},
        "recipe": asdict(bundle.recipe),
        "fingerprint": bundle.fingerprint,
        "licence": bundle.licence,
        "kernels": {**kernels, "threads": bundle.own_threads},
        "weight": asdict(bundle.weight),
    }
    remember(note, sealed(note, value), "what is known of the model")
    prune(note.parent, MOST)


def recall_bundle(note: Path, opens: Callable[[], ModelBundle]) -> NotedBundle | None:
    """What is noted there, or None; `opens` gives it open."""
    return recall(
        note, lambda found: _bundle(note, found, opens), None, "what is known of the model is not read"
    )


def _bundle(note: Path, found: dict[str, Any], opens: Callable[[], ModelBundle]) -> NotedBundle:
    found = unsealed(note, found)
    return NotedBundle(
        name=found["name"],
        model=None,  # type: ignore[arg-type]  # nobody has it before it is opened
        spec=with_values(ModelSpec(), found["spec"]),
        text=NotedText(*found["text"]),  # type: ignore[arg-type]
        codec=SimpleNamespace(**found["codec"]),  # type: ignore[arg-type]
        recipe=with_values(Recipe(), found["recipe"]),
        fingerprint=found["fingerprint"],
        device=PROCESSOR,
        attention="sdpa",  # on a processor there is no other
        licence=found["licence"],
        kernels=found["kernels"],
        weighed=Weight(**found["weight"]),
        opens=opens,
    )
