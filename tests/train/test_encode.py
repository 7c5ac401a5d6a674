"""Shots become latents clip by clip; what is there whole is kept, what is damaged or of another make is made again."""

import os
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
import torch

from gf_core.cli import main
from gf_core.config import VideoSpec
from gf_core.errors import GroundedError
from gf_core.files.atomic import shortened
from gf_core.train.encode import encode_shots
from gf_core.train.ranks import Ranks
from gf_core.train.sources import open_source
from gf_core.train.sources.shots import Shots

from ..films import film_at

VIDEO = VideoSpec(width=32, height=16, fps=8)


class Codec:
    """The mean brightness of every fourth picture; counts its calls."""

    fingerprint = "codec"

    def __init__(self):
        self.calls = []

    def encode(self, frames):
        self.calls.append(frames)
        return frames[::4].mean(-1)[:, None, ::8, ::8]


def film(path, frames, fps=16, size=(64, 32)):
    """A film whose n-th picture is of brightness 4 n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.stack([np.full((size[1], size[0], 3), 4 * n, np.uint8) for n in range(frames)])
    film_at(path, pictures, fps=float(Fraction(fps)))
    path.with_suffix(".txt").write_text(f"film {path.stem}")
    return path


@pytest.fixture
def shots(tmp_path):
    film(tmp_path / "in" / "a.mp4", 40)  # 20 pictures at 8 fps: two clips of 9
    film(tmp_path / "in" / "deep" / "b.mp4", 20)
    film(tmp_path / "in" / "c.mp4", 6)
    return tmp_path / "in"


def encode(shots, out, codec, **words):
    return encode_shots(Shots(shots), codec, out, VIDEO, 9, **words)


def test_clips_are_cut_and_kept(tmp_path, shots):
    codec, out = Codec(), tmp_path / "out"
    done = encode(shots, out, codec)
    assert (done.made, done.kept, done.short) == (3, 0, 1)
    assert [call.shape for call in codec.calls] == [(9, 16, 32, 3)] * 3
    first, second = codec.calls[:2]
    brightness = [round(float(x) * 255 / 4) for x in (*first.mean((1, 2, 3)), *second.mean((1, 2, 3)))]
    assert brightness == [2 * n for n in range(18)], "every second picture of 16 fps is one of 8"
    source = open_source(out)
    assert [source[n].prompt for n in range(len(source))] == ["film a", "film a", "film b"]
    assert source[0].latents.shape == (3, 1, 2, 4)
    again = encode(shots, out, Codec())
    assert (again.made, again.kept) == (0, 3)


def test_a_slow_film_shows_its_pictures_twice(tmp_path):
    film(tmp_path / "in" / "a.mp4", 5, fps=4)
    codec = Codec()
    encode(tmp_path / "in", tmp_path / "out", codec)
    brightness = [round(float(x) * 255 / 4) for x in codec.calls[0].mean((1, 2, 3))]
    assert brightness == [0, 0, 1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("change", ["damage", "caption", "codec"])
def test_what_is_damaged_or_of_another_make_is_made_again(tmp_path, shots, change):
    out, codec = tmp_path / "out", Codec()
    encode(shots, out, Codec())
    victim = out / "a.mp4-0001.safetensors"
    if change == "damage":
        victim.write_bytes(victim.read_bytes()[:-3] + b"abc")
    elif change == "caption":
        (shots / "a.txt").write_text("another")
    else:
        codec.fingerprint = "another"
    done = encode(shots, out, codec)
    assert done.made == {"damage": 1, "caption": 2, "codec": 3}[change]
    assert len(open_source(out)) == 3 and open_source(out)[1].latents is not None


@pytest.mark.parametrize("frames", [20, 6])
def test_clips_of_a_shot_that_became_shorter_go(tmp_path, shots, frames):
    out = tmp_path / "out"
    encode(shots, out, Codec())
    film(shots / "a.mp4", frames)
    assert encode(shots, out, Codec()).others == 0
    assert len(list(out.glob("a.mp4-*"))) == frames // 18 and len(open_source(out)) == 1 + frames // 18


def test_clips_of_other_shots_stay_and_are_counted(tmp_path, shots):
    out = tmp_path / "out"
    encode(shots, out, Codec())
    (shots / "a.mp4").rename(shots / "new.mp4")
    (shots / "a.txt").rename(shots / "new.txt")
    done = encode(shots, out, Codec())
    assert (done.made, done.kept, done.others) == (2, 1, 2) and len(open_source(out)) == 5


def test_a_table_may_name_files_beside_its_folder_and_clips_stay_in_theirs(tmp_path, shots):
    (shots / "lists").mkdir()
    table = shots / "lists" / "all.csv"
    table.write_text("file,caption\n../a.mp4,a fox\n../deep/b.mp4,a hen\n")
    assert encode(table, tmp_path / "out" / "here", Codec()).made == 3
    assert not list((tmp_path / "out").glob("*.safetensors")) and not (tmp_path / "out" / "deep").exists()
    assert len(open_source(tmp_path / "out" / "here")) == 3


@pytest.mark.parametrize("second", ["../a.mp4", "../deep/a.mp4"])
def test_shots_whose_clips_would_be_called_alike_are_refused(tmp_path, shots, second):
    """They took each other's place, and were encoded anew each time."""
    film(shots / "deep" / "a.mp4", 20)
    (shots / "lists").mkdir()
    (shots / "lists" / "all.csv").write_text(f"file,caption\n../a.mp4,a fox\n{second},a hen\n")
    with pytest.raises(GroundedError, match=r"would both become a\.mp4-0000") as told:
        encode(shots / "lists" / "all.csv", tmp_path / "out", Codec())
    assert "above all files" in told.value.fix and not (tmp_path / "out").exists()


