"""Who may import whom: the layers of the library, checked on the source text and on a fresh interpreter."""

from __future__ import annotations

import ast
import graphlib
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import gf_core

CORE = Path(__file__).parent.parent / "gf_core"
FILES = sorted(CORE.rglob("*.py"))

FOUNDATION = {"config", "devices", "errors", "files", "foreign", "team", "words"}
CORE_FLOORS = FOUNDATION | {
    "attention",
    "builtin",
    "memory",
    "model",
    "rope",
    "sampling",
    "text",
    "timeline",
    "vae",
}
BELOW: dict[str, set[str]] = {
    "arguments": {"errors", "words"},
    "config": {"errors"},
    "devices": {"errors", "words"},
    "errors": {"words"},
    "words": set(),
    "foreign": set(),
    "team": {"devices", "errors"},
    "files": {"errors", "foreign", "words"},
    "rope": FOUNDATION,
    "attention": FOUNDATION,
    "model": FOUNDATION | {"rope", "attention"},
    "memory": FOUNDATION | {"rope", "attention", "model"},
    "sampling": FOUNDATION | {"rope", "attention", "model", "memory", "timeline"},
    "timeline": {"config", "errors", "words"},
    "video": FOUNDATION | {"timeline"},
    "editorial": {"errors", "foreign", "timeline", "words"},
    "vae": FOUNDATION,
    "text": FOUNDATION,
    "builtin": FOUNDATION,
    "checkpoints": CORE_FLOORS,
    "take": CORE_FLOORS | {"checkpoints", "video"},
    "estimate": CORE_FLOORS | {"checkpoints", "take", "video"},
    "engine": CORE_FLOORS | {"checkpoints", "estimate", "take", "video"},
    "world": FOUNDATION | {"timeline"},
    "train": FOUNDATION
    | {"rope", "attention", "memory", "model", "sampling", "text", "timeline", "vae", "video", "world"}
    | {"arguments", "builtin", "checkpoints"},
    "evaluation": CORE_FLOORS | {"checkpoints", "engine", "estimate", "take", "video", "world"},
}
"""What each layer may import. Those not listed stand on top and may use all."""

TOP = {"cli", "__main__"}
WITHOUT_TORCH = ("timeline", "video", "editorial", "config", "errors", "foreign", "words")
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "server"}


def layer(path: Path) -> str:
    part = path.relative_to(CORE).parts[0]
    return part.removesuffix(".py")


