"""What of the pack runs without ComfyUI: modules that import nothing of it, loaded from their files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_alone(name: str) -> ModuleType:
    """The module `nodes/<name>.py`, without its package (whose first line imports ComfyUI)."""
    spec = importlib.util.spec_from_file_location(f"grounded_{name}", ROOT / "nodes" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def live() -> ModuleType:
    return load_alone("live")
