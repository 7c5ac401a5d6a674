"""The engine's tiny model behind the command line, and what its tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from gf_core.checkpoints.model_bundle import ModelBundle

from ..engine.conftest import tiny_bundle

ROOT = Path(__file__).parents[2]


FILM = "@seed 4\na fox runs | 1.5s\nthen: it jumps | 1.5s\ncut: a hen | 0.75s\n"


CALLED: dict[str, Any] = {"name": "builtin", "fingerprint": "model"}


def bundle() -> ModelBundle:
    return replace(tiny_bundle(), **CALLED)


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False
    )
