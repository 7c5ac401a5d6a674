"""Attention in eight bits by cuDNN's own kernel, through its Python frontend (package `nvidia-cudnn-frontend`).

q, k, v and the weights of softmax are rounded to float8 (e4m3), and so is what comes out: cuDNN gives nothing wider on
Hopper. Sums are float32. Numbers of this type keep their relative precision between 2^-6 and 448, so scales are fixed
powers of 2, and nothing is measured while a film is made. What is larger than 448 is cut off there.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from ..errors import GroundedError
from . import Kernel, Where, sdpa

FLOAT8 = torch.float8_e4m3fn
LARGEST = 448.0
WEIGHTS, OUT = 256.0, 8.0
"""Scales of softmax's weights, the largest of which is 1, and of what comes out: a mean of many values is small."""
SCALES = {
    **dict.fromkeys(("descale_q", "descale_k", "descale_v"), 1.0),
    **{"scale_s": WEIGHTS, "descale_s": 1 / WEIGHTS, "scale_o": OUT},
}
"""By their names in `sdpa_fp8`; cuDNN reads them from the device."""
LEAST_KEYS = 2048
"""Under this, casts cost more than the products save: PyTorch's kernel is taken."""


def kernel(cudnn: Any) -> Kernel:
    """The kernel; `cudnn` is the frontend's module."""
    plans = functools.lru_cache(maxsize=64)(functools.partial(Plan, cudnn))
    handle = functools.cache(lambda device: cudnn.create_handle())

    def attend(q: Tensor, k: Tensor, v: Tensor, *, where: Where | None = None) -> Tensor:
        if k.shape[1] < LEAST_KEYS:
            return sdpa(q, k, v)
        with torch.cuda.device(q.device if q.is_cuda else -1):  # handles belong to one; -1 is none
            plan = plans(handle(q.device), q.device, q.shape, k.shape[1])
            return plan(*(rounded(x) for x in (q, k, v))).to(q.dtype).div_(OUT)

    return attend


def rounded(x: Tensor) -> Tensor:
    """Numbers as float8, dense; those out of its range as its largest."""
    x = x.contiguous()
    return (x if _cuts_off(x.device) else x.clamp(-LARGEST, LARGEST)).to(FLOAT8)


@functools.cache
def _cuts_off(device: torch.device) -> bool:
    """Whether a cast cuts off what is too large; PyTorch before 2.12 makes it no number, so it is done before."""
    return float(torch.full((1,), 2 * LARGEST, device=device).to(FLOAT8).float()) == LARGEST


class Plan:
    """How cuDNN computes one shape: found once, which takes a moment; recordable as a CUDA graph from then on."""

    def __init__(self, cudnn: Any, handle: Any, device: torch.device, shape: torch.Size, keys: int) -> None:
        """handle: cuDNN's, of the device. shape: of q [b s h d]. keys: tokens of k and v.

        Raises:
            GroundedError: cuDNN has no kernel for it.
        """
        batch, queries, heads, width = shape
        self._cudnn, self._handle, self._device, self._shape = cudnn, handle, device, shape
        float8, float32 = cudnn.data_type.FP8_E4M3, cudnn.data_type.FLOAT
        self._graph = graph = cudnn.pygraph(
            handle=self._handle,
            io_data_type=float8,
            intermediate_data_type=float32,
            compute_data_type=float32,
        )

        def lies(tokens: int) -> tuple[list[int], list[int]]:
            """Sizes and strides as [b h s d] of what lies as [b s h d]."""
            row = heads * width
            return [batch, heads, tokens, width], [tokens * row, width, row, 1]

        def port(name: str, data_type: Any, place: tuple[list[int], list[int]] = ([1] * 4, [1] * 4)) -> Any:
            return graph.tensor(name=name, dim=place[0], stride=place[1], data_type=data_type)

        self._ports = {name: port(name, float8, lies(n)) for name, n in zip("qkv", (queries, keys, keys))}
        scales = {name: port(name, float32) for name in SCALES}
        out, _, *largest = graph.sdpa_fp8(
            **self._ports, **scales, attn_scale=width**-0.5, generate_stats=False
        )
        places = {out: (float8, lies(queries)), **dict.fromkeys(largest, (float32, ([1] * 4, [1] * 4)))}
        for made, (data_type, (sizes, strides)) in places.items():
            made.set_output(True).set_dim(sizes).set_stride(strides).set_data_type(data_type)
        try:
            graph.build([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        except cudnn.cudnnGraphNotSupportedError as error:
            said = str(error).partition("\n")[0]
            what = f"{queries} x {keys} tokens, {heads} heads of {width}, on {device}: {said}"
            raise GroundedError(
                f"cuDNN has no attention in float8 for {what}", "use another attention"
            ) from error
        self._out, self._size = out, graph.get_workspace_size()
        self._fixed = {
            port: torch.full((1,) * 4, SCALES[name], device=device) for name, port in scales.items()
        }
        # The largest numbers that cuDNN has seen: it wants to tell, and nobody asks.
        self._fixed |= {told: torch.empty((1,) * 4, device=device) for told in largest}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of dense float8 numbers [b s h d], times `OUT`, on the current stream."""
        out = torch.empty(self._shape, dtype=FLOAT8, device=self._device)
        workspace = torch.empty(self._size, dtype=torch.uint8, device=self._device)
        if out.is_cuda:
            stream = torch.cuda.current_stream(self._device).cuda_stream
            self._cudnn.set_stream(handle=self._handle, stream=stream)
        values = dict(zip((*self._ports.values(), self._out), (x.transpose(1, 2) for x in (q, k, v, out))))
        self._graph.execute({**self._fixed, **values}, workspace, handle=self._handle)
        return out
