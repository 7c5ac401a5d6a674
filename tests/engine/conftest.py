"""A tiny random world for the engine: a real Wan of 2 layers, a codec and a text encoder that are only arithmetic."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.config import Encoding, MemorySpec, ModelSpec, Recipe, SampleSpec, VideoSpec
from gf_core.engine.events import Emit, Event, Finished, StepDone
from gf_core.engine.film import Film, look
from gf_core.engine.session import Session
from gf_core.model.wan import WanModel
from gf_core.take.folder import Run, Take
from gf_core.timeline import Plan, make_plan, parse

SPEC = ModelSpec(dim=32, ffn_dim=48, num_heads=2, num_layers=2, text_len=8, text_dim=12, freq_dim=16)
STRIDE = 8


class TinyText:
    """Rows drawn from the prompt's own hash, one per word."""

    fingerprint = "tiny-text"

    def encode(self, prompts: list[str]) -> list[Tensor]:
        return [self._rows(prompt) for prompt in prompts]

    def _rows(self, prompt: str) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:6], "big")
        words = min(len(prompt.split()), SPEC.text_len)
        return torch.randn(words, SPEC.text_dim, generator=torch.Generator().manual_seed(seed))


class TinyDecoder:
    """Three channels enlarged; each picture leans on the latent before, so state matters."""

    def __init__(self) -> None:
        self.last: Tensor | None = None
        self.apart = False

    def decode(self, latents: Tensor) -> Tensor:
        frames = []
        for latent in latents.float():
            # Grey, because the film's colour is stored at half size and these blocks are small.
            picture = (
                latent[:3]
                .mean(0, keepdim=True)
                .expand(3, -1, -1)
                .sigmoid()
                .repeat_interleave(STRIDE, 1)
                .repeat_interleave(STRIDE, 2)
            )
            picture = picture.permute(1, 2, 0)
            if self.last is None:
                frames.append(picture)
            else:
                if self.apart:  # its own past
                    self.last, self.apart = picture, False
                frames += [torch.lerp(self.last, picture, share) for share in (0.25, 0.5, 0.75, 1.0)]
            self.last = picture
        return torch.stack(frames)

    def forget(self) -> None:
        self.apart = True

    def snapshot(self) -> dict[str, Tensor]:
        return {} if self.last is None else {"last": self.last.clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.last, self.apart = state.get("last"), False


class TinyCodec:
    channels, spatial_stride, time_stride, fingerprint = 16, STRIDE, 4, "tiny-codec"
    kind = "builtin"  # what the estimate takes it for

    def decoder(self) -> TinyDecoder:
        return TinyDecoder()

    def encode(self, frames: Tensor) -> Tensor:
        small = frames[::4, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].permute(0, 3, 1, 2)
        latents = torch.zeros(small.shape[0], self.channels, *small.shape[2:])
        latents[:, :3] = small.clamp(0.01, 0.99).logit()
        return latents


@cache
def tiny_network() -> WanModel:
    torch.manual_seed(0)
    model = WanModel(SPEC).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, 0.05)
    return model


def tiny_bundle() -> ModelBundle:
    network = deepcopy(tiny_network())  # a test may cast it, or hang something on it
    torch.manual_seed(0)
    return ModelBundle(
        name="tiny",
        model=network,
        spec=SPEC,
        text=TinyText(),
        codec=TinyCodec(),
        recipe=Recipe(
            MemorySpec(anchors=2, recent=3, chunk=3), SampleSpec(steps=(1000, 500)), VideoSpec(32, 32, 16)
        ),
        fingerprint="tiny-model",
    )


@pytest.fixture
def take(tmp_path: Path) -> Iterator[Take]:
    """An empty Take, open."""
    with Take.open(tmp_path / "take") as take:
        yield take


@pytest.fixture
def bundle() -> ModelBundle:
    return tiny_bundle()


@pytest.fixture(scope="session")
def make_bundle():
    """`make_bundle()`: a new bundle, always of the same weights."""
    return tiny_bundle


def flip(path: Path, at: int) -> None:
    """Turn one bit of a file, in the byte at a place."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def stopping(at: int | None, kind: type = StepDone, told: list[Event] | None = None) -> Emit:
    """A listener that presses Ctrl-C at a step, or another `kind` of event, of this chunk; `told` gets all it hears."""

    def listen(event: Any) -> None:
        if told is not None:
            told.append(event)
        if isinstance(event, kind) and event.index == at:
            raise KeyboardInterrupt

    return listen


class Films:
    """Storyboards turned into plans, sessions and events with one call each."""

    def plan(self, bundle: ModelBundle, text: str) -> Plan:
        """The plan of a storyboard in the bundle's timing, with keys that no model is part of."""
        return make_plan(parse(text), Film(bundle, text, bundle.recipe).timing)

    def session(
        self,
        bundle: ModelBundle,
        text: str,
        take: Take,
        *,
        until: int | None = None,
        encoding: Encoding | None = None,
        start: Tensor | None = None,
        memory: MemorySpec | None = None,
        **options: Any,
    ) -> Session:
        """A session that makes `text` in an open Take, which has been looked at."""
        recipe = replace(bundle.recipe, memory=memory or bundle.recipe.memory)
        film = Film(bundle, text, recipe, encoding or Encoding(), start)
        return Session(take, look(film, take.folder, until), **options)

    def events(self, *args: Any, **options: Any) -> list[Event]:
        """What such a session tells from beginning to end."""
        events: list[Event] = []
        self.session(*args, **options).play(events.append)
        return events

    def render(self, bundle: ModelBundle, folder: Path, text: str, **options: Any) -> tuple[list[Event], Run]:
        """Events and the run of one render into the Take at `folder`."""
        with Take.open(folder) as take:
            events = self.events(bundle, text, take, **options)
        return events, Run(self.told(events, Finished)[-1].path.parent)

    def told(self, events: list[Any], kind: type) -> list[Any]:
        """The events of one kind."""
        return [event for event in events if isinstance(event, kind)]

    def bytes_of(self, run: Run) -> tuple:
        """Everything of a run that must not depend on how it came about."""
        records = [(record["key"], record["latents"], record["frames"]) for record in run.committed()]
        return records, [run.latents(i).read_bytes() for i in range(len(records))], run.film.read_bytes()


@pytest.fixture(scope="session")
def films() -> Films:
    return Films()
