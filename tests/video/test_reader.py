"""Reading back: ranges, single frames, colours, bounded memory, files that are no films."""

import av
import numpy as np
import pytest

from gf_core.errors import TakeError
from gf_core.video import FilmWriter, pick_frames, place_film, probe, read_frames, reader


def grey(first, count, height=32, width=32):
    return np.broadcast_to(
        (np.arange(first, first + count, dtype=np.uint8) * 4 + 10)[:, None, None, None],
        (count, height, width, 3),
    )


def numbers(frames):
    return [round((float(frame.mean()) - 10) / 4) for frame in frames]


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    with FilmWriter(path, 32, 32, 16) as writer:
        writer.write(grey(0, 9))
        for chunk in range(3):
            writer.write(grey(9 + 12 * chunk, 12))
    return path


@pytest.fixture
def reordered(tmp_path):
    """A clip of a camera or an editor: B-frames, one key frame every ten."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16, options={"bf": "3", "g": "10", "crf": "10"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for frame in grey(0, 45):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "span", [(0, 1), (3, 8), (8, 10), (21, None), (44, 45), (44, 99), (45, 50), (7, 7), (50, None)]
)
@pytest.mark.parametrize("kind", ["film", "reordered"])
def test_ranges_are_exact(request, kind, span):
    path = request.getfixturevalue(kind)
    assert numbers(read_frames(path, *span)) == list(range(45))[slice(*span)]


def test_picked_frames_are_the_asked_ones(film, reordered):
    for path in (film, reordered):
        picked = pick_frames(path, [40, 2, 21, 21, 99, -1])
        assert sorted(picked) == [2, 21, 40]
        assert {index: numbers([frame])[0] for index, frame in picked.items()} == {2: 2, 21: 21, 40: 40}
    assert pick_frames(film, []) == {}


def test_seeking_decodes_one_group_of_pictures(film):
    with reader.open_film(film) as container:
        first = reader._times(film)[33]
        frames = list(reader._decoded(container, first))
    assert len(frames) == 12


def test_colours_come_back(tmp_path):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = colours.repeat(16, 0).repeat(16, 1)[None]
    path = tmp_path / "film.mp4"
    with FilmWriter(path, 128, 96, 16, quality=4) as writer:
        writer.write(picture)
    back = next(read_frames(path)).astype(int)
    inner = np.abs(back - picture[0])[7::16, 7::16]
    assert inner.max() <= 5 and inner.mean() < 1.5
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (
            1,
            1,
            1,
            1,
        )


def test_copies_of_copies_do_not_darken(tmp_path):
    colours = np.random.default_rng(1).integers(20, 236, (6, 8, 3), dtype=np.uint8)
    picture = colours.repeat(16, 0).repeat(16, 1)
    for turn in range(4):
        path = tmp_path / f"{turn}.mp4"
        with FilmWriter(path, 128, 96, 16, quality=0) as writer:
            writer.write(picture[None])
        picture = next(read_frames(path))
    drift = (picture.astype(float) - colours.repeat(16, 0).repeat(16, 1))[7::16, 7::16]
    assert abs(drift.mean()) < 0.5


def test_what_is_no_film_is_said_so(tmp_path):
    with pytest.raises(TakeError, match="no film at"):
        probe(tmp_path / "none.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("not a film at all, but long enough to be looked at")
    with pytest.raises(TakeError, match="not a film"):
        probe(text)
    with pytest.raises(TakeError):
        next(read_frames(text))


def test_damaged_middle_ends_the_film_without_a_crash(film):
    data = bytearray(film.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    film.write_bytes(data)
    assert numbers(read_frames(film))[:9] == list(range(9))


def test_indexed_films_are_not_read_from_the_start(film, reordered, tmp_path, monkeypatch):
    finished = place_film(film, tmp_path / "finished.mp4")
    seen = []
    real = reader.packets

    def counted(container):
        for packet in real(container):
            seen.append(packet.pts)
            yield packet

    for path, most in ((finished, 12 + 1), (reordered, 2 * 10 + 5)):
        reader._times(path)
        monkeypatch.setattr(reader, "packets", counted)
        seen.clear()
        assert numbers(read_frames(path, 40, 41)) == [40]
        assert 0 < len(seen) <= most
        monkeypatch.undo()
