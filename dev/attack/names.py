"""Names of Takes and of films, and what is asked of the routes, by the thousand: each must end inside the output
folder, or in words.

    python dev/attack/names.py [--names 20000] [--prefixes 2000] [--asked 2000] [--seed 1]

Runs without ComfyUI: of its modules there are stand-ins, but `folder_paths`, which is its own where COMFYUI_PATH says
where that is. Every folder that a name is given for is made. Prints a row per kind; ends with status 1 after a failure.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import tries

ROOT = Path(__file__).resolve().parents[2]
PIECES = [
    *"abz.. //\\\\ ~:*?<>|\"'%\0\n\x1b\x7f", "..", "../", "/", "\\..\\", "C:", "CON", "nul", "com1.txt", "LPT¹",
    "run-0001", "Run-2", "fox", "monday/", "狐", "🦊", "\ud83d", "\udc80", "é", "\u202e", "\u200b", "．．／",
    "x" * 250, "x/" * 300, "%date%", "%date:yyyy-MM-dd hh.mm.ss%", "%date:..%", "%year%", "%width%", "%date:",
    "loop/", "file/", "etc/passwd",
]  # fmt: skip
HARD = ["x" * 250 + "\\fox", "..\\fox", "a\\..\\..\\fox", "loop\\fox", "new\\..\\loop/fox", "file/fox"]
"""Names that were taken in one place and not in another."""
BODIES = [
    b"", b"stop", b'{"node": "1', b'{"node": "\xfc"}', b"[1]", b"null", b"{}", b'{"node": 5}', b'{"node": {}}',
    b'{"node": 1.5}', b'{"node": "5:2"}', b'{"node": "../x"}', b'{"node": "\\ud83d"}', b"[" * 100_000,
    b'{"node": ' + b"9" * 5000 + b"}", b'{"a":' * 100_000, b'{"text": "a fox"}', b'{"text": 5}',
    b'{"text": "{\\"prompts\\": [\\"a fox\\"]}"}', b'{"text": "0: a"}',
]  # fmt: skip
ENDING = ".mp4"


class Answer(Exception):
    """What stands for an error of aiohttp's; a number of 500 and more would be ours."""

    status = 200


def stand_ins(top: Path) -> None:
    """Modules of the host in the places where the pack looks for them."""
    output = top / "output"
    for folder in ("output/grounded/takes/fox/run-0001", "input", "outside"):
        (top / folder).mkdir(parents=True)
    (output / "loop").symlink_to(output / "loop")
    (output / "file").write_text("a file")
    paths = os.environ.get("COMFYUI_PATH")
    if paths:
        sys.path.insert(0, paths)
        given, sys.argv = sys.argv, sys.argv[:1]
        folders = importlib.import_module("folder_paths")
        sys.argv = given
        sys.path.remove(paths)
        folders.set_output_directory(str(output))
        folders.set_input_directory(str(top / "input"))
    else:
        sys.modules["folder_paths"] = module(
            "folder_paths", get_output_directory=lambda: str(output), get_input_directory=lambda: str(top / "input"),
            get_save_image_path=lambda prefix, home, *_: (
                os.path.join(home, os.path.dirname(os.path.normpath(prefix))), os.path.basename(prefix), 1, "", prefix
            ),
        )  # fmt: skip
    errors = {
        f"HTTP{name}": type(name, (Answer,), {"__init__": lambda self, text="": None, "status": number})
        for name, number in (
            ("NotFound", 404), ("BadRequest", 400), ("UnsupportedMediaType", 415), ("UnprocessableEntity", 422)
        )
    }  # fmt: skip
    response = lambda *_, **__: SimpleNamespace(status=200)  # noqa: E731
    web = module(
        "aiohttp.web", Response=response, json_response=response, Request=object, StreamResponse=object,
        RequestPayloadError=type("RequestPayloadError", (Exception,), {}), **errors,
    )  # fmt: skip
    comfy = {name: module(f"comfy.{name}") for name in ("latent_formats", "model_management", "utils")}
    module("comfy", **comfy)
    module("comfy.cli_args", args=SimpleNamespace(disable_metadata=False))
    module("aiohttp", web=web)
    module("server", PromptServer=SimpleNamespace())
    for name, folder in (("pack", ROOT), ("pack.nodes", ROOT / "nodes")):
        module(name, __path__=[str(folder)])


