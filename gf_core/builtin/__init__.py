"""The files of the built-in model, and folders that are made like theirs."""

import os
from pathlib import Path

BUILTIN_FOLDER = Path(__file__).resolve().parent
BUILTIN_FILES = ("model.safetensors", "text.safetensors", "codec.safetensors")


def is_small(model: str | Path) -> bool:
    """Whether `model` is the built-in one (`builtin`) or a folder made like it, which opens in a moment."""
    folder = Path(os.path.expanduser(model))
    # Path.is_file raises for a folder that may not be looked into.
    return str(model) == "builtin" or all(os.path.isfile(folder / name) for name in BUILTIN_FILES)


def model_file(model: str | Path) -> Path:
    """The transformer's file: of the built-in model, of a folder made like it, or `model` itself."""
    folder = BUILTIN_FOLDER if str(model) == "builtin" else Path(os.path.expanduser(model))
    return folder / BUILTIN_FILES[0] if is_small(model) else folder
