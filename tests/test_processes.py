"""What two processes that share the tests do: each takes whole files, one all those of ComfyUI, and none leaves any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTE = """import os
from gf_core.files.cache import cache_dir, remember
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(6))
def test_note(number, tmp_path):
    (tmp_path / "film").touch()
    remember(cache_dir("measured") / "note.json", number, "a note")
    with Path(__file__).with_suffix(".seen").open("a") as seen:
        print(os.environ["PYTEST_XDIST_WORKER"], file=seen)
"""


def test_a_file_stays_in_one_process_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "tests"
    files = [folder / name for name in ("test_a.py", "test_b.py", "comfyui/test_c.py", "comfyui/test_d.py")]
    (folder / "comfyui").mkdir(parents=True)
    for file in files:
        file.write_text(NOTE)
    for name in ("conftest.py", "windows.py"):
        (folder / name).write_bytes((ROOT / "tests" / name).read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())  # how they are imported
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "no:cacheprovider", "-n", "2", "tests"]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_DEBUG_TEMPROOT": str(tmp_path / "temporary"),
        "GROUNDED_CACHE": str(tmp_path / "temporary"),
    }
    (tmp_path / "temporary").mkdir()
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    a, b, c, d = (file.with_suffix(".seen").read_text().split() for file in files)
    assert [len(seen) for seen in (a, b, c, d)] == [6] * 4
    assert not [path for path in (tmp_path / "temporary").rglob("*") if path.is_file()]
    assert all(len(set(seen)) == 1 for seen in (a, b, c + d)), (a, b, c, d)
