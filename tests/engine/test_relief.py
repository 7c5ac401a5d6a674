"""Memory that runs out once, in every kind of work: the film has the bytes of an undisturbed one, and it is said."""

from __future__ import annotations

import errno
import platform
import threading
from dataclasses import replace

import pytest
import torch
from av.error import FFmpegError

from gf_core.builtin import BUILTIN_FOLDER
from gf_core.config import VideoSpec
from gf_core.devices import held_bytes
from gf_core.engine.given.image import open_start_image
from gf_core.engine.meter import Meter, free_memory
from gf_core.engine.relief import Relief, give_back, in_words
from gf_core.engine.report import report_lines
from gf_core.errors import ResourceError
from gf_core.files.tensors import open_file
from gf_core.sampling.director import Director
from gf_core.take.folder import Take
from gf_core.text.small import load_small_encoder
from gf_core.vae.builtin import load_codec
from gf_core.video import FilmWriter

FILM = "a fox runs | 3s\nthen: it jumps | 1.5s"
CARD = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")
COMPUTER = RuntimeError("DefaultCPUAllocator: can't allocate memory")


def failing(real, at, error: Exception = CARD):
    """`real`, which fails once at its `at`-th call, after its work is done: what it changed stays changed."""
    calls = []

    def once(*given, **named):
        calls.append(None)
        result = real(*given, **named)
        if len(calls) == at:
            raise error
        return result

    return once


def text(bundle, patch):
    bundle.text.encode = failing(bundle.text.encode, 1)


def start_image(bundle, patch):
    bundle.codec.encode = failing(bundle.codec.encode, 1, MemoryError())


def sampling(bundle, patch):
    patch.setattr(Director, "_clean", failing(Director._clean, 3))


def decoding(at, part=None):
    """Memory runs out in the `at`-th call, when all of its latents went through the decoder, or the first `part`."""

    def fail(bundle, patch):
        real = type(bundle.codec.decoder())
        broken = failing(real.decode, at, COMPUTER)

        class Failing(real):
            calls = 0

            def decode(self, latents):
                type(self).calls += 1
                return broken(self, latents[:part] if self.calls == at else latents)

        bundle.codec.decoder = Failing

    fail.__name__ = f"decoding {at}, {part}"
    return fail


def encoding(bundle, patch):
    patch.setattr(FilmWriter, "_encode", failing(FilmWriter._encode, 2, MemoryError()))


def play(bundle, films, folder):
    start = torch.full((1, bundle.recipe.video.height, bundle.recipe.video.width, 3), 0.5)
    return films.render(bundle, folder, FILM, start=start)[0][-1]


