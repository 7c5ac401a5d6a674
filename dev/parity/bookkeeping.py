"""Replay of streaming long tuning without numbers: which pieces there are, who learns, what is judged.

A tiny network makes the films; what is told is what its calls were, not what was planned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gf_core.config import ModelSpec, Recipe, SampleSpec
from gf_core.memory.presets import PRESETS
from gf_core.model.wan import WanModel
from gf_core.sampling.director import Director, Trace
from gf_core.sampling.schedule import timesteps
from gf_core.train.films import Cue, FilmBatch
from gf_core.train.recipes.longlive import STAGES
from gf_core.train.rollout import RolloutSpec
from gf_core.train.streaming import Stream, StreamSpec

TINY = ModelSpec(
    dim=8, ffn_dim=8, num_heads=1, num_layers=1, in_dim=1, out_dim=1, text_len=3, text_dim=4, freq_dim=8
)
LATENT = (1, 2, 2)


class Plain:
    """Draws that do not matter, but for the exit step."""

    exit_step = 0

    def whole(self, name: str, low: int, high: int) -> int:
        """As `Draws.whole`."""
        return self.exit_step

    def places(self, name: str, shape: tuple[int, ...], high: int = 1000) -> Tensor:
        """As `Draws.places`."""
        return torch.zeros(shape, dtype=torch.long)

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """As `Draws.normal`."""
        return torch.zeros(shape)


@dataclass
class Calls:
    """The calls of one piece."""

    denoise: list[tuple[int, bool]] = field(default_factory=list)
    """Frame of the block and whether gradients go through, of every call."""
    clean: list[int] = field(default_factory=list)
    recache: list[int] = field(default_factory=list)
    decoded: int | None = None

    def follow(self, director: Director, trace: Trace) -> None:
        """Note a call at its frame."""
        frame = director.memory.ledger.frame
        if trace.kind == "denoise":
            self.denoise.append((frame, trace.flow.requires_grad))
        else:
            getattr(self, trace.kind).append(frame)


@dataclass(frozen=True)
class Drawn:
    """What the recorded trainer drew for a piece."""

    exit_t: float
    switch: int
    """Frame of the new prompt in the piece's film."""
    frames: int
    """Latent frames of the piece, where it does not begin its film."""
    longest: int
    """Latent frames that the film under way never passes; it gives way to a new one where a piece does not fit."""


def drawn(pieces: list[dict[str, Any]], config: dict[str, Any]) -> list[Drawn]:
    """The draws of recorded pieces. A film's greatest length is told by where it ended."""
    lengths, ends = config.get("possible_max_length") or [config["max_length"]], dict[int, int]()
    for piece in pieces:
        ends[piece["sequence"]] = piece["end"]
    before = [pieces[0], *pieces]
    longest = [min(length for length in lengths if length >= ends[piece["sequence"]]) for piece in before]
    frames = [piece["new_frames"] if piece["start"] else config["min_new_frame"] for piece in pieces]
    return [
        Drawn(piece["exit_t"], piece["switch_frame"], count, most)
        for piece, count, most in zip(pieces, frames, longest)
    ]


