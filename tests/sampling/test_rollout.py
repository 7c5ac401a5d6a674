"""Whole rollouts of a tiny random Wan: cache against one masked forward, verbs, cancelling, snapshots."""

from dataclasses import replace

import pytest
import torch

from gf_core.attention import attend
from gf_core.config import MemorySpec, ModelSpec, Recipe, SampleSpec
from gf_core.errors import GroundedError
from gf_core.memory.presets import PRESETS
from gf_core.memory.regions import Layout, check
from gf_core.model import layers
from gf_core.model.forward import call, text_kv
from gf_core.model.wan import WanModel
from gf_core.rope import rotate, turns
from gf_core.sampling import director as director_module
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import film_chunks
from gf_core.sampling.noise import chunk_noise
from gf_core.sampling.sampler import Chunk
from gf_core.timeline import Timing, make_plan, parse

from .conftest import HEIGHT, WIDTH

SPEC = ModelSpec(
    dim=24, ffn_dim=32, num_heads=2, num_layers=2, in_dim=4, out_dim=4, text_len=5, text_dim=8, freq_dim=16
)


class Masked:
    """Self-attention of one call over a whole film, each chunk seeing itself and what came before."""

    def __init__(self, frames, chunk, tokens, turn):
        block = torch.arange(frames * tokens) // (chunk * tokens)
        hidden = torch.zeros(len(block), len(block))
        self.bias = hidden.masked_fill(block[:, None] < block[None, :], float("-inf"))
        self.turn = turn

    def attend(self, layer, q, raw_k, v):
        return attend(rotate(q, self.turn), rotate(raw_k, self.turn), v, bias=self.bias)

    def write(self, layer, raw_k, v):
        raise AssertionError("the flow is wanted")


def test_chunks_with_memory_equal_one_masked_forward(film, model, prompts):
    run = film(PRESETS["self_forcing"])
    run.director.start(prompts[0])
    latents = torch.randn(1, 12, 4, 2, 4)
    flows = []
    run.director.watch = lambda trace: flows.append(trace.flow)
    for chunk in latents.split(3, dim=1):
        run.director.prefill(chunk)
    with torch.no_grad():
        turn = turns(torch.arange(12), 1, 2, SPEC.head_dim)
        time = layers.time_conditioning(model, torch.zeros(1, 1), torch.float32)
        text = text_kv(model, prompts[0], SPEC.text_len)
        want = call(model, latents, time, text, Masked(12, 3, 2, turn))
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
    state = memory.snapshot()
    # the chunk is taken back out of recent memory and written again
    del memory.ledger.recent[-3:]
    memory.ledger.frame -= 3
    _, again = memory.open(3)
    with torch.no_grad():
        run.director._clean(latents, again, "clean", run.director._clean_time)
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
        run.director.start(prompts[0])
        for _ in range(3):
            run.chunk()
        run.director.switch(prompts[1])
    frame = runs[0].director.memory.ledger.frame
    with pytest.raises(Stop):
        runs[0].chunk(on_step=cancel)
    assert runs[0].director.memory.ledger.frame == frame
    for _ in range(3):
        assert torch.equal(runs[0].chunk(), runs[1].chunk())


def test_every_network_call_can_be_stopped_before_it_begins(film, prompts, monkeypatch):
    order, real = [], director_module.call
    monkeypatch.setattr(director_module, "call", lambda *a, **k: (order.append("call"), real(*a, **k))[1])
    run = film()
    run.director.before_call = lambda: order.append("asked")
    run.director.start(prompts[0])
    run.chunk()
    run.director.switch(prompts[1])
    run.chunk()
    assert order == ["asked", "call"] * (3 + 4)  # two steps and the clean pass; the switch recaches first


@pytest.mark.parametrize("verb", [None, "switch", "cut", "scene", "pending"])
@pytest.mark.parametrize("name", ["grounded", "longlive", "reward_forcing"])
def test_snapshot_continues_bit_for_bit(film, prompts, verb, name):
    memory = PRESETS[name]
    run, other = film(memory), film(memory)
    run.director.start(prompts[0])
    for _ in range(5):
        run.chunk()
    if verb == "pending":
        run.director.switch(prompts[2], 0.5)
    other.director.restore(run.director.snapshot())
    other.chunks = run.chunks
    for one in (run, other):
        if verb in ("switch", "cut", "scene"):
            getattr(one.director, verb)(prompts[1])
    for _ in range(4):
        assert torch.equal(run.chunk(), other.chunk())
    assert other.director.memory.ledger.frame == run.director.memory.ledger.frame == 27


