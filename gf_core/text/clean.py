"""Prompt cleaning as Wan does it before its tokenizer; leaving it out changes token ids.

Source: Wan-Video/Wan2.1, tokenizer with `clean='whitespace'`.
"""

from __future__ import annotations

import html
import re

import ftfy


def clean_prompt(text: str) -> str:
    """`text` with broken encodings and curly quotes repaired, HTML entities undone, one space between words.

    >>> clean_prompt("  a fox &amp;amp; an\\n owl ")
    'a fox & an owl'
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip()
