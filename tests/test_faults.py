"""What `dev/attack/faults.py` breaks is still there to be broken, and so are the tests that are to notice."""

import ast
from pathlib import Path

import pytest

from dev.attack.faults import FAULTS, broken

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.breaks)
def test_a_fault_has_its_place_and_its_tests(fault):
    ast.parse(broken(fault, ROOT))
    for asked in fault.tests.split():
        file, _, name = asked.partition("::")
        source = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {name or 'test_'}" in source, asked