@pytest.mark.parametrize(
    ("fail", "kind"),
    [
        (text, "encoding the prompts"),
        (start_image, "encoding the film's start"),
        (sampling, "sampling chunk 1: from here on it samples and decodes in turn"),
        # What the failed call left in the decoder must be gone, at the film's start as well, where nothing is replayed.
        # The first chunk takes two calls, as the start lies in front of it.
        (decoding(1), "decoding chunk 0"),
        (decoding(1, 2), "decoding chunk 0"),
        (decoding(2), "decoding chunk 0"),
        (decoding(3), "decoding chunk 1"),
        (decoding(3, 1), "decoding chunk 1"),
        (decoding(4), "decoding chunk 2"),
        (encoding, "encoding chunk 1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_steps_down_once_to_the_same_bytes(make_bundle, films, tmp_path, monkeypatch, caplog, fail, kind):
    whole = play(make_bundle(), films, tmp_path / "whole")
    bundle = make_bundle()
    bundle = replace(bundle, text=type(bundle.text)(), codec=type(bundle.codec)())
    with monkeypatch.context() as patch:
        fail(bundle, patch)
        end = play(bundle, films, tmp_path / "take")
    assert end.path.read_bytes() == whole.path.read_bytes()
    assert len(end.report["relief"]) == 1 and kind in end.report["relief"][0]
    assert caplog.text.count("memory ran out while") == 1 and kind in caplog.text
    assert any(line.startswith("relief") for line in report_lines(end.report))
    assert whole.report["relief"] == []


def test_inside_a_switch_it_stands_and_the_next_render_has_the_bytes(
    make_bundle, films, tmp_path, monkeypatch
):
    """Half of the memory may be under the new prompt by then: a second try would make another film."""
    whole, real, failed = play(make_bundle(), films, tmp_path / "whole"), Director._clean, []

    def once(self, latents, view, kind, *more):
        real(self, latents, view, kind, *more)
        if kind == "recache" and not failed:
            failed.append(kind)
            raise CARD

    monkeypatch.setattr(Director, "_clean", once)
    with pytest.raises(ResourceError, match="ran out of memory while sampling chunk 4"):
        play(make_bundle(), films, tmp_path / "take")
    end = play(make_bundle(), films, tmp_path / "take")
    assert failed and end.path.read_bytes() == whole.path.read_bytes()


def test_a_second_time_in_the_same_work_it_stands(bundle, films, tmp_path):
    class Full(type(bundle.codec.decoder())):
        def decode(self, latents):
            raise torch.OutOfMemoryError("CUDA out of memory")

    bundle.codec.decoder = Full
    with pytest.raises(ResourceError, match="graphics card ran out of memory while finishing chunk 0"):
        play(bundle, films, tmp_path)


@pytest.mark.parametrize("together", [False, True])
def test_what_is_decoded_together_is_so_the_second_time_too(bundle, films, tmp_path, together):
    """A card may sum a call of another length in another order, and the bytes are to be the same."""
    calls = []

    class Once(type(bundle.codec.decoder())):
        def decode(self, latents):
            calls.append(len(latents))
            if len(calls) == 4:
                raise CARD
            return super().decode(latents)

    Once.together = together
    bundle.codec.decoder = Once
    play(bundle, films, tmp_path)
    assert calls[3] == 3 and set(calls[4:]) == {3 if together else 1}


def test_other_errors_pass():
    def broken():
        raise RuntimeError("a bug")

    relief = Relief()
    with pytest.raises(RuntimeError, match="a bug"):
        relief.retried("sampling", "sampling chunk 0", broken, broken)
    assert relief.told == []


def test_from_then_on_the_two_take_turns():
    relief, inside, most = Relief(), set(), []

    def work(name, turn):
        for _ in range(200):
            with turn():
                inside.add(name)
                most.append(len(inside))
                inside.discard(name)

    def full():
        raise CARD

    relief.retried("sampling", "sampling chunk 0", full, lambda: None)
    threads = [
        threading.Thread(target=work, args=("sampler", relief.sampling)),
        threading.Thread(target=work, args=("decoder", relief.decoding)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert max(most) == 1 and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "no more files may be opened while baking"),
        (OSError(errno.ENFILE, "Too many open files in system"), "no more files may be opened while baking"),
        (RuntimeError("can't start new thread"), "the computer ran out of memory while baking"),
        (MemoryError("libx264"), "the computer ran out of memory while baking"),
    ],
)
def test_a_computer_that_is_full_is_said_in_words(error, words):
    with pytest.raises(ResourceError, match=words), in_words("baking"):
        raise error


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
def test_an_encoder_without_memory_is_tried_again_and_then_named(
    bundle, films, tmp_path, monkeypatch, number
):
    def full(self, *_):
        raise FFmpegError(number, "no")

    with monkeypatch.context() as patch:
        patch.setattr(FilmWriter, "_encode", failing(FilmWriter._encode, 2, FFmpegError(number, "no")))
        end = films.render(bundle, tmp_path / "once", FILM)[0][-1]
    assert len(end.report["relief"]) == 1 and not end.cancelled
    monkeypatch.setattr(FilmWriter, "_encode", full)
    with (
        Take.open(tmp_path / "twice") as take,
        pytest.raises(ResourceError, match="ran out of memory") as caught,
    ):
        films.events(bundle, FILM, take)
    assert "codec" not in caught.value.fix


def test_a_meter_without_handles_goes_on(monkeypatch):
    def none(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    meter = Meter()
    monkeypatch.setattr("psutil.Process", none)
    monkeypatch.setattr("psutil.virtual_memory", none)
    meter.note_memory()
    assert meter.peak == 0 and free_memory() == 0


@pytest.mark.parametrize("kind", [None, "text", "encoding", "sampling", "decoding"])
def test_whichever_of_the_two_has_run_out_they_take_turns(kind):
    relief, tries, decoded = Relief(), iter((CARD, None)), threading.Event()

    def work():
        if (error := next(tries)) is not None:
            raise error

    if kind is not None:
        relief.retried(kind, "trying", work)

    def decode():
        with relief.decoding():
            decoded.set()

    thread, in_turn = threading.Thread(target=decode), kind in ("sampling", "decoding")
    with relief.sampling():
        thread.start()
        assert decoded.wait(0.2 if in_turn else 30) != in_turn
    thread.join(30)
    assert decoded.is_set()


DOORS = {
    "text encoder": (
        "gf_core.text.small.SmallTextEncoder.load_state_dict",
        load_small_encoder,
        "text.safetensors",
    ),
    "codec": ("gf_core.vae.builtin.BuiltinCodec.load_state_dict", load_codec, "codec.safetensors"),
    "pickle": ("torch.load", open_file, "m.pt"),
    "picture": ("PIL.Image.open", lambda path: open_start_image(path, VideoSpec(32, 32, 16)), "fox.png"),
}


@pytest.mark.parametrize("error", [MemoryError(), COMPUTER], ids=["of Python", "of torch"])
@pytest.mark.parametrize("door", DOORS)
def test_too_little_memory_is_not_called_damage(tmp_path, monkeypatch, door, error):
    """Else one would download again what is whole."""
    place, opened, name = DOORS[door]
    path = BUILTIN_FOLDER / name
    if not path.exists():
        path = tmp_path / name
        torch.save({"a": torch.zeros(3)}, path)

    def short(*given, **named):
        raise error

    monkeypatch.setattr(place, short)
    with pytest.raises(type(error)):
        opened(path)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be asked for it")
def test_what_is_given_back_goes_to_the_system():
    """Small pieces that were freed below one that is held: the C library keeps their pages for what comes next."""
    pieces = [bytearray(b"x" * 100_000) for _ in range(800)]
    held, full = pieces[-1], held_bytes()
    del pieces
    give_back()
    assert full - held_bytes() > 60e6 and len(held) == 100_000
