"""Calls that are recorded and replayed make the film that plain calls make; a tape stands in for a card's graphs."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gf_core.config import Recipe, SampleSpec
from gf_core.memory.presets import PRESETS
from gf_core.model.pieces import Fused
from gf_core.sampling import graphs
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import Cues, film_chunks

from .conftest import HEIGHT, SPEC, STEPS, WIDTH
from .test_rolling import MEMORIES as ROLLING
from .test_rolling import plan_of

TEXT = "a fox | 4.5s\nthen: it jumps | 2.25s\ncut: a hen | 2.25s"
MEMORIES = {
    "anchors": replace(PRESETS["grounded"], anchors=1, recent=3),
    "absolute": replace(PRESETS["longlive"], anchors=1, recent=3),
    "int8": replace(PRESETS["grounded"], anchors=1, recent=3, stored="int8"),
    "bank": replace(PRESETS["memrope"], anchors=1, recent=3),
    "joint": ROLLING["short"],
}


class Tape(TorchDispatchMode):
    """What a graph is on a card: the same operations on the same memory, in the same order, and no Python between."""

    def __init__(self):
        super().__init__()
        self.entries = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.entries.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        for func, args, kwargs, out in self.entries:
            aliases = [returned.alias_info for returned in func._schema.returns]
            if any(alias is not None and not alias.is_write for alias in aliases):
                continue  # a view, which looks at the same memory
            again = func(*args, **kwargs)
            for mine, theirs in zip(tree_leaves(out), tree_leaves(again)):
                if isinstance(mine, torch.Tensor) and mine.data_ptr() != theirs.data_ptr():
                    mine.copy_(theirs)


class Taped:
    """Records, and counts how often that was replayed."""

    def __init__(self, spoil=0.0):
        self.tapes, self.replays, self.spoil = 0, 0, spoil

    def __call__(self, run):
        tape = Tape()
        with tape:
            made = run()
        self.tapes += 1
        for _, _, _, out in tape.entries:  # nothing may lean on what was there while it was recorded
            if isinstance(out, torch.Tensor) and out.is_floating_point() and made is not None and out is made:
                out.fill_(7.0)

        def replay():
            self.replays += 1
            tape.replay()
            if made is not None:
                made.add_(self.spoil)

        return replay, made


def film(sampler, embeds, record, name, **placed):
    run = sampler(MEMORIES[name], caller=record and graphs.Graphs(record), **placed)
    with torch.no_grad():
        return [clean.latents.clone() for clean in film_chunks(run, Cues(plan_of(TEXT), embeds))], run


def both(sampler, embeds, record, name="anchors", **placed):
    """The film of plain calls, and that of recorded ones."""
    return (film(sampler, embeds, by, name, **placed) for by in (None, record))


@pytest.mark.parametrize(
    ("name", "fused"),
    [("anchors", True), ("absolute", False), ("int8", True), ("bank", False), ("joint", False)],
)
def test_replayed_calls_make_the_same_film(sampler, embeds, name, fused):
    """With a switch, a cut, prompts and positions that change under the recorded calls; memory included."""
    pieces = {"pieces": Fused(lambda function: function, "as written")} if fused else {}
    record = Taped()
    (plain, was), (replayed, run) = both(sampler, embeds, record, name, **pieces)
    for index, (one, other) in enumerate(zip(plain, replayed, strict=True)):
        assert torch.equal(one, other), index
    assert record.tapes >= 2 and record.replays > record.tapes, "each tape is played once to try it"
    for name, value in was.snapshot().items():
        assert torch.equal(run.snapshot()[name], value), name


@pytest.mark.gpu
def test_graphs_of_a_card_make_the_same_film(model, embeds, caplog):
    caplog.set_level(logging.WARNING, "grounded")
    tree = copy.deepcopy(model).to("cuda", torch.bfloat16)
    films = []
    for how in ({}, {"caller": graphs.Graphs(graphs.on_card())}):
        recipe = Recipe(MEMORIES["anchors"], SampleSpec(steps=STEPS))
        run = make_sampler(tree, SPEC, recipe, latent_height=HEIGHT, latent_width=WIDTH, **how)
        with torch.no_grad():
            films.append([clean.latents.clone() for clean in film_chunks(run, Cues(plan_of(TEXT), embeds))])
    assert all(map(torch.equal, *films)) and not caplog.records


def test_prompts_of_one_length_change_under_recorded_calls(sampler, embeds):
    """As all have in half the width, where rows of nothing are not left out."""
    rows = min(prompt.shape[1] for prompt in embeds)
    alike, record = [prompt[:, :rows] for prompt in embeds], Taped()
    (plain, _), (replayed, _) = both(sampler, alike, record)
    assert all(map(torch.equal, plain, replayed)) and record.replays > record.tapes


def test_of_layouts_that_came_once_the_newest_are_remembered(sampler, embeds, monkeypatch):
    """Those of the first chunks do not come back; steady ones alternate, one for the steps and one for the memory."""
    monkeypatch.setattr(graphs, "SEEN", 2)
    film(sampler, embeds, record := Taped(), "anchors")
    assert record.tapes >= 2 and record.replays > record.tapes


def test_a_replay_that_gives_other_bits_is_not_used(sampler, embeds, caplog):
    caplog.set_level(logging.WARNING, "grounded")
    record = Taped(spoil=1e-3)
    (plain, _), (other, _) = both(sampler, embeds, record)
    assert all(map(torch.equal, plain, other)) and record.tapes == 1
    assert [entry.message for entry in caplog.records] == [
        "network calls are not recorded: a replay gives other bits"
    ]


def test_a_recording_that_fails_costs_one_line(sampler, embeds, caplog):
    def record(run):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    caplog.set_level(logging.WARNING, "grounded")
    (plain, _), (other, _) = both(sampler, embeds, record)
    assert all(map(torch.equal, plain, other))
    (line,) = [entry.message for entry in caplog.records]
    assert line.endswith("operation not permitted when stream is capturing")