def states_after_switch(film, prompts, memory, **options):
    run = film(memory)
    run.director.start(prompts[0])
    for _ in range(5):
        run.chunk()
    run.director.switch(prompts[1], **options)
    run.director.prepare()
    return run.director.memory.snapshot()


def test_switch_policies(film, prompts):
    """cross_only leaves memory alone; apr with cap 0 too; apr moves near frames more; recache moves all."""
    kept = states_after_switch(film, prompts, replace(MemorySpec(), switch="cross_only"))
    none = states_after_switch(film, prompts, MemorySpec(), alpha_max=0.0)
    apr = states_after_switch(film, prompts, MemorySpec())
    full = states_after_switch(film, prompts, replace(MemorySpec(), switch="recache"))
    assert all(torch.equal(kept[name], none[name]) for name in kept)
    size = 2
    for name in ("raw_k", "v"):
        assert torch.equal(
            apr[name][:, :, : 4 * size], kept[name][:, :, : 4 * size]
        )  # anchors and the oldest
        # the blend lies on the line from the old to the recomputed value, at each frame's share
        for frame, share in enumerate([0, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 0.8]):
            here = slice((3 + frame) * size, (4 + frame) * size)
            want = torch.lerp(kept[name][:, :, here], full[name][:, :, here], share)
            torch.testing.assert_close(apr[name][:, :, here], want, atol=1e-5, rtol=0)
        # values of layer 0 depend on the latents alone, those of layer 1 on the text
        assert (full[name][1] - kept[name][1])[:, 3 * size :].abs().max() > 1e-3


def test_the_oldest_frame_keeps_its_values_in_every_layer(embeds):
    """Its share is 0; in all layers but the first and the last fresh values are others, which attention reads."""
    spec = replace(SPEC, num_layers=3)
    torch.manual_seed(0)
    tree = WanModel(spec).eval().requires_grad_(False)
    for parameter in tree.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.2)
    after = []
    for switch in ("apr", "cross_only"):
        recipe = Recipe(replace(MemorySpec(), switch=switch), SampleSpec(steps=(1000, 500)))
        run = make_sampler(tree, spec, recipe, latent_height=HEIGHT, latent_width=WIDTH)
        plan = make_plan(parse("a fox | 3.75s"), Timing(chunk_frames=3))
        with torch.no_grad():
            for _ in film_chunks(run, plan, embeds):
                pass
            run.director.switch(embeds[1])
            run.director.prepare()
        memory = run.director.memory
        oldest = slice(3 * memory.tokens_per_frame, 4 * memory.tokens_per_frame)
        after.append([memory.snapshot()[name][:, :, oldest] for name in ("raw_k", "v")])
    assert all(map(torch.equal, *after))


def test_recache_under_the_same_text_sees_only_anchors_and_itself(film, prompts):
    """Recomputing right after a cut-free start with one chunk in memory reproduces its own clean pass."""
    run = film(replace(MemorySpec(), switch="recache"))
    run.director.start(prompts[0])
    run.chunk()
    before = run.director.memory.snapshot()
    run.director.switch(prompts[0])
    run.director.prepare()
    after = run.director.memory.snapshot()
    torch.testing.assert_close(after["raw_k"], before["raw_k"], atol=1e-6, rtol=0)
    torch.testing.assert_close(after["v"], before["v"], atol=1e-6, rtol=0)


def test_flush_keeps_anchors_and_two_frames(film, prompts):
    run = film(replace(PRESETS["infinity_rope"], recent=5, switch="flush"))
    run.director.start(prompts[0])
    for _ in range(4):
        run.chunk()
    run.director.switch(prompts[1])
    run.director.prepare()
    assert run.director.memory.ledger.numbers() == [0, 10, 11]


def test_cut_keeps_the_cast_and_scene_forgets(film, prompts):
    run = film()
    run.director.start(prompts[0])
    for _ in range(4):
        run.chunk()
    run.director.cut(prompts[1])
    assert run.director.memory.layout == Layout(3, 0)
    run.chunk()
    run.director.scene(prompts[2])
    assert run.director.memory.layout == Layout(0, 0)
    assert run.director.memory.ledger.frame == 15  # the film goes on


@pytest.mark.parametrize("verb", ["cut", "scene"])
def test_a_new_shot_lets_no_switch_wait(film, prompts, verb):
    """A `then:` that made no chunk: its recache would rebuild the new shot's memory, under the new shot's prompt."""
    run, other = film(), film()
    for one in (run, other):
        one.director.start(prompts[0])
        for _ in range(4):
            one.chunk()
    run.director.switch(prompts[1])
    assert run.director.switching and not other.director.switching
    for one in (run, other):
        getattr(one.director, verb)(prompts[2])
    assert not run.director.switching and not run.director.snapshot()["waiting_switch"].numel()
    assert torch.equal(run.chunk(), other.chunk())


