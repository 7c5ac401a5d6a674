"""Prompt cleaning as Wan does it before its tokenizer; leaving it out changes token ids.

Source: Wan-Video/Wan2.1, tokenizer with `clean='whitespace'`.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable
from functools import lru_cache

log = logging.getLogger("grounded")


def clean_prompt(text: str) -> str:
    """`text` with broken encodings and curly quotes repaired, HTML entities undone, one space between words.

    >>> clean_prompt("  a fox &amp;amp; an\\n owl ")
    'a fox & an owl'
    """
    text = html.unescape(html.unescape(_repair()(text))).strip()
    return re.sub(r"\s+", " ", text).strip()


@lru_cache(maxsize=1)
def _repair() -> Callable[[str], str]:
    """What repairs encodings; hosts that installed none of our requirements still run."""
    try:
        import ftfy
    except ImportError:
        log.warning("ftfy is not installed: curly quotes and broken encodings in prompts stay as they are")
        return str
    return ftfy.fix_text
