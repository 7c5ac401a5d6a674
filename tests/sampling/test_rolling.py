"""Chunks that are denoised together: what is on the way, what a snapshot holds of it, what a chunk depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gf_core.config import Recipe, SampleSpec
from gf_core.errors import GroundedError
from gf_core.memory.presets import PRESETS
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import Cues, film_chunks, replay
from gf_core.timeline import Timing, make_plan, parse

from .conftest import HEIGHT, SPEC, STEPS, WIDTH

TEXT = "a fox | 5.25s\nthen: it jumps | 1.5s\ncut: a hen | 3s\nscene: rain | 3.75s"
MEMORIES = {
    "long": PRESETS["rolling_forcing"],
    "short": replace(PRESETS["rolling_forcing"], recent=6, rolling=12),
    "recache": replace(PRESETS["rolling_forcing"], recent=6, rolling=12, switch="apr"),
    "wave": replace(PRESETS["wave_forcing"], recent=6, rolling=12, switch="apr"),
}


def plan_of(text=TEXT, memory=MEMORIES["long"]):
    latency = Recipe(memory, SampleSpec(steps=STEPS)).latency
    return make_plan(parse(text), Timing(chunk_frames=3, latency=latency))


@pytest.mark.parametrize("name", MEMORIES)
def test_a_film_goes_on_bit_for_bit_with_chunks_on_the_way(sampler, embeds, name):
    plan, run = plan_of(memory=MEMORIES[name]), sampler(MEMORIES[name])
    states, chunks, fed = [], [], []
    made = film_chunks(run, Cues(plan, embeds), before=lambda index: states.append(run.snapshot()))
    for clean in made:
        assert clean.index == len(chunks), "in film order"
        chunks.append(clean.latents)
        fed.append(len(states))
    assert len(chunks) == plan.chunks
    assert max(number - index for index, number in enumerate(fed)) == len(STEPS) + MEMORIES[name].wave, (
        "finished so many chunks later"
    )
    for place, state in enumerate(states):
        twin = sampler(MEMORIES[name])
        twin.restore(state)
        start = next((index for index in range(place) if twin.holds(index)), place)
        for clean in film_chunks(twin, Cues(plan, embeds), start=start, stop=min(plan.chunks, place + 4)):
            if clean.index < place + 2:  # near its end the shorter film is another one
                assert torch.equal(clean.latents, chunks[clean.index]), (place, clean.index)


@pytest.mark.parametrize(("name", "on_the_way"), [("short", [1, 2]), ("wave", [1, 2, 3])])
def test_what_is_on_the_way_wants_its_noise_again(sampler, embeds, name, on_the_way):
    run, twin = sampler(MEMORIES[name]), sampler(MEMORIES[name])
    made = film_chunks(run, Cues(plan_of(memory=MEMORIES[name]), embeds))
    next(made)
    twin.restore(run.snapshot())
    assert [index for index in range(5) if twin.holds(index)] == on_the_way
    before = twin.snapshot()
    for _ in range(2):
        with pytest.raises(Exception, match="nobody has said where its noise comes from"):
            list(twin.flush())
    after = twin.snapshot()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", MEMORIES)
def test_a_replay_gives_cues_as_early_as_they_were_given(sampler, embeds, name):
    """When a chunk is written, those on the way behind it have moved a blend on."""
    text = "a fox | 3s\nthen: it jumps | 4.5s | blend 3s\ncut: a hen | 1.5s"
    plan, run = plan_of(text, MEMORIES[name]), sampler(MEMORIES[name])
    states: list[dict] = []
    made = list(film_chunks(run, Cues(plan, embeds), before=lambda index: states.append(run.snapshot())))
    twin = sampler(MEMORIES[name])
    for index in replay(twin, Cues(plan, embeds), lambda index: made[index].latents, 0, plan.chunks):
        number, chunk = plan.places[index]
        if chunk == plan.segments[number].chunks - 1:
            state = states[index + 1] if index + 1 < plan.chunks else run.snapshot()
            assert twin.snapshot().keys() == state.keys()
            assert all(torch.equal(value, state[part]) for part, value in twin.snapshot().items()), number


def test_a_segment_knows_nothing_of_those_behind_it(sampler, embeds):
    one = list(
        film_chunks(sampler(MEMORIES["short"]), Cues(plan_of("@seed 3\na fox | 3s\ncut: a hen | 3s"), embeds))
    )
    other = list(
        film_chunks(
            sampler(MEMORIES["short"]), Cues(plan_of("@seed 3\na fox | 3s\nthen: it jumps | 1.5s"), embeds)
        )
    )
    for mine, theirs in zip(one[:4], other[:4]):
        assert torch.equal(mine.latents, theirs.latents)


@pytest.mark.parametrize("name", ["short", "wave"])
@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_a_segment_may_be_shorter_than_the_window(sampler, embeds, chunks, name):
    made = list(film_chunks(sampler(MEMORIES[name]), Cues(plan_of(f"a fox | {0.75 * chunks}s"), embeds)))
    assert [clean.index for clean in made] == list(range(chunks))
    assert all(clean.latents.isfinite().all() for clean in made)


@pytest.mark.parametrize("name", ["short", "wave"])
def test_a_call_that_fails_changes_nothing(sampler, embeds, name):
    plan, run = plan_of("a fox | 4.5s", MEMORIES[name]), sampler(MEMORIES[name])
    whole = [clean.latents for clean in film_chunks(sampler(MEMORIES[name]), Cues(plan, embeds))]
    failed = []

    def fail_once(chunk):
        def stop(step, steps):
            if chunk.index not in failed:
                failed.append(chunk.index)
                raise MemoryError

        try:
            return list(run.feed(chunk, stop))
        except MemoryError:
            return list(run.feed(chunk, stop))

    again = [clean.latents for clean in film_chunks(run, Cues(plan, embeds), feed=fail_once)]
    assert failed == list(range(plan.chunks))
    assert all(torch.equal(a, b) for a, b in zip(again, whole, strict=True))


@pytest.mark.parametrize("name", ["short", "wave"])
def test_what_is_kept_to_go_back_to_is_a_place_to_go_on_from(sampler, embeds, name):
    """Like any state at a segment's end, where nothing is on the way: that is a part of it, too."""
    plan, kept = plan_of("a fox | 3s\ncut: a hen | 3s\nback to 1: it | 3s", MEMORIES[name]), {}

    class Memories:
        def keep(self, number, state):
            kept[number] = state

        def recall(self, number, to):
            return kept[number]

    def film(run, **options):
        return [one.latents for one in film_chunks(run, Cues(plan, embeds, memories=Memories()), **options)]

    whole, twin = film(sampler(MEMORIES[name])), sampler(MEMORIES[name])
    twin.restore(kept[0])
    end = plan.segments[0].end
    assert all(torch.equal(*pair) for pair in zip(film(twin, start=end), whole[end:], strict=True))


@pytest.mark.parametrize("first", [(1000, 500), (1000,)])
def test_steps_of_a_first_chunk_are_refused_and_not_left_out(model, first):
    recipe = Recipe(MEMORIES["short"], SampleSpec(steps=STEPS, first_steps=first))
    with pytest.raises(GroundedError, match="steps first") as told:
        make_sampler(model, SPEC, recipe, latent_height=HEIGHT, latent_width=WIDTH)
    assert told.value.fix