@pytest.mark.parametrize("verb", ["start", "scene"])
def test_the_first_prompt_of_a_scene_counts_as_answered(film, prompts, verb):
    """Anchors are replaced by frames of a prompt that was switched to, so not before the scene has seen a switch."""
    run = film()
    run.director.start(prompts[0])
    if verb == "scene":
        run.chunk()
        run.director.switch(prompts[1])
        run.chunk()
        run.director.scene(prompts[2])
    memory = run.director.memory
    assert memory.ledger.answered == [memory.ledger.prompt] == [2 if verb == "scene" else 0]
    for _ in range(6):
        run.chunk()
    assert not run.director.memory.log, "a frame was offered as an anchor"
    run.director.switch(prompts[0])
    for _ in range(4):
        run.chunk()
    assert run.director.memory.log, "these anchors are never judged"


def test_a_scene_is_a_fresh_film(film, prompts):
    """Nothing of the old scene reaches the new one."""
    run, fresh = film(), film()
    run.director.start(prompts[0])
    for _ in range(4):
        run.chunk()
    run.director.scene(prompts[1])
    fresh.director.start(prompts[1])
    fresh.chunks = run.chunks
    for _ in range(3):
        assert torch.equal(run.chunk(), fresh.chunk())


def test_blend_changes_the_text_and_nothing_else(film, prompts):
    run = film()
    run.director.start(prompts[0])
    run.chunk()
    before, prompt = run.director.memory.snapshot(), run.director.memory.ledger.prompt
    run.director.blend(torch.lerp(prompts[1], prompts[1].flip(1), 0.5))
    after = run.director.memory.snapshot()
    assert (
        all(torch.equal(before[n], after[n]) for n in before) and run.director.memory.ledger.prompt == prompt
    )
    blended = run.chunk()
    other = film()
    other.director.start(prompts[0])
    other.chunk()
    assert (other.chunk() - blended).abs().max() > 1e-4


def test_memory_reaches_the_picture(film, prompts):
    """Planted difference: other anchors, other chunk."""
    run, other = film(), film()
    for one in (run, other):
        one.director.start(prompts[0])
        for _ in range(5):
            one.chunk()
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
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    import copy

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


def test_first_steps_after_a_cut_may_see_no_anchors(film, prompts):
    """Blind in every step it is the chunk of a scene; afterwards the anchors are seen again."""
    runs = [film(MemorySpec(cut_blind=steps)) for steps in (0, 1, 9)]
    for run in runs:
        run.director.start(prompts[0])
        before = run.chunk()
        run.director.cut(prompts[1])
    plain, partly, blind = (run.chunk() for run in runs)
    assert not torch.equal(plain, partly) and not torch.equal(partly, blind)
    scene = film()
    scene.director.start(prompts[0])
    assert torch.equal(scene.chunk(), before)
    scene.director.scene(prompts[1])
    assert torch.equal(scene.chunk(), blind)
    layouts = [run.director.memory.layout for run in runs]
    assert layouts[0] == layouts[1] == layouts[2] and layouts[0].anchors > 0
    assert not torch.equal(runs[2].chunk(), scene.chunk())


@pytest.mark.parametrize("other", [{"cut_position": 15}, {"rolling": 9}])
def test_blind_steps_and_what_they_cannot_be_with(other):
    with pytest.raises(GroundedError, match="cut_blind") as told:
        check(MemorySpec(cut_blind=1, **other))
    assert told.value.fix


def test_a_switch_computes_each_thing_once_and_nothing_that_is_thrown_away(film, model, prompts):
    """One call over the recent frames; of the last block keys and values only; the new prompt once for every block."""
    run = film(MemorySpec())
    run.director.start(prompts[0])
    for _ in range(4):
        run.chunk()
    rows = {name: [] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _, inputs, out, name=name: rows[name].append(out.shape[1])
        )
        for name in rows
    ]
    run.director.switch(prompts[1])
    run.director.prepare()
    for hook in hooks:
        hook.remove()
    memory = run.director.memory
    tokens, last = memory.layout.recent * memory.tokens_per_frame, len(model.blocks) - 1
    assert memory.layout.recent == 6
    for name, calls in rows.items():
        if not name.startswith("blocks."):
            assert len(calls) <= (not name.startswith("head")), name
            continue
        _, block, part, *leaf = name.split(".")
        if part == "cross_attn" and leaf[0] in "kv":
            assert len(calls) == 1 and calls[0] <= prompts[1].shape[1] + 1, name
        elif int(block) < last or (part == "self_attn" and leaf[0] in "kv"):
            assert calls == [tokens], name
        else:
            assert not calls, name
