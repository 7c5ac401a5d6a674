"""The one place where the nodes touch ComfyUI's own modules: folders, names, progress, interrupt, messages, memory."""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import comfy.latent_formats
import comfy.model_management as mm
import comfy.utils
import folder_paths
from comfy.cli_args import args
from server import PromptServer

from ..gf_core.devices import trim_memory
from ..gf_core.errors import GroundedError, StoryboardError, TakeError, installed
from ..gf_core.files.names import fault_along

log = logging.getLogger("grounded")
Result = TypeVar("Result")
TAKES = "grounded/takes"
"""Where the Takes are, in ComfyUI's output folder."""
PREFIX_FIX = "use a prefix inside the output folder, such as grounded/film"
NUMBERED = 40
"""Bytes that come behind a prefix: its number, an ending, the mark of a file that is being written."""
_DATE = re.compile(r"%date(?::([^%]*))?%")
_DATE_PARTS = re.compile(r"yyyy|yy|MM?|dd?|hh?|mm?|ss?")


class NotPossible(Exception):
    """What the browser shows: one sentence that says what is wrong, one that says what to do."""

    __module__ = "grounded_forcing"  # the browser shows it, and the true one is a path on this computer


def _no_traceback(record: logging.LogRecord) -> bool:
    """Lets every record pass but the host's traceback of a `NotPossible`, whose message it logs by itself before."""
    said = str(record.msg)
    last = said.rstrip().rpartition("\n")[2]
    return not (said.startswith("Traceback") and f"{NotPossible.__module__}.{NotPossible.__name__}" in last)


def leave_out_tracebacks() -> None:
    """An artist's mistake is told in one line of the log; called when the pack is loaded."""
    logging.getLogger().addFilter(_no_traceback)


def in_words(error: GroundedError) -> str:
    """An error of the engine as one paragraph: where, what, fix."""
    place = ""
    if isinstance(error, StoryboardError) and error.line:
        place = f"line {error.line}, column {error.column}: "
    end = "" if error.fix.endswith(("?", "!")) else "."
    fix = f" {error.fix[:1].upper()}{error.fix[1:].rstrip('.')}{end}" if error.fix else ""
    return f"{place}{error.message.rstrip('.')}.{fix}"


def said_plainly(function: Callable[..., Result]) -> Callable[..., Result]:
    """For `execute`: errors meant for people reach the browser as a message, without the engine's traceback."""

    @functools.wraps(function)
    def guarded(*given: Any, **inputs: Any) -> Result:
        try:
            with installed():
                return function(*given, **inputs)
        except GroundedError as error:
            log.debug("refused", exc_info=True)
            said = in_words(error)
        raise NotPossible(said)

    return guarded


def allowed(check: Callable[[str], Any], value: Any) -> bool | str:
    """For `validate_inputs`: True, or what `check` raises in words; a value from another node is only known later."""
    try:
        if isinstance(value, str):
            check(value)
    except GroundedError as error:
        return in_words(error)
    return True


def output_folder() -> Path:
    """ComfyUI's output folder."""
    return Path(folder_paths.get_output_directory())


def input_folder() -> Path:
    """ComfyUI's input folder, in which the pictures of a storyboard's cast lie."""
    return Path(folder_paths.get_input_directory())


def take_folder(name: str) -> Path:
    """The folder of the Take `name`, which may have subfolders (`monday/fox`) but stays inside the Takes.

    Raises TakeError: no folder can have that name, or it points elsewhere.
    """
    parts = [part.strip() for part in name.replace("\\", "/").split("/")]
    fault = fault_along(parts)
    if fault:
        fix = "write a plain name such as film"
        raise TakeError(f"{_quoted(name)} cannot be the name of a Take: {fault}", fix)
    if any(part.casefold().startswith("run-") for part in parts):
        raise TakeError(f"{_quoted(name)} is the name of a render", "give a Take a name without run-")
    return output_folder() / TAKES / Path(*parts)


def check_prefix(prefix: str) -> None:
    """Refuse a prefix that some system could not save a film under. Raises TakeError: why, and what to write."""
    path = dated(prefix)
    fault = fault_along([part for part in path.split("/") if part not in ("", ".", "..")] or [""], NUMBERED)
    home = os.path.abspath(output_folder())
    inside = os.path.dirname(os.path.normpath(path))  # as the host reads it
    below = os.path.abspath(os.path.join(home, inside))
    by_links = getattr(folder_paths, "is_within_directory", None)  # newer hosts mind where links lead, too
    within = below == home or below.startswith(os.path.join(home, ""))
    if not fault and not (within and (by_links is None or by_links(home, below))):
        fault = "that leads out of the output folder"
    if not fault:
        try:
            if not stat.S_ISDIR(os.stat(below).st_mode):
                fault = os.strerror(errno.ENOTDIR)
        except FileNotFoundError:
            return
        except OSError as error:  # a file or a ring of links further up, where a folder should be
            fault = str(error.strerror)
    if fault:
        raise TakeError(f"the film cannot be saved as {_quoted(prefix)}: {fault}", PREFIX_FIX)


