"""Fixtures that drive a real ComfyUI; every test of this folder is marked `comfyui` by itself.

- `comfy`: the host (path, python, version); tests run once per host when GROUNDED_HOSTS names several.
- `run_in_host(script, *args)`: a script run with the host's Python; its last line of output, read as JSON.
- `server`: ComfyUI with this pack, started once per test module.
- `browser`: its page, in either design of nodes; a module that wants another has one of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .browser import Browser, open_browser
from .hosts import Host, find_hosts, make_base, run_script
from .server import Server

HERE = Path(__file__).parent
HOSTS, MISSING = find_hosts()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.comfyui)


@pytest.fixture(scope="session", params=HOSTS or [None], ids=[host.name for host in HOSTS] or ["no-comfyui"])
def comfy(request: pytest.FixtureRequest) -> Host:
    """The ComfyUI under test; skips with the reason where there is none."""
    if request.param is None:
        pytest.skip(f"no ComfyUI found: {MISSING}")
    return request.param


@pytest.fixture
def run_in_host(comfy: Host, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`run_in_host(script_path, *args)` -> the JSON object on the last line the script printed.

    A script whose host lacks what it needs says that, and its test is skipped.
    """

    def run(script: str | Path, *args: object) -> dict[str, Any]:
        printed = run_script(comfy, make_base(tmp_path / "base"), Path(script), *map(str, args))
        facts = json.loads(printed.strip().splitlines()[-1])
        if "host_lacks" in facts:
            pytest.skip(facts["host_lacks"])
        return facts

    return run


@pytest.fixture(scope="module")
def server(comfy: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running ComfyUI with a base directory of its own; shared by the tests of one module."""
    with Server(comfy, tmp_path_factory.mktemp("comfyui")) as running:
        yield running


@pytest.fixture(scope="module", params=[False, True], ids=["litegraph", "nodes-2.0"])
def browser(server: Server, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """The front end, once in each design of nodes."""
    with open_browser(server, settings={"Comfy.VueNodes.Enabled": request.param}) as opened:
        yield opened
