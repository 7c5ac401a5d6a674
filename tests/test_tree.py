"""What the repository consists of."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not shutil.which("git") or not (ROOT / ".git").exists(), reason="no checkout with git")
def test_it_holds_plain_files_alone():
    """A link would lead a new machine nowhere: an environment's, for one, in whose place none could be made."""
    listed = subprocess.run(
        ["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=3) for line in listed.stdout.splitlines()]
    assert rows and [name for mode, *_, name in rows if mode not in ("100644", "100755")] == []
