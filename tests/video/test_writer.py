"""The growing film: exact frames, whole after each write, alive after a kill, continued byte for byte."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gf_core.config import Encoding, VideoSpec
from gf_core.errors import ResourceError, TakeError
from gf_core.video import FilmWriter, codecs, probe, read_frames
from gf_core.video.boxes import read_layout
from gf_core.video.turns import ordinary_turns

from ..films import encoded, film_at

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 64, 48


def numbered(first, count, width=WIDTH, height=HEIGHT):
    """Frames whose grey level tells their number, with a coloured half."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    for i in range(count):
        frames[i, :, : width // 2] = 10 + 4 * (first + i)
        frames[i, :, width // 2 :] = (200, 40, 90)
    return frames


def numbers(frames):
    return [round((float(frame[8:-8, 8:24].mean()) - 10) / 4) for frame in frames]


def whole(path):
    """Whether nothing follows the last whole fragment."""
    layout = read_layout(path)
    return layout.end == layout.size


def test_every_frame_comes_back_in_order(tmp_path):
    path = tmp_path / "film.mp4"
    with FilmWriter(path, VideoSpec(WIDTH, HEIGHT, 16)) as film:
        film.write(numbered(0, 9))
        film.write(numbered(9, 12))
        film.write(numbered(21, 12))
        assert film.frames == 33
    info = probe(path)
    assert (info.frames, info.fps, info.width, info.height, info.codec) == (33, 16, WIDTH, HEIGHT, "h264")
    assert info.seconds == 33 / 16 and whole(path)
    assert numbers(read_frames(path)) == list(range(33))


def test_film_is_whole_after_each_write(tmp_path):
    path = tmp_path / "film.mp4"
    film = FilmWriter(path, VideoSpec(WIDTH, HEIGHT, 16))
    total = 0
    for count in (9, 1, 12, 3):
        film.write(numbered(total, count))
        total += count
        assert numbers(read_frames(path)) == list(range(total))
    film.close()
    film.close()


@pytest.mark.parametrize("pictures", [0, 5, 12, 18])
def test_a_write_can_be_broken_off_between_any_two_pictures(tmp_path, pictures):
    """12 pictures go in and 12 come out of the encoder, which looks ahead: 24 places to stop."""

    def check():
        asked.append(None)
        if len(asked) > pictures:
            raise InterruptedError

    asked = []
    with FilmWriter(tmp_path / "film.mp4", VideoSpec(WIDTH, HEIGHT, 16)) as film:
        film.write(numbered(0, 9))
        before = film.path.read_bytes()
        with pytest.raises(InterruptedError):
            film.write(numbered(9, 12), check)
        assert film.path.read_bytes() == before and film.frames == 9 and len(asked) == pictures + 1
        film.write(numbered(9, 12))
    whole = film_at(tmp_path / "whole.mp4", numbered(0, 9), numbered(9, 12))
    assert film.path.read_bytes() == whole.read_bytes()


def test_killed_process_leaves_all_written_frames(tmp_path):
    path = tmp_path / "film.mp4"
    program = textwrap.dedent(f"""
        import numpy as np, sys, time
        from gf_core.config import VideoSpec
        from gf_core.video import FilmWriter
        film = FilmWriter({str(path)!r}, VideoSpec({WIDTH}, {HEIGHT}, 16))
        for chunk in range(4):
            frames = np.zeros((5, {HEIGHT}, {WIDTH}, 3), np.uint8)
            frames += np.arange(chunk * 5, chunk * 5 + 5, dtype=np.uint8)[:, None, None, None] * 4 + 10
            film.write(frames)
            print(chunk, flush=True)
        time.sleep(60)
    """)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout is not None
    for chunk in range(4):
        assert child.stdout.readline().strip() == str(chunk)
    child.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    child.wait()
    child.stdout.close()
    assert numbers(read_frames(path)) == list(range(20))
    assert whole(path)


@pytest.mark.parametrize("missing", [1, 40, 200])
def test_torn_tail_costs_the_torn_chunk_only(tmp_path, missing):
    path = film_at(tmp_path / "film.mp4", numbered(0, 9), numbered(9, 12))
    os.truncate(path, path.stat().st_size - missing)
    assert probe(path).frames == 9 and not whole(path)
    assert numbers(read_frames(path)) == list(range(9))


def test_continued_film_has_the_bytes_of_an_unbroken_one(tmp_path):
    whole, broken = tmp_path / "whole.mp4", tmp_path / "broken.mp4"
    chunks = [numbered(0, 9), numbered(9, 12), numbered(21, 12)]
    film_at(whole, *chunks)
    film_at(broken, chunks[0], numbered(40, 12))
    os.truncate(broken, broken.stat().st_size - 7)
    with FilmWriter(broken, VideoSpec(WIDTH, HEIGHT, 16), keep=9) as film:
        assert film.frames == 9
        film.write(chunks[1])
    with FilmWriter(broken, VideoSpec(WIDTH, HEIGHT, 16), keep=21) as film:
        assert film.frames == 21
        film.write(chunks[2])
    assert broken.read_bytes() == whole.read_bytes()


def test_keeping_part_of_a_chunk_is_refused(tmp_path):
    path = film_at(tmp_path / "film.mp4", numbered(0, 9), numbered(9, 12))
    before = path.read_bytes()
    with pytest.raises(TakeError, match="cannot be cut after picture 12"):
        FilmWriter(path, VideoSpec(WIDTH, HEIGHT, 16), keep=12)
    assert path.read_bytes() == before
    with pytest.raises(TakeError, match="missing"):
        FilmWriter(tmp_path / "none.mp4", VideoSpec(WIDTH, HEIGHT, 16), keep=9)


def test_other_settings_do_not_continue_a_film(tmp_path):
    path = film_at(tmp_path / "film.mp4", numbered(0, 9))
    before = path.read_bytes()
    with (
        FilmWriter(path, VideoSpec(32, 32, 16), keep=9) as film,
        pytest.raises(TakeError, match="another size"),
    ):
        film.write(numbered(9, 12, 32, 32))
    assert path.read_bytes() == before


def test_full_disk_leaves_the_film_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "film.mp4"
    film = FilmWriter(path, VideoSpec(WIDTH, HEIGHT, 16))
    film.write(numbered(0, 9))
    before = path.read_bytes()

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ResourceError, match="the disk is full: writing to the film after 9 pictures"):
        film.write(numbered(9, 12))
    assert path.read_bytes() == before
    monkeypatch.undo()
    film.write(numbered(9, 12))
    film.close()
    assert numbers(read_frames(path)) == list(range(21))


def test_odd_sizes_lose_no_pixel(tmp_path):
    path = film_at(tmp_path / "film.mp4", numbered(3, 2, 33, 17))
    assert (probe(path).width, probe(path).height) == (34, 18)
    frame = next(read_frames(path))
    assert abs(int(frame[-1, 4, 0]) - int(frame[0, 4, 0])) < 4


def test_upscale_is_a_whole_number_of_pixels(tmp_path):
    path = tmp_path / "film.mp4"
    small = np.zeros((1, 8, 12, 3), np.uint8)
    small[:, :, 6:] = 230
    film_at(path, small, upscale=8)
    frame = next(read_frames(path))
    assert frame.shape == (64, 96, 3)
    assert frame[32, 20].max() < 12 and frame[32, 76].min() > 218


def test_fractional_speed_keeps_time(tmp_path):
    chunks = [numbered(chunk * 12, 12) for chunk in range(5)]
    info = probe(film_at(tmp_path / "film.mp4", *chunks, fps=float(Fraction(24000, 1001))))
    assert info.frames == 60 and info.fps == Fraction(24000, 1001)


@pytest.mark.parametrize("codec", encoded("h264", "hevc", "av1", "prores"))
def test_codecs_count_and_colour(tmp_path, codec):
    path = tmp_path / ("film.mov" if codec == "prores" else "film.mp4")
    chunks = [numbered(first, count, WIDTH * 2, HEIGHT * 2) for first, count in ((0, 9), (9, 12))]
    film_at(path, *chunks, codec=codec)
    frames = list(read_frames(path))
    assert [round((float(f[8:-8, 8:40].mean()) - 10) / 4) for f in frames] == list(range(21))
    assert [fragment.frames for fragment in read_layout(path).fragments] == [9, 12]
    assert np.abs(frames[15][20, 100].astype(int) - (200, 40, 90)).max() <= 8


def schedules():
    """How each thread of this process is scheduled."""
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}


