"""Pieces that inductor compiles, of the network and of decoders: whether it can here, where what it made is kept, and
how much of that.

Static shapes only: what is made for a shape does not depend on the shapes that were seen before, so a film that is
gone on with in another process gets the same bits. A piece's shape is that of a chunk's tokens, whatever the memory
holds, so a film compiles each piece once, and once more for a recache.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import GroundedError, is_out_of_memory
from ..files.cache import cache_dir, prune
from .pieces import Fused, Pieces
from .shortcut import Make, Shortcut

log = logging.getLogger("grounded")
BACKEND = "inductor"
"""Who compiles."""
FOLDER = "TORCHINDUCTOR_CACHE_DIR"
KEPT = 512 * 2**20
"""Bytes of compiled code that are kept."""
DAMAGED = "fx graph cache unable to load"
"""How inductor's words begin where what it kept cannot be read."""
FORMULAS = "formulas 2"
"""Counted up where a fused formula of the network rounds otherwise than before: films of earlier ones are not gone on
with."""
SHAPES = 256
"""Shapes that a piece may be compiled for in one process: torch would stop at 8, which joint calls come to, and a
decoder has eleven for a size of film."""

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


def fused() -> Pieces:
    """The network's pieces, compiled at the first call of every shape; always the same object."""
    return _fused(BACKEND)


def compiler() -> tuple[Compile, str]:
    """What makes one pass of a function, and who that is, which decides the last bits; always the same objects."""
    return _compiler(BACKEND)


def forget() -> None:
    """Whoever asks for pieces from here on has them compiled anew, or read back from the disk (measurements)."""
    _fused.cache_clear()
    _compiler.cache_clear()
    torch.compiler.reset()


@functools.cache
def _fused(backend: str) -> Pieces:
    compile, name = _compiler(backend)
    return Fused(compile, f"{name} {FORMULAS}")


@functools.cache
def _compiler(backend: str) -> tuple[Compile, str]:
    if backend == "inductor":
        _keep_in_cache()
    name = " ".join([backend, *_versions(backend)])
    options = {"config_patches": _options()} if backend == "inductor" else {}
    from torch._dynamo.backends.registry import lookup_backend

    make: Make = functools.partial(lookup_backend(backend), **options)

    def compile(function: Callable[..., Any]) -> Callable[..., Any]:
        made = Shortcut(function, make)

        @functools.wraps(function)
        def piece(*given: Any) -> Any:
            _allow_shapes()
            if (ask := getattr(_here, "ask", None)) is not None:
                ask()
            try:
                return made(*given)
            except Exception as error:
                if not _is_of_compiling(error) or is_out_of_memory(error):
                    raise
                if (told := _made_anew(lambda: made(*given))) is not None:
                    return told[0]
                raise GroundedError(
                    f"what makes it faster cannot be compiled: {_why(error)}", _fix()
                ) from error

        return piece

    return compile, name


_here = threading.local()


@contextmanager
def asking(ask: Callable[[], None]) -> Iterator[None]:
    """In this thread `ask` has its turn before every piece: it may raise, where nobody waits any more."""
    _here.ask = ask
    try:
        yield
    finally:
        _here.ask = None


def _allow_shapes() -> None:
    """Raise torch's limit to `SHAPES` in this thread: a newer torch keeps such settings thread by thread."""
    if getattr(_here, "allowed", False):
        return
    import torch._dynamo.config

    config: Any = torch._dynamo.config
    old = not hasattr(config, "recompile_limit")  # before torch 2.7
    limit = "cache_size_limit" if old else "recompile_limit"
    setattr(config, limit, max(getattr(config, limit), SHAPES))
    _here.allowed = True


def _options() -> dict[str, Any]:
    """Nothing that is measured may choose how sums are ordered; what was made is read back from the disk."""
    import torch._inductor.config as config

    wanted = {"fx_graph_cache": True, "deterministic": True, "max_autotune": False}
    return {name: value for name, value in wanted.items() if hasattr(config, name)}


