"""The glossary speaks of what is there."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import gf_core

DOCS = Path(__file__).parent.parent / "docs"


def names() -> list[str]:
    """Dotted names, below the library, in the third column of the glossary."""
    rows = [line.split(" | ") for line in (DOCS / "glossary.md").read_text("utf-8").splitlines()]
    return [name for row in rows if len(row) == 4 for name in re.findall(r"`([\w.]+)`", row[2])]


@pytest.mark.parametrize("name", names())
def test_a_word_of_the_glossary_is_in_the_code(name):
    found, at, parts = gf_core, "gf_core", name.split(".")
    while parts and parts[0] in {
        module.name for module in pkgutil.iter_modules(getattr(found, "__path__", ()))
    }:
        at = f"{at}.{parts.pop(0)}"
        found = importlib.import_module(at)
    for part in parts:
        fields = getattr(found, "__annotations__", {})  # without a default they are no attributes
        found = fields[part] if part in fields else getattr(found, part)


def test_the_glossary_has_words():
    assert len(names()) >= 20
