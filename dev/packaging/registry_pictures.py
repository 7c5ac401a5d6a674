"""Draws the pack's icon and banner for the registry, docs/images/icon.png and banner.png: registry_pictures.py

Icon: square, at most 400 pixels. Banner: 21:9.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "workflows" / "pictures" / "fox.jpg"
IMAGES = ROOT / "docs" / "images"
SIDE, BANNER = 400, (1260, 540)
FOX = (70, 145, 390, 465)
"""where it stands in the picture"""
WORDS = (
    ("Grounded Forcing", 62, (245, 246, 248)),
    ("Write a storyboard, get one long film.", 30, (205, 212, 222)),
)


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


def main() -> None:
    with Image.open(PICTURE) as opened:
        picture = opened.convert("RGB")
    for name, drawn in (("icon", icon(picture)), ("banner", banner(picture))):
        drawn.quantize(256).save(IMAGES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
