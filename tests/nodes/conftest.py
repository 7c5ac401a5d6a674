"""What of the pack runs without ComfyUI: modules that import nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def live(of_pack: Callable[[str], ModuleType]) -> ModuleType:
    return of_pack("live")
