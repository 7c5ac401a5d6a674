"""Films that go on from a video: which of its pictures, and the same bytes whichever way the film is made."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from gf_core.config import MemorySpec, Recipe, VideoSpec
from gf_core.engine.film import Film, look, settle
from gf_core.engine.given.video import open_start_video, pictures_to_start
from gf_core.engine.making import preflight
from gf_core.engine.session import Session
from gf_core.errors import GroundedError
from gf_core.memory.presets import PRESETS
from gf_core.take.folder import Take
from gf_core.video import probe, read_frames
from gf_core.video.reader import frame_times

from ..films import film_at

TEXT = "a fox | 2s\ncut: a hen | 1s"


def video(path, levels, fps=16, size=(32, 32)):
    """A video whose n-th picture has the grey `levels[n]`."""
    pictures = [np.full((1, size[1], size[0], 3), level, np.uint8) for level in levels]
    return film_at(path, *pictures, fps=float(fps))


def plain_video(path, levels, fps=16):
    """Another program's video with reordered frames, in the format of its suffix."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"bf": "2", "g": "8"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for level in levels:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), level, np.uint8))))
        out.mux(stream.encode(None))
    return path


def recipe(fps=16, size=(32, 32), **memory):
    return Recipe(replace(MemorySpec(), **memory), video=VideoSpec(*size, fps))


def greys(frames):
    return [round(float(level)) for level in frames.mean((1, 2, 3)) * 255]


@pytest.mark.parametrize(
    ("there", "memory", "frames"),
    [
        (1000, MemorySpec(), 9), (1000, PRESETS["infinity_rope"], 3), (1000, PRESETS["self_forcing"], 18),
        (1000, MemorySpec(recent=60), 21), (1000, MemorySpec(anchors=0, recent=0), 1), (33, MemorySpec(), 9),
        (32, MemorySpec(), 6), (8, MemorySpec(), 2), (4, MemorySpec(), 1), (1, MemorySpec(), 1),
        (20, MemorySpec(chunk=1), 5),
    ],
)  # fmt: skip
def test_a_film_goes_on_from_what_its_memory_holds_in_whole_chunks(there, memory, frames):
    assert pictures_to_start(there, memory) == 1 + 4 * (frames - 1)


@pytest.mark.parametrize(
    ("fps", "every"), [(16, 1), (32, 2), (8, 0.5)], ids=["its own speed", "twice as fast", "half as fast"]
)
def test_the_last_pictures_are_those_shown_at_the_films_speed(tmp_path, fps, every):
    levels = [40 + 2 * n for n in range(80)]
    frames = open_start_video(video(tmp_path / "a.mp4", levels, fps), recipe())
    assert frames.shape == (33, 32, 32, 3)
    # ticks between two pictures show the earlier one
    expected = [levels[int(np.floor(79 - back * every))] for back in range(33)][::-1]
    assert np.abs(np.subtract(greys(frames), expected)).max() <= 2


def test_a_codec_of_more_pictures_per_latent_frame_is_given_as_many(tmp_path):
    path = video(tmp_path / "a.mp4", [60] * 170)
    assert open_start_video(path, recipe(recent=60), time_stride=8).shape[0] == 1 + 8 * 20


@pytest.mark.parametrize(("suffix", "count"), [(".ts", 3), (".mkv", 2)])
def test_recordings_that_were_put_end_to_end_follow_each_other(tmp_path, suffix, count):
    """Matroska's reader takes two for one, and knows no decoding times."""
    parts = [
        [40 + 2 * n for n in range(20)],
        [120 + 2 * n for n in range(25)],
        [200 + 2 * n for n in range(20)],
    ][:count]
    for n, levels in enumerate(parts):
        plain_video(tmp_path / f"{n}{suffix}", levels)
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(b"".join((tmp_path / f"{n}{suffix}").read_bytes() for n in range(count)))
    levels = list(itertools.chain(*parts))
    times, tick = frame_times(joined)
    assert {round(float((b - a) * tick * 16)) for a, b in itertools.pairwise(times)} == {1}
    start = greys(open_start_video(joined, recipe()))
    assert np.abs(np.subtract(start, levels[-33:])).max() <= 3
    whole = [float(frame.mean()) for frame in read_frames(joined)]
    assert np.abs(np.subtract(whole, levels)).max() <= 3


