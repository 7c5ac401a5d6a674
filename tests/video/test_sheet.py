"""The contact sheet: size from the grid, frames where they belong, text wrapped inside the page."""

import random
import tracemalloc
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFont

from gf_core.video import SheetRow, contact_sheet
from gf_core.video.png import joined, pack, write_png
from gf_core.video.sheet import BAR, GAP, MARGIN, TEXT_GAP, THUMB_WIDTH, VERB_COLOURS, face, wrap


def solid(colour, count=3, height=48, width=72):
    return [np.full((height, width, 3), colour, np.uint8) for _ in range(count)]


def test_size_follows_the_grid(tmp_path):
    path = contact_sheet(
        [SheetRow("a fox", solid((200, 0, 0))), SheetRow("snow", solid((0, 0, 200), 2))],
        tmp_path / "s.png",
    )
    with Image.open(path) as image:
        assert image.width == MARGIN + BAR + TEXT_GAP + 3 * THUMB_WIDTH + 2 * GAP + MARGIN
        assert image.format == "PNG"
        left, top = MARGIN + BAR + TEXT_GAP, MARGIN
        assert image.getpixel((left + 90, top + 90)) == (200, 0, 0)
        assert image.getpixel((left + 2 * (THUMB_WIDTH + GAP) + 90, top + 90)) == (200, 0, 0)
        one = image.height
    with Image.open(contact_sheet([SheetRow("a fox", solid(9))], tmp_path / "t.png")) as image:
        assert one > image.height + 120


def test_long_prompts_grow_the_page_and_stay_inside(tmp_path):
    rows = [SheetRow("word " * 120, solid(90), "cut", (0, 1.5, 3), "0:00 - 0:05")]
    long = Image.open(contact_sheet(rows, tmp_path / "long.png", title="A film", subtitle="3 shots"))
    short = Image.open(contact_sheet([rows[0]._replace(caption="word")], tmp_path / "short.png"))
    assert long.height > short.height + 100
    pixels = np.asarray(long)
    assert (pixels[:, -MARGIN:] == pixels[0, 0]).all(), "text runs over the right margin"
    assert (pixels[-MARGIN + 1 :] == pixels[0, 0]).all(), "text runs over the foot"
    assert (np.abs(np.asarray(short).astype(int) - VERB_COLOURS["cut"]).max(-1) == 0).any()


def test_a_verb_with_a_number_has_its_verbs_colour(tmp_path):
    with Image.open(contact_sheet([SheetRow("a", solid(90), "back to 2")], tmp_path / "s.png")) as image:
        pixels = np.asarray(image).astype(int)
    assert (np.abs(pixels - VERB_COLOURS["back"]).max(-1) == 0).any()


def greedy(text, font, width):
    """The same, measured letter by letter."""
    lines = [""]
    for word in text.split():
        pieces = [""]
        for letter in word:
            if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
                pieces.append("")
            pieces[-1] += letter
        for number, piece in enumerate(pieces):
            candidate = f"{lines[-1]} {piece}".strip()
            if number or (lines[-1] and font.getlength(candidate) > width):
                lines.append(piece)
            else:
                lines[-1] = candidate
    return lines


def test_lines_are_as_long_as_they_can_be():
    """And a prompt of any length is measured a few times a line."""
    dice, font, measured = random.Random(0), face(17), []

    def word(letters, most):
        return "".join(dice.choice(letters) for _ in range(dice.randint(1, most)))

    for letters in ("abcdefghij klmn", "iIl.,'", "AVAToTy. WA", "狐狸", "mW" * 5 + "i", "e\u0301a\u200d"):
        for width in (12, 150, 500):
            text = " ".join(word(letters, dice.choice((3, 8, 120))) for _ in range(dice.choice((1, 20))))
            assert wrap(text, font, width) == greedy(text, font, width), (letters, width)
    counted = SimpleNamespace(getlength=lambda text: measured.append(len(text)) or font.getlength(text))
    assert len(wrap("x" * 20_000, counted, 1700)) > 50
    assert sum(measured) < 6 * 20_000


def test_wrap_keeps_every_letter():
    font = ImageFont.load_default(16)
    text = "a small red fox " + "x" * 200 + " by the lake"
    lines = wrap(text, font, 150)
    assert all(font.getlength(line) <= 150 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert wrap("", font, 150) == [""]


def test_nothing_to_show_is_an_error(tmp_path):
    with pytest.raises(ValueError):
        contact_sheet([], tmp_path / "s.png")
    with pytest.raises(ValueError):
        contact_sheet([SheetRow("a", [])], tmp_path / "s.png")


def test_strips_become_one_picture(tmp_path):
    draw = np.random.default_rng(0)
    strips = [draw.integers(0, 256, (height, 7, 3), np.uint8) for height in (1, 5, 3)]
    path = tmp_path / "a.png"
    write_png(path, [pack(Image.fromarray(strip)) for strip in strips])
    with Image.open(path) as image:
        image.verify()  # every part's sum
    with Image.open(path) as image:
        assert image.mode == "RGB" and np.array_equal(np.asarray(image), np.concatenate(strips))


@pytest.mark.parametrize("sizes", [(0, 5), (5, 0), (1, 1), (5552, 200_000), (70_000, 65_521)])
def test_sums_of_parts_become_the_sum_of_the_whole(sizes):
    draw = np.random.default_rng(1)
    one, two = (draw.integers(200, 256, size, np.uint8).tobytes() for size in sizes)
    assert joined(zlib.adler32(one), zlib.adler32(two), len(two)) == zlib.adler32(one + two)


def test_what_is_packed_ends_with_its_sum(tmp_path):
    """Readers may stop at the last line and not look at it."""
    strips = [pack(Image.new("RGB", (9, height), (200, height, 255))) for height in (4, 1, 30)]
    write_png(tmp_path / "a.png", strips)
    data, packed, at = (tmp_path / "a.png").read_bytes(), b"", 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        packed += data[at + 8 : at + 8 + size] if data[at + 4 : at + 8] == b"IDAT" else b""
        at += size + 12
    assert len(zlib.decompress(packed)) == sum(strip.size for strip in strips)


def test_a_long_page_is_never_in_memory_whole(tmp_path):
    """Forty strips of half a megabyte each."""
    noise = np.random.default_rng(2)

    def strips():
        for _ in range(40):
            yield pack(Image.fromarray(noise.integers(0, 256, (200, 800, 3), np.uint8)))

    tracemalloc.start()
    write_png(tmp_path / "long.png", strips())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "long.png").stat().st_size > 18e6 and most < 6e6
