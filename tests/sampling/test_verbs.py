"""What the verbs do to a rollout of a tiny random Wan: prompt switches by every policy, cuts, scenes, blends."""

from dataclasses import replace

import pytest
import torch

from gf_core.config import MemorySpec, Recipe, SampleSpec
from gf_core.errors import GroundedError
from gf_core.memory.checks import check
from gf_core.memory.presets import PRESETS
from gf_core.memory.regions import Layout
from gf_core.memory.snapshots import snapshot
from gf_core.model.wan import WanModel
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import Cues, film_chunks
from gf_core.timeline import Timing, make_plan, parse

from .conftest import HEIGHT, SPEC, WIDTH


def states_after_switch(film, prompts, memory, **options):
    run = film(memory)
    run.begin(prompts[0], 5)
    run.director.switch(prompts[1], **options)
    run.director.prepare()
    return snapshot(run.director.memory)


def test_switch_policies(film, prompts):
    """cross_only leaves memory alone; apr with cap 0 too; apr moves near frames more; recache moves all."""
    kept = states_after_switch(film, prompts, replace(MemorySpec(), switch="cross_only"))
    none = states_after_switch(film, prompts, MemorySpec(), alpha_max=0.0)
    apr = states_after_switch(film, prompts, MemorySpec())
    full = states_after_switch(film, prompts, replace(MemorySpec(), switch="recache"))
    assert all(torch.equal(kept[name], none[name]) for name in kept)
    size = 2
    for name in ("raw_k", "v"):
        # Anchors and the oldest.
        assert torch.equal(apr[name][:, :, : 4 * size], kept[name][:, :, : 4 * size])
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
            for _ in film_chunks(run, Cues(plan, embeds)):
                pass
            run.director.switch(embeds[1])
            run.director.prepare()
        memory = run.director.memory
        oldest = slice(3 * memory.tokens_per_frame, 4 * memory.tokens_per_frame)
        after.append([snapshot(memory)[name][:, :, oldest] for name in ("raw_k", "v")])
    assert all(map(torch.equal, *after))


def test_recache_under_the_same_text_sees_only_anchors_and_itself(film, prompts):
    """Recomputing right after a cut-free start with one chunk in memory reproduces its own clean pass."""
    run = film(replace(MemorySpec(), switch="recache"))
    run.director.start(prompts[0])
    run.chunk()
    before = snapshot(run.director.memory)
    run.director.switch(prompts[0])
    run.director.prepare()
    after = snapshot(run.director.memory)
    torch.testing.assert_close(after["raw_k"], before["raw_k"], atol=1e-6, rtol=0)
    torch.testing.assert_close(after["v"], before["v"], atol=1e-6, rtol=0)


def test_flush_keeps_anchors_and_two_frames(film, prompts):
    run = film(replace(PRESETS["infinity_rope"], recent=5, switch="flush"))
    run.begin(prompts[0], 4)
    run.director.switch(prompts[1])
    run.director.prepare()
    assert run.director.memory.ledger.numbers() == [0, 10, 11]


def test_cut_keeps_the_cast_and_scene_forgets(film, prompts):
    run = film()
    run.begin(prompts[0], 4)
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
        one.begin(prompts[0], 4)
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
    run.begin(prompts[0], 4)
    run.director.scene(prompts[1])
    fresh.director.start(prompts[1])
    fresh.chunks = run.chunks
    for _ in range(3):
        assert torch.equal(run.chunk(), fresh.chunk())


def test_blend_changes_the_text_and_nothing_else(film, prompts):
    run = film()
    run.director.start(prompts[0])
    run.chunk()
    before, prompt = snapshot(run.director.memory), run.director.memory.ledger.prompt
    run.director.blend(torch.lerp(prompts[1], prompts[1].flip(1), 0.5))
    after = snapshot(run.director.memory)
    assert (
        all(torch.equal(before[n], after[n]) for n in before) and run.director.memory.ledger.prompt == prompt
    )
    blended = run.chunk()
    other = film()
    other.director.start(prompts[0])
    other.chunk()
    assert (other.chunk() - blended).abs().max() > 1e-4


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
    for run in runs[1:]:
        run.director.cut(prompts[0])
        before, _ = run.director.open_blind(3)
        run.chunk()
        assert before and run.director.open_blind(3) == (0, None), "the first chunk only"


@pytest.mark.parametrize("other", [{"cut_position": 15}, {"rolling": 9}])
def test_blind_steps_and_what_they_cannot_be_with(other):
    with pytest.raises(GroundedError, match="cut_blind") as told:
        check(MemorySpec(cut_blind=1, **other))
    assert told.value.fix


def test_a_switch_computes_each_thing_once_and_nothing_that_is_thrown_away(film, model, prompts):
    """One call over the recent frames; of the last block keys and values only; the new prompt once for every block."""
    run = film(MemorySpec())
    run.begin(prompts[0], 4)
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
