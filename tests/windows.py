"""A file in use is neither removed, renamed nor replaced, as on Windows: `pytest -p tests.windows`, and a fixture.

In use is what this process has open or mapped, by Python or by a library (Linux tells of both). Python's own way of
removing a temporary file that is still open is let through.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the test files in use stay."""
    _keep(monkeypatch)


@pytest.fixture
def posix(pytestconfig: pytest.Config) -> None:
    """Skips a test in which somebody removes what is in use."""
    if os.name == "nt" or pytestconfig.pluginmanager.has_plugin(__name__):
        pytest.skip("files in use stay here")


def pytest_configure() -> None:
    """The same as `windows` for a whole run, of which this module is a plugin."""
    _keep(pytest.MonkeyPatch())


def _keep(patch: pytest.MonkeyPatch) -> None:
    for name in ("unlink", "remove"):
        patch.setattr(os, name, _removing(getattr(os, name)))
    for name in ("rename", "replace"):
        patch.setattr(os, name, _renaming(getattr(os, name), over=name == "replace"))


def _removing(real: Callable[..., None]) -> Callable[..., None]:
    def remove(path: Any, *, dir_fd: int | None = None) -> None:
        if not sys._getframe(1).f_code.co_filename.endswith("tempfile.py"):
            _refuse(_place(path, dir_fd))
        real(path, dir_fd=dir_fd)

    return remove


def _renaming(real: Callable[..., None], *, over: bool) -> Callable[..., None]:
    def rename(
        source: Any, target: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        there, place = _place(source, src_dir_fd), _place(target, dst_dir_fd)
        _refuse(there)
        if there != place and os.path.lexists(place):
            if not over:
                raise FileExistsError(errno.EEXIST, "there is one already", place)
            _refuse(place)
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    return rename


def _place(path: Any, folder: int | None) -> str:
    """Where a name that a call was given lies."""
    base = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
    above, name = os.path.split(os.path.normpath(os.path.join(base, os.fsdecode(path))))
    return os.path.join(os.path.realpath(above), name)


def _refuse(place: str) -> None:
    """Raises PermissionError: the file is in use, or for a folder one in it."""
    if not os.path.lexists(place) or os.path.islink(place):
        return
    for used in _in_use():
        if used == place or used.startswith(place + os.sep):
            raise PermissionError(errno.EACCES, f"{used} is in use", place)


def _in_use() -> Iterator[str]:
    for handle in Path("/proc/self/fd").iterdir():
        try:
            if stat.S_ISREG(handle.stat().st_mode):
                yield os.readlink(handle)
        except OSError:  # closed since
            continue
    for line in Path("/proc/self/maps").read_text("utf-8", "surrogateescape").splitlines():
        if "/" in line:
            yield line[line.index("/") :]
