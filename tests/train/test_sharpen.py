"""A student matched in distribution: who judges behind which memory, whose turn it is, and which way it goes."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from gf_core.errors import GroundedError
from gf_core.train.context import StreamOutput
from gf_core.train.loop import Pace
from gf_core.train.objectives.sharpen import Sharpen, Sharpening
from gf_core.train.ranks import Ranks
from gf_core.train.recipes import video
from gf_core.train.recipes.video import BUILTIN_SPEC, SHARPEN, Begin, VideoNet

from .test_builtin_recipe import some_clips
from .test_replay import PLACE, clips

LEVELS = [1.0, 0.75, 0.5]


class Seen(nn.Module):
    """A network that sees `clean` everywhere, which it can learn, and remembers what it was asked."""

    def __init__(self, clean: float) -> None:
        super().__init__()
        self.clean, self.calls = nn.Parameter(torch.tensor(clean)), []

    def forward(self, batch, context, noisy, sigma, drop):
        self.calls.append((context, noisy, sigma, torch.is_grad_enabled()))
        flow = (noisy - self.clean) / sigma.repeat_interleave(3, 2)[..., None, None, None]
        return StreamOutput(flow, flow.mean((3, 4, 5)))


def sharpen(student: Seen, teacher: Seen, critic: Seen, step: int = 0, **settings) -> Sharpen:
    torch.manual_seed(0)
    given = Sharpening(**{"guess": 0.0, "ahead": 0, **settings})
    return Sharpen((student, teacher, critic), PLACE, LEVELS, given, 3.0, lambda: step)


@pytest.mark.parametrize("seen, way", [(2.0, 0.0), (5.0, 1.0), (-1.0, -1.0)])
def test_it_goes_from_what_the_critic_sees_to_what_the_teacher_does(seen, way):
    """In units of how far it is off what the teacher sees; where the two see the same it stays."""
    student, teacher, critic = Seen(5.0), Seen(2.0), Seen(seen)
    sharpen(student, teacher, critic)(clips(2, False)).total.backward()
    assert student.clean.grad == pytest.approx(way, abs=1e-4)
    assert teacher.clean.grad is None


def test_the_critic_learns_what_the_student_makes():
    student, critic = Seen(5.0), Seen(0.0)
    for _ in range(300):
        sharpen(student, Seen(2.0), critic, step=1)(clips(2, False)).total.backward()
        with torch.no_grad():
            critic.clean -= 0.02 * critic.clean.grad.sign()
        critic.clean.grad = None
    assert critic.clean.item() == pytest.approx(5.0, abs=0.05) and student.clean.grad is None


def test_the_student_comes_last_and_in_its_turns():
    learned = []
    for step in range(9):
        student = Seen(5.0)
        loss = sharpen(student, Seen(2.0), Seen(0.0), step, ahead=4, every=2)(clips(2, False))
        loss.total.backward()
        learned.append(student.clean.grad is not None)
        assert ("dmd_gradient" in loss.parts) == learned[-1] and "critic" in loss.parts
    assert learned == [False] * 4 + [True, False] * 2 + [True]


def test_the_teacher_judges_behind_the_true_memory_and_the_critic_behind_what_the_student_saw():
    student, teacher, critic, batch = Seen(5.0), Seen(2.0), Seen(0.0), clips(2, False)
    sharpen(student, teacher, critic).loss(batch, context=batch.latents + 1)
    assert all(torch.equal(call[0], batch.latents) for call in teacher.calls)
    assert all(torch.equal(call[0], batch.latents + 1) for call in student.calls + critic.calls)


def test_chunks_are_made_as_the_sampler_makes_them():
    """From noise alone, each level's noise on what the level above has given, and the last call alone has a graph."""
    lengths = set()
    for seed in range(12):
        student = Seen(900.0)
        made = sharpen(student, Seen(2.0), Seen(0.0))
        torch.manual_seed(seed)
        batch = clips(2, False)
        clean = made.made(batch, batch.latents, graph=True)
        assert torch.allclose(clean, torch.tensor(900.0), atol=1e-2)
        lengths.add(len(student.calls))
        for number, (_, noisy, sigma, graph) in enumerate(student.calls):
            assert (sigma == LEVELS[number]).all() and graph == (number + 1 == len(student.calls))
            assert noisy.mean().item() == pytest.approx(900 * (1 - LEVELS[number]), abs=3)
    assert lengths == {1, 2, 3}


def test_what_is_there_changes_little_and_words_not_at_all(tmp_path, monkeypatch):
    """Student and critic begin as student and teacher are given, at rates of their own; another student is refused."""
    tiny = replace(BUILTIN_SPEC, dim=128, ffn_dim=128, num_heads=1, num_layers=1)
    monkeypatch.setattr(video, "VideoNet", partial(VideoNet, tiny))
    given, store = {}, some_clips()
    for seed, name in enumerate(("student", "teacher", "other")):
        torch.manual_seed(seed)
        given[name] = VideoNet(tiny).state_dict()
        torch.save({"average": given[name]}, tmp_path / f"{name}.pt")

    def run(student: str, steps: int) -> dict:
        plan = replace(SHARPEN, pace=Pace(steps=steps, warm=1, decay_from=1), clips=1, ahead=0, every=1)
        begin = Begin(tmp_path / f"{student}.pt", tmp_path / "teacher.pt")
        video.train_video(tmp_path / "run", plan, store, lambda: None, PLACE, Ranks(), begin)
        return torch.load(tmp_path / "run" / "sharpen.pt", weights_only=True)

    made = run("student", 3)["modules"]
    for name, began, rate in (("video", "student", 2e-5), ("critic", "teacher", 1e-4)):
        moved = {n: (value - given[began][n]).abs().max().item() for n, value in made[name].items()}
        assert not any("net.text" in n or moved[n] for n in moved if "net.model" not in n)
        assert rate < max(moved.values()) < 5 * rate
    with pytest.raises(GroundedError, match="another student"):
        run("other", 4)
