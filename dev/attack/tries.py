"""What attacks share: command lines, damaged bytes, a command in a process of its own, the table of what was tried."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from gf_core.arguments import Parser

WORDS = (b"[", b"null", b"\n", b"9" * 30, *(b"%d" % n for n in (0, -1, 2**31, 2**63, 2**64, 10**400)))
"""What texts and headers may be read as."""


def asked(doc: str | None, **usual: float) -> argparse.Namespace:
    """A command line of numbers by name, with the usual ones; `doc` is its help."""
    parser = Parser(description=doc)
    for name, value in usual.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    return parser.parse_args()


def damaged(data: bytes, dice: random.Random) -> bytes:
    """`data` turned, cut, zeroed, doubled, repeated or written over in one place or more, mostly where names stand."""
    whole, way = bytearray(data), dice.randrange(7)
    for _ in range(dice.choice((1, 1, 3, 30))):
        if not whole:
            break
        at = dice.randrange(min(len(whole), dice.choice((64, 4096, len(whole)))))
        end = at + dice.choice((1, 8, 200, 5000, len(whole)))
        piece = whole[at:end]
        whole[at:end] = (
            bytes([piece[0] ^ 1 << dice.randrange(8)]) + piece[1:],
            b"",
            bytes(len(piece)),
            piece + piece[:5000],
            piece[:64] * 50,
            dice.randbytes(len(piece)),
            dice.choice(WORDS) + piece[1:],
        )[way]
    return bytes(whole)


class Tally:
    """How often each kind was tried; failures are told at once."""

    def __init__(self) -> None:
        self.tried, self.faults = Counter[str](), 0

    def count(self, kind: str, fault: str) -> None:
        """fault: what is wrong; empty where nothing is."""
        self.tried[kind] += 1
        if fault:
            self.faults += 1
            print(f"FAILED {kind}: {fault}".encode("ascii", "backslashreplace").decode(), flush=True)

    def told(self) -> int:
        """Print a row per kind; the status to end with."""
        for kind, count in sorted(self.tried.items()):
            print(f"{count:>6}  {kind}")
        print(f"{self.tried.total()} tries, {self.faults} failures")
        return 1 if self.faults else 0


def run(
    words: list[str],
    place: Path,
    most: float = 120.0,
    kill: float | None = None,
    first: Callable[[], object] = lambda: None,
) -> str:
    """How a command in the folder `place` ends: ok, words, or with more behind a colon hang, crash or traceback.

    most: seconds after which it hangs. kill: seconds after which it is killed on purpose, which is `killed`. first:
    called in the command's own process, before it.
    """
    from gf_core.cli import main as grounded

    ours, theirs = os.pipe()  # whatever happens to files
    child = os.fork()
    if child == 0:
        status = 99
        try:
            for handle in (1, 2):
                os.dup2(theirs, handle)
            sys.stdout, sys.stderr = (os.fdopen(handle, "w", 1, closefd=False) for handle in (1, 2))
            os.close(ours)
            os.chdir(place)
            first()
            status = grounded(words)
            sys.stdout.flush()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 2
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    os.close(theirs)
    clock = threading.Timer(most if kill is None else kill, os.kill, (child, signal.SIGKILL))
    clock.start()
    with open(ours, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace").strip().splitlines() or [""]
    _, status = os.waitpid(child, 0)
    clock.cancel()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"crash: signal {number}" if number != signal.SIGKILL else "hang" if kill is None else "killed"
    if "Traceback" in "\n".join(said) or os.WEXITSTATUS(status) not in (0, 2):
        return f"traceback: status {os.WEXITSTATUS(status)}, {said[-1][:150]}"
    return "words" if os.WEXITSTATUS(status) else "ok"
