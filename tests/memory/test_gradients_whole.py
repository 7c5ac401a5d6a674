"""Gradients through memories that do more than keep the newest frames: against one forward over the whole film."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gf_core.attention import attend
from gf_core.config import MemorySpec, ModelSpec, Recipe
from gf_core.errors import GroundedError
from gf_core.memory.presets import PRESETS
from gf_core.memory.snapshots import restore, snapshot
from gf_core.memory.store import DualMemory
from gf_core.model.forward import Call, SelfAttention, text_kv, time_conditioning
from gf_core.model.placement import Placement
from gf_core.model.wan import WanModel
from gf_core.rope import rotate, turns

SPEC = ModelSpec(
    dim=48, ffn_dim=64, num_heads=2, num_layers=3, in_dim=4, out_dim=4, text_len=6, text_dim=8, freq_dim=16
)
LATENT, TOKENS, CHUNK = (4, 4, 4), 4, 3
BELOW = 0.65
"""Between the likenesses of chunks of this noise, so that layers choose differently."""
SLOW_FAST = replace(PRESETS["context_forcing"], bank=2, bank_below=BELOW, max_position=13)
OWN = {"positions": "absolute", "max_position": None, "bank_below": 0.75}
WALK = replace(PRESETS["rolling_sink"], anchors=6, recent=9)
MEANS = replace(PRESETS["memrope"], anchors=1, recent=3)

Held = Sequence[int | tuple[Tensor, Tensor]]
"""What a chunk sees of the past: frames of the film by number, or constant keys and values."""


class Whole:
    """Self-attention of one call over a whole film, in which every chunk sees what a rule says, and itself."""

    def __init__(self, held: Callable[[int, int, Tensor], tuple[Held, list[int]]]) -> None:
        """held: (layer, first frame of a chunk, raw keys [f b s h d] of the film) -> what it sees, and the positions
        of that and of its own frames."""
        self._held = held

    def attend(self, layer: int, q: Tensor, raw_k: Tensor, v: Tensor) -> Tensor:
        queries, k, values = (torch.stack(x.split(TOKENS, 1)) for x in (q, raw_k, v))
        out = []
        for first in range(0, len(k), CHUNK):
            held, at = self._held(layer, first, k)
            own = range(first, first + CHUNK)
            seen = [(k[n], values[n]) if isinstance(n, int) else n for n in (*held, *own)]
            keys, vs = (torch.cat(side, 1) for side in zip(*seen))
            turn = turns(torch.tensor(at), 2, 2, SPEC.head_dim)
            asked = torch.cat([queries[n] for n in own], 1)
            out.append(attend(rotate(asked, turn[-asked.shape[1] :]), rotate(keys, turn), vs))
        return torch.cat(out, 1)

    def write(self, layer: int, raw_k: Tensor, v: Tensor) -> None:
        """Nothing is kept."""


def slow_fast(spec: MemorySpec) -> Callable[[int, int, Tensor], tuple[Held, list[int]]]:
    """Context Forcing's memory: sink, bank and the newest chunk (arXiv 2602.06028, section 3)."""

    def held(layer: int, first: int, k: Tensor) -> tuple[Held, list[int]]:
        bank, means = list[int](), [chunk.float().mean((0, 2)).flatten() for chunk in k.split(CHUNK)]
        for chunk in range(2, first // CHUNK, 2):
            if torch.cosine_similarity(means[chunk], means[chunk - 1], 0) < spec.bank_below:
                bank = [*bank, chunk * CHUNK][-spec.bank :]
        sink, fast = range(min(3, first)), range(max(3, first - CHUNK), first)
        numbers, own = [*sink, *bank, *fast], range(first, first + CHUNK)
        if spec.positions == "absolute":
            return numbers, [*numbers, *own]
        if spec.positions == "relative":
            return numbers, [*range(len(numbers) + CHUNK)]
        top = own[-1] if spec.max_position is None else min(own[-1], spec.max_position)
        return numbers, [*sink, *range(top + 1 - len(numbers) - CHUNK + len(sink), top + 1)]

    return held


def walk(spec: MemorySpec) -> Callable[[int, int, Tensor], tuple[Held, list[int]]]:
    """Rolling Sink: all but the newest chunk are the first frames, walked forward and back in turn."""
    there = [*range(spec.anchors), *reversed(range(spec.anchors))]

    def held(layer: int, first: int, k: Tensor) -> tuple[Held, list[int]]:
        before = range(max(0, first - spec.recent), first)
        numbers = [n if n >= first - CHUNK else there[n % len(there)] for n in before]
        return numbers, [*range(len(numbers) + CHUNK)]

    return held


def memory_of(spec: MemorySpec) -> DualMemory:
    return DualMemory(SPEC, Recipe(spec), Placement(latent_height=LATENT[1], latent_width=LATENT[2]))


@pytest.fixture
def model() -> WanModel:
    torch.manual_seed(3)
    return WanModel(SPEC).eval()


@pytest.fixture
def film() -> Tensor:
    """Eight chunks."""
    return torch.randn(1, 8 * CHUNK, *LATENT, generator=torch.Generator().manual_seed(7))


class Network:
    """Calls of one model at timestep 0 under one prompt, and what a loss over them tells its weights."""

    def __init__(self, model: WanModel, film: Tensor) -> None:
        self.model, self.film = model, film.requires_grad_()
        generator = torch.Generator().manual_seed(8)
        self.weight = torch.randn(film.shape, generator=generator)
        time = time_conditioning(model, torch.tensor([[0.0]]), torch.float32)
        prompt = torch.randn(1, 4, SPEC.text_dim, generator=generator)
        self.given = time, text_kv(model, prompt, SPEC.text_len)

    def flow(self, latents: Tensor, view: SelfAttention) -> Tensor:
        flow = Call(self.model, latents, *self.given, view).run()
        assert flow is not None
        return flow

    def chunks(self, memory: DualMemory, opened: Callable[[int], None] = lambda first: None) -> Tensor:
        """The film through a memory, chunk by chunk."""
        flows = []
        for latents in self.film.split(CHUNK, 1):
            memory.evict(memory.spec.recent)
            opened(memory.ledger.frame)
            _, clean = memory.open_grad(CHUNK)
            flows.append(self.flow(latents, clean))
            memory.commit(latents)
        return torch.cat(flows, 1)

    def gradients(self, flow: Tensor) -> dict[str, Tensor]:
        self.model.zero_grad()
        self.film.grad = None
        (flow * self.weight).sum().backward(retain_graph=True)
        found = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
        assert self.film.grad is not None
        return {**found, "film": self.film.grad.clone()}

    def compare(self, flow: Tensor, whole: Whole) -> None:
        wanted = self.flow(self.film, whole)
        torch.testing.assert_close(flow, wanted, atol=1e-5, rtol=1e-5)
        told = self.gradients(wanted)
        got = self.gradients(flow)
        assert got.keys() == told.keys() and len(told) > 40
        for name, grad in told.items():
            torch.testing.assert_close(got[name], grad, atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("spec", "rule", "wanted"),
    [
        (SLOW_FAST, slow_fast, {(6,), (12,), ()}),
        (replace(SLOW_FAST, bank=1), slow_fast, {(6,), (12,), ()}),
        (replace(SLOW_FAST, positions="relative"), slow_fast, {(6,), (12,), ()}),
        (replace(SLOW_FAST, bank=1, **OWN), slow_fast, {(6,), (12,)}),
        (WALK, walk, {()}),
    ],
    ids=["slow-fast", "a bank that is full", "close by", "full, at their own numbers", "walk"],
)
def test_gradients_are_those_of_one_forward_over_the_film(model, film, spec, rule, wanted):
    """wanted: what the layers' banks hold behind the fifth chunk, for they are to differ."""
    memory, network, banks = memory_of(spec), Network(model, film), set[tuple[int, ...]]()

    def opened(first: int) -> None:
        if first == 15:
            banks.update(tuple(frame.number for frame in bank) for bank in memory.ledger.banks)

    flow = network.chunks(memory, opened)
    assert banks == wanted
    network.compare(flow, Whole(rule(spec)))


def test_gradients_go_around_means(model, film):
    """A mean of many frames is a constant; what is seen beside it has a gradient as ever."""
    memory, network = memory_of(MEANS), Network(model, film)
    seen = dict[tuple[int, int], tuple[Held, list[int]]]()

    def opened(first: int) -> None:
        layout, numbers = memory.layout, memory.ledger.numbers()
        at = [*range(layout.past + CHUNK)]
        for layer in range(SPEC.num_layers):
            sides = (store[layer].clone().split(TOKENS, 1) for store in (memory.raw_k, memory.v))
            stored = list(zip(*sides))
            means = range(layout.anchors, layout.kept)
            held: Held = [stored[slot] if slot in means else number for slot, number in enumerate(numbers)]
            seen[layer, first] = held, at

    flow = network.chunks(memory, opened)
    assert memory.layout.bank == 2
    network.compare(flow, Whole(lambda layer, first, k: seen[layer, first]))


def test_a_frame_in_the_bank_stays_what_it_was(model, film):
    """Recent frames that are computed anew become constants; the bank's copy, of the same number, does not."""
    memory, network = memory_of(replace(SLOW_FAST, bank_below=2.0)), Network(model, film[:, : 3 * CHUNK])
    network.chunks(memory)
    memory.evict(memory.spec.recent)
    view, kept = memory.reopen(), memory.raw_k.clone()
    for layer in range(SPEC.num_layers):
        ours = torch.zeros_like(memory.raw_k[layer, :, : CHUNK * TOKENS])
        view.write(layer, ours, ours)
    _, clean = memory.open_grad(CHUNK)
    here = slice(3 * TOKENS, 4 * TOKENS)
    for layer, place in enumerate(clean.places):
        assert memory.ledger.numbers(layer) == [0, 1, 2, 6, 6, 7, 8]
        bank, *recent = memory.gradients.past(layer, place)[3:]
        assert bank[0].requires_grad and torch.equal(bank[0], kept[layer, :, here])
        assert not any(k.requires_grad or k.any() for k, _ in recent)


def test_a_memory_that_came_back_is_a_constant(model, film):
    """What lies in a bank was not made with gradients then; it is read from its slots, as every layer has it."""
    memory, network = memory_of(SLOW_FAST), Network(model, film[:, : 5 * CHUNK])
    network.chunks(memory)
    restore(memory, snapshot(memory))
    assert not any(map(any, (memory.gradients.graph, memory.gradients.banks, memory.gradients.leaks)))
    memory.evict(memory.spec.recent)
    step, clean = memory.open_grad(CHUNK)
    for layer, place in enumerate(clean.places):
        slots = memory.raw_k[layer, :, : place.start]
        for view in (step, clean):
            k, _ = view._look_back(layer)
            assert torch.equal(k, slots) and not k.requires_grad
            assert k.data_ptr() != slots.data_ptr()
    assert {place.start // TOKENS for place in clean.places} == {6, 7}


def held(memory: DualMemory) -> int:
    """Bytes that the past keeps alive beside the slots: whole tensors, where a frame is a part of one."""
    stores = {
        side.untyped_storage().data_ptr(): side.untyped_storage().nbytes()
        for frames in (*memory.gradients.graph, *memory.gradients.banks, *memory.gradients.leaks)
        for made in frames.values()
        for side in made
    }
    return sum(stores.values())


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("name", ["context_forcing", "memrope", "rolling_sink", "krea", "grounded"])
def test_frames_that_have_left_are_let_go(model, name, leaky):
    """A full memory's past grows no further, and takes what its frames do; those in a bank hold no others alive."""
    spec = PRESETS[name]
    memory = memory_of(replace(spec, bank_below=2.0) if spec.bank > 2 else spec)
    network, taken = Network(model, torch.randn(1, CHUNK, *LATENT)), list[int]()
    for _ in range(40):
        memory.evict(memory.spec.recent)
        for view in memory.open_grad(CHUNK, leaky=leaky):
            network.flow(network.film, view)
        memory.commit(network.film)
        taken.append(held(memory))
        if not leaky:
            memory.gradients.detach()
    frame = 2 * memory.raw_k[0, :, :TOKENS].nbytes * SPEC.num_layers
    assert taken[-1] == taken[-7] and taken[-1] <= (spec.slots + (1 + leaky) * CHUNK) * frame
    past = [
        memory.gradients.past(layer, place) for layer, place in enumerate(memory.open_grad(CHUNK)[0].places)
    ]
    assert all(past)
    assert leaky or not any(side.requires_grad for frames in past for made in frames for side in made)


def test_a_film_that_is_over_is_free_at_once(model, film):
    network, memory = Network(model, film), memory_of(SLOW_FAST)
    gone = weakref.ref(memory)
    flow = network.chunks(memory)
    gc.collect()
    gc.disable()
    try:
        del memory
        assert gone() is None and flow.requires_grad
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "spec",
    [
        PRESETS["wave_forcing"],
        replace(SLOW_FAST, stored="int8"),
        replace(PRESETS["sgf"], heads=(((1, 1), (1, 1)),) * SPEC.num_layers),
    ],
    ids=["wave", "int8", "heads"],
)
def test_other_memories_are_refused_in_words(spec):
    with pytest.raises(GroundedError, match="gradients do not go through") as told:
        memory_of(spec).open_grad(CHUNK)
    assert "heads, wave and int8" in str(told.value.fix)
