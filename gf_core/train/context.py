"""The training forward: every chunk of a clip at once, each seeing exactly the memory it will have at inference.

Three kinds of units of one chunk each run through the same blocks as at inference: clean chunks (the clean pass that
writes memory), noisy chunks (what is learned, several draws per clean chunk), and recached frames (the recent memory
recomputed under a new prompt). Within a layer all raw keys and values form a bank of frames; a chunk's context is
gathered from it by the tables of `train.batch` and rotated to its window positions. Equal to the engine's
step-by-step rollout on the same latents (tests/train/test_context.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor, nn

from ..model import forward, layers
from ..model.wan import WanModel
from ..rope import rotate, turns
from .batch import ClipBatch, RecacheTable, ScheduleTable
from .grouped import attend_grouped
from .schedule import EMPTY

TextEncoder = Callable[[Tensor, Tensor], Tensor]
"""Padded ids [n words] and lengths [n] to rows [n words width]; rows past the length are zero."""


@dataclass
class StreamOutput:
    """What the noisy units gave."""

    flow: Tensor
    """[b draws f c h w] predicted noise minus clean latents."""
    hidden: Tensor
    """[b draws chunks c] mean token of the middle layer, for heads that read it."""


class ContextNet(nn.Module):
    """A transformer and its text encoder, trained together."""

    def __init__(self, model: WanModel, text: nn.Module) -> None:
        super().__init__()
        self.model, self.text = model, text

    def forward(
        self, batch: ClipBatch, context: Tensor, noisy: Tensor, sigma: Tensor, drop: Tensor
    ) -> StreamOutput:
        """`run_streams` at noise levels sigma [b draws chunks] in 0..1."""
        return run_streams(self.model, self.text, batch, context, noisy, sigma * 1000, drop)


def embed_prompts(
    model: WanModel, encoder: TextEncoder, ids: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Prompts [n words] to context rows [n words+1 c] and logit bias [n 1 1 words+1]; the last row stands for padding.

    As `layers.embed_text`, but the zeros that follow in rows narrower than the model's are not multiplied.
    """
    rows = nn.functional.pad(encoder(ids, lengths), (0, 0, 0, 1))
    weight = model.get_parameter("text_embedding.0.weight")
    bias = model.get_parameter("text_embedding.0.bias")
    hidden = nn.functional.linear(rows, weight[:, : rows.shape[-1]], bias)
    context = model.text_embedding[2](model.text_embedding[1](hidden))
    return context, layers.padding_bias(lengths, ids.shape[1], model.spec.text_len)


@lru_cache(maxsize=8)
def _turns(positions: int, rows: int, columns: int, head_dim: int, device: torch.device) -> Tensor:
    """Rotations [positions s 1 d/2 2] of whole frames for every time position a window can have."""
    turn = turns(torch.arange(positions, device=device), rows, columns, head_dim)
    return turn.unflatten(0, (positions, -1))


def _gather(bank: Tensor, slots: Tensor) -> Tensor:
    """Frames bank[b, slot] [b n s h d] at slots [b *k] -> [b *k s h d]; EMPTY slots give slot 0 (masked later)."""
    batch = torch.arange(len(bank), device=bank.device).view(-1, *[1] * (slots.dim() - 1))
    return bank[batch, slots.clamp_min(0)]


def _mask(slots: Tensor, tokens: int) -> Tensor:
    """0 for tokens of occupied slots [... k], -inf for EMPTY ones: [... k*tokens]."""
    bias = torch.zeros(slots.shape, device=slots.device).masked_fill(slots == EMPTY, float("-inf"))
    return bias.repeat_interleave(tokens, -1)


def _at_least_one(frames: Tensor) -> Tensor:
    """Frames with the newest let in where all are EMPTY: a padding event must not divide by zero."""
    safe = frames.clone()
    safe[:, -1] = safe[:, -1].clamp_min(0)
    return safe


