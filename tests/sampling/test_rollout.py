"""Whole rollouts of a tiny random Wan: cache against one masked forward, cancelling, snapshots."""

import copy
from dataclasses import replace

import pytest
import torch

from gf_core.config import MemorySpec, Recipe, SampleSpec
from gf_core.errors import GroundedError
from gf_core.memory.presets import PRESETS
from gf_core.memory.snapshots import snapshot
from gf_core.model import layers
from gf_core.model.forward import Call, text_kv
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.noise import chunk_noise
from gf_core.sampling.sampler import Chunk

from ..masked import whole_film
from .conftest import SPEC


def test_chunks_with_memory_equal_one_masked_forward(film, model, prompts):
    run = film(PRESETS["self_forcing"])
    run.director.start(prompts[0])
    latents = torch.randn(1, 12, 4, 2, 4)
    flows = []
    run.director.watch = lambda trace: flows.append(trace.flow)
    for chunk in latents.split(3, dim=1):
        run.director.prefill(chunk)
    with torch.no_grad():
        time = layers.time_conditioning(model, torch.zeros(1, 1), torch.float32)
        text = text_kv(model, prompts[0], SPEC.text_len)
        want = Call(model, latents, time, text, whole_film(12, 3, 1, 2, SPEC.head_dim)).run()
    torch.testing.assert_close(torch.cat(flows, dim=1), want, atol=1e-5, rtol=0)


