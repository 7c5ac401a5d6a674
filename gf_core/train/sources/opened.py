"""From a path to a source: told by what lies there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from .base import Source, check_there, refused
from .database import Database, databases
from .encoded import Encoded, clips, is_encoded
from .parquet import Parquet, tables
from .prompts import Prompts
from .shots import TABLES, Shots, videos


def open_source(
    path: Path,
    then: Path | None = None,
    normalise: Callable[[Tensor], Tensor] | None = None,
    *,
    latents: bool = True,
) -> Source:
    """The training data at `path`.

    then: of a text file of prompts, the one of what they turn into. normalise: the codec's latents `... c h w` to the
    video model's, for data that hold the codec's own. latents: False for prompts alone, whatever lies beside them.

    Raises GroundedError: nothing there that is known, damaged, or a package is missing that reads it.
    """
    if then is not None and path.suffix != ".txt":
        raise refused(path, "only a text file of prompts has a second one beside it", "leave --then away")
    for place in (path, *([then] if then else [])):
        check_there(place)
    if path.suffix == ".txt":
        return Prompts(path, then)
    if path.suffix.lower() in TABLES:
        return Shots(path)
    if databases(path):
        return Database(path, latents)
    if tables(path):
        return Parquet(path, normalise, latents)
    if path.is_dir() and is_encoded(path):
        return Encoded(path, latents)
    if path.is_dir() and videos(path):
        return Shots(path)
    if path.is_dir() and clips(path):
        return Encoded(path)  # which says of each file what is wrong with it
    known = (
        "prompts (.txt), LMDB, parquet, a table (.csv, .json, .jsonl) or folder of shots, or encoded clips"
    )
    raise refused(path, "nothing that is known lies there", f"give {known}")
