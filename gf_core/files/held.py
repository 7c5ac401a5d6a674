"""A half-written file is held by who writes it, so that others can tell it from one that a kill left.

The system drops the hold by itself when its owner dies. On Windows, where what is open cannot be renamed, and on a
drive without locks it is the time that tells, as in `atomic.sweep_beside`.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .atomic import ABANDONED

# A link would have its target held, and a pipe would wait for its other end.
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)

if os.name != "nt":
    import fcntl


@contextmanager
def held(part: Path) -> Iterator[None]:
    """Make the file `part` and hold it until the block ends, under whatever name it goes by then.

    It is to be filled as it lies there: another file that takes its place is not held.
    """
    if os.name == "nt":
        part.touch()
        yield
        return
    handle = _made(part)
    try:
        yield
    finally:
        os.close(handle)


def _made(part: Path) -> int:
    """The file `part`, open and held; made again where somebody swept it before it was."""
    while True:
        handle = os.open(part, _FLAGS | os.O_CREAT, 0o666)
        with suppress(OSError):  # a drive without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)


def remove_left(part: Path) -> bool:
    """Remove the half-written file `part`, which `held` made, if nobody writes to it any more; whether it did."""
    try:
        state = part.lstat()
        if not stat.S_ISREG(state.st_mode):
            return False
        if os.name == "nt":
            return _remove_old(part, state.st_mtime)
        handle = os.open(part, _FLAGS)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()  # still held: who has just made it finds it nameless, and makes it again
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return _remove_old(part, state.st_mtime)
        finally:
            os.close(handle)
    except OSError:  # it has its name by now, or is not ours to remove
        return False
    return True


def _remove_old(part: Path, written: float) -> bool:
    old = time.time() - written > ABANDONED
    if old:
        part.unlink()
    return old