class Run:
    """One recorded run of the trainer."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config, self.calls, self.draws = config, Calls(), Plain()
        steps = tuple(config.get("denoising_step_list", SampleSpec.steps))
        sample = SampleSpec(steps=steps, shift=config.get("timestep_shift", SampleSpec.shift))
        self.levels = [level.timestep for level in timesteps(sample)]
        window, size = config["chunk"], config["frames_per_block"]
        sink = 3
        memory = replace(
            PRESETS["longlive"], anchors=sink, recent=config["local_attn_size"] - sink - size, chunk=size,
            recache_reach=window,
        )  # fmt: skip
        film = RolloutSpec(Recipe(memory, sample), frames=window, window=window, first_frame=self._first)
        self.stream = Stream(film, watch=lambda director, trace: self.calls.follow(director, trace))
        self.net = WanModel(TINY).eval()

    def _first(self, latents: Tensor) -> Tensor:
        self.calls.decoded = latents.shape[1]
        return latents[:, -1:]

    def piece(self, step: int, learner: str, drawn: Drawn) -> dict[str, Any]:
        """What happens in the next piece."""
        self.calls, size = Calls(), self.config["frames_per_block"]
        self.draws.exit_step = min(range(len(self.levels)), key=lambda i: abs(self.levels[i] - drawn.exit_t))
        self.stream.spec, self.switch = StreamSpec(drawn.longest, drawn.frames), drawn.switch
        before, after = torch.ones(1, 1, TINY.text_dim), torch.full((1, 1, TINY.text_dim), 2.0)
        batch = FilmBatch(before, before, LATENT, self.draws, {-(-self.switch // size): Cue("then", after)})
        learns = learner == "generator"
        with torch.set_grad_enabled(learns):
            told, window = self.stream.advance(self.net, batch)
        return self._told(
            step, learner, bool((told.told == after).all()), window.latents.requires_grad, window.learned
        )

    def _told(
        self, step: int, learner: str, switched: bool, has_grad: bool, learned: Tensor | None
    ) -> dict[str, Any]:
        calls, sequence, end = self.calls, self.stream.films - 1, self.stream.length
        frames, learns = self.config["chunk"], learner == "generator"
        exits = dict(calls.denoise)  # the last call of each block
        mask = [1] * frames if learned is None else learned.int().tolist()
        names = [f"{letter}{sequence}" for letter in "AB"]
        switch_at = min(calls.recache, default=0 if switched else end)
        judged = names[switched]
        found: dict[str, Any] = {
            "sequence": sequence, "start": calls.clean[0], "end": end, "new_frames": end - calls.clean[0],
            "overlap": frames - (end - calls.clean[0]), "window": [end - frames, end], "window_frames": frames,
            "grad_mask": mask, "reencode_first_frame": calls.decoded is not None, "requires_grad": learns,
            "reencode_decodes_frames": calls.decoded, "block_starts": calls.clean,
            "block_grad": [exits[start] for start in calls.clean],
            "block_prompt": [names[start >= switch_at] for start in calls.clean],
            "exit_t": self.levels[self.draws.exit_step],
            "denoise_calls": len(calls.denoise) - len(calls.clean), "context_calls": len(calls.clean),
            "recache": [
                {"start": max(0, at - frames), "frames": min(at, frames), "t": 0.0, "prompt": names[1]}
                for at in calls.recache
            ],
            "has_switched": switched, "switch_frame": self.switch, "optimizer_step": step, "updates": learner,
        }  # fmt: skip
        if learns:
            return found | {"loss_prompt": judged, "loss_requires_grad": has_grad}
        return found | {
            "critic_prompt": judged, "critic_frames": frames, "critic_loss_mask_frames": sum(mask)
        }  # fmt: skip


def replay(document: dict[str, Any]) -> dict[str, Any]:
    """The runs of a recorded document, piece by piece; of its pieces only what was drawn is read."""
    runs = []
    for recorded in document["runs"]:
        run, pieces = Run(recorded["config"]), list[dict[str, Any]]()
        stage = replace(STAGES["long"], ratio=recorded["config"]["ratio"])
        for turn, one in enumerate(drawn(recorded["chunks"], recorded["config"])):
            # A step of the recorded loop is one turn of the critic, behind the student's where that has one.
            step = sum(not stage.learns(before) for before in range(turn))
            pieces.append(run.piece(step, "generator" if stage.learns(turn) else "critic", one))
        runs.append({"name": recorded["name"], "chunks": pieces})
    return {"runs": runs}


def differences(got: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What a replay says otherwise than the recording, in words. What only the recorded code has is passed over."""
    found = []
    for mine, theirs in zip(got["runs"], wanted["runs"], strict=True):
        for number, (piece, other) in enumerate(zip(mine["chunks"], theirs["chunks"], strict=True)):
            found += [
                f"{mine['name']} {number} {name}: {piece.get(name)} instead of {value}"
                for name, value in other.items()
                if not name.startswith("recache_block_mask") and piece.get(name) != value
            ]
    return found
