"""Scripts of ComfyUI-H3-Multishot: a prompt per shot, `---` on a line of its own between them, or JSON of the same.

The shots are one take without visible cuts, so each goes on from the one before. How long they are is set in its nodes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...foreign import known_values
from .told import NO_LENGTHS, Shot, Told, some

PROGRAM = "an H3-Multishot script"
BETWEEN = re.compile(r"^---[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class _Script:
    prompts: tuple[str, ...] = ()


def read_script(text: str) -> Told:
    """The script as text."""
    return _told([block.strip().replace('\\"', '"') for block in BETWEEN.split(text) if block.strip()])


def read_prompts(whole: Any) -> Told:
    """The script as JSON: `{"prompts": ["...", ...]}`, or the list alone; raises ValueError for other values."""
    script = known_values(_Script(), whole if isinstance(whole, dict) else {"prompts": whole})
    others = len(whole) - 1 if isinstance(whole, dict) else 0
    return _told(script.prompts, [some(others, "other entry", "other entries")])


def _told(prompts: Sequence[str], left: Sequence[str] = ()) -> Told:
    return Told(PROGRAM, [Shot(prompt) for prompt in prompts], assumed=[NO_LENGTHS], left=left)