def test_relative_equals_absolute_while_the_film_fits(film, prompts):
    """Frames 0 to 8 of every method with a chunk of 3 agree: only differences of positions matter."""
    outs = []
    for name in ("grounded", "self_forcing", "longlive"):
        run = film(PRESETS[name])
        run.director.start(prompts[0])
        outs.append(torch.cat([run.chunk() for _ in range(3)], dim=1))
    torch.testing.assert_close(outs[0], outs[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(outs[0], outs[2], atol=1e-4, rtol=0)


def test_slot_anchors_equal_absolute_one_block_longer_than_zero_anchors(film, prompts):
    outs = {}
    for index in ("zero", "slot"):
        run = film(MemorySpec(anchor_index=index, anchor_update="never"))
        run.director.start(prompts[0])
        outs[index] = torch.cat([run.chunk() for _ in range(4)], dim=1)
    run = film(PRESETS["self_forcing"])
    run.director.start(prompts[0])
    want = torch.cat([run.chunk() for _ in range(4)], dim=1)
    torch.testing.assert_close(outs["slot"], want, atol=1e-4, rtol=0)
    assert (outs["zero"][:, 9:] - want[:, 9:]).abs().max() > 1e-3


def test_one_anchor_at_zero_is_its_slot(film, prompts):
    outs = []
    for index in ("zero", "slot"):
        run = film(replace(PRESETS["infinity_rope"], anchor_index=index))
        run.director.start(prompts[0])
        outs.append(torch.cat([run.chunk() for _ in range(6)], dim=1))
    assert torch.equal(*outs)


def test_batch_samples_are_independent(film, prompts):
    both = torch.cat([prompts[1], prompts[1].flip(1)])
    run = film(batch=2)
    run.director.start(both)
    together = torch.cat([run.chunk() for _ in range(4)], dim=1)
    shape = (2, 3, 4, 2, 4)
    for sample in range(2):
        alone = film()
        alone.director.start(both[sample : sample + 1])
        out = [
            clean.latents
            for n in range(4)
            for clean in alone.sampler.feed(
                Chunk(n, lambda step, n=n, sample=sample: chunk_noise(7, n, step, shape)[sample, None])
            )
        ]
        torch.testing.assert_close(torch.cat(out, dim=1), together[sample, None], atol=1e-5, rtol=0)


def test_prefill_replays_a_film(film, prompts):
    """Memory rebuilt by clean passes over finished latents continues bit for bit."""
    first, second = film(), film()
    for run in (first, second):
        run.director.start(prompts[0])
    for _ in range(5):
        second.director.prefill(first.chunk())
    second.chunks = 5
    a, b = first.director.snapshot(), second.director.snapshot()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(first.chunk(), second.chunk())


def test_given_frames_enter_memory_at_their_own_timestep(film, prompts):
    """Self Forcing lets frames that it has not made enter at 0, whatever its context timestep is."""
    frames = torch.randn(1, 3, SPEC.in_dim, 2, 4, generator=torch.Generator().manual_seed(3))
    keys = []
    for context, said in ((100.0, None), (100.0, 0.0), (0.0, None)):
        run = film(sample=SampleSpec(steps=(1000, 500), context_timestep=context))
        run.director.start(prompts[0])
        run.director.prefill(frames, said)
        keys.append(run.director.memory.raw_k.clone())
    assert torch.equal(keys[1], keys[2]) and not torch.equal(keys[0], keys[1])


def test_a_chunk_without_memory_may_take_other_steps(film, prompts):
    """At the film's start and after a scene, not after a cut or a given frame."""
    run = film(sample=SampleSpec(steps=(1000,), first_steps=(1000, 750, 500)))
    four, one = film(sample=SampleSpec(steps=(1000, 750, 500))), film(sample=SampleSpec(steps=(1000,)))
    for other in (run, four, one):
        other.director.start(prompts[0])
    assert torch.equal(run.chunk(), four.chunk()) and run.director.memory.ledger.frame == 3
    taken = []

    def chunk() -> int:
        taken.clear()
        run.chunk(on_step=lambda step, steps: taken.append(steps))
        assert taken == [len(taken)] * len(taken)
        return len(taken)

    assert chunk() == 1
    run.director.cut(prompts[1])
    assert chunk() == 1
    run.director.scene(prompts[2])
    assert chunk() == 3 and chunk() == 1
    one.director.prefill(torch.zeros(1, 3, SPEC.in_dim, 2, 4))
    twin = film(sample=SampleSpec(steps=(1000,), first_steps=(1000, 750, 500)))
    twin.director.start(prompts[0])
    twin.director.prefill(torch.zeros(1, 3, SPEC.in_dim, 2, 4))
    assert torch.equal(one.chunk(), twin.chunk())


def test_a_second_clean_pass_changes_no_bit(film, prompts):
    run = film()
    run.director.start(prompts[0])
    latents = [run.chunk() for _ in range(5)][-1]
    memory, size = run.director.memory, 2
    frames = slice(memory.layout.past * size - 3 * size, memory.layout.past * size)
    before = memory.raw_k[:, :, frames].clone(), memory.v[:, :, frames].clone()
    state = snapshot(memory)
    # the chunk is taken back out of recent memory and written again
    del memory.ledger.recent[-3:]
    memory.ledger.frame -= 3
    _, again = memory.open(3)
    with torch.no_grad():
        run.director._clean(latents, again, "clean", run.director._writing_time(0.0))
    assert torch.equal(memory.raw_k[:, :, frames], before[0])
    assert torch.equal(memory.v[:, :, frames], before[1])
    assert torch.equal(memory.raw_k[:, :, : frames.start], state["raw_k"][:, :, : frames.start])


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [0, 1])
def test_cancelled_chunk_can_be_repeated(film, prompts, at):
    def cancel(step, steps):
        assert steps == 2
        if step == at:
            raise Stop

    runs = [film(), film()]
    for run in runs:
        run.begin(prompts[0], 3)
        run.director.switch(prompts[1])
    frame = runs[0].director.memory.ledger.frame
    with pytest.raises(Stop):
        runs[0].chunk(on_step=cancel)
    assert runs[0].director.memory.ledger.frame == frame
    for _ in range(3):
        assert torch.equal(runs[0].chunk(), runs[1].chunk())


def test_every_network_call_can_be_stopped_before_it_begins(film, prompts, monkeypatch):
    order, real = [], Call.run
    monkeypatch.setattr(Call, "run", lambda asked: (order.append("call"), real(asked))[1])
    run = film()
    run.director.before_call = lambda: order.append("asked")
    run.director.start(prompts[0])
    run.chunk()
    run.director.switch(prompts[1])
    run.chunk()
    assert order == ["asked", "call"] * (3 + 4)  # two steps and the clean pass; the switch recaches first


def test_memory_reaches_the_picture(film, prompts):
    """Planted difference: other anchors, other chunk."""
    run, other = film(), film()
    for one in (run, other):
        one.begin(prompts[0], 5)
    other.director.memory.v[:, :, :2] += 1.0
    assert (run.chunk() - other.chunk()).abs().max() > 1e-3


def test_buffers_stay_put_over_a_film(film, prompts):
    run = film()
    run.director.start(prompts[0])
    memory = run.director.memory
    pointers = [t.data_ptr() for t in (memory.raw_k, memory.k, memory.v, memory.history)]
    for chunk in range(30):
        if chunk % 10 == 9:
            run.director.switch(prompts[chunk % 3])
        run.chunk()
    assert [t.data_ptr() for t in (memory.raw_k, memory.k, memory.v, memory.history)] == pointers
    assert torch.isfinite(memory.v).all()


def test_a_packed_memory_makes_nearly_the_same_chunks(film, prompts):
    """The first sees no past, and its own keys and values are never packed; the others are a little off."""
    runs = film(), film(MemorySpec(stored="int8"))
    for run in runs:
        run.director.start(prompts[0])
    for number in range(6):
        if number == 3:
            for run in runs:
                run.director.switch(prompts[1])
        whole, packed = (run.chunk() for run in runs)
        off = float((whole - packed).norm() / whole.norm())
        assert off == 0 if number == 0 else 0 < off < 0.02, (number, off)


def test_helpful_refusals(film, prompts):
    run = film()
    with pytest.raises(GroundedError, match="no prompt"):
        run.chunk()
    with pytest.raises(GroundedError, match="not \\[b"):
        run.director.start(torch.randn(1, 3, 9))
    with pytest.raises(GroundedError, match="not \\[b"):
        run.director.start(torch.randn(1, 6, 8))
    run.director.start(prompts[0])
    with pytest.raises(GroundedError, match="does not fit"):
        run.chunk(frames=4)


@pytest.mark.gpu
def test_no_device_synchronisation_inside_a_chunk(prompts, model):
    sampler = make_sampler(copy.deepcopy(model).cuda(), SPEC, Recipe(), latent_height=2, latent_width=4)
    sampler.director.start(prompts[0])
    noise = torch.randn(1, 3, 4, 2, 4, device="cuda")
    for index in range(6):
        list(sampler.feed(Chunk(index, lambda step: noise)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        list(sampler.feed(Chunk(6, lambda step: noise)))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    ("memory", "same"),
    [
        (PRESETS["self_forcing_rolling"], True),  # a window without anchors
        (MemorySpec(), True),  # places in the window
        (replace(PRESETS["sgf"], max_position=None), False),  # a window that leaves its anchors behind
    ],
    ids=["absolute", "relative", "anchors at the beginning"],
)
def test_a_window_stays_what_it_was_however_far_the_film_has_come(film, prompts, memory, same):
    """Only differences of positions matter: what drifts is the distance to anchors that stand still."""
    outs = []
    for before in (0, 600):
        run = film(memory)
        run.director.start(prompts[0])
        run.director.skip(before, 0)
        outs.append(torch.cat([run.chunk() for _ in range(9)], dim=1))
    far = (outs[0] - outs[1]).abs().max()
    assert bool(far < 1e-4) is same