def module(name: str, **values: Any) -> ModuleType:
    """A module that stands there under this name."""
    made = sys.modules[name] = ModuleType(name)
    made.__dict__.update(values)
    return made


def name_of(dice: random.Random) -> str:
    """Pieces in any order."""
    return "".join(dice.choices(PIECES, k=dice.randint(0, 5)))


def ends(give: Callable[[str], Path], name: str, home: Path) -> tuple[str, str]:
    """(how it ends, what is wrong) of a name; the folder that it stands for is made and removed."""
    refused = importlib.import_module("pack.gf_core.errors").TakeError
    try:
        path = give(name)
    except refused as error:
        return "words", "" if error.message and error.fix else "no words"
    except Exception as error:
        return "exception", f"{type(error).__name__}: {error}"
    inside = Path(os.path.normpath(path))
    if home not in inside.parents or ".." in path.parts:
        return "outside", str(path)
    try:
        if path.suffix == ENDING:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path.unlink()
        else:
            path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        return "cannot be made", f"{type(error).__name__}: {error}"
    return "a place", ""


def asked(count: int, dice: random.Random) -> Iterator[tuple[str, str, str]]:
    """(route, how it ends, what is wrong) of whatever is asked of the routes."""
    routes = importlib.import_module("pack.nodes.routes")
    for _ in range(count):
        name = dice.choice(["live", "thumb", "take", "picture", "stop", "convert"])
        numbers = ["1", "-1", "x", "9" * 6000, "0", "५", "5:2", ""]
        body = dice.choice(BODIES)
        if dice.random() < 0.5 and body:
            at = dice.randrange(len(body))
            body = body[:at] + bytes([dice.randrange(256)]) + body[at + 1 :]

        async def read(body: bytes = body) -> bytes:
            return body

        request = SimpleNamespace(
            match_info={"node": dice.choice([*numbers, name_of(dice)]), "index": dice.choice(numbers)},
            query={"take": dice.choice(["fox", name_of(dice)]), "run": dice.choice(["run-0001", name_of(dice)]),
                   "frame": dice.choice(numbers)},
            content_type=dice.choice(["application/json"] * 3 + ["text/plain"]), read=read,
        )  # fmt: skip
        try:
            end = str(asyncio.run(getattr(routes, name)(request)).status)
        except Answer as answer:
            end = str(answer.status)
        except Exception as error:
            yield name, "500", f"{type(error).__name__}: {error} of {vars(request)}"[:400]
            continue
        yield name, end, ""


def main() -> int:
    """Command line."""
    args = tries.asked(__doc__, names=20_000, prefixes=2000, asked=2000, seed=1)
    dice, tally = random.Random(args.seed), tries.Tally()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        stand_ins(top)
        host = importlib.import_module("pack.nodes.host")
        takes = top / "output" / host.TAKES
        for number in range(args.names + args.prefixes):
            name = HARD[number % args.names] if number % args.names < len(HARD) else name_of(dice)
            if number < args.names:
                kind, (end, fault) = "name of a Take", ends(host.take_folder, name, takes)
            else:
                kind = "prefix"
                end, fault = ends(lambda name: host.free_name(name, 64, 64, ENDING), name, top / "output")
            tally.count(f"{kind}: {end}", fault)
            if fault:
                print("   ", ascii(name)[:200])
            if number % 500 == 0:
                shutil.rmtree(takes)
                (takes / "fox" / "run-0001").mkdir(parents=True)
        for kind, end, fault in asked(args.asked, dice):
            tally.count(f"route {kind}: {end}", fault)
        there = [*top.iterdir(), *(top / "input").iterdir(), *(top / "outside").iterdir()]
        strangers = sorted({str(path.relative_to(top)) for path in there} - {"output", "input", "outside"})
        tally.count(f"files outside: {'some' if strangers else 'none'}", ", ".join(strangers))
    return tally.told()


if __name__ == "__main__":
    sys.exit(main())
