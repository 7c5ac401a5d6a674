"""Recorded training steps of public reference code, replayed through our objectives to the recorded tolerance.

Most are too large to lie here: `GROUNDED_TRAINING_RECORDINGS` names folders of them.
"""

import os
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dev.parity.compare_training import errors  # noqa: E402
from dev.parity.replay import replay  # noqa: E402
from dev.parity.replay_training import KINDS, replay_document  # noqa: E402

FOLDERS = os.environ.get("GROUNDED_TRAINING_RECORDINGS", "").split(os.pathsep)
GOLDEN = ROOT / "tests" / "fixtures" / "golden_training"
CASES = sorted(path for folder in (GOLDEN, *FOLDERS) if folder for path in Path(folder).glob("*.safetensors"))
BOOKS = sorted(
    path
    for folder in (GOLDEN, *FOLDERS)
    if folder
    for path in Path(folder).glob("*.json")
    if not path.with_suffix(".safetensors").is_file()
)
STRICT = 3e-5
"""What the recordings allow where sinusoids are float64; ours are 1e-6 from them."""


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_a_recorded_step_is_repeated(path, tmp_path):
    case = replay(path, KINDS)
    assert not case.missing()
    case.save(tmp_path / "got.safetensors")
    found = errors(load_file(tmp_path / "got.safetensors"), load_file(path))
    assert found and {name: error for name, error in found.items() if not error <= STRICT} == {}


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: p.stem)
def test_recorded_books_are_kept(path, tmp_path):
    assert replay_document(path, tmp_path / "got.json") == []
