"""What a few-step student is asked: chunks as they come to it in a film, not as the truth would have them."""

import torch

from gf_core.train.objectives.distil import Distil, Distilling

from .test_replay import PLACE, clips
from .test_sharpen import LEVELS, Seen


def test_own_chunks_are_noise_on_what_the_level_above_predicts():
    """On the highest level there is none above: those are noise alone, whatever lies under it."""
    torch.manual_seed(0)
    student, teacher = Seen(900.0), Seen(0.0)
    Distil(student, teacher, PLACE, LEVELS, Distilling(draws=9, guess=0.0, own=1.0))(clips(3, False))
    (_, _, above, _), (_, noisy, sigma, _) = student.calls
    index = [[LEVELS.index(level) for level in levels.flatten().tolist()] for levels in (above, sigma)]
    assert index[0] == [max(0, own - 1) for own in index[1]] and set(index[1]) == {0, 1, 2}
    shown = noisy.unflatten(2, (2, 3)).mean((3, 4, 5, 6))  # of noise the mean is near 0
    assert torch.allclose(shown, 900 * (1 - sigma), atol=3)


def test_at_its_own_prediction_the_teacher_has_nothing_to_say():
    """Where both predict the same clean latents, the student's target is its own flow."""
    torch.manual_seed(0)
    student, teacher = Seen(3.0), Seen(3.0)
    loss = Distil(student, teacher, PLACE, LEVELS, Distilling(guess=0.0))(clips(2, False))
    assert loss.total < 1e-9
