"""Names of Takes and films of any kind, without ComfyUI: where it looks for them, or refused in words."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="makes links")


def test_names_end_inside_the_output_folder_or_in_words() -> None:
    words = ["dev/attack/names.py", "--names", "300", "--prefixes", "300", "--asked", "50"]
    environment = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "651 tries, 0 failures" in done.stdout
