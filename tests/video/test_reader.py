"""Reading back: ranges, single frames, colours, bounded memory, files that are no films."""

import os
import time
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from gf_core.errors import TakeError
from gf_core.video import (
    pick_frames,
    place_film,
    probe,
    read_audio,
    read_frames,
    read_metadata,
    reader,
)
from gf_core.video.boxes import read_layout
from gf_core.video.pixels import ToRgb
from gf_core.video.reader import rate_of

from ..films import film_at


def grey(first, count, height=32, width=32):
    return np.broadcast_to(
        (np.arange(first, first + count, dtype=np.uint8) * 4 + 10)[:, None, None, None],
        (count, height, width, 3),
    )


def numbers(frames):
    return [round((float(frame.mean()) - 10) / 4) for frame in frames]


@pytest.fixture
def film(tmp_path):
    path = film_at(tmp_path / "film.mp4", grey(0, 9), *(grey(9 + 12 * chunk, 12) for chunk in range(3)))
    return path


def clip(path, order, count=45):
    """A clip of a camera or an editor at `path`: B-frames, which lie in the file behind a later picture."""
    options = {"bf": "3", "g": "10", "crf": "10", "x264-params": f"scenecut=0:{order}"}  # greys are no cuts
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16, options=options)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in grey(0, count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux() if packet.size]
    assert times != sorted(times)
    return path


@pytest.fixture
def reordered(tmp_path):
    """Such a clip with one key frame every ten."""
    return clip(tmp_path / "clip.mp4", "b-adapt=0")


@pytest.mark.parametrize("order", ["b-adapt=1", "b-adapt=0:b-pyramid=none", "b-adapt=0:bframes=7:open-gop=1"])
def test_every_range_of_a_reordered_clip_is_whole(tmp_path, order):
    """A picture may be given to the decoder long before those that are shown in front of it."""
    path = clip(tmp_path / "clip.mp4", order, 30)
    for start in range(30):
        assert numbers(read_frames(path, start, start + 9)) == list(range(30))[start : start + 9]
    wanted = [3, 4, 7, 8, 9, 20, 29]
    assert sorted(pick_frames(path, wanted)) == wanted


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
        wanted = reader._look(film).times[33:]
        frames = list(reader._decoded(container, wanted))
    assert len(frames) == 12


@pytest.mark.parametrize(("kind", "most"), [("film", 2 + 4), ("reordered", 10 + 10)])
def test_between_two_picked_frames_only_the_second_ones_group_is_decoded(request, kind, most):
    ticks = []
    picked = pick_frames(request.getfixturevalue(kind), [1, 36], lambda: ticks.append(1))
    assert {at: numbers([frame])[0] for at, frame in picked.items()} == {1: 1, 36: 36}
    assert len(ticks) <= most


@pytest.mark.parametrize(
    ("average", "guessed", "tick", "rate"),
    [
        ("97/6", "16", "1/1000", "16"),  # as PyAV 14 to 17 read our films in Matroska
        ("125/2", "60", "1/1000", "60"),
        ("293/12", "24000/1001", "1/1000", "24000/1001"),
        ("15", "30", "1/1000", "15"),  # a clip whose frames come when they like
        ("97/6", "16", "1/12288", "97/6"),
    ],
)
def test_the_rate_is_not_that_of_rounded_times(average, guessed, tick, rate):
    stream = SimpleNamespace(
        average_rate=Fraction(average), guessed_rate=Fraction(guessed), time_base=Fraction(tick)
    )
    container: Any = SimpleNamespace(streams=SimpleNamespace(video=[stream]))
    assert rate_of(container) == Fraction(rate)


def test_colours_come_back(tmp_path):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = colours.repeat(16, 0).repeat(16, 1)[None]
    path = film_at(tmp_path / "film.mp4", picture, quality=4)
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
        path = film_at(tmp_path / f"{turn}.mp4", picture[None], quality=0)
        picture = next(read_frames(path))
    drift = (picture.astype(float) - colours.repeat(16, 0).repeat(16, 1))[7::16, 7::16]
    assert abs(drift.mean()) < 0.5


