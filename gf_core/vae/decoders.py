"""What keys, estimates and replays must know of decoders: whose they are, what they hold, how far back they look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..files.fingerprint import combine

if TYPE_CHECKING:
    from .base import LatentCodec, StreamDecoder

Decoder = Literal["wan", "taehv", "builtin"]

DECODE_VALUES: dict[Decoder, int] = {"wan": 4000, "taehv": 1300, "builtin": 500}
"""Numbers held per picture pixel while a chunk is decoded, the state between chunks included."""
STATE_VALUES: dict[Decoder, int] = {"wan": 2365, "taehv": 84, "builtin": 7}
"""Numbers in a state per picture pixel; counted in the decoders' own states."""
REACH: dict[Decoder, int] = {"wan": 38, "taehv": 8, "builtin": 2}
"""Latent frames that decide a state: after so many, a decoder is in the same state whatever came before, to the bit.

Each causal layer looks a fixed number of frames back, so the sum of them bounds the whole; measured, see
tests/engine/test_decoders.py.
"""

FORGETFUL: frozenset[Decoder] = frozenset({"builtin"})
"""Whose decoders can begin anew inside a film (`begin_apart`); others' first latent frame is a single picture."""

OVERLAP = 8
"""Latent cells that neighbouring tiles share."""


def spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Tiles of one size along `length` latent cells, evenly laid, overlapping by `OVERLAP` or more: (start, stop)."""
    if length <= tile:
        return [(0, length)]
    # The fewest tiles that share `OVERLAP` cells or more.
    count = -(-(length - OVERLAP) // (tile - OVERLAP))
    starts = (round(n * (length - tile) / (count - 1)) for n in range(count))
    return [(start, start + tile) for start in starts]


def look_of(codec: LatentCodec) -> str:
    """Tells pictures of the same latents apart: whose weights they are, and who rounds where a codec says so."""
    told = getattr(codec, "arithmetic", "")
    return combine([codec.fingerprint, told]) if told else codec.fingerprint


def kind_of(codec: LatentCodec) -> Decoder | None:
    """What `codec` says that it is; None for one that does not say."""
    return getattr(codec, "kind", None)


def chunks_within_reach(codec: LatentCodec, chunk: int) -> float:
    """Chunks of `chunk` latent frames after which the state is settled; infinity where that is not known."""
    kind = kind_of(codec)
    return float("inf") if kind is None else -(-REACH[kind] // chunk)


def forgets(codec: LatentCodec) -> bool:
    """Whether its decoder can begin anew inside a film."""
    return kind_of(codec) in FORGETFUL


def remembers(codec: LatentCodec) -> str:
    """Tells states of decoders behind the same latents apart, where `look_of` does not say enough.

    Earlier versions never began anew inside a film, so one that can left other states there.
    """
    return f"{look_of(codec)} apart" if forgets(codec) else look_of(codec)


def begin_apart(decoder: StreamDecoder) -> None:
    """What comes next knows nothing of the pictures so far: decode it as if they had not been, where that can be done.

    Latents say what changes. Those of a scene, and of going back, were made without what lies in front of them, and
    under a past that they do not know they would come out with its ghost over them.
    """
    forget = getattr(decoder, "forget", None)
    if forget is not None:
        forget()