def test_a_stop_leaves_whole_clips_and_the_rest_follows(tmp_path, shots):
    class Stopped(Codec):
        def encode(self, frames):
            if self.calls:
                raise KeyboardInterrupt
            return super().encode(frames)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        encode(shots, out, Stopped())
    assert len(open_source(out)) == 1 and not list(out.rglob("*.part"))
    assert encode(shots, out, Codec()).made == 2


WRITES = """
import sys, time
import torch
from gf_core.train.sources import encoded

write = encoded.Path.write_bytes

def half(path, data):
    write(path, data[:100])
    print("half", flush=True)
    time.sleep(600)

encoded.Path.write_bytes = half
encoded.write_clip(encoded.Path(sys.argv[1]), torch.zeros(3, 1, 2, 4), {"prompt": "a fox"})
"""


@pytest.mark.skipif(os.name == "nt", reason="Nothing is held there: it goes after an hour")
def old(path):
    """Nobody has written to it for two hours."""
    os.utime(path, (time.time() - 7200,) * 2)


def test_what_a_kill_left_half_written_an_hour_ago_goes(tmp_path, shots):
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, out / "deep" / "b.mp4-0000.safetensors"], stdout=subprocess.PIPE
    ) as writer:
        writer.stdout.readline()
        (part,) = (out / "deep").glob(".*")
        assert part.stat().st_size == 100, "nothing but these bytes"
        writer.kill()
    (out / ".b.mp4.0123abcd.part").write_bytes(b"somebody else's")
    old(out / ".b.mp4.0123abcd.part")
    encode(shots, out, Codec())
    assert part.exists(), "another process may be writing it"
    old(part)
    encode(shots, out, Codec())
    assert [path.name for path in out.rglob(".*")] == [".b.mp4.0123abcd.part"]


def test_shots_of_long_names_have_clips_of_their_own(tmp_path):
    """They were refused by the disk, and what was left of them by a kill stayed."""
    names = ["é" * 125 + letter for letter in "ab"]
    for name in names:
        film(tmp_path / "in" / f"{name}.mp4", 40)
    out = tmp_path / "out"
    assert encode(tmp_path / "in", out, Codec()).made == 4
    source = open_source(out)
    assert sorted(source[n].prompt for n in range(4)) == [f"film {name}" for name in names for _ in range(2)]
    for path in list(out.iterdir()):
        part = out / f".{shortened(path.name, 255 - len('..01234567.part'))}.01234567.part"
        part.write_bytes(b"half")
        old(part)
    again = encode(tmp_path / "in", out, Codec())
    assert (again.kept, again.others) == (4, 0) and len(list(out.iterdir())) == 4
    (tmp_path / "in" / f"{names[0]}.txt").unlink()
    (tmp_path / "in" / f"{names[0]}.mp4").rename(tmp_path / "in" / ("x" * 252 + ".ts"))
    with pytest.raises(GroundedError, match="it has no caption") as told:
        Shots(tmp_path / "in")
    assert "a shorter name" in told.value.fix


def test_ranks_share_the_shots(tmp_path, shots):
    parts = [encode(shots, tmp_path / "out", Codec(), ranks=Ranks(rank, 2)) for rank in range(2)]
    assert sum(part.made for part in parts) == 3 and not any(part.kept for part in parts)


def test_an_unreadable_shot_is_told_after_all_others_are_done(tmp_path, shots):
    (shots / "aa.mp4").write_bytes(b"no film")
    (shots / "aa.txt").write_text("nothing")
    with pytest.raises(GroundedError, match=r"1 of 4 shots.*aa\.mp4"):
        encode(shots, tmp_path / "out", Codec())
    assert len(open_source(tmp_path / "out")) == 3


def test_the_command_encodes_with_the_models_codec(tmp_path, shots, monkeypatch, capsys, printed, refused):
    monkeypatch.chdir(tmp_path)
    command = ["encode", "in", "--out", "out", "--size", "32x16", "--frames", "9", "--device", "cpu"]
    said = printed(*command)
    assert "3 shots to 32x16 at 16 fps" in said
    assert "refuse them: 3 of 3, the first of a.mp4: film, c" in said.splitlines()[1]
    source = open_source(tmp_path / "out")
    assert len(source) == 6 and source[0].latents.shape == (3, 16, 2, 4)
    assert torch.isfinite(source[0].latents).all()
    for caption in (tmp_path / "in").rglob("*.txt"):
        caption.write_text("a fox")
    assert main(command) == 0 and "refuse" not in capsys.readouterr().out
    (tmp_path / "in" / "deep" / "b.mp4").unlink()
    assert "2 clips of other shots in out: a training on it takes them, too" in printed(*command)
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main([*command, "--out", "half"]) == 0
    assert "0 clips encoded" in capsys.readouterr().out, (
        "torchrun's ranks share the shots: this one's is short"
    )
    assert "no whole latents" in refused(*command[:-3], "10")
