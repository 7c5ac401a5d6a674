"""Decoding in tiles: a picture is made piece by piece, so that a large decoder needs a small card.

Every tile is a stream of its own, from the film's first frame to its last. Between its turns a tile's state waits in
the computer's memory, so a card holds the state and the work of one tile at a time. Tiles overlap, and where they do
their pictures are blended, linearly over the width of the overlap.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import GroundedError
from ..files.fingerprint import combine
from .base import LatentCodec, StreamDecoder, check_latents, foreign_state
from .decoders import OVERLAP, begin_apart, kind_of, spans

SMALLEST = 2 * OVERLAP


def shares(places: Sequence[tuple[int, int]], stride: int) -> list[Tensor]:
    """How much of every pixel of an axis is each tile's: ramps at edges that others lie behind; together they are 1."""
    length, ramp = places[-1][1] * stride, OVERLAP * stride
    windows = torch.zeros(len(places), length)  # tiles pixels
    for window, place in zip(windows, places):
        start, stop = (side * stride for side in place)
        # Centres of pixels, so that no share is 0.
        at = torch.arange(start, stop) + 0.5
        left = at - start if start else torch.full_like(at, ramp)
        right = stop - at if stop < length else torch.full_like(at, ramp)
        window[start:stop] = torch.minimum(left, right).clamp(max=ramp)
    # Where tiles share more than `OVERLAP`, ramps have no fixed sum.
    windows /= windows.sum(0)
    return [window[start * stride : stop * stride] for window, (start, stop) in zip(windows, places)]


class Tiled:
    """A codec whose films are decoded in tiles; pictures are encoded whole, as by the codec itself."""

    def __init__(self, codec: LatentCodec, tile: int) -> None:
        """tile: side of a tile in latent cells. Raises GroundedError: tiles so small that their overlaps meet."""
        if tile < SMALLEST:
            raise GroundedError(f"tiles of {tile} latent cells are too small", f"give {SMALLEST} or more")
        self.codec, self.tile = codec, tile
        self.channels, self.spatial_stride = codec.channels, codec.spatial_stride
        self.time_stride, self.kind = codec.time_stride, kind_of(codec)
        self.encode = codec.encode
        self.fingerprint = combine([codec.fingerprint, f"tiles of {tile}, {OVERLAP} shared"])
        """Tiles change pictures a little."""
        self.arithmetic: str = getattr(codec, "arithmetic", "")

    def decoder(self) -> TiledDecoder:
        """A stream for one film."""
        return TiledDecoder(self.codec, self.tile)


def whole(codec: LatentCodec) -> LatentCodec:
    """The codec without tiles."""
    return codec.codec if isinstance(codec, Tiled) else codec


class TiledDecoder:
    """Decodes one film in any number of calls, tile by tile."""

    def __init__(self, codec: LatentCodec, tile: int) -> None:
        self._codec, self._tile = codec, tile
        self.together: bool = getattr(codec.decoder(), "together", False)
        self._states: dict[str, dict[str, Tensor]] = {}
        """Of every tile, in the computer's memory."""
        self._apart = False

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `f c h w` -> frames `t H W 3` in 0..1, in the computer's memory."""
        check_latents(latents, self._codec.channels)
        stride = self._codec.spatial_stride
        rows, columns = (spans(side, self._tile) for side in latents.shape[2:])
        row_shares, column_shares = (shares(places, stride) for places in (rows, columns))
        height, width = (side * stride for side in latents.shape[2:])
        out = torch.zeros(0, height, width, 3)
        for (top, bottom), row_share in zip(rows, row_shares):
            for (left, right), column_share in zip(columns, column_shares):
                part = latents[:, :, top:bottom, left:right].contiguous()
                pictures = self._decode_tile(f"{top}-{left}", part).cpu().float()
                if not len(out):
                    out = torch.zeros(len(pictures), height, width, 3)
                here = out[:, top * stride : bottom * stride, left * stride : right * stride]
                # Rows' shares add up to 1, and columns' too: so do their products over the grid.
                here += pictures * (row_share[:, None] * column_share)[..., None]
        # Only now, as every tile of this call begins apart.
        self._apart = False
        return out

    def get_ready(self, height: int, width: int, calls: Sequence[int]) -> None:
        """What the tiles' decoder tries once for a size: tiles have one, each way."""
        if (ready := getattr(self._codec.decoder(), "get_ready", None)) is not None:
            ready(min(height, self._tile), min(width, self._tile), calls)

    def _decode_tile(self, name: str, latents: Tensor) -> Tensor:
        """Pictures of one tile, whose state is fetched and put away again."""
        stream: StreamDecoder = self._codec.decoder()
        stream.restore({key: value.to(latents.device) for key, value in self._states.get(name, {}).items()})
        if self._apart:
            begin_apart(stream)
        pictures = stream.decode(latents)
        self._states[name] = {key: value.cpu() for key, value in stream.snapshot().items()}
        return pictures

    def forget(self) -> None:
        """What comes next knows nothing of the pictures so far, in every tile whose decoder can forget."""
        self._apart = True

    def snapshot(self) -> dict[str, Tensor]:
        """The tiles' states as named tensors: `24-0.07` is what the decoder calls `07`, of the tile at row 24."""
        return {
            f"{tile}.{key}": value for tile, state in self._states.items() for key, value in state.items()
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a `snapshot`; an empty one starts a new film.

        Raises GroundedError: the state is of a decoder without tiles.
        """
        self._states, self._apart = {}, False
        for name, value in state.items():
            tile, _, key = name.partition(".")
            if "-" not in tile or not key:
                raise foreign_state(repr(name), "a decoder in tiles")
            self._states.setdefault(tile, {})[key] = value