@cache
def at_once(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Every import that importing the file makes: none in a function, none for type checkers."""
    waiting, found = list[ast.AST](ast.parse(path.read_text(encoding="utf-8")).body), []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)
    return tuple(found)


@cache
def statements(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Every import in the file, those inside functions too."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def imports(path: Path) -> Iterator[tuple[int, str, int]]:
    """(relative level, dotted module, line) of every import in the file."""
    for node in statements(path):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name, node.lineno) for alias in node.names)
        else:
            base = node.module or ""
            names = [base] if base else [alias.name for alias in node.names]
            yield from ((node.level, name, node.lineno) for name in names)


def outside(path: Path) -> Iterator[tuple[str, int]]:
    """(package, line) of every import by a whole name."""
    return ((module.split(".")[0], line) for level, module, line in imports(path) if not level)


def internal(path: Path) -> Iterator[tuple[str, int]]:
    """(layer, line) of every import from inside the library."""
    package = path.relative_to(CORE).parent.parts
    for level, module, line in imports(path):
        if level:
            parts = (*package[: len(package) - (level - 1)], *module.split("."))
            yield parts[0], line


def violations(check) -> list[str]:
    return [f"{path.relative_to(CORE.parent)}:{line}: {what}" for path in FILES for what, line in check(path)]


def test_every_layer_is_known():
    assert {layer(path) for path in FILES} - set(BELOW) - TOP - {"__init__"} == set()


def test_the_library_imports_itself_relatively_and_never_its_host():
    assert violations(lambda path: [found for found in outside(path) if found[0] in {"gf_core", *HOST}]) == []


def test_layers_point_downwards():
    def check(path):
        here = layer(path)
        allowed = BELOW.get(here, set(BELOW) | TOP) | {here}
        return [(f"{here} imports {there}", line) for there, line in internal(path) if there not in allowed]

    assert violations(check) == []


def test_only_recipes_know_the_small_world():
    """The trainer serves any network: sizes, captions and attributes of the built-in one stay in its recipe."""

    def check(path):
        if layer(path) != "train" or "recipes" in path.parts:
            return []
        small = {"world", "text", "vae"}
        known = [(there, line) for there, line in internal(path) if there in small]
        return known + [(m, line) for level, m, line in imports(path) if level and m.startswith("recipes")]

    assert violations(check) == []


def test_nothing_below_imports_the_command_line():
    def check(path):
        below = layer(path) not in ("cli", "__main__")
        return [found for found in internal(path) if below and found[0] == "cli"]

    assert violations(check) == []


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_source_without_torch(name):
    heavy = {"torch", "diffusers", "transformers", "safetensors", "einops"}

    def check(path):
        return [found for found in outside(path) if layer(path) == name and found[0] in heavy]

    assert violations(check) == []


def test_timeline_imports_only_the_standard_library():
    def check(path):
        known = sys.stdlib_module_names
        return [found for found in outside(path) if layer(path) == "timeline" and found[0] not in known]

    assert violations(check) == []


def test_every_public_name_is_there():
    assert all(getattr(gf_core, name).__name__ == name for name in gf_core.PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = gf_core.nonsense


@pytest.mark.parametrize(
    "module", ["gf_core", "gf_core.timeline", "gf_core.video", "gf_core.config", "gf_core.cli.render"]
)
def test_importing_does_not_load_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CORE.parent, check=False).returncode == 0


NODES = sorted((CORE.parent / "nodes").rglob("*.py"))


def relative(path: Path, found: Iterable[ast.Import | ast.ImportFrom] | None = None) -> Iterator[str]:
    """Every module of the repository that the file imports relatively, such as `nodes.host` or `gf_core.words`.

    found: its imports; without them all.
    """
    package = path.relative_to(CORE.parent).parent.parts
    for statement in statements(path) if found is None else found:
        if isinstance(statement, ast.ImportFrom) and statement.level:
            up = package[: len(package) - statement.level + 1]
            base = ".".join([*up, *filter(None, [statement.module])])
            for alias in statement.names:
                inner = CORE.parent.joinpath(*base.split("."), f"{alias.name}.py")
                yield f"{base}.{alias.name}" if inner.exists() else base


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(CORE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_nodes_stand_on_the_library_and_not_on_the_command_line():
    for path in NODES:
        found = set(relative(path)) | {module for level, module, _ in imports(path) if not level}
        assert not [name for name in found if name.startswith(("gf_core.cli", "dev", "tests"))], path


@pytest.mark.parametrize("files", [NODES, FILES], ids=["nodes", "gf_core"])
def test_files_import_each_other_one_way(files):
    """Imports for type checkers count: who needs another's type knows the other."""
    inside = {dotted(path) for path in files}
    graph = {dotted(path): inside.intersection(relative(path)) for path in files}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def listed() -> list[str]:
    """The nodes' modules by their table, which is read and not imported: it asks for ComfyUI."""
    table = ast.parse((CORE.parent / "nodes/__init__.py").read_text(encoding="utf-8")).body
    rows = next(
        one.value for one in table if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "NODES"
    )
    return [f"nodes.{name}" for name in ast.literal_eval(rows)]


def test_listing_the_nodes_opens_no_network():
    """The host imports every pack at its start, with all nodes: what makes a film comes with the first Run."""
    waiting, brought = ["nodes.host", "nodes.routes", *listed()], set()
    while waiting:
        name = waiting.pop()
        if not name or name in brought:
            continue
        brought.add(name)
        file = CORE.parent.joinpath(*name.split("."))
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        waiting += [name.rpartition(".")[0], *relative(file, at_once(file))]
    parts = ("attention", "editorial", "engine.film", "model", "sampling", "take.shelf", "text", "vae")
    late = tuple(f"gf_core.{part}" for part in parts)
    assert len(brought) > 60
    assert sorted(name for name in brought if name.startswith(late)) == []


def test_development_scripts_use_the_library_and_each_other_only():
    """Those that drive a real ComfyUI share its set-up with the tests that do."""
    for path in DEV:
        found = set(relative(path)) | {module for level, module, _ in imports(path) if not level}
        others = {name for name in found if name.split(".")[0] in ("nodes", "tests")}
        assert all(name.startswith("tests.comfyui.") and "comfyui" in path.parts for name in others), path


DEV = sorted(path for path in (CORE.parent / "dev").rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", DEV, ids=lambda path: path.stem)
def test_a_development_script_imports_what_is_there(path):
    """Benchmarks are run seldom: a name that moved must not wait until then."""
    for statement in statements(path):
        if not isinstance(statement, ast.ImportFrom) or not (statement.module or "").startswith("gf_core"):
            continue
        module = importlib.import_module(statement.module)
        inner = {found.name for found in pkgutil.iter_modules(getattr(module, "__path__", ()))}
        for alias in statement.names:
            there = hasattr(module, alias.name) or alias.name in inner
            assert there, f"{path.name}:{statement.lineno}: {statement.module} has no {alias.name}"


def test_no_folder_has_grown_out_of_sight() -> None:
    folders = {path.parent for path in FILES}
    assert not {folder.name for folder in folders if len(list(folder.glob("*.py"))) > 20}
