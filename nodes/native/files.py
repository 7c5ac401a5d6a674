"""Which files Load Model offers and finds in ComfyUI's folders, and what it says when one is missing."""

from __future__ import annotations

import difflib
from fnmatch import fnmatch
from pathlib import Path

from ...gf_core.checkpoints.catalog import CATALOG, match, normal
from ...gf_core.errors import CheckpointError

BUILTIN = "built-in"
AUTO = "auto"
NONE = "none"
MODEL_FOLDERS = ("diffusion_models", "checkpoints")
PACKED_FOLDERS = (*MODEL_FOLDERS, "text_encoders")
"""Where GGUF files are read by us."""
REPACKAGED = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged"
TEXT_PATTERNS = ("*umt5*xxl*", "*umt5*")
VAE_PATTERNS = ("*wan*2*1*vae*", "*wan*vae*2*1*", "*wan*vae*", "*taew2_1*")
WANTED = {
    "text_encoders": ("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "6.7 GB", REPACKAGED),
    "vae": ("wan_2.1_vae.safetensors", "254 MB", REPACKAGED),
}
"""What to fetch for each folder: file, size, page."""
NEAR = {"text_encoders": "t5", "vae": "vae"}
"""A word in the names of files that are nearly right."""
WIDTHS = (1536, 5120)


def names(folder: str) -> list[str]:
    """File names that ComfyUI shows for a model folder, then GGUF files that are read; none without such a folder."""
    import folder_paths

    if folder not in folder_paths.folder_names_and_paths:
        return []
    homes = folder_paths.get_folder_paths(folder) if folder in PACKED_FOLDERS else []
    inside = (name for home in homes for name in folder_paths.recursive_search(home, [".git"])[0])
    packed = sorted(name for name in inside if name.lower().endswith(".gguf"))
    return list(dict.fromkeys([*folder_paths.get_filename_list(folder), *packed]))


def model_choices() -> list[str]:
    """The built-in model, then files that are known causal models, then all others of the diffusion model folders."""
    there = {folder: names(folder) for folder in MODEL_FOLDERS}
    found = list(dict.fromkeys(name for folder in MODEL_FOLDERS for name in there[folder]))
    known = [name for name in found if _known(name)]
    plain = set(there["diffusion_models"])
    return [BUILTIN, *known, *(name for name in found if name not in known and name in plain)]


def _known(name: str) -> bool:
    rows = (match(Path(name), width) for width in WIDTHS)
    return any(row is not None and row.films for row in rows)


def find(folder: str, patterns: tuple[str, ...]) -> str:
    """The file of `folder` that fits the first pattern; of several a GGUF last, which loses more.

    Raises CheckpointError: there is none; says what to fetch, from where, and what is nearly right.
    """
    there = names(folder)
    for pattern in patterns:
        found = [name for name in there if fnmatch(normal(Path(name).name), pattern)]
        if found:
            return min(found, key=lambda name: (name.lower().endswith(".gguf"), name))
    raise missing(folder)


def missing(folder: str, asked: str = "") -> CheckpointError:
    """The words for a companion that is not there."""
    what = {"text_encoders": "text encoder (UMT5-XXL)", "vae": "Wan 2.1 VAE"}[folder]
    file, size, page = WANTED[folder]
    near = [name for name in names(folder) if NEAR[folder] in name.lower()][:3]
    there = f" Found there, but not it: {', '.join(near)}." if near else ""
    return CheckpointError(
        f"there is no {asked or what} in models/{folder}",
        f"put {file} ({size}, {page}) into {_first_path(folder)}, or choose another file.{there}",
    )


def missing_model(asked: str) -> CheckpointError:
    """The words for a model file that is not there: where to get it, and near matches on disk."""
    there = [name for folder in MODEL_FOLDERS for name in names(folder)]
    close = difflib.get_close_matches(asked, there, n=3, cutoff=0.5)
    row = match(Path(asked), WIDTHS[0]) or match(Path(asked), WIDTHS[1]) or CATALOG[0]
    near = f" Close to it on this disk: {', '.join(close)}." if close else ""
    return CheckpointError(
        f"there is no model called {asked} on this disk",
        f"put {row.file} ({row.size}, https://huggingface.co/{row.repository}) into "
        f"{_first_path(MODEL_FOLDERS[0])}, or choose `{BUILTIN}`, which needs no download.{near}",
    )


def _first_path(folder: str) -> str:
    import folder_paths

    paths = [Path(path) for path in folder_paths.folder_names_and_paths.get(folder, ((), ()))[0]]
    # Older names of a folder come first in the host's list.
    named = [path for path in paths if path.name == folder] or paths
    return str(named[0]) if named else f"models/{folder}"
