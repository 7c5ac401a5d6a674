"""Networks of other families that people try: named, so that a wrong file in the right folder is known at once."""

from __future__ import annotations

from collections.abc import Iterable

_SIGNS = (
    ("input_blocks.0.0.", "a Stable Diffusion network (1.5 or XL), which makes single pictures"),
    ("joint_blocks.0.", "a Stable Diffusion 3 network, which makes single pictures"),
    ("img_in.proj.", "a HunyuanVideo network"),
    ("double_blocks.0.", "a Flux network, which makes single pictures"),
    ("adaln_single.", "an LTX or PixArt network"),
    ("transformer_blocks.0.", "a transformer of another family"),
    ("down_blocks.0.", "a U-Net in diffusers layout, which makes single pictures"),
)
"""What a name begins with, and whose it is; the more telling first."""


def stranger(names: Iterable[str]) -> str:
    """What the network with these tensor names is, in words; empty for one that is not known here either."""
    names = list(names)
    return next((words for sign, words in _SIGNS if any(name.startswith(sign) for name in names)), "")
