"""Placed films: same pictures, indexed; sound, chapters and metadata that survive; nothing overwritten."""

import errno
import json
import os
import stat
import sys
import time
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.container import OutputContainer
from av.error import FFmpegError
from PIL import Image

from gf_core.errors import ResourceError, TakeError
from gf_core.video import (
    Audio,
    Chapter,
    place_film,
    probe,
    read_audio,
    read_chapters,
    read_frames,
    read_metadata,
    suffix_for,
)
from gf_core.video.boxes import read_layout
from gf_core.video.metadata import chapters_of, write_chapters

from ..films import encoded, film_at, packets

CHAPTERS = hasattr(OutputContainer, "set_chapters")
"""PyAV knows them from 16 on; before, films have none, and all else is the same."""


def write_film(path, codec="h264", upto=3):
    rng = np.random.default_rng(1)
    blocks = [rng.integers(0, 255, (count, 6, 8, 3), dtype=np.uint8) for count in (9, 12, 12)[:upto]]
    return film_at(path, *(block.repeat(16, 1).repeat(16, 2) for block in blocks), codec=codec)


@pytest.fixture
def film(tmp_path):
    """A film of three chunks, 33 pictures."""
    return write_film(tmp_path / "film.mp4")


@pytest.fixture
def short(tmp_path):
    """A film of its first chunk, 9 pictures."""
    return write_film(tmp_path / "film.mp4", upto=1)


def top_level(path):
    data, offset, kinds = path.read_bytes(), 0, []
    while offset < len(data):
        kinds.append(data[offset + 4 : offset + 8])
        offset += int.from_bytes(data[offset : offset + 4], "big")
    return kinds


def test_pictures_and_timing_are_untouched(tmp_path, film):
    dst = place_film(film, tmp_path / "out" / "final.mp4")
    for a, b in zip(read_frames(film), read_frames(dst), strict=True):
        assert np.array_equal(a, b)
    kinds = top_level(dst)
    assert b"moof" not in kinds and kinds.index(b"moov") < kinds.index(b"mdat")
    assert not read_layout(dst).fragments
    with av.open(str(dst)) as container:
        stream = container.streams.video[0]
        assert stream.frames == 33 and container.duration == round(33 / 16 * 1e6)
        assert float(stream.duration * stream.time_base) == 33 / 16
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (1, 1)
    assert probe(dst).fps == 16


@pytest.mark.parametrize("codec", encoded("hevc", "av1", "prores"))
def test_other_codecs_are_wrapped_too(tmp_path, codec):
    suffix = ".mov" if codec == "prores" else ".mp4"
    src = write_film(tmp_path / f"film{suffix}", codec)
    dst = place_film(src, tmp_path / f"final{suffix}")
    assert probe(dst).frames == len(list(read_frames(dst))) == 33


def test_metadata_survives(tmp_path):
    graph = {"nodes": [{"id": n, "text": "ü — 雪 'quoted' \n"} for n in range(6000)]}
    metadata = {
        "title": "Fox",
        "comment": "a fox\nthen: it looks up",
        "prompt": graph,
        "workflow": graph,
        "seed": 7,
        "no": None,
    }
    first = place_film(write_film(tmp_path / "film.mp4"), tmp_path / "final.mp4", metadata=metadata)
    found = read_metadata(first)
    assert found["title"] == "Fox" and found["comment"] == metadata["comment"] and found["seed"] == "7"
    assert (
        json.loads(found["prompt"]) == graph and json.loads(found["workflow"]) == graph and "no" not in found
    )
    again = place_film(first, tmp_path / "again.mp4", metadata={"title": "Fox 2"})
    assert read_metadata(again)["title"] == "Fox 2" and json.loads(read_metadata(again)["workflow"]) == graph


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_text_does_not_end_at_a_nul(tmp_path, short, caplog, suffix):
    texts = {"timeline": "# x\0y\na fox | 1s\n", "workflow": {"note": "a\0b"}}
    found = read_metadata(place_film(short, tmp_path / f"a{suffix}", metadata=texts))
    assert (
        found["timeline"] == "# x\ufffdy\na fox | 1s\n" and json.loads(found["workflow"]) == texts["workflow"]
    )
    assert ["timeline has a NUL" in line for line in caplog.messages] == [True]


