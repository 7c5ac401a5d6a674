"""Rollouts against a slow, literal cache in the reference repositories' own terms: token indices and rolled buffers.

Self Forcing and LongLive keep one buffer per layer, evict by rolling it and (but for LongLive's relative mode) rotate
keys before storing them. Any window, sink, block and switch must agree with our regions of raw keys.
"""

from dataclasses import dataclass, replace

import pytest
import torch

from gf_core.attention import attend
from gf_core.config import MemorySpec, ModelSpec, Recipe, SampleSpec
from gf_core.model import layers
from gf_core.model.forward import Call, text_kv
from gf_core.rope import rotate, turns
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.noise import chunk_noise
from gf_core.sampling.sampler import Chunk
from gf_core.sampling.schedule import add_noise, flow_to_x0, timesteps

SPEC = ModelSpec(
    dim=24, ffn_dim=32, num_heads=2, num_layers=2, in_dim=4, out_dim=4, text_len=5, text_dim=8, freq_dim=16
)
SIZE, GRID = 2, (1, 2)  # tokens per frame, rows and columns of tokens
SAMPLE = SampleSpec(steps=(1000, 500))


@dataclass
class Setup:
    window: int
    sink: int
    blocks: tuple[int, ...]
    given: int = 0
    batch: int = 1
    longlive: bool = False
    relative: bool = False
    switches: tuple[int, ...] = ()
    global_sink: bool = True


class Buffer:
    """One layer's cache with its two end pointers, in tokens."""

    def __init__(self, setup):
        shape = (setup.batch, setup.window * SIZE, SPEC.num_heads, SPEC.head_dim)
        self.k, self.v, self.global_end, self.local_end = torch.zeros(shape), torch.zeros(shape), 0, 0