AT_FIRST = schedules() if sys.platform == "linux" else set()
"""Before any test has opened an encoder, which changes them for good if it does."""


@pytest.mark.skipif(sys.platform != "linux", reason="what threads are scheduled as is Linux's to tell")
@pytest.mark.parametrize("codec", encoded("h264", "hevc", "av1"))
def test_an_encoder_goes_before_nothing_else(tmp_path, codec):
    """SVT-AV1 would, where an administrator runs it, and take the caller with it."""
    meanwhile = set()
    with FilmWriter(tmp_path / "film.mp4", VideoSpec(WIDTH, HEIGHT, 16), Encoding(codec=codec)) as film:
        film.write(numbered(0, 9), check=lambda: meanwhile.update(schedules()))
    assert meanwhile == AT_FIRST == schedules()


@pytest.mark.skipif(sys.platform != "linux", reason="what threads are scheduled as is Linux's to tell")
def test_an_encoder_s_threads_are_scheduled_as_the_one_that_asked():
    """Of any user: a background's schedule stands for the one that only an administrator may give."""
    done, scheduled = threading.Event(), threading.Event()

    def other():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        scheduled.set()
        done.wait(60)

    before, thread = schedules(), threading.Thread(target=other, daemon=True)
    with ordinary_turns():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        thread.start()
        assert scheduled.wait(60) and os.SCHED_BATCH in schedules()
    after = schedules()
    done.set()
    thread.join()
    assert after == before


