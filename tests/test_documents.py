"""What the documents show can be used: links lead somewhere, commands are taken, storyboards read, names are there."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from gf_core.arguments import Parser
from gf_core.cli.parser import COMMANDS, build_parser
from gf_core.cli.small import train
from gf_core.timeline import parse
from gf_core.timeline.verbs import VERBS

from .checkout import files

ROOT = Path(__file__).parent.parent
MEASURED = "docs/benchmarks/README.md"
FOUND = (ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / MEASURED)
PAGES = {str(page.relative_to(ROOT)): page for page in FOUND}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def text(page: str) -> str:
    return PAGES[page].read_text("utf-8")


def blocks(page: str) -> list[str]:
    """The page's blocks of code in no language."""
    return [inside for language, inside in BLOCK.findall(text(page)) if not language]


def commands() -> list[str]:
    """Lines of the blocks that call the program, without their remarks."""
    called = re.compile(r"^(?:\.venv/bin/)?grounded (\w.*)|^torchrun .* -m gf_core (.*)")
    lines = [line for page in PAGES for block in blocks(page) for line in block.splitlines()]
    found = [match for line in lines if (match := called.match(line))]
    return sorted({re.sub(r"\s+#.*", "", match[1] or match[2]) for match in found})


def storyboards() -> list[tuple[str, str]]:
    """Blocks with a segment that has a verb and a length."""
    line = re.compile(rf"^({'|'.join(VERBS)})\b[^:\n]*:.*\|\s*[\d.]+s", re.M)
    return [(page, block) for page in PAGES for block in blocks(page) if line.search(block)]


def slug(heading: str) -> str:
    """What a heading is called in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@cache
def words() -> frozenset[str]:
    """Every word of the repository's code, settings and file names."""
    names = files()
    coded = [ROOT / name for name in names if not name.endswith((".md", ".log"))]
    kinds = (".py", ".js", ".mjs", ".json", ".toml", ".txt")
    read = [path.read_text("utf-8") for path in coded if path.suffix in kinds and path.is_file()]
    return frozenset(re.findall(r"\w+", "\n".join([*names, *read])))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link, anchor in re.findall(r"\]\((?!http)([^)#\s]*)(?:#([^)]+))?\)", text(page)):
        target = PAGES[page].parent / link if link else PAGES[page]
        assert target.exists(), link
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.M)), anchor


def test_everything_measured_is_found():
    folder = PAGES[MEASURED].parent
    named = {MEASURED, *(f"docs/benchmarks/{link}" for link in re.findall(r"\]\((\S+?)\)", text(MEASURED)))}
    figures = {name for name in files() if Path(name).parent == folder.relative_to(ROOT)}
    shown = "".join((ROOT / name).read_text("utf-8") for name in figures if name.endswith(".md"))
    assert len(figures) > 20 and not [name for name in figures - named if Path(name).name not in shown]


@pytest.mark.parametrize("command", commands())
def test_a_command_is_taken(command, monkeypatch):
    args = build_parser().parse_args(shlex.split(command))
    assert args.command in COMMANDS
    if args.command != "train":
        return
    taken = list[Any]()
    reads = Parser.parse_known_args

    def known(self: Parser, *given: Any, **words: Any) -> Any:
        taken.append(reads(self, *given, **words))
        raise InterruptedError

    monkeypatch.setattr(Parser, "parse_known_args", known)
    with pytest.raises(InterruptedError):
        train(args)
    assert taken


@pytest.mark.parametrize(("page", "board"), storyboards())
def test_a_storyboard_reads(page, board):
    assert len(parse(board).segments) > 1, page


@pytest.mark.parametrize("page", PAGES)
def test_names_are_in_the_code(page):
    written = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text(page)))
    names = [name for name in written if re.fullmatch(r"[\w.]+(\(.*\))?", name)]
    parts = {part for name in names for part in re.findall(r"\w+", name) if re.search(r"[a-z]_|_[a-z]", part)}
    assert not sorted(parts - words())


def test_there_is_something_to_look_at():
    assert len(commands()) > 30 and len(storyboards()) >= 4