class Reference:
    def __init__(self, model, setup, prompts):
        self.model, self.setup, self.prompts = model, setup, prompts
        self.buffers = [Buffer(setup) for _ in range(SPEC.num_layers)]
        self.film = []

    def call(self, latents, timestep, start, rewrite_sink=False):
        self.start, self.rewrite_sink = start, rewrite_sink
        time = layers.time_conditioning(self.model, torch.tensor([[timestep]]), torch.float32)
        return Call(self.model, latents, time, text_kv(self.model, self.prompt, SPEC.text_len), self).run()

    def attend(self, layer, q, raw_k, v):
        buffer, setup, new = self.buffers[layer], self.setup, q.shape[1]
        sink, size = setup.sink * SIZE, setup.window * SIZE
        begin, end = self.start * SIZE, self.start * SIZE + new
        own = turns(torch.arange(self.start, self.start + new // SIZE), *GRID, SPEC.head_dim)
        k = raw_k if setup.relative else rotate(raw_k, own)
        again = setup.longlive and end <= buffer.global_end and begin > 0
        local_end = buffer.local_end + end - buffer.global_end
        if end > buffer.global_end and new + buffer.local_end > size:
            evicted = new + buffer.local_end - size
            rolled = buffer.local_end - evicted - sink
            for store in (buffer.k, buffer.v):
                store[:, sink : sink + rolled] = store[:, sink + evicted : sink + evicted + rolled].clone()
            local_end -= evicted
        local_start = local_end - new
        write = max(local_start, sink) if again and not self.rewrite_sink else local_start
        buffer.k[:, write:local_end] = k[:, write - local_start :]
        buffer.v[:, write:local_end] = v[:, write - local_start :]
        if not again:
            buffer.global_end, buffer.local_end = end, local_end
        keys = buffer.k[:, :local_end]
        if setup.relative:
            slots = turns(torch.arange(local_end // SIZE), *GRID, SPEC.head_dim)
            keys, own = rotate(keys, slots), slots[local_start:]
        return attend(rotate(q, own), keys, buffer.v[:, :local_end])

    def write(self, layer, raw_k, v):
        raise AssertionError("the reference computes every flow")

    def recache(self, frame):
        setup = self.setup
        if not setup.global_sink:
            for buffer in self.buffers:
                buffer.k.zero_()
                buffer.v.zero_()
        count = min(setup.window, frame)
        if frame:
            latents = torch.cat(self.film, dim=1)[:, frame - count : frame]
            self.call(latents, 0.0, frame - count, rewrite_sink=not setup.global_sink)

    @torch.no_grad()
    def run(self, given):
        self.prompt, used, frame = self.prompts[0], 0, 0
        for number, count in enumerate(self.setup.blocks):
            if frame < self.setup.given:
                latents = given[:, frame : frame + count]
            else:
                if used < len(self.setup.switches) and frame >= self.setup.switches[used]:
                    used += 1
                    self.prompt = self.prompts[used]
                    self.recache(frame)
                latents = self.denoise(number, count, frame)
            self.film.append(latents)
            self.call(latents, 0.0, frame)
            frame += count
        return torch.cat(self.film, dim=1)

    def denoise(self, number, count, frame):
        shape = (self.setup.batch, count, SPEC.in_dim, 2, 4)
        for step, level in enumerate(timesteps(SAMPLE)):
            noise = chunk_noise(3, number, step, shape)
            x = add_noise(x0, noise, level.sigma) if step else noise  # noqa: F821
            x0 = flow_to_x0(x, self.call(x, level.timestep, frame), level.sigma)
        return x0


def ours(model, setup, prompts, given):
    chunk = max(setup.blocks)
    memory = MemorySpec(
        anchors=setup.sink,
        recent=setup.window - setup.sink - chunk,
        chunk=chunk,
        anchor_index="slot",
        positions="relative" if setup.relative else "absolute",
        anchor_policy="frozen",
        anchor_update="never",
        switch="recache",
        recache_before_evict=True,
        recache_keeps_anchors=setup.global_sink,
        max_position=None,
    )
    sampler = make_sampler(
        model, SPEC, Recipe(memory, SAMPLE), latent_height=2, latent_width=4, batch=setup.batch
    )
    director = sampler.director
    director.start(prompts[0])
    film, used = [], 0
    for number, count in enumerate(setup.blocks):
        frame = director.memory.ledger.frame
        if frame < setup.given:
            film.append(given[:, frame : frame + count])
            director.prefill(film[-1])
            continue
        if used < len(setup.switches) and frame >= setup.switches[used]:
            used += 1
            director.switch(prompts[used])
        shape = (setup.batch, count, SPEC.in_dim, 2, 4)
        noise = [chunk_noise(3, number, step, shape) for step in range(2)]
        film += [clean.latents for clean in sampler.feed(Chunk(number, noise.__getitem__))]
    return torch.cat(film, dim=1)


THREES = (3,) * 8
SETUPS = {
    "global": Setup(24, 0, THREES),
    "rolling": Setup(9, 0, THREES),
    "sink": Setup(9, 3, THREES),
    "odd window, sink of two": Setup(8, 2, THREES),
    "sink larger than a block": Setup(11, 5, THREES),
    "window of one block": Setup(3, 0, THREES),
    "one frame first": Setup(9, 3, (1, *THREES[:-1])),
    "one frame first, odd window": Setup(7, 1, (1, *THREES[:-1])),
    "frame by frame": Setup(5, 2, (1,) * 12),
    "two frames": Setup(7, 1, (2,) * 9),
    "extension": Setup(9, 3, THREES, given=6),
    "image first, then extension": Setup(12, 0, (1, *THREES[:-1]), given=4),
    "batch": Setup(9, 3, THREES, batch=2),
    "longlive without a switch": Setup(12, 3, THREES, longlive=True),
    "early and late switch": Setup(12, 3, THREES, longlive=True, switches=(5, 17)),
    "switch when just full": Setup(12, 3, THREES, longlive=True, switches=(12,)),
    "switch at every block": Setup(9, 3, THREES, longlive=True, switches=(3, 6, 9, 12, 15)),
    "odd window": Setup(8, 1, THREES, longlive=True, switches=(6, 13)),
    "no global sink": Setup(9, 3, THREES, longlive=True, switches=(6, 14), global_sink=False),
    "no sink at all": Setup(9, 0, THREES, longlive=True, switches=(6, 14)),
    "relative": Setup(12, 3, THREES, longlive=True, relative=True),
    "relative switch": Setup(12, 3, THREES, longlive=True, relative=True, switches=(6, 17)),
    "relative, odd window": Setup(8, 2, THREES, longlive=True, relative=True, switches=(7, 16)),
    "relative, no global sink": Setup(
        9, 3, THREES, longlive=True, relative=True, switches=(6, 14), global_sink=False
    ),
}


@pytest.mark.parametrize("name", SETUPS)
def test_agrees(name, model, prompts):
    setup = SETUPS[name]
    spread = [prompts[i % 3].expand(setup.batch, -1, -1) for i in range(6)]
    given = torch.randn(
        setup.batch, setup.given, SPEC.in_dim, 2, 4, generator=torch.Generator().manual_seed(9)
    )
    want = Reference(model, setup, spread).run(given)
    got = ours(model, setup, spread, given)
    torch.testing.assert_close(got, want, atol=1e-4, rtol=0)


def test_the_comparison_can_fail(model, prompts):
    """A window one frame too long is noticed."""
    setup = SETUPS["sink"]
    want = Reference(model, replace(setup, window=10), prompts).run(torch.zeros(1, 0))
    assert (ours(model, setup, prompts, None) - want).abs().max() > 1e-2