def test_half_a_character_in_a_graph_does_not_cost_the_film(tmp_path, short):
    """A page cuts an emoji in two, and its workflow is given with the film."""
    texts = {"title": "f\udcff", "workflow": {"note": "a\ud83e"}}
    for codec, name in ((None, "a.mp4"), ("png", "b")):
        placed = place_film(short, tmp_path / name, codec=codec, metadata=texts)
        found = (
            read_metadata(placed)
            if codec is None
            else json.loads((placed / "metadata.json").read_text("utf-8"))
        )
        assert found["title"] == "f\ufffd" and json.loads(found["workflow"]) == {"note": "a\ufffd"}


def test_finished_films_are_never_overwritten_unasked(tmp_path, short):
    dst = tmp_path / "final.mp4"
    dst.write_text("precious")
    assert place_film(short, dst).name == "final-2.mp4"
    assert place_film(short, dst).name == "final-3.mp4"
    assert dst.read_text() == "precious"
    there = ["film.mp4", "final-2.mp4", "final-3.mp4", "final.mp4"]
    assert sorted(p.name for p in tmp_path.iterdir()) == there


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
def test_a_kill_while_a_film_is_pushed_to_the_disk_leaves_no_empty_one(tmp_path, short, monkeypatch, links):

    def killed(*_):
        raise KeyboardInterrupt

    def refused(*_):
        raise OSError(errno.EPERM, "this disk makes no hard links")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            place_film(short, tmp_path / "final.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert [place_film(short, tmp_path / "final.mp4").name for _ in range(2)] == ["final.mp4", "final-2.mp4"]


@pytest.mark.parametrize("kind", [None, "png"])
def test_the_third_and_fourth_of_one_name_get_numbers(tmp_path, short, kind):
    name = tmp_path / ("x" if kind else "x.mp4")
    placed = [place_film(short, name, codec=kind) for _ in range(4)]
    assert [path.stem for path in placed] == ["x", "x-2", "x-3", "x-4"]
    assert len({path.stat().st_ino for path in placed}) == 4
    if kind:
        assert all(len(list(path.glob("*.png"))) == 9 for path in placed)
        assert place_film(short, name.with_name("x-2"), codec=kind).name == "x-2-2"
        told = name.with_name("1. " + "a fox runs, " * 20)  # what is behind its dot is no suffix
        assert [place_film(short, told, codec=kind).name for _ in range(2)] == [told.name, f"{told.name}-2"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o007])
@pytest.mark.parametrize("kind", encoded(None, "png", "hevc"))
def test_what_is_placed_can_be_read_by_others(tmp_path, short, kind, mask, request):
    """A temporary file is its maker's alone; a film on a share or behind a server is for whom its maker wants."""
    was = os.umask(mask)
    request.addfinalizer(lambda: os.umask(was))
    place = place_film(short, tmp_path / "out" / ("x" if kind == "png" else "x.mp4"), codec=kind)
    rights = (0o777 if kind == "png" else 0o666) & ~mask
    assert stat.S_IMODE(place.stat().st_mode) == rights
    again = place_film(short, place, codec=kind)
    assert stat.S_IMODE(again.stat().st_mode) == rights


def test_a_full_disk_is_not_taken_for_a_wrong_name(tmp_path, monkeypatch):
    src, out = write_film(tmp_path / "film.mp4", upto=1), tmp_path / "x.mp4"
    out.write_text("precious")
    for error, kind, words in (
        (FFmpegError(errno.ENOSPC, "No space left on device"), ResourceError, "the disk is full: saving"),
        (FFmpegError(errno.EINVAL, "Invalid argument"), TakeError, "x.mp4 cannot be saved"),
        (ValueError("no such stream"), TakeError, "x.mp4 cannot be saved"),
    ):

        def fail(source, part, *given, error=error):
            part.write_bytes(b"half a film")
            raise error

        monkeypatch.setattr("gf_core.video.place.write_film", fail)
        with pytest.raises(kind, match=words) as told:
            place_film(src, out)
        assert ("free some space" in told.value.fix) == (kind is ResourceError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "x.mp4"]
    assert out.read_text() == "precious"


def test_torn_tail_is_left_out(tmp_path, film):
    os.truncate(film, film.stat().st_size - 30)
    dst = place_film(film, tmp_path / "final.mp4")
    assert probe(dst).frames == len(list(read_frames(dst))) == 21


