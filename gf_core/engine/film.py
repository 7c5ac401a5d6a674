"""A film before its first step: model, storyboard and recipe as one value, from which everything else follows."""

from __future__ import annotations

import bisect
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Encoding, Recipe, as_facts, latents_of
from ..errors import GroundedError, StoryboardError
from ..estimate.room import bundle_cost, decode_bytes, work_bytes
from ..memory.checks import check_pictures
from ..take.begun import as_begun
from ..take.facts import hash_facts, latent_facts, picture_facts, print_of
from ..take.reuse import Reuse, find_reuse
from ..take.states import STATES_FOLDER, StateStore, window_name
from ..timeline import BEGIN_SHOT, Plan, PlannedSegment, Storyboard, Timing, make_plan, parse
from ..vae.decoders import forgets, look_of
from .given.cast import open_cast
from .given.start import StartFile, open_start
from .relief import Relief

if TYPE_CHECKING:
    from torch import Tensor

    from ..checkpoints.model_bundle import ModelBundle

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class Film:
    """Everything that a film is made from. `settle` fills in what the model wants."""

    bundle: ModelBundle
    """Model, text encoder, codec."""
    text: str
    """The storyboard."""
    recipe: Recipe
    """Memory, sampler, size and speed."""
    encoding: Encoding = field(default_factory=Encoding)
    """How it is encoded."""
    start: Tensor | None = None
    """Pictures [t H W 3] in 0..1, t = 1 + 4 n, of the film's size, that it starts from. They become its first pictures,
    so that it is 4 pictures longer per latent frame of theirs."""
    pictures: Mapping[str, Tensor] = field(default_factory=dict)
    """Pictures [1 H W 3] in 0..1 of the cast, by the file that the storyboard names."""
    begins_with: StartFile | None = None
    """The file that `start` is from, where it is from one."""

    # -- what follows from it -----------------------------------------------------------------------------------

    @cached_property
    def board(self) -> Storyboard:
        """The storyboard, read. Raises StoryboardError where it cannot be."""
        return parse(self.text)

    @property
    def timing(self) -> Timing:
        """How time is cut into chunks."""
        return Timing.of(self.recipe, self.bundle.codec.time_stride)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Everything outside the storyboard that decides the latents."""
        facts = latent_facts(self.bundle, self.recipe, self.start)
        if self.recipe.sample.noise == "comfyui":  # a segment's length is in the noise of all its chunks
            facts["clips"] = [segment.chunks for segment in make_plan(self.board, self.timing).segments]
        return facts

    @cached_property
    def key(self) -> str:
        """Hash of `facts`: what every chunk's key begins with."""
        return hash_facts(self.facts)

    @cached_property
    def plan(self) -> Plan:
        """The storyboard in chunks."""
        return make_plan(self.board, self.timing, self.key, self.prints)

    @cached_property
    def prints(self) -> dict[str, str]:
        """By file, a hash of what is seen in each picture of the cast and of how it becomes latents."""
        if not self.pictures:
            return {}
        from ..vae.tiles import whole

        codec = whole(self.bundle.codec).fingerprint
        return {file: hash_facts([codec, print_of(frames)]) for file, frames in self.pictures.items()}

    @property
    def threads(self) -> int:
        """On how many threads of a processor it is computed."""
        return self.bundle.threads_for(self.recipe)

    @property
    def apart(self) -> frozenset[int]:
        """Chunks at which the decoder begins anew."""
        return self.plan.apart if forgets(self.bundle.codec) else frozenset()

    @property
    def lead(self) -> int:
        """Latent frames of the start; each is `time_stride` pictures more in the film."""
        return 0 if self.start is None else latents_of(len(self.start), self.bundle.codec.time_stride)

    def frames(self, chunks: int) -> int:
        """Pictures of the film's first `chunks` chunks, those of the start included."""
        return self.timing.pictures(chunks, self.lead)

    def chunks_of(self, frames: int) -> int:
        """Chunks whose pictures are all in the film's first `frames` pictures."""
        return bisect.bisect_right(range(self.plan.chunks + 1), frames, key=self.frames) - 1

    def whole_segments(self, chunks: int) -> int:
        """Segments that lie wholly in the film's first `chunks` chunks."""
        return sum(segment.end <= chunks for segment in self.plan.segments)

    def shot_of(self, number: int) -> int:
        """Number of the shot, from 0, that segment `number` of the plan is in; -1 for no segment."""
        return sum(segment.verb in BEGIN_SHOT for segment in self.plan.segments[: number + 1]) - 1

    def retold(self, text: str) -> Film:
        """The same with another storyboard. Raises StoryboardError where it cannot be read."""
        film = replace(self, text=text)
        _ = film.board
        return film

    # -- before the first step ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse, in words, what cannot be rendered.

        Raises ResourceError: the size does not fit the model's grid. GroundedError: nor the start the size, or the
        encoding asks for what there is not. PromptError: the text encoder cannot read a prompt.
        """
        encoding = self.encoding
        if not 0 <= encoding.quality <= 51 or encoding.upscale < 1:
            raise GroundedError(
                f"quality {encoding.quality} and enlargement {encoding.upscale} cannot be encoded",
                "give a quality from 0 (lossless) to 51 (worst), and an enlargement of at least 1",
            )
        video = self.recipe.video
        self.bundle.check_size(video)
        if self.bundle.team is not None:
            from ..sampling.split import check_split

            height, _ = self.bundle.cells(video)
            check_split(self.bundle.spec, self.recipe, height, self.bundle.team.count)
        self._check_memory()
        size = (video.height, video.width, 3)
        if self.start is not None and self.start.shape[1:] != size:
            raise GroundedError(
                f"the film is to start from pictures {list(self.start.shape)}, its own are {list(size)}",
                "resize them to the film's size",
            )
        if any(segment.pictures for segment in self.plan.segments):
            check_pictures(self.recipe.memory)
        if self.recipe.sample.noise == "comfyui":
            from ..sampling.noise import check_noise

            check_noise(self.recipe.sample, self.plan)
        # Of a closed vocabulary.
        if (check_words := getattr(self.bundle.text, "check_words", None)) is not None:
            lines = self.board.segments
            check_words(self.text, [(lines[part.index].line, part.prompt) for part in self.plan.segments])

    def make_ready(self, *, with_memory: bool = False) -> None:
        """Have a host bring the weights to the device; it keeps free what a chunk needs, at first the memory too."""
        if self.bundle.ready is None:
            return
        cost, recipe = bundle_cost(self.bundle), self.recipe
        need = work_bytes(cost, recipe) + decode_bytes(cost, recipe.video)
        self.bundle.ready(need + (cost.sizes(recipe).buffers if with_memory else 0))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The run's `settings.json`.

        `film_key` names what made the latents beside the storyboard, `pictures_key` what makes a film of them.
        """
        bundle, recipe = self.bundle, self.recipe
        pictures = picture_facts(look_of(bundle.codec), self.encoding, recipe.video)
        return {
            "film_key": self.key,
            "pictures_key": hash_facts(pictures),
            "facts": self.facts,
            "pictures": pictures,
            "model": {
                "name": bundle.name,
                "fingerprint": bundle.fingerprint,
                "spec": asdict(bundle.spec),
                **({"licence": bundle.licence} if bundle.licence else {}),
            },
            "text": bundle.text.fingerprint,
            "codec": bundle.codec.fingerprint,
            "memory": as_facts(recipe.memory),
            "sample": as_facts(recipe.sample),
            "video": asdict(recipe.video),
            "film": asdict(self.encoding),
            "machine": self.facts["kernels"],
            **({"start": asdict(self.begins_with)} if self.begins_with else {}),
            "segments": [self._planned(segment) for segment in self.plan.segments],
        }

    def _planned(self, segment: PlannedSegment) -> dict[str, Any]:
        """What `settings` say of a segment; where it goes back to, and pictures, only where there are any."""
        facts: dict[str, Any] = {
            "number": segment.index + 1,
            "verb": segment.verb,
            "prompt": segment.prompt,
            "seed": segment.seed,
            "first_chunk": segment.first_chunk,
            "chunks": segment.chunks,
            "seconds": segment.seconds,
            "blend": segment.blend_chunks,
            "recache": segment.recache,
            "key": segment.key,
        }
        if segment.back is not None:
            facts |= {"back": self.plan.segments[segment.back].index + 1, "motion": segment.motion}
        if segment.pictures:
            facts["pictures"] = {file: self.prints.get(file, "") for file in segment.pictures}
        return facts

    def _check_memory(self) -> None:
        """Refuse to go back with a memory in which nothing of an earlier shot stays."""
        memory = self.recipe.memory
        for segment in self.plan.segments:
            if segment.back is not None and not (segment.motion or memory.capacity or memory.bank):
                raise StoryboardError(
                    f"segment {segment.index + 1} goes back for its cast; this memory keeps no frames of it (anchors)",
                    "choose a memory with anchors, or add | motion, which brings the last frames back",
                    line=self.board.segments[segment.index].line,
                )


