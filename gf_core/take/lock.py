"""One process per Take: a lock that the operating system drops by itself when its owner dies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import TakeError
from ..files.atomic import disk_error

if os.name == "nt":
    import msvcrt

    # The locked byte lies far behind the text, because Windows also forbids reading what is locked.
    _FAR = 1 << 30

    def _lock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class Lock:
    """Exclusive use of a folder, from construction to `release()` or to the process's end, by kill -9 too.

    The file keeps the owner's process id so that a second process can name it; the id alone decides nothing.

    Raises:
        TakeError: another process (or this one) holds the lock, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise disk_error(error, path, "locking the Take") from error
        try:
            _lock(handle)
        except OSError as error:
            owner = path.read_text(encoding="ascii", errors="replace").strip()
            os.close(handle)
            if error.errno in _TAKEN:
                whose = "this process" if owner == str(os.getpid()) else f"process {owner or 'unknown'}"
                raise TakeError(
                    f"the Take {path.parent} is in use by {whose}",
                    "wait for it to end, stop it, or give this film another Take folder",
                ) from error
            raise disk_error(error, path, "locking the Take") from error
        try:
            os.lseek(handle, 0, os.SEEK_SET)
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode("ascii"))
        except OSError as error:
            os.close(handle)
            raise disk_error(error, path, "locking the Take") from error
        self._handle = handle

    @property
    def held(self) -> bool:
        """Not released yet."""
        return self._handle is not None

    def release(self) -> None:
        """Give the folder back; may be called twice. The file stays: removing it races with a new owner."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
