"""Self-attention of one call under a mask: what a film's memory is held against."""

import torch

from gf_core.attention import attend
from gf_core.rope import rotate, turns


class Masked:
    """Tokens of a call, of which each sees those that `sees` [query key] says, turned by `turn`."""

    def __init__(self, sees, turn):
        self.bias, self.turn = torch.where(sees, 0.0, float("-inf")), turn

    def attend(self, layer, q, raw_k, v):
        return attend(rotate(q, self.turn), rotate(raw_k, self.turn), v, bias=self.bias)

    def write(self, layer, raw_k, v):
        raise AssertionError("the flow is wanted")


def whole_film(frames, chunk, height, width, head_dim):
    """All frames in one call, each chunk seeing itself and what came before."""
    block = torch.arange(frames * height * width) // (chunk * height * width)
    return Masked(block[:, None] >= block, turns(torch.arange(frames), height, width, head_dim))