def test_missing_codec_names_the_ones_there_are(tmp_path):
    with pytest.raises(ResourceError, match="h264"):
        FilmWriter(tmp_path / "film.mp4", VideoSpec(WIDTH, HEIGHT, 16), Encoding(codec="vp6"))
    with pytest.raises(ResourceError, match=r"\.mov"):
        FilmWriter(tmp_path / "film.mp4", VideoSpec(WIDTH, HEIGHT, 16), Encoding(codec="prores"))


def test_wrong_arrays_are_refused(tmp_path):
    with FilmWriter(tmp_path / "film.mp4", VideoSpec(WIDTH, HEIGHT, 16)) as film:
        with pytest.raises(ValueError, match="uint8"):
            film.write(np.zeros((1, HEIGHT, WIDTH, 3), np.float32))
        with pytest.raises(ValueError, match="uint8"):
            film.write(np.zeros((1, WIDTH, HEIGHT, 3), np.uint8))
        film.write(np.zeros((0, HEIGHT, WIDTH, 3), np.uint8))
        assert film.frames == 0


@pytest.mark.parametrize("wide", [False, True])
def test_numpy_1_25_says_what_the_processor_has_in_its_own_way(monkeypatch, wide):
    """Its `show_config` takes no mode; 1.26 and later list what they found."""

    def show_config():
        raise AssertionError("it prints")

    has = SimpleNamespace(__cpu_features__={"AVX2": True, "AVX512F": wide})
    old = SimpleNamespace(show_config=show_config, core=SimpleNamespace(_multiarray_umath=has))
    new = SimpleNamespace(show_config=lambda mode: {"SIMD Extensions": {"found": ["X86_V4"] if wide else []}})
    for numpy in (old, new):
        monkeypatch.setattr("gf_core.devices.np", numpy)
        assert codecs._wide_vectors.__wrapped__() is wide


MEMORY = """
import sys
import numpy as np
from gf_core.config import Encoding, VideoSpec
from gf_core.video import FilmWriter

shades = np.random.default_rng(0).integers(0, 256, (24, 8, 12, 1)).repeat(3, 3)
with FilmWriter(sys.argv[2], VideoSpec(96, 64), Encoding(sys.argv[1])) as film:
    for part in np.split((shades.repeat(8, 1).repeat(8, 2) // 8 + 90).astype(np.uint8), 2):
        film.write(part)
"""


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_small_film_does_not_depend_on_what_lay_in_memory(tmp_path, codec):
    """glibc fills memory as MALLOC_PERTURB_ says; elsewhere the variable does nothing."""
    for fill in ("85", "170"):
        words = [sys.executable, "-c", MEMORY, codec, str(tmp_path / f"{fill}.mp4")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MALLOC_PERTURB_": fill}
        subprocess.run(words, check=True, env=environment)
    assert (tmp_path / "85.mp4").read_bytes() == (tmp_path / "170.mp4").read_bytes()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not say which processors")
@pytest.mark.parametrize("codec", encoded("h264", "hevc", "av1", "prores"))
def test_a_film_does_not_depend_on_how_many_processors_there_are(tmp_path, codec, request):
    """One that goes on where there are fewer, as in a smaller container, is the film that was begun."""
    mine = os.sched_getaffinity(0)
    if len(mine) < 2:
        pytest.skip("there is one processor")
    request.addfinalizer(lambda: os.sched_setaffinity(0, mine))
    pictures = np.repeat(numbered(0, 24, 384), 4, axis=1)
    films = []
    for count in (len(mine), 1):
        os.sched_setaffinity(0, set(sorted(mine)[:count]))
        path = tmp_path / f"{count}.{'mov' if codec == 'prores' else 'mp4'}"
        with FilmWriter(path, VideoSpec(384, pictures.shape[1], 16), Encoding(codec=codec)) as film:
            film.write(pictures)
        films.append(path.read_bytes())
    assert films[0] == films[1]
