"""One process per Take: a lock that the operating system drops by itself when its owner dies."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from ..errors import InUseError, TakeError

log = logging.getLogger("grounded")

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
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
# A link would have its target emptied, and a pipe would wait for its other end.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Lock:
    """Exclusive use of a folder, from construction to `release()` or to the process's end, by kill -9 too.

    The file keeps the owner's process id so that a second process can name it; the id alone decides nothing. Below it
    stands what makes `mark`. A drive that has no locks, as some in networks, is used without one, with a line in the
    log.

    Raises InUseError: another process (or this one) holds the lock. TakeError: it is no file. FileNotFoundError:
    its folder, or the file, was removed in this moment, as a process does that leaves an empty Take.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sure = True
        """Nobody else has it; not so on a drive that has no locks."""
        self.mark = ""
        """8 hex digits: this Take's and no copy's as long as its lock lies there, for names that its owner alone uses;
        drawn anew where somebody else may have it."""
        self._handle: int | None = None
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise TakeError(f"{path} is not the lock of a Take, but something else", "remove it")
        handle = os.open(path, _FLAGS, 0o644)
        try:
            self._take(handle)
            state = os.fstat(handle)
            if not state.st_nlink:  # who comes next would lock another file
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            os.lseek(handle, 0, os.SEEK_SET)
            found = re.fullmatch(rb"[0-9]+\n([0-9a-f]{16})\n", os.read(handle, 64)) if self.sure else None
            drawn = found[1].decode() if found else secrets.token_hex(8)
            self.mark = hashlib.sha256(f"{drawn} {state.st_ino}".encode()).hexdigest()[:8]
            if state.st_nlink == 1:  # else another file's text would go with it, as of a copy by `cp -al`
                os.lseek(handle, 0, os.SEEK_SET)
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n{drawn}\n".encode("ascii"))
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def _take(self, handle: int) -> None:
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                log.warning("%s: this drive has no locks, let nobody else render into it", self.path.parent)
                self.sure = False
                return
            if error.errno not in _TAKEN:
                raise
            owner = os.read(handle, 12).decode("ascii", "replace").partition("\n")[0]
            known = f"process {owner}" if owner.isdigit() else "another process"
            raise InUseError(
                f"the Take {self.path.parent} is in use by {'this process' if owner == str(os.getpid()) else known}",
                "wait for it to end, stop it, or give this film another Take folder",
            ) from error

    @property
    def held(self) -> bool:
        """Not released yet."""
        return self._handle is not None

    def release(self) -> None:
        """Give the folder back; may be called twice. The file stays: removing it races with a new owner."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
