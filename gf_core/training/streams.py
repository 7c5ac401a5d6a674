"""The training forward: every chunk of a clip at once, each seeing exactly the memory it will have at inference.

Three kinds of units of one chunk each run through the same blocks as at inference: clean chunks (the clean pass that
writes memory), noisy chunks (what is learned, several draws per clean chunk), and recached frames (the recent memory
recomputed under a new prompt). Within a layer all raw keys and values form a bank of frames; a chunk's context is
gathered from it by the tables of `training.batch` and rotated to its window positions. Equal to the engine's
step-by-step rollout on the same latents (tests/training/test_streams.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..model import layers
from ..model.wan import WanModel
from ..rope import rotation
from ..text.small import SmallTextEncoder
from .batch import ClipBatch, LayoutTable
from .layout import EMPTY

TextTable = tuple[Tensor, Tensor, Tensor]


@dataclass
class StreamOutput:
    """What the noisy units gave."""

    flow: Tensor
    """[b draws f c h w] predicted noise minus clean latents."""
    hidden: Tensor
    """[b draws chunks c] mean token of the middle layer, for the attribute heads."""


def embed_prompts(
    model: WanModel, encoder: SmallTextEncoder, ids: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Prompts [n words] to context rows [n words+1 c] and logit bias [n 1 1 words+1].

    The zero rows that pad a prompt to text_len are all alike, so one stands for them with log(count) added to its
    logits: the same softmax at a twentieth of the size.
    """
    rows = encoder(ids, lengths)
    weight = model.get_parameter("text_embedding.0.weight")
    bias = model.get_parameter("text_embedding.0.bias")
    rows = torch.cat([rows, rows.new_zeros(len(rows), 1, rows.shape[-1])], 1)
    hidden = torch.nn.functional.linear(rows, weight[:, : rows.shape[-1]], bias)
    context = model.text_embedding[2](model.text_embedding[1](hidden))
    padding = torch.zeros(rows.shape[:2])
    padding[:, :-1].masked_fill_(torch.arange(ids.shape[1]) >= lengths[:, None], float("-inf"))
    padding[:, -1] = (model.spec.text_len - lengths).log()
    return context, padding[:, None, None]


