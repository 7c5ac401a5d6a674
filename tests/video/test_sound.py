"""Sound read from other files lies at its own time: late starts, gaps, and what comes before the first picture."""

from __future__ import annotations

import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from gf_core.errors import TakeError
from gf_core.video import Audio, place_film, read_audio
from gf_core.video import audio as sound

from ..films import film_at

RATE = 48000
CODECS = {".mp4": "aac", ".mov": "aac", ".mkv": "aac", ".wav": "pcm_s16le", ".ts": "aac", ".m4a": "aac"}


def clip(path, parts, pictures_at=0.0, seconds=2.0):
    """A file with a tone in each of `parts` (start, end in seconds); pictures from `pictures_at` on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=RATE)
        stream.codec_context.layout = "mono"
        if path.suffix not in (".wav", ".m4a"):
            pictures = container.add_stream("libx264", rate=16, options={"bf": "0"})
            pictures.width = pictures.height = 32
            for number in range(round(seconds * 16)):
                frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
                frame.pts, frame.time_base = number + round(pictures_at * 16), Fraction(1, 16)
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        # An encoder of its own for every part: one encoder alone fills gaps, or refuses to go back.
        for start, end in parts:
            encoder = av.CodecContext.create(CODECS[path.suffix], "w")
            encoder.sample_rate, encoder.layout = RATE, "mono"
            encoder.format = "fltp" if encoder.name == "aac" else "s16"
            wave = np.sin(np.arange(round((end - start) * RATE)) / 9).astype(np.float32)[None] * 0.5
            for block in range(0, wave.shape[1] - wave.shape[1] % 1024, 1024):
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(wave[:, block : block + 1024]), "fltp", "mono"
                )
                frame.sample_rate, frame.pts = RATE, round(start * RATE) + block
                frame.time_base = Fraction(1, RATE)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
    return path


def loud(audio):
    """The parts of `audio` that sound, as (start, end) in seconds, blocks of 10 ms."""
    size = audio.rate // 100
    wave = np.abs(audio.samples[0])
    blocks = wave[: len(wave) // size * size].reshape(-1, size).max(1) > 0.1
    edges = np.flatnonzero(np.diff(np.pad(blocks.astype(int), 1)))
    return [(a / 100, b / 100) for a, b in edges.reshape(-1, 2)]


CASES = {
    "from the start": ([(0, 2)], 0.0, [(0, 2)]),
    "late": ([(0.75, 2)], 0.0, [(0.75, 2)]),
    "a gap": ([(0, 0.5), (1.25, 2)], 0.0, [(0, 0.5), (1.25, 2)]),
    "late, two gaps": ([(0.25, 0.5), (0.75, 1), (1.5, 2)], 0.0, [(0.25, 0.5), (0.75, 1), (1.5, 2)]),
    "before the pictures": ([(0, 2.5)], 0.5, [(0, 2)]),
    "a gap across the first picture": ([(0, 0.25), (0.75, 2.5)], 0.5, [(0.25, 2)]),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
@pytest.mark.parametrize("case", CASES)
def test_sound_lies_at_its_time(tmp_path, suffix, case):
    parts, pictures_at, wanted = CASES[case]
    source = clip(tmp_path / f"a{suffix}", parts, pictures_at)
    found = loud(read_audio(source, 3))
    assert np.allclose(found, wanted, atol=0.06), found  # AAC has frames of 21 ms, and one of them in front


@pytest.mark.parametrize("suffix", [".wav", ".m4a"])
def test_sound_without_pictures_counts_from_the_files_start(tmp_path, suffix):
    parts = [(0, 1)] if suffix == ".wav" else [(0.5, 1)]
    assert np.allclose(loud(read_audio(clip(tmp_path / f"a{suffix}", parts))), parts, atol=0.06)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_film_gets_it_at_its_time(tmp_path, suffix):
    film_at(tmp_path / "film.mp4", np.zeros((32, 16, 16, 3), np.uint8))
    source = clip(tmp_path / "sound.mp4", [(0.5, 1), (1.5, 2)])
    placed = place_film(tmp_path / "film.mp4", tmp_path / f"out{suffix}", audio=source)
    again = place_film(placed, tmp_path / "again.mkv")
    for path in (placed, again):
        found = loud(read_audio(path))
        assert np.allclose(found[:2], [(0.5, 1), (1.5, 2)], atol=0.06), found


def test_times_that_are_rounded_make_no_gaps(tmp_path):
    """Matroska counts in milliseconds: its blocks lie up to half of one beside their time."""
    path = clip(tmp_path / "a.mkv", [(0, 2)])
    wave = read_audio(path).samples[0, 4800:-4800]
    assert np.abs(np.diff(wave)).max() < 0.1  # 0.5 sin(n/9) changes by 0.056 at most; a gap would jump


def test_a_gap_of_days_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sound, "LONGEST", 4)
    path = clip(tmp_path / "a.mkv", [(0, 0.5), (500, 500.5)])
    assert read_audio(path).seconds <= 4.1
    assert read_audio(path, 2).seconds == 2


@pytest.mark.parametrize("make", ["text", "none", "folder"])
def test_what_is_no_sound_is_said(tmp_path, make):
    path = tmp_path / "a.wav"
    if make == "text":
        path.write_text("no sound")
    elif make == "folder":
        path.mkdir()
    with pytest.raises(TakeError, match="cannot be read"):
        read_audio(path)


def test_wrong_shapes_are_refused():
    with pytest.raises(TakeError, match="sound of shape") as error:
        Audio(np.zeros((7, 10), np.float32), RATE)
    assert error.value.fix == "give [channels, samples] with 1, 2, 3, 4, 5, 6 or 8 channels"


@pytest.mark.parametrize("channels", sound.LAYOUTS)
@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_every_number_of_channels_goes_into_a_film_and_comes_back(tmp_path, channels, suffix):
    """Of eight that lay one by one PyAV 18 took what lay behind for a ninth, and the process ended."""
    film_at(tmp_path / "film.mp4", np.zeros((9, 32, 32, 3), np.uint8))
    waves = [
        np.sin(np.arange(RATE // 2) * (n + 1) / 300) * 0.3 for n in range(channels)
    ]  # low: one may be a bass
    given = Audio(np.stack(waves).astype(np.float32), RATE)
    found = read_audio(place_film(tmp_path / "film.mp4", tmp_path / f"a{suffix}", audio=given)).samples
    assert found.shape[0] == channels
    off = (found[:, 9000:20000] - given.samples[:, 9000:20000]).std(1)  # each wave's own is 0.2
    assert off.max() < (1e-4 if suffix == ".mov" else 0.1)


def test_sound_that_is_mixed_down_is_told(tmp_path, caplog):
    """Seven channels became two without a word, and of nine it was said that a WAV is no WAV."""
    caplog.set_level("INFO", "grounded")
    for channels in (7, 9):
        with wave.open(str(tmp_path / f"{channels}.wav"), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(np.full(channels * RATE, 3000, "<i2").tobytes())
    assert read_audio(tmp_path / "7.wav").samples.shape == (2, RATE)
    assert "sound of 7 channels: it is mixed down to 2" in caplog.text
    with pytest.raises(TakeError, match="cannot be read") as error:
        read_audio(tmp_path / "9.wav")
    assert error.value.fix == "give WAV, FLAC, MP3 or MP4 of one or two channels"


def test_of_a_block_across_the_first_picture_the_end_is_left(tmp_path):
    """A second in one packet, as samples that are not packed may lie in a file: half of it is too early."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE)
        stream.codec_context.layout = "mono"
        pictures = container.add_stream("libx264", rate=16, options={"bf": "0"})
        pictures.width = pictures.height = 32
        wave = np.repeat(np.array([[9000, -9000]], np.int16), RATE // 2, 1)
        frame = av.AudioFrame.from_ndarray(wave, "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        for packet in stream.encode(frame):
            container.mux(packet)
        for number in range(8, 16):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 16)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
    found = read_audio(tmp_path / "a.mkv")
    assert found.seconds == 0.5 and (found.samples < -0.2).all()