def as_path(value: Any, name: str) -> Path:
    """`value` as a path; raises GroundedError, which calls it `name`, where it is none."""
    try:
        path = Path(value)
        if b"\0" in os.fsencode(path):
            raise ValueError("it has a zero in it")
    except TypeError as error:
        kind = type(value).__name__
        raise GroundedError(f"{name} is a {kind}, not the name of a file", "give a path as text") from error
    except ValueError as error:
        raise GroundedError(f"{name} cannot be the name of a file: {error}", "choose another name") from error
    return path


def settle(
    bundle: ModelBundle,
    text: str,
    *,
    recipe: Recipe | None = None,
    encoding: Encoding | None = None,
    start_image: str | Path | None = None,
    start_video: str | Path | None = None,
    folder: str | Path = ".",
) -> Film:
    """A film of the storyboard `text`, with what the checkpoint wants where nothing else is asked for.

    recipe: None is the bundle's, at the storyboard's `@fps`; another one's `video.fps` goes before that.
    start_image: a picture that it begins with. start_video: a video that it goes on from; it begins with its end.
    folder: where the storyboard lies, and with it the pictures of its cast.

    Raises GroundedError children: the storyboard or what it is to start from cannot be used.
    """
    for name, value, kind in (("recipe", recipe, Recipe), ("encoding", encoding, Encoding)):
        if value is not None and not isinstance(value, kind):
            raise GroundedError(
                f"{name} is a {type(value).__name__}, not a {kind.__name__}",
                f"give a gf_core.{kind.__name__}, or leave it away",
            )
    if not isinstance(text, str):
        raise GroundedError(f"the storyboard is a {type(text).__name__}, not text", "give what it says")
    if recipe is None:
        recipe = replace(bundle.recipe, video=replace(bundle.recipe.video, fps=parse(text).fps))
    image, video = (
        None if value is None else as_path(value, name)
        for value, name in ((start_image, "start_image"), (start_video, "start_video"))
    )
    start, begins_with = open_start(recipe, image, video, bundle.codec.time_stride)
    pictures = open_cast(parse(text), as_path(folder, "folder"), recipe.video)
    return Film(bundle, text, recipe, encoding or Encoding(), start, pictures, begins_with)