def test_failures_leave_nothing_behind(tmp_path, short):
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(short.read_bytes()[: read_layout(short).header_end])
    with pytest.raises(TakeError, match="no whole picture"):
        place_film(empty, tmp_path / "final.mp4")
    with pytest.raises(TakeError, match="cannot be saved"):
        place_film(short, tmp_path / "final.txt")
    with pytest.raises(TakeError, match=r"a film in av1 does not go into a file called \.mov") as told:
        place_film(short, tmp_path / "final.mov", codec="av1")
    assert told.value.fix == "use .mp4, .mkv"
    with pytest.raises(TakeError):
        place_film(tmp_path / "none.mp4", tmp_path / "final.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.mp4", "film.mp4"]


def tone(seconds, rate=48000, channels=2, hertz=440):
    wave = np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32) * 0.5
    return Audio(np.repeat(wave[None], channels, 0), rate)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_sound_chapters_and_metadata_go_in_without_touching_the_pictures(tmp_path, film, suffix):
    chapters = [Chapter(0, 9 / 16, "1. a fox ü"), Chapter(9 / 16, 33 / 16, "2. cut: a hen\nby " + "ü" * 200)]
    graph = {"1": {"class_type": "GF_SaveVideo"}}
    dst = place_film(
        film, tmp_path / f"out{suffix}", audio=tone(33 / 16), chapters=chapters, metadata={"prompt": graph}
    )
    assert packets(film) == packets(dst)
    found = read_chapters(dst)
    assert [chapter.start_seconds for chapter in found] == ([0, 0.563] if CHAPTERS else [])
    if CHAPTERS:
        assert found[0].title == "1. a fox ü" and found[1].title.startswith("2. cut: a hen by ü")
        assert found[1].title.endswith("...") and found[1].end_seconds == pytest.approx(33 / 16, abs=1e-3)
    assert json.loads(read_metadata(dst)["prompt"]) == graph
    sound = read_audio(dst)
    assert sound.samples.shape[0] == 2 and sound.seconds == pytest.approx(33 / 16, abs=0.05)
    middle = sound.samples[0, 24000:72000]
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.05)
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) * sound.rate / len(middle) == pytest.approx(440, abs=2)
    # Once more: what the film has stays.
    again = place_film(dst, tmp_path / f"again{suffix}", metadata={"title": "again"})
    assert packets(again) == packets(film) and read_chapters(again) == found
    assert read_audio(again).seconds == pytest.approx(33 / 16, abs=0.05)
    assert json.loads(read_metadata(again)["prompt"]) == graph


def test_what_kills_left_of_a_film_of_this_name_goes(tmp_path):
    src = write_film(tmp_path / "film.mp4")
    left, fresh, other = (
        tmp_path / f".{name}.mp4" for name in ("a.mp4.0123abcd", "a.mp4.abcd0123", "b.mp4.0123abcd")
    )
    for part in (left, fresh, other):
        part.write_bytes(b"half")
    for part in (left, other):
        os.utime(part, (time.time() - 4000,) * 2)
    place_film(src, tmp_path / "a.mp4")
    assert not left.exists() and fresh.exists() and other.exists()


def test_before_pyav_16_a_film_has_no_chapters_and_is_made_all_the_same(caplog):
    """14.2 and 15 are what a ComfyUI of 2025 has; their containers know of none."""
    older: Any = SimpleNamespace()
    assert chapters_of(older) == []
    write_chapters(older, [])
    assert not caplog.records
    write_chapters(older, [Chapter(0, 1, "one")])
    assert "chapters left out" in caplog.text


@pytest.mark.skipif(not CHAPTERS, reason="PyAV before 16 writes no chapters")
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("fps", [16, 12.5, Fraction(24000, 1001), 24, 30, Fraction(30000, 1001), 7, 60, 120])
def test_a_chapter_begins_with_the_first_picture_of_its_shot(tmp_path, fps, suffix):
    """Every picture but the first begins a shot; what a player shows at a time is the last picture at or before it."""
    film_at(tmp_path / "film.mp4", np.zeros((25, 16, 16, 3), np.uint8), fps=float(fps))
    shots = [Chapter(at / float(fps), (at + 1) / float(fps), str(at)) for at in range(25)]
    dst = place_film(tmp_path / "film.mp4", tmp_path / f"a{suffix}", chapters=shots)
    for path in (dst, place_film(dst, tmp_path / f"b{suffix}"), place_film(dst, tmp_path / "c.mkv")):
        starts = [chapter.start_seconds for chapter in read_chapters(path)]
        assert [round(start * float(fps)) for start in starts] == list(range(25))
        with av.open(str(path)) as container:
            times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
        # Some cut to whole ms.
        for start in (*starts, *(int(start * 1000 + 1e-6) / 1000 for start in starts)):
            shown = max(n for n, time in enumerate(times) if time <= start + 1e-9)
            assert shown == round(start * float(fps))


