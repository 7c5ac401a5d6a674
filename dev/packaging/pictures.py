"""Makes the pictures that need no host: the one that films start from, and in docs/images the registry's icon and
banner and the first film's sheet.

python -m dev.packaging.pictures

Icon: square, at most 400 pixels. Banner: 21:9. Those of the pack in ComfyUI: dev/comfyui/screenshots.py.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gf_core.arguments import Parser
from gf_core.world import ACTIONS, COLOURS, PLACES, SUBJECTS, TIMES, render
from gf_core.world.script import Character, Place, Script, Segment

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "workflows" / "pictures" / "fox.jpg"
STORYBOARD = ROOT / "workflows" / "storyboards" / "first_film.txt"
IMAGES = ROOT / "docs" / "images"
SIZE = (768, 512)
"""of the built-in model's films, pixels"""
SHEET = 1160
"""pixels across"""
SIDE, BANNER = 400, (1260, 540)
FOX = (70, 145, 390, 465)
"""where it stands in the picture"""
WORDS = (
    ("Grounded Forcing", 62, (245, 246, 248)),
    ("Write a storyboard, get one long film.", 30, (205, 212, 222)),
)


def start_picture() -> Image.Image:
    """A red fox in a meadow at noon, about to walk right: of the world that the built-in model was trained in."""
    fox = Character(SUBJECTS.index("fox"), COLOURS.index("red"), scarf=2, hat=1, patch=1)
    meadow = Place(PLACES.index("meadow"), TIMES.index("noon"), sun=2, layout=1, tint=1)
    walk = next(index for index, action in enumerate(ACTIONS) if "right" in str(action))
    caption = "a red fox walks right in a meadow at noon"
    segment = Segment(0, 1, "start", caption, fox, meadow, walk, 30.0)
    frame = render(Script((segment,), seed=1, kind="single")).frames[0]
    return Image.fromarray(np.asarray(frame, dtype=np.uint8)).resize(SIZE, Image.Resampling.LANCZOS)


def icon(picture: Image.Image) -> Image.Image:
    """The fox alone."""
    return picture.crop(FOX).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def banner(picture: Image.Image) -> Image.Image:
    """The picture, darker to the right, where the name stands."""
    wide, high = BANNER
    scaled = picture.resize((wide, wide * picture.height // picture.width), Image.Resampling.LANCZOS)
    page = scaled.crop((0, scaled.height - high, wide, scaled.height))
    shade = (
        Image.linear_gradient("L")
        .rotate(90)
        .resize(BANNER)
        .point(lambda value: max(0, min(235, 2 * value - 190)))
    )
    page.paste((16, 20, 28), (0, 0), shade)
    draw, y = ImageDraw.Draw(page), high // 2 - 60
    for text, size, colour in WORDS:
        draw.text((wide - 60, y), text, colour, ImageFont.load_default(size=size), anchor="ra")
        y += size + 28
    return page


def sheet() -> Image.Image:
    """What `make demo` shows, narrower."""
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "first_film.mp4"
        subprocess.run([sys.executable, "-m", "gf_core", "render", STORYBOARD, "--out", film], check=True)
        with Image.open(film.with_name("first_film_sheet.png")) as opened:
            high = SHEET * opened.height // opened.width
            return opened.convert("RGB").resize((SHEET, high), Image.Resampling.LANCZOS)


def main() -> None:
    Parser(description=__doc__).parse_args()
    start_picture().save(PICTURE, quality=90)
    with Image.open(PICTURE) as opened:
        picture = opened.convert("RGB")
    icon(picture).save(IMAGES / "icon.jpg", quality=92, optimize=True, subsampling=0)
    banner(picture).save(IMAGES / "banner.jpg", quality=92, optimize=True, subsampling=0)
    sheet().save(IMAGES / "first_film_sheet.webp", quality=90, method=6)


if __name__ == "__main__":
    main()
