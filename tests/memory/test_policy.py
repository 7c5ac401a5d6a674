"""Hand-worked examples of Eq. 6 to 8 and of the diversity rule, and when candidates are offered at all."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from gf_core.config import AnchorUpdate, MemorySpec
from gf_core.memory.policies import POLICIES, becomes_of_anchors, measure

A, B, C = torch.eye(4)[:3]


def accepts(policy: str, similarity: float, redundancy: float) -> bool:
    """What the policy of that name says to a candidate."""
    rule = POLICIES[policy].accepts
    assert rule is not None
    return rule(similarity, redundancy)


def spread(cosine: float, count: int = 3) -> torch.Tensor:
    """Unit vectors in 8 dimensions with the given pairwise cosine."""
    gram = torch.full((count, count), cosine, dtype=torch.float64).fill_diagonal_(1.0)
    return torch.nn.functional.pad(torch.linalg.cholesky(gram), (0, 8 - count)).float()


def test_two_equal_anchors_and_a_stranger():
    similarity, redundancy, slot = measure(torch.stack([A, A, B]), C)
    assert (similarity, redundancy, slot) == (0.0, 1.0, 0)  # the first of equally redundant anchors
    assert not accepts("paper", similarity, redundancy)  # 1 > 1 is false: strict
    assert accepts("diversity", similarity, redundancy)


@pytest.mark.parametrize(
    ("pairwise", "s_max", "paper", "diversity"), [(0.3, 0.2, True, True), (0.9, 0.5, False, True)]
)
def test_rules_differ_on_redundant_anchors(pairwise, s_max, paper, diversity):
    anchors = spread(pairwise)
    own = torch.zeros(8)
    own[7] = 1.0
    # a candidate whose cosine with the first anchor is s_max and with the others not above it
    candidate = s_max * anchors[0] + (1 - s_max**2) ** 0.5 * own
    similarity, redundancy, _ = measure(anchors, candidate)
    assert similarity == pytest.approx(s_max, abs=1e-6) and redundancy == pytest.approx(pairwise, abs=1e-6)
    assert accepts("paper", similarity, redundancy) is paper
    assert accepts("diversity", similarity, redundancy) is diversity


def test_four_frames_by_hand():
    """Anchors at 0, 60 and 90 degrees, candidate at 200: R is cos 30 (slots 1 and 2), S_max is cos 110."""
    angle = torch.deg2rad(torch.tensor([0.0, 60.0, 90.0, 200.0]))
    z = torch.stack([angle.cos(), angle.sin()], dim=1)
    similarity, redundancy, slot = measure(z[:3], z[3])
    assert similarity == pytest.approx(-0.3420, abs=1e-4)
    assert redundancy == pytest.approx(0.8660, abs=1e-4) and slot == 1
    assert accepts("paper", similarity, redundancy) and accepts("diversity", similarity, redundancy)


def test_alike_anchors_make_room_for_another_scene():
    """What a film's first cut looks like: three frames of one second, and a frame of another place."""
    torch.manual_seed(0)
    place, elsewhere = torch.randn(2, 64)
    anchors = place + 0.2 * torch.randn(3, 64)
    same = measure(anchors, place)
    other = measure(anchors, elsewhere + 0.3 * place)
    assert not accepts("diversity", *same[:2]), "another frame of the same kind tells nothing new"
    assert accepts("diversity", *other[:2])


