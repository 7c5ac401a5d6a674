"""A part of a growing film as a film of its own, its pictures copied as they are."""

from __future__ import annotations

from pathlib import Path

from ..errors import TakeError
from .boxes import place_fragment, read_layout
from .encoder import timescale_of
from .reader import probe


def cut_out(source: str | Path, out: str | Path, first: int, count: int) -> Path:
    """Write fragments `first`, ..., `first + count - 1` of the growing film `source` to `out` and return it.

    A fragment is what one `FilmWriter.write` left; it decodes alone, so nothing is encoded. An old `out` is replaced.

    Raises:
        TakeError: there is no such film, or it has not that many fragments.
    """
    source, out = Path(source), Path(out)
    ticks = timescale_of(probe(source).fps)[1]
    layout = read_layout(source)
    wanted = layout.fragments[first : first + count]
    if first < 0 or count < 1 or len(wanted) < count:
        raise TakeError(f"{source.name} is too short to cut this part out of it", "render it again")
    frames = 0
    with open(source, "rb") as film, open(out, "wb") as clip:
        clip.write(film.read(layout.header_end))
        for number, fragment in enumerate(wanted):
            film.seek(fragment.offset)
            data = film.read(fragment.end - fragment.offset)
            clip.write(place_fragment(data, number + 1, frames * ticks))
            frames += fragment.frames
    return out
