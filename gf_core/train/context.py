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
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call

from ..attention import grouped_attention
from ..model import forward, layers
from ..model.pieces import Norm, Pieces
from ..model.wan import WanModel
from ..rope import rotate, turns
from .batch import ClipBatch, RecacheTable, ScheduleTable
from .schedule import EMPTY

Pair = tuple[Tensor, Tensor]
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
    """A transformer and its text encoder, trained together.

    narrow: compute in this type throughout, the residual stream included, with copies of the transformer's weights. On
    a card that halves what is read and written, of which a step consists; on processors autocast is as fast.
    """

    def __init__(self, model: WanModel, text: nn.Module) -> None:
        super().__init__()
        self.model, self.text = model, text
        self.narrow: torch.dtype | None = None

    def forward(
        self, batch: ClipBatch, context: Tensor, noisy: Tensor, sigma: Tensor, drop: Tensor
    ) -> StreamOutput:
        """`run_streams` at noise levels sigma [b draws chunks] in 0..1."""
        model, given = self.model, (batch, context, noisy, sigma * 1000, drop)
        if self.narrow is None:
            return run_streams(model, self.text, *given)
        given = (batch, context.to(self.narrow), noisy.to(self.narrow), sigma * 1000, drop)
        names, weights = zip(*model.named_parameters())
        narrow = dict(zip(names, (w.to(self.narrow) for w in weights)))
        with torch.autocast(context.device.type, enabled=False):
            return functional_call(
                _Streams(model), {f"model.{n}": w for n, w in narrow.items()}, (self.text, *given)
            )


class _Streams(nn.Module):
    """`run_streams` as a module, whose parameters others can stand in for."""

    def __init__(self, model: WanModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, text: TextEncoder, *given: Any) -> StreamOutput:
        return run_streams(self.model, text, *given)


