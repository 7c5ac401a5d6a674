"""Finished films: same pictures, indexed, metadata that survives, nothing overwritten."""

import json
import os

import av
import numpy as np
import pytest

from gf_core.errors import TakeError
from gf_core.video import FilmWriter, available_codecs, finalise, probe, read_frames, read_metadata
from gf_core.video.boxes import read_layout


def write_film(path, codec="h264", upto=3):
    rng = np.random.default_rng(1)
    with FilmWriter(path, 128, 96, 16, codec=codec) as film:
        for count in (9, 12, 12)[:upto]:
            film.write(rng.integers(0, 255, (count, 6, 8, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2))
    return path


def top_level(path):
    data, offset, kinds = path.read_bytes(), 0, []
    while offset < len(data):
        kinds.append(data[offset + 4 : offset + 8])
        offset += int.from_bytes(data[offset : offset + 4], "big")
    return kinds


def test_pictures_and_timing_are_untouched(tmp_path):
    src = write_film(tmp_path / "film.mp4")
    dst = finalise(src, tmp_path / "out" / "final.mp4")
    for a, b in zip(read_frames(src), read_frames(dst), strict=True):
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


@pytest.mark.parametrize("codec", ["hevc", "av1", "prores"])
def test_other_codecs_are_wrapped_too(tmp_path, codec):
    if codec not in available_codecs():
        pytest.skip(f"this PyAV has no encoder for {codec}")
    suffix = ".mov" if codec == "prores" else ".mp4"
    src = write_film(tmp_path / f"film{suffix}", codec)
    dst = finalise(src, tmp_path / f"final{suffix}")
    assert probe(dst).frames == 33 and probe(dst).playable


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
    first = finalise(write_film(tmp_path / "film.mp4"), tmp_path / "final.mp4", metadata)
    found = read_metadata(first)
    assert found["title"] == "Fox" and found["comment"] == metadata["comment"] and found["seed"] == "7"
    assert (
        json.loads(found["prompt"]) == graph and json.loads(found["workflow"]) == graph and "no" not in found
    )
    again = finalise(first, tmp_path / "again.mp4", {"title": "Fox 2"})
    assert read_metadata(again)["title"] == "Fox 2" and json.loads(read_metadata(again)["workflow"]) == graph


def test_finished_films_are_never_overwritten_unasked(tmp_path):
    src = write_film(tmp_path / "film.mp4", upto=1)
    dst = tmp_path / "final.mp4"
    dst.write_text("precious")
    assert finalise(src, dst).name == "final-2.mp4"
    assert finalise(src, dst).name == "final-3.mp4"
    assert dst.read_text() == "precious"
    assert finalise(src, dst, overwrite=True) == dst and probe(dst).frames == 9
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "film.mp4",
        "final-2.mp4",
        "final-3.mp4",
        "final.mp4",
    ]


def test_torn_tail_is_left_out(tmp_path):
    src = write_film(tmp_path / "film.mp4")
    os.truncate(src, src.stat().st_size - 30)
    info = probe(finalise(src, tmp_path / "final.mp4"))
    assert info.frames == 21 and info.playable


def test_failures_leave_nothing_behind(tmp_path):
    src = write_film(tmp_path / "film.mp4", upto=1)
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(src.read_bytes()[: read_layout(src).header_end])
    with pytest.raises(TakeError, match="no whole frame"):
        finalise(empty, tmp_path / "final.mp4")
    with pytest.raises(TakeError, match="cannot be saved"):
        finalise(src, tmp_path / "final.txt")
    with pytest.raises(TakeError):
        finalise(tmp_path / "none.mp4", tmp_path / "final.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.mp4", "film.mp4"]
