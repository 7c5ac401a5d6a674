"""The Wan VAE's decoder with its small operations compiled: the pictures of single ones, and told apart from theirs."""

from __future__ import annotations

import copy
import os
import threading

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.exc import BackendCompilerFailed

from gf_core.errors import GroundedError
from gf_core.model import compiled
from gf_core.model.pieces import Fused
from gf_core.vae import wan_pieces
from gf_core.vae.decoders import look_of, remembers
from gf_core.vae.tiles import Tiled
from gf_core.vae.wan import WanDecoder

from .kinds import Counted, wan

LATENTS = torch.randn(6, 16, 3, 2, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def as_written(monkeypatch):
    """What would be compiled goes through the compiler's front, which sees that it is one pass, and runs as written."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    torch._dynamo.reset()
    yield wan_pieces.fused(*compiled.compiler())
    torch._dynamo.reset()


@pytest.fixture
def tiny():
    return wan()


def decoded(decoder, *sizes):
    return torch.cat([decoder.decode_raw(part) for part in LATENTS.split(sizes)])


@pytest.mark.parametrize("sizes", [(6,), (3, 3), (1, 2, 3), (1, 1, 4)])
def test_they_are_the_pictures_of_single_operations(tiny, as_written, sizes):
    """However a film is split, with a state that goes on in either."""
    card = WanDecoder(tiny, channels_last=True)
    wanted = decoded(card, 6)
    decoder = tiny.fused(as_written).decoder()
    assert decoder.together
    got = decoded(decoder, *sizes)
    assert got.shape == wanted.shape and (got - wanted).abs().max() < 1e-5
    there, here = card.snapshot(), decoder.snapshot()
    assert there.keys() == here.keys()
    for name, value in there.items():  # as features are, larger than pictures
        torch.testing.assert_close(here[name], value, rtol=1e-5, atol=3e-5)


def test_in_bfloat16_they_are_no_further_from_float32(tiny, as_written):
    wanted = decoded(tiny.decoder(), 6)
    half = copy.deepcopy(tiny).bfloat16()
    usual = (decoded(WanDecoder(half, channels_last=True), 3, 3) - wanted).norm()
    off = (decoded(half.fused(as_written).decoder(), 3, 3) - wanted).norm()
    assert 0 < off < 1.1 * usual < 0.05 * wanted.norm()


def test_it_goes_on_from_a_snapshot_with_the_same_bytes(tiny, as_written):
    vae = tiny.fused(as_written)
    decoder = vae.decoder()
    whole = decoded(decoder, 3, 1, 2)
    first, other = vae.decoder(), vae.decoder()
    head = first.decode_raw(LATENTS[:3])
    state = first.snapshot()
    before = {name: value.clone() for name, value in state.items()}
    other.restore(state)
    rest = [other.decode_raw(part) for part in LATENTS[3:].split((1, 2))]
    assert torch.equal(torch.cat([head, *rest]), whole)
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_pictures_and_states_are_told_apart_and_single_operations_stay_as_they_are(tiny, as_written):
    """Whoever decodes with the same weights afterwards, eagerly, has the bytes and names of before."""
    before, look = decoded(tiny.decoder(), 6), look_of(tiny)
    other = tiny.fused(as_written)
    assert torch.equal(decoded(tiny.decoder(), 6), before) and not tiny.decoder().together
    assert look_of(tiny) == look == "tiny" and tiny.arithmetic == ""
    assert other.arithmetic == compiled.compiler()[1] == "eager"
    assert other.fingerprint == tiny.fingerprint and other.network is tiny.network
    for told in (look_of, remembers):
        assert told(other) != told(tiny) and told(Tiled(other, 16)) != told(Tiled(tiny, 16))


def test_a_tile_is_decoded_with_the_pieces_of_its_codec(tiny, as_written):
    vae = tiny.fused(as_written)
    tiled = Tiled(vae, 16).decoder()
    assert torch.equal(tiled.decode(LATENTS), vae.decoder().decode(LATENTS))


@pytest.mark.parametrize("tile", [None, 16])
def test_a_film_compiles_nothing_after_its_decoder_got_ready(tiny, tile):
    """For its first chunk, which is shorter inside, and all that follow."""
    counted = Counted()
    codec = tiny.fused(wan_pieces.Fused(counted, "counted"))
    codec = Tiled(codec, tile) if tile else codec
    cells, decoder = (20, 17) if tile else (3, 2), codec.decoder()
    decoder.get_ready(*cells, [3, 3])
    assert not decoder.snapshot()
    ready = set(counted.shapes)
    for _ in range(2):
        decoder.decode(torch.randn(3, 16, *cells))
    assert counted.shapes == ready and len(ready) == 21
    decoder.decode(torch.randn(5, 16, *cells))
    assert counted.shapes > ready, "of another length the low stage is"


def test_every_thread_may_compile_for_many_shapes(as_written):
    """A newer torch keeps its limit, 8, thread by thread, and films are decoded in one of their own."""
    failed = []

    def some():
        piece = compiled.compiler()[0](lambda x: x + 1)
        try:
            with torch.no_grad():
                [piece(torch.ones(rows, 2)) for rows in range(2, 14)]
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=some)
    thread.start()
    thread.join()
    assert not failed


def test_more_shapes_than_torch_allows_are_said_in_words(as_written, monkeypatch):
    monkeypatch.setattr(compiled, "SHAPES", 8)
    monkeypatch.setattr(compiled, "_here", threading.local())
    limits = ("recompile_limit", "cache_size_limit")
    limit = next(name for name in limits if hasattr(torch._dynamo.config, name))
    piece = compiled.compiler()[0](lambda x: x + 1)
    with torch._dynamo.config.patch({limit: 8}), torch.no_grad():
        for rows in range(2, 10):
            assert torch.equal(piece(torch.zeros(rows, 2)), torch.ones(rows, 2))
        with pytest.raises(GroundedError, match="cannot be compiled") as said:
            piece(torch.zeros(20, 2))
        assert "--compile off" in said.value.fix
        assert torch.equal(piece(torch.zeros(5, 2)), torch.ones(5, 2)), "those that there are, go on"


INDUCTORS = type("InductorError", (BackendCompilerFailed,), {"__module__": "torch._inductor.exc"})
"""As newer torches have one of its own."""


@pytest.mark.parametrize("kind", [BackendCompilerFailed, INDUCTORS])
def test_what_cannot_be_compiled_is_said_in_words(as_written, monkeypatch, tmp_path, caplog, kind):
    """As where the disk that code is kept on is full; the small piece that is tried first costs a line."""
    error = kind(lambda: None, OSError(28, "No space left on device"), None)

    def fails(*given):
        raise error

    monkeypatch.setattr(torch, "compile", lambda function, **how: fails)
    monkeypatch.setenv(compiled.FOLDER, str(tmp_path))
    made = compiled._compiler.__wrapped__("eager")
    with pytest.raises(GroundedError, match=r"compiled: OSError: \[Errno 28\] No space left") as said:
        made[0](lambda x: x)(LATENTS)
    assert str(tmp_path) in said.value.fix and "--compile off" in said.value.fix
    monkeypatch.setattr(compiled, "fused", lambda: Fused(*made))
    assert not compiled.works.__wrapped__(LATENTS.device, LATENTS.dtype)
    (line,) = [record.message for record in caplog.records]
    assert "faster: OSError: [Errno 28] No space left" in line


@pytest.mark.parametrize("helps", [True, False])
def test_kept_code_that_stands_in_the_way_is_removed(as_written, monkeypatch, tmp_path, caplog, helps):
    """As a power cut leaves it; where an empty folder does not help, it is not at fault, and stays."""
    kept = tmp_path / "compiled"
    (kept / "ab").mkdir(parents=True)
    (kept / "ab" / "code").touch()
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path))
    monkeypatch.setenv(compiled.FOLDER, str(kept))

    def made(x):
        if not helps or os.environ[compiled.FOLDER] == str(kept):
            raise BackendCompilerFailed(lambda: None, RuntimeError("Failed to import"), None)
        return x + 1

    monkeypatch.setattr(torch, "compile", lambda function, **how: made)
    piece = compiled._compiler.__wrapped__("eager")[0](lambda x: x)
    if helps:
        assert torch.equal(piece(LATENTS), LATENTS + 1)
        (line,) = [record.message for record in caplog.records]
        assert line == f"compiled code in {kept} is damaged, or there is no room: it is compiled anew"
    else:
        with pytest.raises(GroundedError, match="RuntimeError: Failed to import"):
            piece(LATENTS)
    assert (kept / "ab").exists() is not helps and os.environ[compiled.FOLDER] == str(kept)


@pytest.mark.timeout(300)
def test_inductor_makes_one_pass_of_each(monkeypatch, tmp_path):
    """Into rows that lie inside of others, which stay as they are."""
    monkeypatch.setenv("GROUNDED_CACHE", str(tmp_path))
    monkeypatch.delenv(compiled.FOLDER, raising=False)
    compiled._compiler.cache_clear()
    try:
        pieces = wan_pieces.Fused(*compiled.compiler())
        x, aside, run = (torch.randn(rows, 24).bfloat16() for rows in (60, 60, 80))
        bias, gamma, none = torch.randn(24).bfloat16(), torch.randn(24).bfloat16(), torch.zeros(24).bfloat16()
        before = run.clone()
        with torch.no_grad():
            pieces._fill(x, bias, gamma, run[16:76])
            total = pieces._add(x, bias, aside, none)
    finally:
        compiled._compiler.cache_clear()
    wide = (x.float() + bias).movedim(-1, 0)
    wanted = F.silu(F.normalize(wide, dim=0).movedim(0, -1) * 24**0.5 * gamma)
    torch.testing.assert_close(run[16:76].float(), wanted, rtol=2**-7, atol=1e-3)
    assert torch.equal(run[:16], before[:16]) and torch.equal(run[76:], before[76:])
    assert torch.equal(total, (x.float() + bias + aside.float()).bfloat16())


@pytest.mark.gpu
def test_on_a_card_they_are_no_further_from_float32_and_come_again():
    """Compiled for it, in its number type; another decoder gives the same bits."""
    vae, cells = wan(), torch.randn(5, 16, 12, 20, generator=torch.Generator().manual_seed(2))
    wanted = vae.decoder().decode(cells)
    card = copy.deepcopy(vae).to("cuda", torch.bfloat16)
    fused = card.fused(wan_pieces.fused(*compiled.compiler()))
    usual, one, two = (codec.decoder().decode(cells.cuda()).cpu() for codec in (card, fused, fused))
    assert torch.equal(one, two) and not torch.equal(one, usual)
    assert (one - wanted).norm() < 1.1 * (usual - wanted).norm()
