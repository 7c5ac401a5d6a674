"""A rollout's state: snapshots taken anywhere go on bit for bit, and a long film holds no more than a short one."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gf_core.config import MemorySpec, SampleSpec
from gf_core.memory.presets import PRESETS

METHODS = {
    # Chunks that are on the way together have tests of their own (`test_rolling`).
    **{name: spec for name, spec in PRESETS.items() if spec.rolling is None},
    "diversity, every chunk": replace(MemorySpec(), anchor_update="every_chunk"),
    "paper": replace(MemorySpec(), anchor_policy="paper", anchor_update="every_chunk"),
    "flush": replace(PRESETS["infinity_rope"], recent=5, switch="flush"),
    "recache after": replace(MemorySpec(), switch="recache"),
    "recache before": replace(PRESETS["longlive"], positions="relative", recache_keeps_anchors=False),
    "odd sizes": replace(MemorySpec(), anchors=2, recent=4, anchor_index="slot"),
    "int8": replace(MemorySpec(), stored="int8"),
    "int8, bank": replace(PRESETS["context_forcing"], bank=3, bank_below=2.0, stored="int8"),
    "no memory": replace(MemorySpec(), anchors=0, recent=0),
}
ONE_STEP = SampleSpec(steps=(1000,))

events = st.lists(
    st.tuples(
        st.sampled_from(["", "", "then", "cut", "scene", "blend"]),
        st.integers(0, 2),
        st.none() | st.sampled_from([0.0, 0.3, 1.0]),
    ),
    min_size=3,
    max_size=9,
)


def tell(rollout, event, prompts) -> None:
    """Carry out one event of the timeline before a chunk."""
    verb, number, alpha = event
    if verb == "then":
        rollout.switch(prompts[number], alpha)
    elif verb:
        getattr(rollout, verb)(prompts[number])


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=events, before_verbs=st.booleans())
def test_any_story_goes_on_bit_for_bit_from_any_place(film, prompts, name, story, before_verbs):
    """The twin has lived through another film before it is restored; snapshots are taken with a switch waiting too."""
    run, twin = film(METHODS[name], sample=ONE_STEP), film(METHODS[name], sample=ONE_STEP, seed=99)
    twin.begin(prompts[1], 5)
    run.director.start(prompts[0])
    states, chunks = [], []
    for event in story:
        if before_verbs:
            states.append(run.director.snapshot())
        tell(run.director, event, prompts)
        if not before_verbs:
            states.append(run.director.snapshot())
        chunks.append(run.chunk())
    twin.seed = run.seed
    for place in range(len(story)):
        twin.director.restore(states[place])
        for number in range(place, min(place + 4, len(story))):
            if before_verbs or number > place:
                tell(twin.director, story[number], prompts)
            twin.chunks = number
            assert torch.equal(twin.chunk(), chunks[number]), (place, number)


def held(run) -> tuple[int, int]:
    """Bytes that the library's Python code holds for a film now, and bytes of all tensors alive."""
    gc.collect()
    tensors = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in gc.get_objects()
        if type(t) is torch.Tensor
    }
    # Other threads of a long test run (torch's, a host's) allocate too: only the library's lines count.
    own = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*gf_core*")])
    return sum(line.size for line in own.statistics("filename")), sum(tensors.values())


QUICK = ("grounded", "memrope", "context_forcing", "sgf", "int8")
"""One of each kind of buffers; the others take a minute more."""


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_fifty_chunks_hold_what_five_hold(film, prompts, name):
    memory = replace(METHODS[name], bank_below=2.0)  # a bank that takes every frame is full soonest
    run = film(memory, sample=ONE_STEP)
    run.director.start(prompts[0])
    story = ["", "", "then", "", "blend"]

    def go_on(chunks: int) -> None:
        for number in range(chunks):
            tell(run.director, (story[number % 5], number % 5 % 3, None), prompts)
            run.chunk()

    go_on(10 + 2 * memory.bank)  # memory is full, and every path has been taken
    tracemalloc.start()
    try:
        go_on(5)
        few = held(run)
        for _ in range(5):  # caches fill up once, a leak grows every time
            decided = len(run.director.memory.log)
            go_on(45)
            many = held(run)
            assert many[1] == few[1]
            # The report's record.
            growth = many[0] - few[0] - 250 * (len(run.director.memory.log) - decided)
            if growth < 10_000:
                break
            few = many
    finally:
        tracemalloc.stop()
    assert growth < 10_000
