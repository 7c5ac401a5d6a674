"""Rotary position embedding over (time, row, column), as Wan2.1 defines it.

Adjacent channels (2i, 2i+1) of a head form one rotating pair. A head of width d gives its pairs to the three axes as
d - 4*(d//6), 2*(d//6), 2*(d//6) channels (44/42/42 at 128), each axis with a frequency ladder of its own width.
Angles are float64. Time positions are chosen when keys are read (paper 4.2), so they are an argument here and rows
and columns are not.
"""

from __future__ import annotations

import torch
from torch import Tensor

THETA = 10000.0


def axis_widths(head_dim: int) -> tuple[int, int, int]:
    """Channels of a head that encode (time, row, column)."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def inverse_frequencies(width: int) -> Tensor:
    """float64 ladder of one axis with `width` channels: 10000^(-2i/width), shape [width/2]."""
    return THETA ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)


def rotation(
    positions: Tensor, rows: int, columns: int, head_dim: int, *, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Cosines and sines for frames at the given time positions, tokens in (frame, row, column) order.

    positions: [f] time positions (any real dtype). Returns two tensors [(f rows columns), head_dim/2] of `dtype`.
    """
    ladders = [inverse_frequencies(width).to(positions.device) for width in axis_widths(head_dim)]
    frames = len(positions)
    # Pairs of channels of every axis, f rows columns n; n is half the axis' width.
    t = torch.outer(positions.double(), ladders[0])[:, None, None, :].expand(frames, rows, columns, -1)
    h = torch.outer(torch.arange(rows, device=t.device).double(), ladders[1])[None, :, None, :]  # 1 rows 1 n
    w = torch.outer(torch.arange(columns, device=t.device).double(), ladders[2])[None, None, :, :]
    angles = torch.cat([t, h.expand(frames, rows, columns, -1), w.expand(frames, rows, columns, -1)], dim=-1)
    angles = angles.reshape(frames * rows * columns, head_dim // 2)  # (f rows columns) d/2
    return angles.cos().to(dtype), angles.sin().to(dtype)


def turns(positions: Tensor, rows: int, columns: int, head_dim: int) -> Tensor:
    """The same as `rotation`, laid out for `rotate`: float32 (cosine, sine) in pairs [(f rows columns), 1, d/2, 2]."""
    where = positions.cpu() if positions.device.type == "mps" else positions  # Apple GPUs have no float64
    table = torch.stack(rotation(where, rows, columns, head_dim, dtype=torch.float32), -1)  # s d/2 2
    return table.unsqueeze(1).to(positions.device)


def rotated(first: Tensor, second: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """The two numbers of every pair, turned as `rotate` does, where they lie apart."""
    cos, sin = turn.unbind(-1)
    return first * cos - second * sin, second * cos + first * sin


def rotate(x: Tensor, turn: Tensor, out: Tensor | None = None) -> Tensor:
    """Rotate x [... s h d] by `turn` (from `turns`) in float32; returns (or fills `out`, of its shape) in x's dtype.

    (x0, x1) -> (x0 cos - x1 sin, x1 cos + x0 sin), which is the complex product of the pairs. Call by call that is one
    pass where real numbers take four (3 times as long on a processor, 6 % of a chunk on a card); compilers make no
    code for complex numbers and fuse the four.
    """
    wide = x if x.dtype == turn.dtype else x.to(torch.promote_types(x.dtype, turn.dtype))
    pairs = wide.unflatten(-1, (-1, 2))  # ... s h d/2 2
    if torch.compiler.is_compiling():
        first, second = pairs.unbind(-1)
        turned = torch.stack(rotated(first, second, turn), -1)
    else:
        numbers, turn = torch.view_as_complex(pairs), torch.view_as_complex(turn)
        # On a processor, straight into `out` where nothing has to be cast and no graph is kept.
        if out is not None and out.dtype == wide.dtype and out.is_cpu and not wide.requires_grad:
            torch.mul(numbers, turn, out=torch.view_as_complex(out.unflatten(-1, (-1, 2))))
            return out
        turned = torch.view_as_real(numbers * turn)
    turned = turned.flatten(-2)  # ... s h d
    return turned.to(x.dtype) if out is None else out.copy_(turned)