def dated(prefix: str) -> str:
    """`prefix` with today in place of %date%, or now as %date:yyyy-MM-dd hh.mm.ss% wishes; the host knows the rest.

    Parts: yyyy, yy, M, MM, d, dd, h, hh, m, mm, s, ss, as in the host's own nodes. A \\ becomes /, so that what is
    checked is what the host reads, whatever the system.
    """
    now = time.localtime()
    values = {"M": now.tm_mon, "d": now.tm_mday, "h": now.tm_hour, "m": now.tm_min, "s": now.tm_sec}

    def part(found: re.Match[str]) -> str:
        if found[0][0] == "y":
            return str(now.tm_year)[-len(found[0]) :]
        return str(values[found[0][0]]).zfill(len(found[0]))

    return _DATE.sub(lambda found: _DATE_PARTS.sub(part, found[1] or "yyyy-MM-dd"), prefix).replace("\\", "/")


def _quoted(name: str) -> str:
    """A name of any length and kind as it can be shown."""
    safe = name.encode("utf-8", "replace").decode("utf-8")
    return repr(safe if len(safe) <= 80 else f"{safe[:80]}...")


def free_name(prefix: str, width: int, height: int, suffix: str) -> Path:
    """Where the next file of `prefix` goes, numbered like ComfyUI's own: film_00001_.mp4.

    Raises TakeError: no system could save it, or the prefix leads out of the output folder.
    """
    check_prefix(prefix)
    try:
        folder, name, number, _, _ = folder_paths.get_save_image_path(
            dated(prefix), str(output_folder()), width, height
        )
    except Exception as error:  # the host raises a bare Exception here
        why = f": {error.strerror}" if isinstance(error, OSError) else ""
        raise TakeError(f"the film cannot be saved as {_quoted(prefix)}{why}", PREFIX_FIX) from error
    path = Path(folder) / f"{name}_{number:05}_{suffix}"
    while os.path.lexists(path):
        number += 1
        path = Path(folder) / f"{name}_{number:05}_{suffix}"
    return path


def stores_no_metadata() -> bool:
    """Whether ComfyUI was started with --disable-metadata."""
    return bool(args.disable_metadata)


def stop_if_interrupted() -> None:
    """Raise the host's own exception if the artist pressed Cancel."""
    mm.throw_exception_if_processing_interrupted()


def progress_bar(total: int, node: str) -> Callable[[int], None]:
    """A function that sets the node's progress bar to a number up to `total`. It never sends pictures."""
    bar = comfy.utils.ProgressBar(total, node_id=node)
    return lambda done: bar.update_absolute(done, total)


def send(event: str, data: dict[str, Any]) -> None:
    """Tell every open browser."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_sync(f"grounded.{event}", data)


class WanScale:
    """Between latents of a Wan 2.1 model and those of its VAE, for nodes that have the VAE alone."""

    def process_latent_out(self, latents: Any) -> Any:
        """Latents [b c f h w] of the model as the VAE takes them."""
        return comfy.latent_formats.Wan21().process_out(latents)


def bring_vae(vae: Any, shape: tuple[int, ...]) -> None:
    """Load a VAE where it works, with room to decode latents of `shape` [f c h w]."""
    frames, channels, height, width = shape
    needed = vae.memory_used_decode((1, channels, frames, height, width), vae.vae_dtype)
    mm.load_models_gpu([vae.patcher], memory_required=needed)


def evictable_bytes(device: Any) -> int:
    """Bytes on a card held by models that the host would move away if asked."""
    return sum(loaded.model_loaded_memory() for loaded in mm.current_loaded_models if loaded.device == device)


def release_memory() -> None:
    """Give what nobody holds any more back to the card, and to the computer: a host lives on after a film."""
    mm.soft_empty_cache()
    trim_memory()


def version() -> str:
    """ComfyUI's version, `unknown` where it does not say."""
    try:
        from comfyui_version import __version__
    except ImportError:
        return "unknown"
    return __version__