def test_what_is_no_film_is_said_so(tmp_path):
    with pytest.raises(TakeError, match="no film at"):
        probe(tmp_path / "none.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("not a film at all, but long enough to be looked at")
    for read in (probe, read_audio):
        with pytest.raises(TakeError, match=r"read: Invalid data found when processing input\n"):
            read(text)
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
        reader._look(path)
        monkeypatch.setattr(reader, "packets", counted)
        seen.clear()
        assert numbers(read_frames(path, 40, 41)) == [40]
        assert 0 < len(seen) <= most
        monkeypatch.undo()


def other_program(path, title=b"Caf\xe9", key="title"):
    """A film of another program, whose text is in Latin-1."""
    with av.open(str(path), "w") as container:
        container.metadata[key] = "C" * len(title)
        stream = container.add_stream("libx264", rate=16)
        stream.width = stream.height = 32
        for frame in grey(0, 4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert data.count(b"C" * len(title)) == 1
    path.write_bytes(data.replace(b"C" * len(title), title))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi"])
@pytest.mark.parametrize("title", [b"Caf\xe9 au lait", b"\xff\xfe\x00\xd8 half", b"\x93quoted\x94"])
def test_text_in_another_encoding_does_not_matter(tmp_path, suffix, title):
    path = other_program(tmp_path / f"a{suffix}", title)
    assert len(list(read_frames(path))) == 4
    if suffix in (".mp4", ".mkv"):
        assert probe(path).frames == 4 and place_film(path, tmp_path / "b.mp4").exists()
        assert "\ufffd" in read_metadata(path)["title"] or "\ufffd" in str(read_metadata(path))


@pytest.mark.parametrize(
    "name", ["act1:dawn.mp4", "http:a.mp4", "file:a.mp4", "cache:a.mp4", "async:a.mp4", "pipe:1.mp4",
             "concat:a.mp4|a.mp4", "data:a.mp4", "subfile,,start,0,end,9,,:a.mp4", "a%03d.mp4", "crypto:a.mp4"],
)  # fmt: skip
def test_a_name_is_only_a_name(film, tmp_path, monkeypatch, name):
    if os.name == "nt":
        pytest.skip("no such names there")
    monkeypatch.chdir(tmp_path)
    film.rename("a.mp4")
    with pytest.raises(TakeError, match="no film at"):
        probe(name)
    placed = place_film("a.mp4", name, metadata={"title": "this one"})
    assert placed.name == name and sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "a.mp4"])
    assert read_metadata(name)["title"] == "this one" and numbers(read_frames(name)) == list(range(45))
    torn = film_at(tmp_path / f"torn {name}", grey(0, 9), grey(9, 9))
    os.truncate(torn, torn.stat().st_size - 9)
    assert numbers(read_frames(torn.name)) == list(range(9))
    assert numbers(pick_frames(torn.name, [3]).values()) == [3]


LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile film.mp4\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfilm.mp4\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    "<Period><AdaptationSet><Representation><BaseURL>film.mp4</BaseURL></Representation></AdaptationSet>"
    "</Period></MPD>",
    "asx": '<asx version="3.0"><entry><ref href="film.mp4"/></entry></asx>',
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".m3u8", ".mpd", ".ffconcat"])
def test_a_list_of_other_files_is_no_film(film, kind, suffix):
    listing = film.with_name(f"list{suffix}")
    listing.write_text(LISTS[kind])
    for read in (probe, read_metadata, lambda path: next(read_frames(path))):
        with pytest.raises(TakeError, match="not a film"):
            read(listing)
    with pytest.raises(TakeError, match="cannot be read"):
        read_audio(listing)


