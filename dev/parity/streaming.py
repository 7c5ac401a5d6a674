"""Replay of streaming long tuning: the pieces of one film with the numbers they come to, and which pieces there are."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dev.parity.case import Case
from dev.parity.published import LearnedSink, widened, without_sink
from dev.parity.training import (
    Recorded,
    exits_of,
    film_of,
    give_gradients,
    match_of,
    named,
    net_of,
    says,
    stub,
)
from gf_core.config import ContextGradient
from gf_core.memory.views import View
from gf_core.model.forward import Call, text_kv
from gf_core.model.layers import Tree
from gf_core.rope import rotate, turns
from gf_core.sampling.director import Director, Trace
from gf_core.train.films import Cue, FilmBatch
from gf_core.train.objectives.dmd import critic, dmd
from gf_core.train.objectives.scores import Nets
from gf_core.train.recompute import recompute
from gf_core.train.streaming import Stream, next_piece

WINDOW = 21
"""Frames that a loss sees, and that a recache computes anew."""
PROMPTS = ("a_embeds", "b_embeds")
serves = says("StreamingTrainingModel")


def replay(case: Case) -> None:
    """The recorded pieces of one film: what losses see, one student's and one critic's step, a cache."""
    if not case.wanted or any(".detached." in name for name in case.wanted):
        _replay(case, "none", "detached.")
    _replay(case, "leaky", "")


def _replay(case: Case, context: ContextGradient, variant: str) -> None:
    train = case.doc["train"]
    nets = Nets(*(net_of(case, name) for name in ("generator", "fake", "real")))
    film = film_of(case, context)
    memory = replace(film.recipe.memory, switch="recache", recache_before_evict=True, recache_reach=WINDOW)
    film = replace(film, recipe=replace(film.recipe, memory=memory), first_frame=stub)
    if film.recipe.memory.anchors > film.chunk:
        recompute(nets.generator.blocks)
    cache = Cache(case, nets, train["cache_frames"])
    stream = Published(film, watch=cache.follow)
    block = -(-train["switch_frame"] // film.chunk)
    before, after = (case.inputs[name] for name in PROMPTS)
    _, _, *latent = case.inputs["chunk0.noise"].shape
    for number, use in enumerate(train["chunk_use"]):
        name = "critic" if use == "critic" else "score"
        index = train["t_index"].get(str(number), 0)
        steps = train["exit_step"][number]
        draws = Recorded(case, exits_of(steps), {"score.place": index}, f"chunk{number}.")
        draws.apart = {"score.noise": f"{name}.noise"}
        batch = FilmBatch(
            before, case.inputs["uncond_embeds"], tuple(latent), draws, {block: Cue("then", after)}
        )
        blocks = train["new_frames"][number] // film.chunk
        own = steps if isinstance(steps, list) else [steps] * blocks
        cache.exits = [own[0]] * blocks if film.one_exit else own
        stream.spec = replace(stream.spec, piece=train["new_frames"][number])
        _piece(case, nets, stream, batch, use, number, variant)
        cache.give(stream, number)


def _piece(
    case: Case, nets: Nets, stream: Stream, batch: FilmBatch, use: str, number: int, variant: str
) -> None:
    """One piece and its loss."""
    learning, prefix = (nets.fake, "critic.") if use == "critic" else (nets.generator, "")
    learning.requires_grad_(use != "skip")
    watch = named(case, prefix)

    def follow(name: str, value: Tensor) -> None:
        watch(name, value)
        if name == "window":
            case.give(f"chunk{number}.window", value)

    piece = next_piece(stream.length, stream.film, stream.spec, batch.cues)
    case.give(f"chunk{number}.grad_mask_frames", torch.tensor(piece.learned).float())
    if use == "skip":
        with torch.no_grad():
            follow("window", stream.advance(nets.generator, batch)[1].latents)
        return
    loss = critic if use == "critic" else dmd
    loss(nets, batch, stream, match_of(case), follow).total.backward()
    give_gradients(case, learning, prefix + variant)
    learning.requires_grad_(False)


class Published(Stream):
    """A stream that is directed as the recorded one."""

    def _begin(self, net: Tree, batch: FilmBatch) -> None:
        super()._begin(net, batch)
        assert self.sampler is not None
        self.sampler.director.__class__ = LearnedSink


class Cache:
    """Keys and values of the last layer as the recorded code stores them: rotated, sink first, then the newest
    frames."""

    def __init__(self, case: Case, nets: Nets, frames: int) -> None:
        self.case, self.nets, self.frames = case, nets, frames
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.latents: dict[int, Tensor] = {}
        self.exits: list[int] = []
        """Steps that the piece's blocks are taken at, from the next block on."""

    def follow(self, director: Director, trace: Trace) -> None:
        """After a call that wrote memory: take what it wrote."""
        memory, size = director.memory, director.memory.tokens_per_frame
        if trace.kind == "denoise" and trace.denoised is not None:
            frames = trace.denoised.detach().split(1, 1)
            self.latents |= dict(enumerate(frames, memory.ledger.frame))
        if trace.kind == "clean":
            first, self.exits = memory.layout.past, self.exits[1:]
            self._roll(director, trace.latents.shape[1])
            for number in range(trace.latents.shape[1]):
                here = slice((first + number) * size, (first + number + 1) * size)
                frame = memory.ledger.frame + number
                self._take(director, frame, memory.raw_k[-1, :, here], memory.v[-1, :, here])
        elif trace.kind == "recache":
            self._recached(director)

    def _take(self, director: Director, frame: int, raw_k: Tensor, v: Tensor) -> None:
        turn = turns(torch.tensor([frame]), *director.memory.grid, director.spec.head_dim)
        self.kept[frame] = rotate(raw_k.detach(), turn), v.detach().clone()

    def _roll(self, director: Director, frames: int) -> None:
        """Move what the next block finds behind its past, where the recorded code leaks in its own way.

        Its buffer rolls in the block's first call. Without a gradient there that moves values and leaves histories
        where they lie, so a frame hands its gradient to the one that lay there before, turned to its own place in
        time.
        """
        memory, sink = director.memory, director.memory.spec.anchors
        end = memory.ledger.frame + frames
        if director.grad != "leaky" or not any(self.exits[:1]) or end + frames <= self.frames:
            return
        shift = min(frames, end + frames - self.frames)  # less the first time, of a buffer of no whole blocks
        back = turns(torch.tensor([-shift]), 1, 1, director.spec.head_dim)
        for made in memory.gradients.graph:
            was = dict(made)
            for number, (k, v) in was.items():
                before = was.get(number - shift) if number - shift >= sink else None
                if number < sink:
                    continue
                k, v = k.detach(), v.detach()
                if before is not None:
                    with torch.enable_grad():  # the clean pass has none
                        k = k + rotate(before[0] - before[0].detach(), back)
                        v = v + (before[1] - before[1].detach())
                made[number] = k, v

    def _recached(self, director: Director) -> None:
        """Every frame that the recorded code computes anew, also those that lie in our memory no more."""
        memory, model = director.memory, self.nets.generator
        end = memory.ledger.frame
        first = max(0, end - WINDOW)
        self.kept.clear()
        latents = torch.cat([self.latents[frame] for frame in range(first, end)], 1)
        past, kept = memory.layout.past, min(memory.layout.recent, latents.shape[1])
        view = memory.reopen(latents.shape[1] - kept, range(past - kept, past))
        sink = memory.spec.anchors * memory.tokens_per_frame
        view = view.at([widened(place, sink) for place in view.places])
        written = _Written(without_sink(memory, view, latents.shape[1], sink) if first else view)
        text = text_kv(model, self.case.inputs[PROMPTS[1]], director.spec.text_len)
        with torch.no_grad():
            Call(
                model,
                latents,
                director.time(director.sample.context_timestep),
                text,
                written,
                want_flow=False,
            ).run()
        raw_k, v = written.last
        for number, frame in enumerate(range(first, end)):
            if first and frame < memory.spec.anchors:
                continue  # its sink is left as it lies: empty
            here = slice(number * memory.tokens_per_frame, (number + 1) * memory.tokens_per_frame)
            self._take(director, frame, raw_k[:, here], v[:, here])

    def give(self, stream: Stream, number: int) -> None:
        """The buffer after a piece, zeros where nothing lies."""
        assert stream.sampler is not None
        sink, size = stream.film.recipe.memory.anchors, stream.sampler.director.memory.tokens_per_frame
        newest = range(max(sink, stream.length - (self.frames - sink)), stream.length)
        empty = torch.zeros_like(next(iter(self.kept.values()))[0])
        for side, letter in enumerate("kv"):
            frames = [self.kept[f][side] if f in self.kept else empty for f in (*range(sink), *newest)]
            value = torch.cat(frames, 1)
            short = self.frames * size - value.shape[1]
            padded = torch.nn.functional.pad(value, (0, 0, 0, 0, 0, short))
            self.case.give(f"chunk{number}.kv_last_layer.{letter}", padded)


class _Written:
    """A view that remembers what the last layer was given."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.attend = view.attend

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """As `View.write`."""
        self.last = raw_k, v
        self._view.write(layer, raw_k, v)