def test_pictures_are_cropped_to_the_films_shape_and_stand_upright(tmp_path):
    picture = np.zeros((1, 64, 128, 3), np.uint8)
    picture[:, :, 64:] = 200
    film_at(tmp_path / "a.mp4", picture.repeat(5, 0))
    (frame,) = open_start_video(tmp_path / "a.mp4", recipe(anchors=0, recent=1))
    assert abs(frame[:, :14].mean() * 255) < 3 and abs(frame[:, 18:].mean() * 255 - 200) < 4
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix that shows it turned clockwise, as telephones write it
    data[at : at + 36] = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    (tmp_path / "turned.mp4").write_bytes(data)
    (frame,) = open_start_video(tmp_path / "turned.mp4", recipe(anchors=0, recent=1))
    assert abs(frame[:14].mean() * 255) < 3 and abs(frame[18:].mean() * 255 - 200) < 4


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_what_a_video_was_trimmed_of_is_not_seen(tmp_path, suffix):
    """Telephones leave it in the file, and say in a list of edits that it is not shown."""
    levels = [40 + 4 * n for n in range(40)]
    path = plain_video(tmp_path / f"a{suffix}", levels)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # its only edit: how long, and from where
    long, begin = (int.from_bytes(data[at + n : at + n + 4], "big") for n in (0, 4))
    for n, value in ((0, long // 2), (4, begin + 10 * 1024)):
        data[at + n : at + n + 4] = value.to_bytes(4, "big")
    path.write_bytes(data)
    assert probe(path).frames == len(list(read_frames(path))) == 20
    start = greys(open_start_video(path, recipe()))
    assert np.abs(np.subtract(start, levels[21:30])).max() <= 3


def test_a_long_video_is_not_read_into_memory(tmp_path, monkeypatch):
    path, read = video(tmp_path / "a.mp4", [100] * 400), []

    def counted(*args):
        for frame in read_frames(*args):
            read.append(frame)
            yield frame

    monkeypatch.setattr("gf_core.engine.given.video.read_frames", counted)
    open_start_video(path, recipe())
    assert len(read) == 33


def start_of(bundle, path):
    return open_start_video(path, bundle.recipe)


@pytest.fixture
def clip(tmp_path):
    return video(tmp_path / "clip.mp4", [60 + 3 * n for n in range(40)])


def made(bundle, films, folder, start, text=TEXT, **options):
    events, run = films.render(bundle, folder, text, start=start, **options)
    return events[-1], run, [r["latents"] for r in run.committed()], run.film.read_bytes()


def test_it_begins_with_the_given_pictures_and_all_of_them_are_remembered(bundle, films, tmp_path, clip):
    start = start_of(bundle, clip)
    assert start.shape[0] == 9, "the memory of this world holds 5 latent frames: one chunk of 3"
    end, run, _, _ = made(bundle, films, tmp_path / "t", start)
    assert end.frames == films.plan(bundle, TEXT).frames + 3 * 4
    assert "given pictures" in end.report["seconds"] and "start image" not in end.report["seconds"]
    given = bundle.codec.encode(start)
    assert torch.equal(run.load_latents(0)[:3], given) and run.load_latents(0).shape[0] == 6
    shown = np.stack(list(read_frames(run.film)))[:9]
    assert np.abs(shown.mean((1, 2, 3)) - np.multiply(greys(start), 1)).max() < 5


def test_the_same_video_elsewhere_is_the_same_film_and_another_is_another(bundle, tmp_path, clip):
    moved = shutil.move(shutil.copy(clip, tmp_path / "b.mp4"), tmp_path / "other.mp4")
    other = video(tmp_path / "c.mp4", [61 + 3 * n for n in range(40)])
    keys = [settle(bundle, TEXT, start_video=path).key for path in (clip, moved, other)]
    assert keys[0] == keys[1] != keys[2]
    assert settle(bundle, TEXT).key not in keys


MEMORIES = {
    "short": MemorySpec(anchors=2, recent=3),
    "several chunks": MemorySpec(anchors=2, recent=7),
    "frame-wise": MemorySpec(anchors=1, recent=2, chunk=1),
    "rolling": PRESETS["rolling_forcing"],
}
OTHERS = ("longlive", "reward_forcing", "memrope", "krea")
EACH = [*MEMORIES, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


@pytest.mark.parametrize("name", EACH)
def test_stopped_and_gone_on_with_it_has_the_same_bytes(bundle, films, tmp_path, clip, name):
    memory = MEMORIES.get(name) or PRESETS[name]
    start = open_start_video(clip, replace(bundle.recipe, memory=memory))
    options = {"memory": memory}
    _, _, *whole = made(bundle, films, tmp_path / "whole", start, **options)
    made(bundle, films, tmp_path / "t", start, until=1, **options)
    shutil.rmtree(tmp_path / "t" / "states", ignore_errors=True)
    _, run, *again = made(bundle, films, tmp_path / "t", start, **options)
    assert again == whole and run.folder.name == "run-0001"


def test_without_it_the_film_is_another(bundle, films, tmp_path, clip):
    start = start_of(bundle, clip)
    _, _, with_it, _ = made(bundle, films, tmp_path / "a", start)
    _, _, brighter, _ = made(bundle, films, tmp_path / "b", start * 0.5)
    assert not set(with_it) & set(brighter)


def test_what_cannot_start_a_film_is_said(bundle, tmp_path, clip):
    (tmp_path / "text.mp4").write_text("no video")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for name in ("none.mp4", "text.mp4", "x" * 300):
        with pytest.raises(GroundedError, match="start video cannot be used"):
            settle(bundle, TEXT, start_video=tmp_path / name)
    for wrong, fix in (
        ({"start_video": tmp_path / "a.png"}, "a picture as the start image"),
        ({"start_image": clip}, "a video is given as the start video"),
        ({"start_image": tmp_path / "none.png"}, "check the name"),
    ):
        with pytest.raises(GroundedError) as caught:
            settle(bundle, TEXT, **wrong)
        assert fix in caught.value.fix
    with pytest.raises(GroundedError, match="a picture or from a video"):
        settle(bundle, TEXT, start_video=clip, start_image=tmp_path / "a.png")


def test_a_long_start_is_decoded_piece_by_piece(bundle, films, tmp_path, clip, monkeypatch):
    memory, sizes = replace(bundle.recipe.memory, recent=7), []
    start = open_start_video(clip, replace(bundle.recipe, memory=memory))
    decoder = type(bundle.codec.decoder())
    decode = decoder.decode
    monkeypatch.setattr(decoder, "decode", lambda self, z: (sizes.append(len(z)), decode(self, z))[1])
    film = Film(bundle, "a fox | 1s", replace(bundle.recipe, memory=memory), start=start)
    with Take.open(tmp_path / "t") as take:
        Session(take, look(film, take.folder)).play(lambda event: None)
        assert take.runs()[0].load_latents(0).shape[0] == 12 and max(sizes) == 3


def test_what_is_given_is_in_the_estimate(bundle, films, tmp_path, clip):
    start = start_of(bundle, clip)
    film = Film(bundle, TEXT, bundle.recipe, start=start)
    told, plain = (preflight(look(one, tmp_path / "t")) for one in (film, Film(bundle, TEXT, bundle.recipe)))
    end, run, _, _ = made(bundle, films, tmp_path / "t", start)
    assert told.frames == end.frames == plain.frames + 12
    stored = sum(file.stat().st_size for file in run.latents(0).parent.iterdir())
    assert told.disk.latents == pytest.approx(stored, rel=0.05)
    again = preflight(look(film, tmp_path / "t"))
    assert again.minutes in (None, 0.0) and again.frames - again.pictures(again.kept) == 0
