"""What every source of training data gives: samples by number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import GroundedError, reason


@dataclass(frozen=True)
class Sample:
    """One film or clip to learn from."""

    prompt: str
    """What is seen."""
    then: str = ""
    """What is seen after a switch; "" where the data know of none."""
    states: Tensor | None = None
    """Latents [s f c h w] on the way from noise to the clean ones, which are the last; None: there is only text."""
    cues: tuple[tuple[int, str, str], ...] | None = None
    """Every change of prompt inside: the chunk that begins with it, its verb, what is seen from there on; None where
    the data do not say."""

    @property
    def latents(self) -> Tensor | None:
        """The clean latents [f c h w]."""
        return None if self.states is None else self.states[-1]


class Source(Protocol):
    """Samples by number; the same number is the same sample for as long as the files stay as they are."""

    path: Path
    """Where they lie."""
    unread: bool
    """There are latents, and they are left alone, damaged ones too: the prompts were asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Sample: ...

    def told(self, *, changes: bool) -> Iterator[tuple[str, str]]:
        """Every prompt with where it stands, as of a file and its line; no latents are read for it.

        changes: those that a prompt turns into, too.
        """
        ...


def refused(path: Path, what: str, fix: str) -> GroundedError:
    """The error that says what about the data at `path` cannot be used."""
    return GroundedError(f"training data {path}: {what}", fix)


def check_there(path: Path) -> None:
    """Refuse what is neither a file nor a folder."""
    if not os.path.exists(path):  # Path.exists raises for a name that is too long
        raise refused(path, "there is nothing of that name", "check the name and the folder")
    if not (path.is_file() or path.is_dir()):  # a pipe would be waited for
        raise refused(path, "it is neither a file nor a folder", "give what holds the data itself")


@contextmanager
def package(path: Path) -> Iterator[None]:
    """Around the import of a package that only this kind of data needs. Raises GroundedError when it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        fix = f"pip install {name}, or everything for training: pip install 'grounded-forcing[train]'"
        raise refused(path, f"the package {name}, which reads it, is not installed", fix) from error


@contextmanager
def readable(path: Path, errors: type[Exception] | tuple[type[Exception], ...]) -> Iterator[None]:
    """Around reading: a library's own errors become one in words."""
    try:
        yield
    except errors as error:
        raise refused(path, f"it cannot be read: {reason(error)}", "copy or make it again") from error


def tensor_of(data: Any, shape: tuple[int, ...], dtype: str) -> Tensor:
    """Raw little-endian numbers as a float32 tensor of its own. Raises ValueError where they do not fill `shape`."""
    values = np.frombuffer(data, dtype=np.dtype(dtype).newbyteorder("<"))
    if values.size != int(np.prod(shape)):
        raise ValueError(f"{values.size} numbers where a shape of {list(shape)} is told")
    return torch.from_numpy(values.reshape(shape).astype(np.float32))