def test_a_codec_that_nobody_knows_is_said(film):
    film.write_bytes(film.read_bytes().replace(b"avc1", b"zzz9"))
    for read in (probe, lambda path: next(read_frames(path)), lambda path: pick_frames(path, [1])):
        with pytest.raises(TakeError, match="codec that is not known"):
            read(film)


def box(kind, payload=b""):
    return (8 + len(payload)).to_bytes(4, "big") + kind + payload


def nested(depth):
    data = b""
    for _ in range(depth):
        data = box(b"traf", data)
    return box(b"moof", data)


BROKEN = {
    "a moof of 1,100 traf": lambda head: head + nested(1100) + box(b"mdat"),
    "a short trun": lambda head: head + box(b"moof", box(b"traf", box(b"trun", b"\0\0"))) + box(b"mdat"),
    "a short tfdt": lambda head: head + box(b"moof", box(b"traf", box(b"tfdt", b"\1"))) + box(b"mdat"),
    "a trun at the end": lambda head: head + box(b"moof", box(b"traf", box(b"trun"))),
    "a length of 1 at the end": lambda head: head + b"\0\0\0\1moof",
    "a length of 2^63": lambda head: head + b"\0\0\0\1moof" + b"\x7f" + b"\xff" * 7,
    "a length of 0": lambda head: head + b"\0\0\0\0moof" + bytes(20),
    "a length of 7": lambda head: head + b"\0\0\0\7moof" + bytes(20),
    "lengths of 8": lambda head: head + box(b"moof") * 2000,
    "only a head": lambda head: head,
    "nothing": lambda head: b"",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_damaged_boxes_end_in_words_or_in_a_shorter_film(film, kind):
    data = film.read_bytes()
    layout = read_layout(film)
    for before in (layout.header_end, layout.fragments[1].end):
        film.write_bytes(BROKEN[kind](data[:before]))
        try:
            assert len(list(read_frames(film))) in (0, 21)
            assert probe(film).frames in (0, 21)
        except TakeError as error:
            assert error.fix
        found = read_layout(film)
        assert found.header_end <= found.end <= found.size


def test_a_last_box_may_reach_to_the_end_of_the_file(film):
    """Its length is 0 then, as programs write that do not know it yet."""
    layout, data = read_layout(film), bytearray(film.read_bytes())
    last = data.rindex(b"mdat") - 4
    data[last : last + 4] = bytes(4)
    film.write_bytes(data)
    assert read_layout(film) == layout and numbers(read_frames(film)) == list(range(45))


def test_a_million_empty_fragments_take_no_time(film):
    film.write_bytes(film.read_bytes() + (box(b"moof") + box(b"mdat")) * 1_000_000)
    begun = time.process_time()
    assert numbers(read_frames(film)) == list(range(45))
    assert time.process_time() - begun < 2


def test_a_film_that_is_replaced_by_one_of_its_size_is_read_anew(tmp_path):
    films = [tmp_path / name for name in ("film.mp4", "other.mp4")]
    for film, count in zip(films, (9, 21)):
        film_at(film, grey(0, count))
    size = max(film.stat().st_size for film in films) + 8
    for when, film in enumerate(films):
        free = size - film.stat().st_size
        with film.open("ab") as file:
            file.write(free.to_bytes(4, "big") + b"free" + bytes(free - 8))
        os.utime(film, (when, when))
    assert [probe(film).frames for film in films] == [9, 21]
    films[1].replace(films[0])
    assert probe(films[0]).frames == 21


@pytest.mark.parametrize("formats", [("rgb24", "yuv420p"), ("yuv420p", "gray16le", "yuv444p")], ids=str)
def test_a_picture_of_another_format_is_read_by_a_matrix_of_its_own(formats):
    """One film may hold several; a graph that was laid for one reads another up to 20 levels off."""
    colours = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    frames = [av.VideoFrame.from_ndarray(colours, "rgb24").reformat(format=name) for name in formats]
    to_rgb = ToRgb()
    for frame in frames:
        assert np.array_equal(to_rgb(frame), ToRgb()(frame))