class _Rotations:
    """Rotation tables of whole frames for every time position a window can have."""

    def __init__(self, rows: int, columns: int, head_dim: int, positions: int) -> None:
        cos, sin = rotation(torch.arange(positions), rows, columns, head_dim, dtype=torch.float32)
        self.cos, self.sin = (t.unflatten(0, (positions, -1)) for t in (cos, sin))  # positions s d/2

    def __call__(self, x: Tensor, positions: Tensor) -> Tensor:
        """Rotate frames x [... f s h d] to time positions [... f]."""
        cos, sin = (t[positions].unsqueeze(-2).to(x.dtype) for t in (self.cos, self.sin))
        even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def _softmax_attend(q: Tensor, parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """q [... n d] over several (k [... m d], v, bias) at once; one softmax across all of them."""
    scale = q.shape[-1] ** -0.5
    logits = [q @ k.transpose(-1, -2) * scale for k, _, _ in parts]
    logits = [x + bias.to(x.dtype) for x, (_, _, bias) in zip(logits, parts)]
    weights = torch.cat(logits, -1).softmax(-1).split([x.shape[-1] for x in logits], -1)
    out = weights[0] @ parts[0][1]
    for w, (_, v, _) in zip(weights[1:], parts[1:]):
        out = out + w @ v
    return out


def _gather(bank: Tensor, slots: Tensor) -> Tensor:
    """Frames bank[b, slot] [b n s h d] at slots [b *k] -> [b *k s h d]; EMPTY slots give slot 0 (masked later)."""
    batch = torch.arange(len(bank)).view(-1, *[1] * (slots.dim() - 1))
    return bank[batch, slots.clamp_min(0)]


def _mask(slots: Tensor, tokens: int) -> Tensor:
    """0 for tokens of occupied slots [... k], -inf for EMPTY ones: [... k*tokens]."""
    bias = torch.zeros(slots.shape).masked_fill(slots == EMPTY, float("-inf"))
    return bias.repeat_interleave(tokens, -1)


def _at_least_one(frames: Tensor) -> Tensor:
    """Frames with the newest let in where all are EMPTY: a padding event must not divide by zero."""
    safe = frames.clone()
    safe[:, -1] = safe[:, -1].clamp_min(0)
    return safe


class _Attention:
    """Self-attention of all units of a batch in one layer; handed to `layers.run_block`."""

    def __init__(self, table: LayoutTable, rotations: _Rotations, chunks: int, draws: int, size: int) -> None:
        self.table, self.rotate = table, rotations
        self.chunks, self.draws, self.size = chunks, draws, size
        self.batch = len(table.slots)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        split = [self.batch * self.chunks, self.batch * self.chunks * self.draws]
        split.append(len(q) - sum(split))
        qs, ks, vs = (rearrange(x, "u (f s) h d -> u f s h d", f=self.size).split(split) for x in (q, k, v))
        clean_k, clean_v = (rearrange(x[0], "(b c) f s h d -> b (c f) s h d", b=self.batch) for x in (ks, vs))
        recached = self._recached(qs[2], ks[2], vs[2], clean_k, clean_v) if self.table.recache else None
        if recached:
            clean_k, clean_v = recached.bank_k, recached.bank_v
        out = self._chunks(qs, ks, vs, clean_k, clean_v)
        return torch.cat([out, recached.out]) if recached else out

    def _chunks(self, q: tuple, k: tuple, v: tuple, bank_k: Tensor, bank_v: Tensor) -> Tensor:
        """Clean and noisy units: both attend to the chunk's context and to themselves."""
        table, draws = self.table, self.draws
        own = table.own[..., None] + torch.arange(self.size)  # b chunks f
        context_k = self.rotate(_gather(bank_k, table.slots), table.positions)
        context_v = _gather(bank_v, table.slots)
        context_k, context_v = (
            rearrange(x, "b c k s h d -> (b c) h (k s) d") for x in (context_k, context_v)
        )
        bias = _mask(table.slots, bank_k.shape[2]).flatten(0, 1)[:, None, None]

        def grouped(clean: Tensor, noisy: Tensor) -> Tensor:
            noisy = rearrange(noisy, "(b r c) f s h d -> (b c) r f s h d", b=self.batch, r=draws)
            return torch.cat([clean[:, None], noisy], 1)  # (b c) 1+r f s h d

        at = own.flatten(0, 1)[:, None]
        queries, keys = (self.rotate(grouped(x[0], x[1]), at) for x in (q, k))
        values = grouped(v[0], v[1])
        queries, keys, values = (
            rearrange(x, "g r f s h d -> g h r (f s) d") for x in (queries, keys, values)
        )
        tokens = queries.shape[3]
        scale = queries.shape[-1] ** -0.5
        shared = queries.flatten(2, 3) @ context_k.transpose(-1, -2) * scale + bias.to(queries.dtype)
        itself = queries @ keys.transpose(-1, -2) * scale
        weights = torch.cat([shared.unflatten(2, (-1, tokens)), itself], -1).softmax(-1)
        seen, itself = weights.split([context_k.shape[2], tokens], -1)
        out = (seen.flatten(2, 3) @ context_v).unflatten(2, (-1, tokens)) + itself @ values
        clean, noisy = out[:, :, 0], out[:, :, 1:]
        noisy = rearrange(noisy, "(b c) h r n d -> (b r c) n h d", b=self.batch)
        return torch.cat([clean.transpose(1, 2), noisy])

    def _recached(self, q: Tensor, k: Tensor, v: Tensor, bank_k: Tensor, bank_v: Tensor) -> _Recached:
        """Recomputed frames attend to the old anchors and each other; then blend into new bank slots."""
        table = self.table.recache
        assert table is not None
        events = table.frames.shape[1]
        q, k, v = (
            rearrange(x, "(b e c) f s h d -> b e (c f) s h d", b=self.batch, e=events) for x in (q, k, v)
        )
        tokens = q.shape[3]
        outs = []
        for event in range(events):
            slots = table.anchors[:, event]
            at = table.positions[:, event]
            context = self.rotate(_gather(bank_k, slots), torch.zeros_like(slots))
            heads = "b f s h d -> b h (f s) d"
            parts = [
                (
                    rearrange(context, heads),
                    rearrange(_gather(bank_v, slots), heads),
                    _mask(slots, tokens)[:, None, None],
                ),
                (
                    rearrange(self.rotate(k[:, event], at), heads),
                    rearrange(v[:, event], heads),
                    _mask(_at_least_one(table.frames[:, event]), tokens)[:, None, None],
                ),
            ]
            out = _softmax_attend(rearrange(self.rotate(q[:, event], at), heads), parts)
            outs.append(rearrange(out, "b h (c n) d -> b c n h d", n=self.size * tokens))
            alpha = table.alphas[:, event, :, None, None, None]
            source = table.source[:, event]
            bank_k = torch.cat(
                [bank_k, torch.lerp(_gather(bank_k, source), k[:, event], alpha.to(k.dtype))], 1
            )
            bank_v = torch.cat(
                [bank_v, torch.lerp(_gather(bank_v, source), v[:, event], alpha.to(v.dtype))], 1
            )
        return _Recached(torch.stack(outs, 1).flatten(0, 2), bank_k, bank_v)


@dataclass
class _Recached:
    """Attention output of the recached units and the bank with their blended frames appended."""

    out: Tensor
    bank_k: Tensor
    bank_v: Tensor


def run_streams(
    model: WanModel,
    encoder: SmallTextEncoder,
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
    size = model_chunk(batch)
    draws, chunks = timesteps.shape[1:]
    rows, columns = context.shape[-2] // 2, context.shape[-1] // 2
    table = batch.layout.recache
    frames = [
        rearrange(context, "b (k f) c h w -> (b k) c f h w", f=size),
        rearrange(noisy, "b r (k f) c h w -> (b r k) c f h w", f=size),
    ]
    times = [torch.zeros(len(frames[0])), timesteps.flatten()]
    prompts = batch.prompt
    texts = [prompts.flatten(), prompts[:, None].expand(-1, draws, -1).flatten()]
    owner = torch.arange(len(context))
    owners = [owner.repeat_interleave(chunks), owner.repeat_interleave(draws * chunks)]
    if table is not None:
        chosen = context[owner[:, None, None], table.frames.clamp_min(0)]
        frames.append(rearrange(chosen, "b e (k f) c h w -> (b e k) c f h w", f=size))
        parts = table.frames.shape[2] // size
        times.append(torch.zeros(len(frames[-1])))
        texts.append(table.prompt.repeat_interleave(parts, 1).flatten())
        owners.append(owner.repeat_interleave(len(frames[-1]) // len(owner)))

    # The empty prompt stands last among each clip's prompts.
    empty = batch.lengths.shape[1] - 1
    texts[1] = torch.where(drop_text.flatten(), torch.tensor(empty), texts[1])
    which = torch.cat(owners) * batch.lengths.shape[1] + torch.cat(texts)
    text_rows, text_bias = embed_prompts(model, encoder, batch.ids.flatten(0, 1), batch.lengths.flatten())

    x = layers.embed_patches(model, torch.cat(frames))
    e, e0 = _conditioning(model, torch.cat(times), size, x.dtype)
    attention = _Attention(
        batch.layout, _Rotations(rows, columns, model.spec.head_dim, 24), chunks, draws, size
    )
    middle = (len(model.blocks) + 1) // 2
    noisy_units = slice(len(frames[0]), len(frames[0]) + len(frames[1]))
    hidden = x
    for number, block in enumerate(model.blocks):
        text = layers.cross_kv(block, text_rows)
        assert text.v is not None  # our own block, whose forward nobody replaces
        x = layers.run_block(
            block, x, e0, attention, layers.Text(text.k[which], text.v[which], text_bias[which])
        )
        if number + 1 == middle:
            hidden = x[noisy_units].mean(1)
    flow = layers.head(model, x[noisy_units], e[noisy_units], rows, columns)
    flow = rearrange(flow, "(b r k) c f h w -> b r (k f) c h w", b=len(context), r=draws)
    return StreamOutput(flow, rearrange(hidden, "(b r k) c -> b r k c", b=len(context), r=draws))


def model_chunk(batch: ClipBatch) -> int:
    """Latent frames per chunk of a batch."""
    return batch.latents.shape[1] // batch.prompt.shape[1]


def _conditioning(model: WanModel, times: Tensor, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Time conditioning of units [u]: computed once per unit, shared by its frames."""
    e, e0 = layers.time_conditioning(model, times[:, None], dtype)
    return e.expand(-1, size, -1), e0.expand(-1, size, -1, -1)