def _versions(backend: str) -> list[str]:
    """Of what makes the code on a card; on processors it is the computer's own compiler."""
    if backend != "inductor":
        return []
    try:
        import triton  # type: ignore[import-not-found]
    except ImportError:
        return []
    return [f"triton {triton.__version__}"]


@functools.cache
def works(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a small piece comes through the compiler; where not, one line says why. Takes seconds the first time."""
    x, share = (torch.ones(shape, device=device, dtype=dtype) for shape in ((1, 16, 64), (1, 1, 1, 64)))
    try:
        with torch.no_grad():
            told = fused().gated(x, x, share)
        if bool((told == 2).all()):
            return True
        why = f"1 + 1 came out as {told.flatten()[0].item():g}"
    except Exception as error:  # whatever a compiler stumbles over: it is left alone then
        why = _why(error.__cause__ if isinstance(error, GroundedError) and error.__cause__ else error)
    kept = os.environ.get(FOLDER)
    fix = f" (compiled code is kept in {kept}, which may be removed if it is damaged)" if kept else ""
    log.warning("the network is not compiled, which would make it faster: %s%s", why, fix)
    return False


def _made_anew(call: Callable[[], Any]) -> tuple[Any] | None:
    """What a call gives whose code is compiled in an empty folder, where that helps.

    Then what was kept is damaged, as a power cut leaves it, and is removed. None where it does not help, or somebody
    else chose the folder.
    """
    kept = os.environ.get(FOLDER, "")
    if kept != os.path.abspath(cache_dir("compiled")):
        return None
    from torch._inductor.utils import clear_inductor_caches

    with tempfile.TemporaryDirectory(prefix="grounded-", ignore_cleanup_errors=True) as empty:
        os.environ[FOLDER] = empty
        try:
            clear_inductor_caches()
            told = (call(),)
        except Exception as error:
            log.debug("compiled anew it fails as well: %s", error)
            return None
        finally:
            os.environ[FOLDER] = kept
    _say_damaged(kept)
    shutil.rmtree(kept, ignore_errors=True)
    return told


def _is_of_compiling(error: Exception) -> bool:
    """Whether a piece could not be compiled; what is not dynamo's, nor inductor's through it, is the film's."""
    from torch._dynamo.exc import TorchDynamoException

    # By its place, too: that there are too many shapes is an error of no kind.
    return (
        isinstance(error, TorchDynamoException) or type(error).__module__ == TorchDynamoException.__module__
    )


def _why(error: BaseException) -> str:
    error = getattr(error, "inner_exception", error)  # torch wraps it, and begins with who stumbled
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _fix() -> str:
    kept = os.environ.get(FOLDER)
    room = (
        f"see that there is room in {kept}, and that it can be written, then run again; or " if kept else ""
    )
    return f"{room}render with --compile off, which makes the film anew"


def _keep_in_cache() -> None:
    """Let inductor and triton write into a folder of ours, unless somebody has chosen another.

    What torch itself takes where nobody has, it writes into the environment as soon as its compiler is imported.
    """
    folder, chosen = cache_dir("compiled"), os.environ.get(FOLDER, "")
    own = Path(chosen)
    if not chosen or (own.name.startswith("torchinductor_") and own.parent == Path(tempfile.gettempdir())):
        os.environ[FOLDER] = str(folder)
    if os.environ[FOLDER] == str(folder):
        prune(folder, KEPT)
    logging.getLogger("torch._inductor.codecache").addFilter(_plainly)


def _plainly(record: logging.LogRecord) -> bool:
    """Of code that cannot be read back inductor tells the traceback for every piece; one line says it."""
    damaged = str(record.msg).startswith(DAMAGED)
    if damaged:
        _say_damaged(os.environ.get(FOLDER, ""))
    return not damaged


@functools.cache
def _say_damaged(folder: str) -> None:
    log.warning("compiled code in %s is damaged, or there is no room: it is compiled anew", folder)