class _Attention:
    """Self-attention of all units of a batch in one layer; handed to `layers.run_block`."""

    def __init__(self, table: ScheduleTable, turns: Tensor, chunks: int, draws: int, size: int) -> None:
        self.table, self.turns = table, turns
        self.chunks, self.draws, self.size = chunks, draws, size
        self.batch = len(table.slots)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        split = [self.batch * self.chunks, self.batch * self.chunks * self.draws]
        split.append(len(q) - sum(split))
        qs, ks, vs = (rearrange(x, "u (f s) h d -> u f s h d", f=self.size).split(split) for x in (q, k, v))
        clean_k, clean_v = (rearrange(x[0], "(b c) f s h d -> b (c f) s h d", b=self.batch) for x in (ks, vs))
        recached = []
        if self.table.recache:
            out, clean_k, clean_v = self._recached(
                self.table.recache, (qs[2], ks[2], vs[2]), clean_k, clean_v
            )
            recached.append(out)
        return torch.cat([*self._chunks(qs, ks, vs, clean_k, clean_v), *recached])

    def _rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate frames x [... f s h d] to time positions [... f]."""
        return rotate(x, self.turns[positions])

    def _chunks(self, q: tuple, k: tuple, v: tuple, bank_k: Tensor, bank_v: Tensor) -> tuple[Tensor, Tensor]:
        """Clean and noisy units: both attend to the chunk's context and to themselves."""
        table, draws = self.table, self.draws
        # Positions of a chunk's own frames follow its context; both come from the engine's layout.
        own = table.own[..., None] + torch.arange(self.size, device=table.own.device)  # b chunks f
        # The past as this chunk will find it: slots of the bank, turned to its window (b chunks k s h d).
        context = (self._rotate(_gather(bank_k, table.slots), table.positions), _gather(bank_v, table.slots))
        context_k, context_v = (rearrange(x, "b c k s h d -> (b c) h (k s) d") for x in context)
        bias = _mask(table.slots, bank_k.shape[2]).flatten(0, 1)[:, None, None]

        # A chunk's clean unit and its noisy draws share the context, so they are one group and see each their own.
        def grouped(clean: Tensor, noisy: Tensor) -> Tensor:
            noisy = rearrange(noisy, "(b r c) f s h d -> (b c) r f s h d", b=self.batch, r=draws)
            return torch.cat([clean[:, None], noisy], 1)  # (b c) 1+r f s h d

        at = own.flatten(0, 1)[:, None]  # (b c) 1 f
        units = (self._rotate(grouped(*q[:2]), at), self._rotate(grouped(*k[:2]), at), grouped(*v[:2]))
        queries, keys, values = (rearrange(x, "g r f s h d -> g h r (f s) d") for x in units)
        out = attend_grouped(queries, (context_k, context_v, bias), (keys, values))  # g 1+r h n d
        noisy = rearrange(out[:, :, 1:], "(b c) h r n d -> (b r c) n h d", b=self.batch)
        return out[:, :, 0].transpose(1, 2), noisy

    def _recached(
        self, table: RecacheTable, fresh: tuple[Tensor, Tensor, Tensor], bank_k: Tensor, bank_v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Recomputed frames attend to the old anchors and each other; then blend into new bank slots.

        Returns their attention output and the bank with the blended frames appended.
        """
        events = table.frames.shape[1]
        q, k, v = (rearrange(x, "(b e c) f s h d -> b e (c f) s h d", b=self.batch, e=events) for x in fresh)
        tokens, heads, own = q.shape[3], "b f s h d -> b h (f s) d", "b f s h d -> b h 1 (f s) d"
        outs = []
        # In the order of the film: a later switch may blend what an earlier one has left.
        for event in range(events):
            slots, at = table.anchors[:, event], table.positions[:, event]
            # Old recent keys are not in the context: the frames see the anchors and each other, as in `recache`.
            anchors_k = self._rotate(_gather(bank_k, slots), torch.zeros_like(slots))  # b k s h d
            context = rearrange(anchors_k, heads), rearrange(_gather(bank_v, slots), heads)
            units = (self._rotate(q[:, event], at), self._rotate(k[:, event], at), v[:, event])
            queries, keys, values = (rearrange(x, own) for x in units)
            out = attend_grouped(
                queries,
                (*context, _mask(slots, tokens)[:, None, None]),
                (keys, values),
                _mask(_at_least_one(table.frames[:, event]), tokens)[:, None, None, None],
            )
            outs.append(rearrange(out, "b h 1 (c n) d -> b c n h d", n=self.size * tokens))
            # Blended raw, and appended: chunks before the switch go on reading the old slots.
            alpha = table.alphas[:, event, :, None, None, None]
            source = table.source[:, event]
            bank_k = torch.cat(
                [bank_k, torch.lerp(_gather(bank_k, source), k[:, event], alpha.to(k.dtype))], 1
            )
            bank_v = torch.cat(
                [bank_v, torch.lerp(_gather(bank_v, source), v[:, event], alpha.to(v.dtype))], 1
            )
        return torch.stack(outs, 1).flatten(0, 2), bank_k, bank_v


def run_streams(
    model: WanModel,
    encoder: TextEncoder,
    batch: ClipBatch,
    context: Tensor,
    noisy: Tensor,
    timesteps: Tensor,
    drop_text: Tensor,
) -> StreamOutput:
    """Predict the flow of noisy chunks under the engine's memory.

    context [b f c h w]: latents that fill the memory (clean, or a little corrupted). noisy [b draws f c h w] at
    timesteps [b draws chunks] in 0..1000. drop_text [b draws chunks] bool: units that see the empty prompt.
    """
    device, draws, chunks = context.device, *timesteps.shape[1:]
    size = context.shape[1] // chunks
    _, ph, pw = model.patch_embedding.kernel_size
    rows, columns = context.shape[-2] // ph, context.shape[-1] // pw
    table = batch.schedule
    frames = [
        rearrange(context, "b (k f) c h w -> (b k) c f h w", f=size),
        rearrange(noisy, "b r (k f) c h w -> (b r k) c f h w", f=size),
    ]
    times = [torch.zeros(len(frames[0]), device=device), timesteps.flatten()]
    # The empty prompt stands last among each clip's prompts.
    count = batch.lengths.shape[1]
    told = torch.where(drop_text, count - 1, batch.prompt[:, None])
    texts = [batch.prompt.flatten(), told.flatten()]
    owner = torch.arange(len(context), device=device)
    owners = [owner.repeat_interleave(chunks), owner.repeat_interleave(draws * chunks)]
    if table.recache is not None:
        chosen = context[owner[:, None, None], table.recache.frames.clamp_min(0)]
        frames.append(rearrange(chosen, "b e (k f) c h w -> (b e k) c f h w", f=size))
        parts = table.recache.frames.shape[2] // size
        times.append(torch.zeros(len(frames[-1]), device=device))
        texts.append(table.recache.prompt.repeat_interleave(parts, 1).flatten())
        owners.append(owner.repeat_interleave(len(frames[-1]) // len(owner)))
    which = torch.cat(owners) * count + torch.cat(texts)
    text_rows, text_bias = embed_prompts(model, encoder, batch.ids.flatten(0, 1), batch.lengths.flatten())

    x = layers.embed_patches(model, torch.cat(frames))
    # Time conditioning is computed once per unit and shared by its frames.
    e, e0 = layers.time_conditioning(model, torch.cat(times)[:, None], x.dtype)
    e, e0 = e.expand(-1, size, -1), e0.expand(-1, size, -1, -1)
    table_of_turns = _turns(table.slots.shape[-1] + size, rows, columns, model.spec.head_dim, device)
    attention = _Attention(table, table_of_turns, chunks, draws, size)
    middle = (len(model.blocks) + 1) // 2
    units = slice(len(frames[0]), len(frames[0]) + len(frames[1]))
    hidden = x
    for number, block in enumerate(model.blocks):
        text = forward.block_text(block, text_rows)
        assert text.v is not None  # our own block, whose forward nobody replaces
        x = block(x, e0, attention, layers.Text(text.k[which], text.v[which], text_bias[which]))
        if number + 1 == middle:
            hidden = x[units].mean(1)
    flow = layers.head(model, x[units], e[units], rows, columns)
    flow = rearrange(flow, "(b r k) c f h w -> b r (k f) c h w", b=len(context), r=draws)
    return StreamOutput(flow, rearrange(hidden, "(b r k) c -> b r k c", b=len(context), r=draws))
