"""For all tests: threads of sums that wait for each other sleep, as in the command, before torch is imported.

Spinning takes the processor from encoders, other processes of the tests and whatever else the machine does.
"""

import errno
import gc
import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gf_core.cli import SPINS, main

from .windows import posix as posix
from .windows import windows as windows

ROOT = Path(__file__).resolve().parents[1]

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


@pytest.fixture(scope="session", autouse=True)
def no_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What this machine's user has had measured stays as it is, and decides nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROUNDED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The device of a card that is not there; where there is one, tests are to ask that one."""
    torch = pytest.importorskip("torch")
    from .card import PLACE, a_card

    if sys.platform != "linux" or torch.cuda.is_available():
        pytest.skip("stands in for a card on a Linux that has none")
    with a_card(monkeypatch):
        yield PLACE


@pytest.fixture
def hard_links(tmp_path: Path) -> None:
    """Skips a test of files with two names where the disk makes none."""
    first, second = (tmp_path.with_name(f"{tmp_path.name}-{end}") for end in ("first", "second"))
    first.touch()
    try:
        os.link(first, second)
    except OSError as error:
        pytest.skip(f"the disk of temporary files makes no hard links: {error.strerror}")
    finally:
        first.unlink()
    second.unlink()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of the test's own."""
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`printed("open", "film.mp4")`: what `grounded open film.mp4` prints."""

    def run(*command: str) -> str:
        capsys.readouterr()
        assert main([*command]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refused("plan", "film.txt")`: what `grounded plan film.txt` says of why it does not."""

    def run(*command: str) -> str:
        capsys.readouterr()
        try:
            status = main([*command])
        except SystemExit as stop:  # what the parser refuses
            status = stop.code
        assert status == 2
        return capsys.readouterr().err

    return run


@pytest.fixture(scope="session")
def pieces() -> bytes:
    """A trained SentencePiece model of 60 pieces: pad 0, end 1, unknown 2, as UMT5's."""
    import sentencepiece

    out = io.BytesIO()
    words = ["a red fox walks in the snow at night", "the owl sits on a tree", "then it looks up & waits"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words * 20), model_writer=out, vocab_size=60, pad_id=0, eos_id=1,
        unk_id=2, bos_id=-1, hard_vocab_limit=False, num_threads=1, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


@pytest.fixture
def unlisted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Call it with a folder, which then cannot be listed: rights alone do not keep an administrator out."""

    def refuse(folder: Path) -> None:
        for name in ("listdir", "scandir"):
            real = getattr(os, name)

            def ask(path: Any = ".", real: Any = real) -> Any:
                if Path(os.fsdecode(path)) == folder:
                    raise OSError(errno.EIO, os.strerror(errno.EIO), os.fsdecode(path))
                return real(path)

            monkeypatch.setattr(os, name, ask)

    return refuse


@pytest.fixture
def of_pack(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports `nodes.<name>` where it needs no ComfyUI, without the pack's own first line, which does."""
    for name, folder in (("gf_pack", ROOT), ("gf_pack.nodes", ROOT / "nodes")):
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        monkeypatch.setitem(sys.modules, name, package)
    yield lambda name: importlib.import_module(f"gf_pack.nodes.{name}")
    for name in [name for name in sys.modules if name.startswith("gf_pack.")]:
        del sys.modules[name]


os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Processes that share the tests take whole files, whose fixtures are made once; one takes all of ComfyUI's.

    Not by marks of groups: pytest 9.2 keeps names of tests where pytest-xdist 3.8 does not write them.
    """
    from xdist.scheduler import LoadFileScheduling

    class WholeFiles(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return "comfyui" if "comfyui" in file.split("/") else file

    return WholeFiles(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What wants a card is left out where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA card here")


def pytest_collection_finish() -> None:
    """What is imported stays: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()