@dataclass(frozen=True)
class Found:
    """A film that can be made, and what is there of it."""

    film: Film
    stop: int
    """Chunks that it is to have."""
    reuse: Reuse
    """What of them need not be made again."""
    seconds: float
    """That the looking took."""


@dataclass(frozen=True)
class Job(Found):
    """What a `Shoot` is to make of what was found: everything that is known before its first chunk."""

    store: StateStore
    """Where states are kept."""
    embeds: list[Tensor]
    """Prompt embeddings [1 rows c], one per segment; empty when nothing is sampled."""
    start: Tensor | None = None
    """Latents [1 f c h w] that the film starts from, when its first chunk is sampled."""
    pictures: dict[str, Tensor] = field(default_factory=dict)
    """Latents [1 1 c h w] of the cast's pictures, by file, when something is sampled."""
    relief: Relief = field(default_factory=Relief)
    """What is done when memory runs out."""


def look(film: Film, folder: Path, until: int | None = None) -> Found:
    """Check the film and search the Take in `folder` for it, up to segment `until` of the storyboard (None: all of it).

    Every file that is believed is read: hold the Take open until what was found is used. `grounded plan`, which uses
    nothing, does not. A bundle that is known from notes alone is opened where something is to be made.

    Raises GroundedError children: the film cannot be rendered, or there is nothing up to that segment.
    """
    began = time.perf_counter()
    film.check()
    # Before keys are asked for: how a film is computed is in them.
    film = replace(film, bundle=as_begun(film.bundle, film.facts, folder))
    stop, last = film.plan.chunks_until(until), film.plan.segments[-1].index + 1
    if until is not None and until > last:
        log.info("stop after segment %d: the film ends with segment %d", until, last)
    reuse = find_reuse(
        folder, film.settings, film.plan.chunk_keys[:stop], _ends(film, folder, stop), film.apart
    )
    seconds = time.perf_counter() - began
    bundle = film.bundle if reuse.finished else film.bundle.opened()
    if bundle is not film.bundle:
        noted, film = film.settings, replace(film, bundle=bundle)
        if film.settings != noted:  # what was noted is not so
            return look(film, folder, until)
    return Found(film, stop, reuse, seconds)


def _ends(film: Film, folder: Path, stop: int) -> list[int]:
    """Numbers of chunks after which a film goes on whose chunks are on the way together: at segments' ends, and where
    those on the way were kept. Empty for any other film, which goes on anywhere.
    """
    if not film.recipe.latency:
        return []
    store = StateStore(folder / STATES_FOLDER, ())
    there, keys = store.names(), film.plan.chunk_keys[:stop]
    # Loaded, as one that is damaged is no end.
    kept = [n for n, key in enumerate(keys, 1) if window_name(key) in there and store.load(window_name(key))]
    return [*(segment.end for segment in film.plan.segments), *kept]
