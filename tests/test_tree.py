"""What the repository consists of."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .checkout import listed

ROOT = Path(__file__).parents[1]
SCRIPTS = [
    path.relative_to(ROOT)
    for path in sorted((ROOT / "dev").rglob("*"))
    if path.suffix == ".sh" or (path.suffix == ".py" and "__main__" in path.read_text(encoding="utf-8"))
]
HELP = """
import contextlib, io, json, runpy, sys
said, usual = {}, list(sys.path)
for name in sys.argv[1:]:
    sys.argv, sys.path[:], said[name] = [name, "--help"], [name.rpartition("/")[0], *usual], "it ran on"
    with contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            runpy.run_module(name[:-3].replace("/", "."), run_name="__main__")
        except SystemExit as end:
            said[name] = end.code or told.getvalue()
json.dump(said, sys.stdout)
"""


def test_it_holds_plain_files_alone():
    """A link would lead a new machine nowhere: an environment's, for one, in whose place none could be made."""
    rows = [line.split(maxsplit=3) for line in listed("--stage")]
    if not rows:
        pytest.skip("no checkout with git")
    assert [name for mode, *_, name in rows if mode not in ("100644", "100755")] == []


def test_every_development_script_says_what_it_does_and_does_nothing():
    """Asked with --help. Most write into the repository, so only those are run that look at their command line."""
    source = {str(path): (ROOT / path).read_text(encoding="utf-8") for path in SCRIPTS}
    asks = ("parse_args(", "asked(", "= --help ]")
    assert [name for name in source if not any(ask in source[name] for ask in asks)] == []
    python, shell = ([name for name in source if name.endswith(suffix)] for suffix in (".py", ".sh"))
    assert len(python) > 25 and len(shell) > 1
    told = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", HELP, *python], **told)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {name: said[name] for name in python if not str(said[name]).startswith("usage: ")} == {}
    for name in shell if shutil.which("bash") else ():
        first = subprocess.run(["bash", name, "--help"], **told).stdout.partition("\n")[0]
        assert first and f"\n# {first}\n" in source[name]