def test_sound_in_step_with_the_pictures(tmp_path, film):
    """A click at one second is heard at one second."""
    samples = np.zeros((1, 48000 * 33 // 16), np.float32)
    samples[:, 48000:48200] = 0.9
    for name in ("a.mp4", "a.mov"):
        heard = read_audio(place_film(film, tmp_path / name, audio=Audio(samples, 48000))).samples[0]
        assert abs(int(np.argmax(np.abs(heard) > 0.3)) - 48000) < 100


@pytest.mark.parametrize(("seconds", "says"), [(1.0, "silence follows"), (4.0, "left out")])
def test_sound_is_cut_or_padded_and_that_is_said(tmp_path, film, caplog, seconds, says):
    caplog.set_level("INFO", "grounded")
    wav = tmp_path / "sound.mka"
    with av.open(str(wav), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=22050)
        stream.codec_context.layout = "mono"
        part = (tone(seconds, 22050, 1).samples * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
        frame.sample_rate = 22050
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    dst = place_film(film, tmp_path / "final.mp4", audio=wav)
    sound = read_audio(dst)
    assert (sound.samples.shape[0], sound.rate) == (1, 22050)
    assert sound.seconds == pytest.approx(33 / 16, abs=0.06)
    assert sum(says in line for line in caplog.messages) == 1


def test_files_without_sound_are_refused(tmp_path, short):
    with pytest.raises(TakeError, match="no sound"):
        place_film(short, tmp_path / "final.mp4", audio=short)
    with pytest.raises(TakeError, match="cannot be read"):
        place_film(short, tmp_path / "final.mp4", audio=tmp_path / "none.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("codec", encoded("h264", "hevc", "hevc 10-bit", "av1", "av1 10-bit", "prores"))
def test_other_codecs_encode_again_from_the_frames_given(tmp_path, codec):
    small = np.random.default_rng(2).integers(0, 255, (33, 12, 16, 3), dtype=np.uint8)
    film_at(tmp_path / "film.mp4", small, quality=0, upscale=8)
    wanted = list(read_frames(tmp_path / "film.mp4"))
    dst = place_film(
        tmp_path / "film.mp4", tmp_path / "final", codec=codec, quality=10, frames=iter([small[:20], small[20:]]),
        audio=tone(33 / 16), chapters=[Chapter(0, 1, "one")], metadata={"workflow": {}},
    )  # fmt: skip
    info = probe(dst)
    assert dst.suffix == suffix_for(codec) and (info.frames, info.fps, info.width) == (33, 16, 128)
    assert ("10" in info.pix_fmt) == ("10-bit" in codec or codec == "prores")
    for a, b in zip(read_frames(dst), wanted, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 8
    assert [chapter.title for chapter in read_chapters(dst)] == (["one"] if CHAPTERS else [])
    assert "workflow" in read_metadata(dst)
    assert read_audio(dst).seconds == pytest.approx(33 / 16, abs=0.05)


def test_another_quality_without_frames_encodes_the_films_own_pictures(tmp_path, film, caplog):
    caplog.set_level("INFO", "grounded")
    worse = place_film(film, tmp_path / "worse.mp4", quality=45)
    assert probe(worse).frames == 33 and worse.stat().st_size < film.stat().st_size / 2
    assert any("encoded again" in line for line in caplog.messages)
    same = place_film(film, tmp_path / "same.mp4", codec="as rendered", quality=45)
    assert packets(same) == packets(film) == packets(place_film(film, tmp_path / "own.mp4", codec="h264"))


def shown_alone(path):
    """Numbers of the pictures that decode alone: each is decoded without those before it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        keys = [packet.pts for packet in container.demux(stream) if packet.size and packet.is_keyframe]
        return [round(float(key * stream.time_base) * 16) for key in keys]


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("codec", encoded("h264", "hevc", "hevc 10-bit", "av1", "av1 10-bit", "prores"))
def test_a_film_that_is_encoded_again_can_be_jumped_in(tmp_path, codec, given):
    pictures = (
        (np.arange(81, dtype=np.uint8) * 2)[:, None, None, None].repeat(64, 1).repeat(64, 2).repeat(3, 3)
    )
    film_at(tmp_path / "run.mp4", pictures)
    cuts = [0, 37, 50, 81]
    chapters = [Chapter(a / 16, b / 16, "") for a, b in pairwise(cuts)]
    src = tmp_path / "run.mp4"
    if not given:  # those that the film has
        src, chapters = place_film(src, tmp_path / "has.mp4", chapters=chapters), []
    keys = shown_alone(place_film(src, tmp_path / "out", codec=codec, quality=20, chapters=chapters))
    assert {0, 37, 50} <= set(keys) or not (given or CHAPTERS)
    assert max(b - a for a, b in pairwise([*keys, 81])) <= 32


@pytest.mark.parametrize("fps", [16, 12.5, Fraction(24000, 1001), 24, 30, Fraction(30000, 1001), 60, 7])
@pytest.mark.parametrize("sound", [False, True])
def test_a_film_comes_out_of_matroska_as_it_went_in(tmp_path, fps, sound):
    blocks = [np.zeros((count, 16, 16, 3), np.uint8) for count in (9, 12, 12)]
    film_at(tmp_path / "run.mp4", *blocks, fps=float(fps))
    audio = tone(33 / float(fps)) if sound else None
    told = {"title": "Dawn", "timeline": "a fox | 1s", "grounded": "{}"}
    first = place_film(tmp_path / "run.mp4", tmp_path / "first.mp4", audio=audio, metadata=told)
    path = first
    for name in ("a.mkv", "b.mkv", "c.mov", "d.mkv", "e.mp4"):
        path = place_film(path, tmp_path / name)
    assert probe(path).fps == probe(first).fps == Fraction(fps).limit_denominator(1001)
    for film in (first, path):
        with av.open(str(film)) as container:
            base = container.streams.video[0].time_base
            times = [packet.pts * base for packet in container.demux(video=0) if packet.size]
        assert all(abs(b - a - 1 / probe(first).fps) <= base for a, b in pairwise(times))
    assert packets(path) == packets(first) and read_metadata(path) == read_metadata(first) == told


def test_uneven_times_are_left_as_they_are(tmp_path):
    """A clip whose frames come when they like, as telephones make them."""
    times = [0, 40, 71, 130, 131, 260]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"bf": "0"})
        stream.width = stream.height = 32
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(place_film(tmp_path / "a.mkv", tmp_path / "b.mp4"))) as container:
        found = [packet.pts * packet.time_base for packet in container.demux(video=0) if packet.size]
    assert [round((time - found[0]) * 1000) for time in found] == times


def test_frames_of_another_film_are_refused(tmp_path, short):
    with pytest.raises(TakeError, match="same film"):
        place_film(short, tmp_path / "out.mp4", quality=20, frames=[np.zeros((1, 50, 50, 3), np.uint8)])
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_names_that_cannot_hold_the_codec(tmp_path, short):
    with pytest.raises(TakeError, match=r"\.mov"):
        place_film(short, tmp_path / "out.mp4", codec="prores")


def test_a_name_that_is_too_long_is_said_before_anything_is_written(tmp_path, short):
    with pytest.raises(TakeError, match="it has 257 bytes"):
        place_film(short, tmp_path / "films" / ("x" * 253))
    assert not (tmp_path / "films").exists()


@pytest.mark.parametrize("kind", encoded("png", "exr"))
def test_folders_of_pictures(tmp_path, short, kind):
    folder = place_film(short, tmp_path / "stills", codec=kind, metadata={"workflow": {"a": 1}})
    assert place_film(short, tmp_path / "stills", codec=kind).name == "stills-2"
    pictures = sorted(folder.glob(f"*.{kind}"))
    assert [path.name for path in pictures] == [f"{n:06d}.{kind}" for n in range(9)]
    assert json.loads(json.loads((folder / "metadata.json").read_text())["workflow"]) == {"a": 1}
    frames = list(read_frames(short))
    if kind == "png":
        with Image.open(pictures[0]) as image:
            assert json.loads(image.text["workflow"]) == {"a": 1}
            assert np.array_equal(np.asarray(image), frames[0])
        return
    with av.open(str(pictures[3])) as container:
        linear = next(container.decode(video=0)).to_ndarray()
    value = frames[3] / 255
    assert np.allclose(
        linear, np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4), atol=1e-6
    )
