"""Storyboard world: captions can be read back, clips are regenerable, ground truth is where it says."""

import random
from itertools import pairwise

import numpy as np
import pytest

from gf_core.errors import GroundedError
from gf_core.world import ACTIONS, COLOURS, PLACES, SUBJECTS, TIMES, render, sample_script, storyboard, words
from gf_core.world.motion import PERIODS
from gf_core.world.script import KINDS, X_MAX, X_MIN, Character, Place, Script, Segment, frames_in
from gf_core.world.vocabulary import ACTION_PHRASES, NOON, PLACE_PHRASES, TIME_PHRASES, Labels, describe


def one_shot(subject=0, action=0, place=0, time=0, chunks=3, x=48.0, colour=0, scarf=0, hat=0, patch=0):
    who = Character(subject, colour, scarf, hat, patch)
    where = Place(place, time, 0, 0, 0)
    return Script((Segment(0, chunks, "start", "", who, where, action, x),), 5, "single")


@pytest.mark.parametrize("action", range(len(ACTIONS)))
@pytest.mark.parametrize("place", range(len(PLACES)))
def test_every_paraphrase_reads_back(action, place):
    for said in ACTION_PHRASES[action]:
        for where in PLACE_PHRASES[place]:
            for time in range(len(TIMES)):
                for when in TIME_PHRASES[time]:
                    labels = describe(f"a {COLOURS[place]} {SUBJECTS[action]} {said} {where} {when}")
                    assert labels == Labels(action, place, action, place, time)


def test_what_is_not_said_is_inherited():
    before = describe("a red fox walks left in the snow at night")
    after = describe("then it jumps", before)
    assert after == Labels(before.subject, before.colour, ACTIONS.index("jumps"), before.place, before.time)
    assert describe("it waits by the sea", after).time == NOON
    assert describe("it waits").subject is None


@pytest.mark.parametrize("kind", KINDS)
def test_captions_agree_with_the_script_and_stay_in_the_vocabulary(kind):
    vocabulary = set(words())
    assert len(vocabulary) <= 100
    rng = random.Random(3)
    for _ in range(200):
        labels = None
        for segment in sample_script(rng, 10, kind).segments:
            tokens = segment.caption.split()
            assert set(tokens) <= vocabulary and len(tokens) <= 24
            labels = describe(segment.caption, labels)
            who, where = segment.character, segment.place
            assert labels == Labels(who.subject, who.colour, segment.action, where.place, where.time)


@pytest.mark.parametrize("kind", KINDS)
def test_scripts_keep_what_their_verbs_promise(kind):
    rng = random.Random(4)
    for _ in range(200):
        script = sample_script(rng, 9, kind)
        assert script.chunks == 9 and script.frames == frames_in(9) == 105
        for old, new in pairwise(script.segments):
            assert new.start_chunk == old.start_chunk + old.chunks and new.chunks >= 2
            assert new.action != old.action
            if new.verb == "then":
                assert (new.character, new.place) == (old.character, old.place)
            else:
                assert new.place.place != old.place.place
            if new.verb == "scene" or kind == "return":
                named = [(s.character.subject, s.character.colour) for s in (old, new)]
                assert named[0] != named[1]
        if kind == "return":
            first, other, again = script.segments
            assert first.character == again.character != other.character
        if kind == "cut":
            assert len({s.character for s in script.segments}) == 1


def test_same_seed_same_clip_and_inputs_untouched():
    first, second = (sample_script(random.Random(8), 6, "mixed") for _ in range(2))
    assert first == second
    a, b = render(first), render(second)
    assert np.array_equal(a.frames, b.frames) and np.array_equal(a.mask, b.mask)
    longer = render(one_shot(chunks=4, place=3))
    assert np.array_equal(longer.frames[:33], render(one_shot(chunks=3, place=3)).frames)


@pytest.mark.parametrize("kind", KINDS)
def test_character_is_seen_whole_in_every_frame(kind):
    clip = render(sample_script(random.Random(11), 7, kind))
    assert clip.frames.shape == (81, 64, 96, 3) and clip.frames.dtype == np.uint8
    area = clip.mask.reshape(81, -1).sum(1)
    assert area.min() > 200
    for mask, (x0, y0, x1, y1) in zip(clip.mask, clip.boxes):
        assert mask[y0:y1, x0:x1].sum() == mask.sum() and mask.max() == 1
    edge = clip.mask[:, 0].any() or clip.mask[:, -1].any()
    assert not edge


@pytest.mark.parametrize("subject", range(len(SUBJECTS)))
@pytest.mark.parametrize("action", range(len(ACTIONS)))
def test_no_character_touches_the_border_at_the_margins(subject, action):
    for x in (X_MIN, X_MAX):
        mask = render(one_shot(subject, action, x=x, hat=2)).mask
        assert not mask[:, :, 0].any() and not mask[:, :, -1].any() and not mask[:, 0].any()


def test_actions_move_as_told():
    def centre(action):
        boxes = render(one_shot(4, action, chunks=5)).boxes.astype(float)
        return (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]

    left, _ = centre(1)
    right, _ = centre(2)
    assert left[-1] < left[0] - 20 and right[-1] > right[0] + 20
    _, feet = centre(3)
    assert np.ptp(feet) > 9 and feet[0] == feet[PERIODS[3]]
    tall = render(one_shot(0, 0)).boxes
    low = render(one_shot(0, 5)).boxes
    assert (low[:, 3] - low[:, 1]).max() < 0.75 * (tall[:, 3] - tall[:, 1]).min()


@pytest.mark.parametrize("trait", ["scarf", "hat", "patch", "colour"])
@pytest.mark.parametrize("subject", range(len(SUBJECTS)))
def test_identity_is_visible_from_both_views(trait, subject):
    for action in (0, 1):
        plain = render(one_shot(subject, action)).frames[0].astype(int)
        other = render(one_shot(subject, action, **{trait: 1})).frames[0].astype(int)
        assert (np.abs(plain - other).max(-1) > 40).sum() >= 20


def test_storyboard_text_has_one_line_a_segment():
    script = sample_script(random.Random(2), 8, "return")
    lines = storyboard(script).splitlines()
    assert len(lines) == 3 and lines[1].startswith("cut: a ") and lines[0].startswith("a ")
    assert sum(float(line.rsplit("|", 1)[1].strip(" s")) for line in lines) == 8 * 0.75


def test_impossible_requests_say_why():
    with pytest.raises(GroundedError, match="unknown kind"):
        sample_script(random.Random(1), 4, "montage")
    with pytest.raises(GroundedError, match="at least 3 chunks"):
        sample_script(random.Random(1), 2, "return")