def test_scale_does_not_matter():
    anchors, candidate = spread(0.4), torch.randn(8)
    a, b = measure(anchors, candidate), measure(5 * anchors, 0.1 * candidate)
    assert a == pytest.approx(b, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_measured_in_float32(dtype):
    """On a card latents are bfloat16. Cosines of 3 digits would be full of ties, and chance would choose anchors."""
    torch.manual_seed(3)
    place = torch.randn(4, 2, 6, 8)
    near = (place[:1] + 0.02 * place).to(dtype)
    exact = measure(near[:3].float(), near[3].float())
    assert measure(near[:3], near[3]) == exact
    coarse = [torch.tensor(value).to(dtype).item() for value in exact[:2]]
    assert coarse != list(exact[:2]), "these numbers would show no difference"


SPEC = MemorySpec()
SAME = torch.ones(1, 3, 2, 2, 4)


def different(seed: int) -> torch.Tensor:
    """Three frames equal to each other and unlike those of other seeds."""
    frame = torch.randn(1, 1, 2, 2, 4, generator=torch.Generator().manual_seed(seed))
    return frame.expand(1, 3, -1, -1, -1)


def test_first_prompt_never_replaces(film):
    run = film(SPEC)
    for chunk in range(8):
        run.chunk(latents=SAME if chunk < 2 else different(chunk))
    assert run.memory.log == [] and run.anchors() == [[0, 1, 2]]


def test_one_replacement_per_switch_and_only_with_new_frames(film):
    run = film(SPEC)
    run.chunks(4, latents=SAME)
    run.memory.ledger.prompt = 1
    for chunk in range(6):
        run.chunk(latents=different(chunk))
    replaced = [e for e in run.memory.log if e.replaced]
    assert [e.frame for e in replaced] == [12]  # the oldest frame of the new prompt
    assert all(e.frame >= 12 for e in run.memory.log)
    assert run.anchors() == [[12, 1, 2]] and run.stored()[0] == 12
    run.memory.ledger.prompt = 2
    for chunk in range(4):
        run.chunk(latents=different(10 + chunk))
    replaced = [e for e in run.memory.log if e.replaced]
    assert len(replaced) == 2 and replaced[1].frame == 30


def test_a_look_alike_is_refused_and_the_next_is_asked(film):
    run = film(SPEC)
    run.chunks(4, latents=SAME)
    run.memory.ledger.prompt = 1
    run.chunk(latents=SAME)
    for chunk in range(4):
        run.chunk(latents=different(chunk))
    assert [e.replaced for e in run.memory.log] == [False, False, False, True]
    assert run.anchors() == [[15, 1, 2]]


def test_every_chunk_evaluates_all_and_recomputes_after_each(film):
    """Three equal newcomers: the first takes the slot, its twins are then refused."""
    run = film(replace(SPEC, anchor_update="every_chunk"))
    for chunk in range(6):
        run.chunk(latents=SAME if chunk < 2 else different(chunk))
    by_chunk = [[e.replaced for e in run.memory.log[i : i + 3]] for i in range(0, len(run.memory.log), 3)]
    assert by_chunk[0] == [False, False, False]  # frames 3 to 5 equal the anchors
    assert by_chunk[1] == [True, False, False]


@pytest.mark.parametrize("rule", ["paper", "diversity"])
def test_one_anchor_is_never_judged(film, rule):
    """It has no other one to be redundant with, so Eq. 8 would let every frame replace it."""
    run = film(replace(SPEC, anchors=1, anchor_policy=rule, anchor_update="every_chunk"))
    for chunk in range(6):
        run.chunk(latents=different(chunk))
    assert run.memory.log == [] and run.anchors() == [[0]] and run.stored()[0] == 0


def test_paper_rule_is_used_when_asked(film):
    """Redundant anchors (R = 1): Eq. 8 refuses what diversity takes; both numbers are logged."""
    run = film(replace(SPEC, anchor_policy="paper", anchor_update="every_chunk"))
    for chunk in range(6):
        run.chunk(latents=SAME if chunk < 2 else different(3))
    assert run.memory.log and not any(e.replaced for e in run.memory.log if e.similarity > 0)
    assert run.memory.log[3].redundancy == pytest.approx(1.0)


def test_samples_choose_for_themselves(film):
    run = film(SPEC, batch=2)
    run.chunks(4, latents=SAME.expand(2, -1, -1, -1, -1))
    run.memory.ledger.prompt = 1
    for chunk in range(4):
        run.chunk(latents=torch.cat([different(chunk), SAME]))
    assert run.anchors() == [[12, 1, 2], [0, 1, 2]]
    assert run.stored(0)[:3] == [12, 1, 2] and run.stored(1)[:3] == [0, 1, 2]


def test_a_pair_is_as_redundant_either_way_however_a_product_is_rounded(monkeypatch):
    anchors = torch.stack([B, A, A + 0.1 * C])
    product = torch.Tensor.__matmul__

    def skewed(a, b):
        found = product(a, b)
        return found + torch.tensor([0, 0, 1e-7])[: len(found), None] if found.ndim == 2 else found

    as_it_should = measure(anchors, C)
    monkeypatch.setattr(torch.Tensor, "__matmul__", skewed)
    assert measure(anchors, C)[2] == as_it_should[2] == 1, "the first of equals"


SHOTS = (0, 1, 2, 3, 0)
"""A film that comes back to its first place in the end."""


def shot_of(place: int, chunk: int, shared: float) -> torch.Tensor:
    """Three frames of a place: their cosines are about 0.9, and `shared` with those of any other place."""
    own = torch.randn(3, 11, generator=torch.Generator().manual_seed(chunk))
    frames = torch.cat([torch.zeros(3, 5), 0.1**0.5 * torch.nn.functional.normalize(own)], 1)
    frames[:, place], frames[:, 4] = (0.9 - shared) ** 0.5, shared**0.5
    return frames.view(1, 3, 2, 2, 4)


@pytest.mark.parametrize("shared", [0.0, 0.2])
def test_diverse_anchors_come_from_as_many_places_as_there_are(film, shared):
    """And stay, when the film comes back to one of them; each is asked for once a place, not at every frame."""
    places, replaced = over_shots(film, "diversity", shared)
    assert places == [{0}, {0, 1}, {0, 1, 2}, {0, 1, 3}, {0, 1, 3}] and replaced < 8


@pytest.mark.parametrize(("shared", "moves"), [(0.0, True), (0.2, False)])
def test_the_papers_rule_is_a_still_sink_where_all_frames_have_something_in_common(film, shared, moves):
    """Eq. 8 to the letter: three alike anchors give way to a frame that is like nothing, and films have none."""
    places, replaced = over_shots(film, "paper", shared)
    assert (replaced > 0) is moves and (moves or places == [{0}] * 5)


def over_shots(film, rule: str, shared: float) -> tuple[list[set[int]], int]:
    """The places that anchors are of after every shot, of 39 frames, and how many frames became anchors."""
    run, places = film(replace(SPEC, anchor_policy=rule, anchor_update="every_chunk")), []
    for number, place in enumerate(SHOTS):
        for chunk in range(13):
            run.chunk(latents=shot_of(place, 13 * number + chunk, shared))
        places.append({SHOTS[frame // 39] for frame in run.anchors()[0]})
    return places, sum(evaluation.replaced for evaluation in run.memory.log)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("update", get_args(AnchorUpdate))
def test_what_becomes_of_anchors_is_said_as_it_is(policy, update):
    """Those that are never replaced are the first frames, whatever would choose others."""
    told = becomes_of_anchors(MemorySpec(anchor_policy=policy, anchor_update=update))
    chosen = POLICIES[policy].accepts is not None and update != "never"
    assert told.startswith("replaced at ") == chosen and "never" not in told and "{" not in told
    assert policy != "diversity" or chosen or told == POLICIES["frozen"].told
