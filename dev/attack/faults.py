"""Breaks one property of the program after another, in a copy: for each a test must fail that did not before.

    python dev/attack/faults.py [--only WORD]

A property is broken by one small change of the source, the kind that a hand slips in, and asked are the tests that
hold it, not all. Nothing of the working tree is written to. Prints a row per fault; ends with status 1 where one went
unnoticed. --only takes the faults whose property has the word in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gf_core.arguments import Parser

ROOT = Path(__file__).resolve().parents[2]


class Fault(NamedTuple):
    """One change of the source."""

    breaks: str
    """The property."""
    file: str
    """Below gf_core."""
    old: str
    """What stands there, once."""
    new: str
    tests: str
    """Who must notice, below tests/."""


DMD, SCORES, STREAM = "train/objectives/dmd.py", "train/objectives/scores.py", "train/streaming.py"
PAST, MIX, BANK, LEDGER = "memory/gradients.py", "memory/recache.py", "memory/bank.py", "memory/ledger.py"
FAULTS = [
    # Distribution matching.
    Fault("the gradient of DMD is the one given", SCORES, "return 0.5 * (kept", "return 0.25 * (kept",
          "train/test_dmd.py::test_the_gradient_of_a_judged_clip_is_the_one_given"),
    Fault("masked frames have no gradient", SCORES, "(kept(x, learned) - kept(target, learned))", "(x - target)",
          "train/test_dmd.py::test_the_gradient_of_a_judged_clip_is_the_one_given"),
    Fault("DMD goes from the critic to the teacher", SCORES, "(fake - real) / scale_of", "(real - fake) / scale_of",
          "train/test_dmd.py::test_dmd_pushes_the_frames_that_count_by_each_samples_own_unit"),
    Fault("every sample has its own unit", SCORES, "mean((1, 2, 3, 4), keepdim=True)", "mean()",
          "train/test_dmd.py::test_dmd_pushes_the_frames_that_count_by_each_samples_own_unit"),
    Fault("guidance is c + g (c - u)", SCORES, "fake, told + match.guidance", "fake, free + match.guidance",
          "train/test_dmd.py::test_guidance_is_one_more_than_the_usual_scale"),
    Fault("levels are shifted", SCORES, "shifted = match.shift * share / (1 + (match.shift - 1) * share)",
          "shifted = share", "train/test_dmd.py::test_levels_are_the_published_ones"),
    Fault("SiD's unit stands still", DMD, "scale_of(judged_clip, real).detach()", "scale_of(judged_clip, real)",
          "train/test_dmd.py::test_score_identity_holds_its_unit_still"),
    Fault("the critic learns all of a film made anew", DMD,
          "replace(window, learned=None) if isinstance(film, RolloutSpec) else window", "window",
          "train/test_dmd.py::test_the_critic_learns_all_that_is_judged_of_a_film_made_anew"),
    Fault("the student learns behind all turns of the critic", "train/recipes/stage.py", "% (self.ratio + 1) == 0",
          "% self.ratio == 0", "train/test_chain.py::test_a_critic_may_be_ahead_of_its_student"),
    Fault("a context stays clean", SCORES, "torch.cat([context, noisy], 1), timestep",
          "torch.cat([torch.zeros_like(context), noisy], 1), timestep",
          "train/test_dmd.py::test_a_context_is_made_to_the_end_and_judged_by_what_follows"),
    Fault("a clean context is told so", SCORES, "level[:, : self.context] = 0", "level[:, : self.context + 1] = 0",
          "train/test_chain.py"),
    # Films of training.
    Fault("warped steps are the four numbers", "sampling/schedule.py", "self.timesteps[TABLE - int(step)]",
          "self.timesteps[TABLE - int(step) - 1]", "sampling/test_schedule.py::test_warped_steps"),
    Fault("no gradient reaches an earlier chunk", "sampling/director.py", 'self.grad in (None, "replay")',
          "self.grad is not False", "train/test_dmd.py::test_gradients_stay_in_their_chunk"),
    Fault("the leaking variant leaks", PAST, "value.detach() + (side - side.detach())", "value.detach() + 0 * side",
          "memory/test_gradients.py train/test_dmd.py::test_gradients_stay_in_their_chunk"),
    Fault("steps before the exit have no gradient", "sampling/chunkwise.py", "chunk.exit in (None, i)",
          "chunk.exit in (None, i, i + 1)", "train/test_dmd.py::test_steps_before_the_exit_have_no_gradient"),
    Fault("what lies before a piece is a constant", PAST, "number: (k.detach(), v.detach())", "number: (k, v)",
          "train/test_streaming.py::test_gradients_end_where_a_piece_begins"),
    Fault("a layer computed again writes nothing", PAST, "if layer in self._written or not (", "if not (",
          "train/test_streaming.py::test_layers_computed_again_leave_the_memory_alone"),
    Fault("with memory as in one whole forward", PAST, "rotate(past_k, self._past_turns[layer])", "past_k",
          "memory/test_gradients_whole.py::test_gradients_are_those_of_one_forward_over_the_film"),
    Fault("all ranks make as many calls", "train/draws.py", "generator=rng)", "generator=self._own[0])",
          "train/test_matching.py train/test_loop.py"),
    Fault("noise belongs to a sample's number", "train/draws.py", '_mixed(seed, "sample", n)', "_mixed(seed, n % 2)",
          "train/test_matching.py"),
    Fault("a film takes its last piece", STREAM, "length + spec.piece <= spec.longest",
          "length + spec.piece < spec.longest", "train/test_streaming.py::test_pieces_have_the_published_lengths"),
    Fault("a film's first piece is a window", STREAM, "spec.piece if start else film.window", "spec.piece",
          "train/test_streaming.py::test_pieces_have_the_published_lengths"),
    Fault("blocks before a switch do not learn", STREAM, "max(inside, default=start)", "start",
          "train/test_streaming.py::test_blocks_before_a_switch_inside_a_piece_have_no_gradient"),
    Fault("a stream goes on to the bit", STREAM, 'self.tail = state["tail"].to(story.prompt.device)',
          "self.tail = None", "train/test_streaming.py::test_a_stream_goes_on_after_a_break_bit_by_bit"),
    Fault("a training goes on to the bit", "train/loop.py", 'optimiser.load_state_dict(saved["optimisers"][str(i)])',
          "pass", "train/test_matching.py::test_a_stopped_training_goes_on_to_the_bit"),
    # Memory.
    Fault("only differences of positions matter", "memory/store.py", "at, first = positions(self.spec, now, numbers),",
          "at, first = positions(self.spec, now, [2 * number for number in numbers]),",
          "sampling/test_rollout.py memory/test_cache.py"),
    Fault("shares of the newest frame", MIX, "1 - d / depth", "1 - (d - 1) / depth",
          "memory/test_recache.py::test_proximity_shares"),
    Fault("shares have a cap", MIX, "min(alpha_max, max(0.0, 1 - d / depth))", "max(0.0, 1 - d / depth)",
          "memory/test_recache.py::test_proximity_shares"),
    Fault("a share of 0 leaves every bit", MIX, "values[:, : self._first].copy_(self._old_v[:, : self._first])", "pass",
          "memory/test_recache.py"),
    Fault("a share of 1 is the fresh value", MIX, "self._rest = 1 - self._share", "self._rest = 1 - self._share / 2",
          "memory/test_recache.py::test_full_share_is_the_fresh_value"),
    Fault("an anchor gives way to one less alike", "memory/policies.py", "similarity < redundancy",
          "similarity > redundancy", "memory/test_policy.py"),
    Fault("the first of equal anchors is the target", "memory/policies.py", "(r[j], -j)", "(r[j], j)",
          "memory/test_policy.py::test_two_equal_anchors_and_a_stranger"),
    Fault("a bank keeps what changes", BANK, "if alike < spec.bank_below", "if alike > spec.bank_below",
          "memory/test_bank.py::test_each_layer_keeps_the_first_frames_of_its_own_changes"),
    Fault("a bank is first in, first out", LEDGER, "del bank[: -self.spec.bank]", "del bank[self.spec.bank :]",
          "memory/test_bank.py memory/test_ledger.py"),
    Fault("a bank takes a chunk's first frame", BANK, "ledger.deposit(layer, ledger.recent[-frames])",
          "ledger.deposit(layer, ledger.recent[-1])", "memory/test_bank.py memory/test_ledger.py"),
    Fault("only every so-manieth chunk may change a bank", LEDGER, "(self.chunks - 1) % spec.bank_every",
          "self.chunks % spec.bank_every", "memory/test_bank.py memory/test_ledger.py"),
    # What one does not see.
    Fault("rotations lie where the memory does", "memory/store.py", "return turns(torch.tensor(at, device=device)",
          "return turns(torch.tensor(at)", "sampling/test_card.py"),
    Fault("noise comes to the card", "sampling/director.py", "together.to(self.device, non_blocking=True).unbind()",
          "together.unbind()", "sampling/test_card.py"),
    Fault("an encoder's threads run as others do", "video/encoder.py",
          "with nullcontext() if index else ordinary_turns():", "with nullcontext():", "video/test_writer.py"),
    Fault("a model can be read by whom its maker lets", "files/pieces.py", 'with open(path, "wb") as file:',
          'with open(path, "wb") as file:\n        os.chmod(path, 0o600)', "train/test_builtin_recipe.py"),
    Fault("a part that stays keeps no other from being swept", "files/atomic.py",
          "with suppress(OSError):\n        if time", "if True:\n        if time", "files/test_swept.py"),
    Fault("sound that is mixed down is told", "video/audio.py", 'log.info("sound of %s', 'log.debug("sound of %s',
          "video/test_sound.py"),
    Fault("compiled code serves the layout alone that it was made for", "model/shortcut.py", "one.stride(), ", "",
          "model/test_shortcut.py"),
    Fault("a card is asked one step ahead, not more", "engine/shoot.py",
          "            self._wait_for_card()\n            self._meter", "            self._meter",
          "engine/test_ahead.py"),
    Fault("latents are read once a card has computed them", "engine/finish.py",
          "                chunk.computed()\n", "", "engine/test_ahead.py"),
    Fault("what inductor cannot compile is said in words", "model/compiled.py",
          "isinstance(error, TorchDynamoException) or ", "", "vae/test_wan_compiled.py"),
]  # fmt: skip


def broken(fault: Fault, root: Path) -> str:
    """The text of the fault's file with the fault in it. Raises ValueError where its place is not there once."""
    text = (root / "gf_core" / fault.file).read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.file} has {text.count(fault.old)} times: {fault.old}")
    return text.replace(fault.old, fault.new)


def fails(root: Path, tests: list[str]) -> bool:
    """Whether one of the tests fails; raises RuntimeError where none of them could be asked."""
    names = [f"tests/{name}" for name in tests]
    told = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *names]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(told, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(tests)} could not be run:\n{done.stdout}{done.stderr}")
    return done.returncode == 1


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("--only", default="")
    only = parser.parse_args().only
    faults, missed = [fault for fault in FAULTS if only in fault.breaks], 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        left_out = shutil.ignore_patterns(".*", "__pycache__", "build", "films", "*.egg-info")
        shutil.copytree(ROOT, copy, ignore=left_out)
        asked = sorted({name for fault in faults for name in fault.tests.split()})
        if fails(copy, asked):
            print("the tests fail as it is: nothing is told by them")
            return 1
        for fault in faults:
            path = copy / "gf_core" / fault.file
            whole = path.read_text(encoding="utf-8")
            path.write_text(broken(fault, copy), encoding="utf-8")
            noticed = fails(copy, fault.tests.split())
            path.write_text(whole, encoding="utf-8")
            missed += not noticed
            print(f"{'noticed' if noticed else 'MISSED ':8} {fault.breaks}", flush=True)
    print(f"{len(faults) - missed} of {len(faults)} were noticed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