def embed_prompts(
    model: WanModel, encoder: TextEncoder, ids: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Prompts [n words] to context rows [n words+1 c] and logit bias [n 1 1 words+1]; the last row stands for padding.

    As `layers.embed_text`, but the zeros that follow in rows narrower than the model's are not multiplied.
    """
    first: Any = model.text_embedding[0]  # whose weights may be narrow copies
    weight, bias = first.weight, first.bias
    # The encoder is small, and keeps its own type.
    rows = nn.functional.pad(encoder(ids, lengths), (0, 0, 0, 1)).to(weight.dtype)  # n words+1 width
    hidden = nn.functional.linear(rows, weight[:, : rows.shape[-1]], bias)  # n words+1 c
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


class _Quick(Pieces):
    """The norm of queries and keys by torch's one kernel, where it has one for the type."""

    def normed(self, norm: Norm, x: Tensor, heads: int) -> Tensor:
        if x.dtype == torch.float32 or x.dtype != norm.weight.dtype:
            return super().normed(norm, x, heads)
        return nn.functional.rms_norm(x, x.shape[-1:], norm.weight, norm.eps).unflatten(-1, (heads, -1))


QUICK = _Quick()


class _Attention:
    """Self-attention of all units of a batch in one layer; handed to `layers.run_block`."""

    def __init__(self, table: ScheduleTable, turns: Tensor, draws: int) -> None:
        self.table, self.turns = table, turns
        self.batch, self.chunks = table.slots.shape[:2]
        self.draws = draws

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # Units lie as clean (b c), noisy (b r c), recached (b e parts); each is n = (f s) tokens.
        split = [self.batch * self.chunks, self.batch * self.chunks * self.draws]
        split.append(len(q) - sum(split))
        qs, ks, vs = (x.split(split) for x in (q, k, v))
        tokens = self.turns.shape[1]
        clean_k, clean_v = (
            x[0].unflatten(1, (-1, tokens)).unflatten(0, (self.batch, -1)).flatten(1, 2) for x in (ks, vs)
        )  # b (c f) s h d
        recached = []
        if self.table.recache:
            fresh = (qs[2], ks[2], vs[2])
            out, clean_k, clean_v = self._recached(self.table.recache, fresh, clean_k, clean_v)
            recached.append(out)
        asked, keys, values = ((x[0], x[1]) for x in (qs, ks, vs))
        made = self._attend_chunks(asked, keys, values, (clean_k, clean_v))
        return torch.cat([*made, *recached])

    def _attend_chunks(self, q: Pair, k: Pair, v: Pair, bank: Pair) -> Pair:
        """Clean units [(b c) n h d] and noisy ones [(b r c) n h d] attend to the chunk's context and to themselves.

        bank: raw keys and values of frames [b f s h d].
        """
        slots, own, tokens = self.table.slots, self.table.own, self.turns.shape[1]
        # Positions of a chunk's own frames follow its context; both come from the engine's layout.
        at = own.flatten()[:, None] + torch.arange(q[0].shape[1] // tokens, device=own.device)  # (b c) f
        # The past as this chunk will find it: slots of the bank, turned to its window (b c k s h d).
        past = rotate(_gather(bank[0], slots), self.turns[self.table.positions]), _gather(bank[1], slots)
        context = [x.flatten(0, 1).flatten(1, 2).transpose(1, 2) for x in past]  # (b c) h (k s) d
        bias = _mask(slots, tokens).flatten(0, 1)[:, None, None]  # (b c) 1 1 (k s)

        # A chunk's clean unit and its noisy draws share the context, so they are one group and see each their own.
        def grouped(pair: Pair) -> Tensor:
            noisy = (
                pair[1].view(self.batch, -1, self.chunks, *pair[1].shape[1:]).transpose(1, 2).flatten(0, 1)
            )  # (b c) r (f s) h d
            return torch.cat([pair[0][:, None], noisy], 1)  # (b c) 1+r (f s) h d

        turn = self.turns[at].flatten(1, 2)[:, None]  # (b c) 1 (f s) 1 d/2 2
        queries, keys, values = (
            x.movedim(3, 1) for x in (rotate(grouped(q), turn), rotate(grouped(k), turn), grouped(v))
        )  # (b c) h 1+r (f s) d
        out = grouped_attention(queries, (context[0], context[1], bias), (keys, values))  # (b c) h 1+r n d
        # Back into the order of units, (b r c) n h d.
        noisy = out[:, :, 1:].unflatten(0, (self.batch, self.chunks)).permute(0, 3, 1, 4, 2, 5).flatten(0, 2)
        return out[:, :, 0].transpose(1, 2), noisy

    def _recached(
        self, table: RecacheTable, fresh: tuple[Tensor, Tensor, Tensor], bank_k: Tensor, bank_v: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Recomputed frames attend, then blend into new bank slots.

        Returns their attention output and the bank with the blended frames appended.
        """
        events, tokens = table.frames.shape[1], self.turns.shape[1]
        q, k, v = (
            x.unflatten(1, (-1, tokens)).unflatten(0, (self.batch, events, -1)).flatten(2, 3) for x in fresh
        )  # b e f s h d
        outs = []
        # In the order of the film: a later switch may blend what an earlier one has left.
        for event in range(events):
            units = q[:, event], k[:, event], v[:, event]
            outs.append(self._attend_recached(*units, (bank_k, bank_v), table, event))
            # Blended raw, and appended: chunks before the switch go on reading the old slots.
            alpha = table.alphas[:, event, :, None, None, None]  # b f 1 1 1 (Eq. 11)
            source = table.source[:, event]  # b f
            bank_k = torch.cat(
                [bank_k, torch.lerp(_gather(bank_k, source), k[:, event], alpha.to(k.dtype))], 1
            )
            bank_v = torch.cat(
                [bank_v, torch.lerp(_gather(bank_v, source), v[:, event], alpha.to(v.dtype))], 1
            )
        out = torch.stack(outs, 1).flatten(2, 3).unflatten(2, (-1, len(fresh[0][0])))  # b e parts (f s) h d
        return out.flatten(0, 2), bank_k, bank_v

    def _attend_recached(
        self, q: Tensor, k: Tensor, v: Tensor, bank: Pair, table: RecacheTable, event: int
    ) -> Tensor:
        """Recomputed frames [b f s h d] of one switch attend to the old anchors and to each other; like q."""
        slots = table.anchors[:, event]  # b k
        # Old recent keys are not in the context: the frames see the anchors and each other, as in `recache`.
        first = self.turns[torch.zeros_like(slots)]  # b k s 1 d/2 2, all at time 0
        anchors = rotate(_gather(bank[0], slots), first), _gather(bank[1], slots)
        context = [x.flatten(1, 2).transpose(1, 2) for x in anchors]  # b h (k s) d
        turn = self.turns[table.positions[:, event]]  # b f s 1 d/2 2
        units = (rotate(q, turn), rotate(k, turn), v)
        queries, keys, values = (x.flatten(1, 2).transpose(1, 2)[:, :, None] for x in units)  # b h 1 (f s) d
        out = grouped_attention(
            queries,
            (context[0], context[1], _mask(slots, q.shape[2])[:, None, None]),
            (keys, values),
            _mask(_at_least_one(table.frames[:, event]), q.shape[2])[:, None, None, None],
        )
        return out[:, :, 0].transpose(1, 2).unflatten(1, q.shape[1:3])  # b f s h d


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
    told = torch.where(drop_text, count - 1, batch.prompt[:, None])  # b r k
    texts = [batch.prompt.flatten(), told.flatten()]
    owner = torch.arange(len(context), device=device)
    owners = [owner.repeat_interleave(chunks), owner.repeat_interleave(draws * chunks)]
    if table.recache is not None:
        chosen = context[owner[:, None, None], table.recache.frames.clamp_min(0)]  # b e (k f) c h w
        frames.append(rearrange(chosen, "b e (k f) c h w -> (b e k) c f h w", f=size))
        parts = table.recache.frames.shape[2] // size
        times.append(torch.zeros(len(frames[-1]), device=device))
        texts.append(table.recache.prompt.repeat_interleave(parts, 1).flatten())
        owners.append(owner.repeat_interleave(len(frames[-1]) // len(owner)))
    which = torch.cat(owners) * count + torch.cat(texts)  # each unit's prompt among those of all clips
    text_rows, text_bias = embed_prompts(model, encoder, batch.ids.flatten(0, 1), batch.lengths.flatten())

    x = layers.embed_patches(model, torch.cat(frames))  # units (f s) c
    # Time conditioning is computed once per unit and shared by its frames.
    e, e0 = layers.time_conditioning(model, torch.cat(times)[:, None], x.dtype)
    e, e0 = e.expand(-1, size, -1), e0.expand(-1, size, -1, -1)  # units f c, units f 6 c
    table_of_turns = _turns(table.slots.shape[-1] + size, rows, columns, model.spec.head_dim, device)
    attention = _Attention(table, table_of_turns, draws)
    middle = (len(model.blocks) + 1) // 2
    units = slice(len(frames[0]), len(frames[0]) + len(frames[1]))
    hidden = x
    for number, block in enumerate(model.blocks):
        text = forward.block_text(block, text_rows)
        assert text.v is not None  # our own block, whose forward nobody replaces
        spoken = layers.Text(text.k[which], text.v[which], text_bias[which])
        x = block(x, e0, attention, spoken, QUICK)
        if number + 1 == middle:
            hidden = x[units].mean(1)  # (b r k) c
    flow = layers.head(model, x[units], e[units], rows, columns)
    flow = rearrange(flow, "(b r k) c f h w -> b r (k f) c h w", b=len(context), r=draws)
    return StreamOutput(flow, rearrange(hidden, "(b r k) c -> b r k c", b=len(context), r=draws))
