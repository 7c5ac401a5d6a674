"""The files that the repository consists of, as git has them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Whoever owns the clone: in a container that is often somebody else than who runs there.
GIT = ["git", "-c", "safe.directory=*", "ls-files"]


def listed(*options: str) -> list[str]:
    """What `git ls-files` prints; nothing where there is no git, or no checkout that it reads."""
    if not shutil.which("git"):
        return []
    done = subprocess.run([*GIT, *options], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    return done.stdout.splitlines()


def files() -> list[str]:
    """Their names; without git whatever lies there and is not hidden."""
    there = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
    return listed() or [path.as_posix() for path in there if not any(p.startswith(".") for p in path.parts)]
