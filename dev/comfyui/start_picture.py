"""Writes workflows/pictures/fox.jpg: one picture of the world that the built-in model was trained in.

python -m dev.comfyui.start_picture
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from gf_core.world import ACTIONS, COLOURS, PLACES, SUBJECTS, TIMES, render
from gf_core.world.script import Character, Place, Script, Segment
from tests.comfyui.hosts import ROOT

SIZE = (768, 512)
"""of the built-in model's films, pixels"""
TARGET = ROOT / "workflows" / "pictures" / "fox.jpg"


def start_picture() -> Image.Image:
    """A red fox in a meadow at noon, about to walk right."""
    fox = Character(SUBJECTS.index("fox"), COLOURS.index("red"), scarf=2, hat=1, patch=1)
    meadow = Place(PLACES.index("meadow"), TIMES.index("noon"), sun=2, layout=1, tint=1)
    walk = next(index for index, action in enumerate(ACTIONS) if "right" in str(action))
    caption = "a red fox walks right in a meadow at noon"
    segment = Segment(0, 1, "start", caption, fox, meadow, walk, 30.0)
    frame = render(Script((segment,), seed=1, kind="single")).frames[0]
    return Image.fromarray(np.asarray(frame, dtype=np.uint8)).resize(SIZE, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    start_picture().save(TARGET, quality=90)
