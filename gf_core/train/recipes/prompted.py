"""Batches of films to be made from prompts that people bring, and the film that a rank is in the middle of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...checkpoints.model_bundle import ModelBundle
from ...errors import GroundedError, PromptError
from ...text.store import StoredEncoder
from ...text.vocabulary import Vocabulary
from ...timeline.verbs import Verb
from ..draws import SampleDraws
from ..films import ClipsGiven, Cue, FilmBatch
from ..order import Order
from ..ranks import Ranks
from ..sources import Sample, Source
from ..streaming import Stream, next_piece
from .stage import Stage

NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，"
    "静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""Wan 2.1's own negative prompt, which teachers of its size are guided with."""


def latent_of(bundle: ModelBundle, stage: Stage) -> tuple[int, int, int]:
    """(channels, height, width) of a latent frame; raises ResourceError for a size that the model cannot make."""
    video, stride = stage.film.recipe.video, bundle.codec.spatial_stride
    bundle.check_size(video)
    return bundle.spec.in_dim, video.height // stride, video.width // stride


MANY_WRONG = 1000
"""Prompts that cannot be read, behind which no more are counted."""


class Texts:
    """Prompts to rows, with the encoder kept in memory."""

    def __init__(self, bundle: ModelBundle, negative: str | None, *, small: bool) -> None:
        """negative: None is Wan's, or nothing for a small model, which has no words for that."""
        text = bundle.text
        if isinstance(text, StoredEncoder):  # its store is for the few prompts of a film
            text = text.encoder
            text.keep = True
        self._encode, self._words = text.encode, text if isinstance(text, Vocabulary) else None
        wan = bundle.spec.text_dim == 4096 and not small
        self.negative = (NEGATIVE if wan else "") if negative is None else negative

    def __call__(self, prompts: list[str]) -> Tensor:
        """Rows [b rows c]; zero rows behind the shorter ones are what the network pads with itself."""
        return nn.utils.rnn.pad_sequence(list(self._encode(prompts)), batch_first=True)

    def check(self, source: Source, *, changes: bool) -> None:
        """Look whether every prompt of `source`, and the negative one, can be read, before the first of them is.

        changes: those that a prompt turns into, too.

        Raises GroundedError: the first that cannot, and how many others.
        """
        if self._words is None:
            return
        first, wrong = None, 0
        known = set[str]()
        for place, prompt in chain([("the negative prompt", self.negative)], source.told(changes=changes)):
            if prompt in known:
                continue
            known.add(prompt)
            try:
                self._words.tokenize(prompt)
            except PromptError as error:
                first, wrong = first or (place, error), wrong + 1
                if wrong == MANY_WRONG:  # looking for what each was to mean takes its time
                    break
        if first is not None:
            place, error = first
            more = " or more" if wrong == MANY_WRONG else ""
            others = f"; prompts that cannot be read: {wrong}{more}" if wrong > 1 else ""
            raise GroundedError(f"training data {source.path}: {place}: {error.message}{others}", error.fix)


class Films:
    """Batches of films to be made: prompts from a source, verbs as the stage has them, draws by number."""

    def __init__(
        self, stage: Stage, source: Source, order: Order, texts: Texts, latent: tuple[int, int, int],
        device: torch.device, seed: int,
    ) -> None:  # fmt: skip
        self._stage, self._source, self._order, self._texts = stage, source, order, texts
        self._latent, self._device, self._seed = latent, device, seed

    def batch(self, number: int, ranks: Ranks, each: int, stream: Stream | None = None) -> FilmBatch:
        """The batch of this number in the run, `each` films on a rank; a stream that goes on keeps its prompts."""
        first = (number * ranks.count + ranks.rank) * each
        draws = SampleDraws(self._seed, number, range(first, first + each), self._device)
        story = None if stream is None else _going_on(stream)
        if story is not None:
            return replace(story, draws=draws)
        samples = [self._source[n] for n in self._order.take(each)]
        negative, prompt = self._rows([self._texts.negative] * each), self._rows([s.prompt for s in samples])
        return FilmBatch(prompt, negative, self._latent, draws, self._cues(samples, prompt, draws))

    def clips(self, number: int, ranks: Ranks, each: int) -> ClipsGiven:
        """The same of clips that exist, with what their prompts do."""
        first = (number * ranks.count + ranks.rank) * each
        draws = SampleDraws(self._seed, number, range(first, first + each), self._device)
        samples = [self._source[n] for n in self._order.take(each)]
        if self._stage.objective == "regression":
            return self._states(samples, draws)
        found = {None if s.latents is None else tuple(s.latents.shape) for s in samples}
        shape = next(iter(found))
        if len(found) > 1 or shape is None or shape[1:] != self._latent:
            raise GroundedError(
                f"{self._source.path.name} gives clips of {', '.join(str(s or 'no latents') for s in found)} where "
                f"frames of {self._latent} are wanted, equally many",
                "give clips that grounded encode made for this model and size, of one length, or --each 1",
            )
        shown = [s.prompt for s in samples]
        if draws.whole("drop", 0, 1000) < 1000 * self._stage.drop:
            shown = [self._texts.negative] * each
            samples = [replace(s, cues=tuple((*cue[:2], shown[0]) for cue in s.cues or ())) for s in samples]
        latents = torch.stack([s.latents for s in samples if s.latents is not None]).to(self._device)
        negative = self._rows([self._texts.negative] * each)
        return ClipsGiven(self._rows(shown), latents, draws, negative, cues=self._told(samples))

    def _states(self, samples: Sequence[Sample], draws: SampleDraws) -> ClipsGiven:
        """Clips with the states of a teacher's ODE, from noise to clean."""
        wanted = (len(self._stage.film.recipe.sample.steps) + 1, self._stage.film.frames, *self._latent)
        for sample in samples:
            found = None if sample.states is None else tuple(sample.states.shape)
            if found != wanted:
                raise GroundedError(
                    f"{self._source.path.name} gives {found or 'no latents'} where states, frames, channels, height "
                    f"and width of {wanted} are wanted",
                    "give ODE states of this model's size (LMDB, parquet), or --size and --frames as the data have",
                )
        states = torch.stack([s.states for s in samples if s.states is not None]).to(self._device)
        prompt = self._rows([sample.prompt for sample in samples])
        return ClipsGiven(prompt, states[:, -1], draws, states=states)

    def _cues(self, samples: Sequence[Sample], prompt: Tensor, draws: SampleDraws) -> dict[int, Cue]:
        verbs = self._stage.verbs
        fewest, most = verbs.switches
        if not most:
            return {}
        if all(sample.cues is not None for sample in samples):
            places = self._places(draws)
            return {chunk: cue for chunk, cue in self._told(samples).items() if chunk in places}
        if not all(sample.then for sample in samples):
            raise GroundedError(
                f"the films of this stage change their prompt, and {self._source.path.name} pairs none",
                "give a second text file, line by line: --then FILE",
            )
        then, at = self._rows([sample.then for sample in samples]), self._places(draws)
        wanted = range(draws.whole("switches", fewest, most + 1))
        cues = {}
        for n, place in enumerate(sorted({at[draws.whole(f"place {n}", 0, len(at))] for n in wanted})):
            cut = draws.whole(f"cut {n}", 0, 1000) < 1000 * verbs.cuts
            cues[place] = Cue("cut" if cut else "then", prompt if n % 2 else then)
        return cues

    def _told(self, samples: Sequence[Sample]) -> dict[int, Cue]:
        """What the prompts of clips do, which side by side must do it at once."""
        told = [sample.cues or () for sample in samples]
        places = {tuple(cue[:2] for cue in cues) for cues in told}
        if len(places) > 1:
            raise GroundedError(
                f"clips of {self._source.path.name} change their prompts at different chunks",
                "let a rank learn from one at a time: --each 1",
            )
        return {
            chunk: Cue(cast(Verb, verb), self._rows([cues[n][2] for cues in told]))
            for n, (chunk, verb) in enumerate(next(iter(places)))
        }

    def _places(self, draws: SampleDraws) -> Sequence[int]:
        """Chunks that a verb may begin in the film to come."""
        film, size = self._stage.film, self._stage.film.chunk
        if self._stage.stream is not None:
            chunks = self._stage.stream.longest // size
        else:  # the number that the rollout will draw under this name
            chunks = draws.whole("chunks", film.window // size, film.frames // size + 1)
        return self._stage.verbs.at or range(1, chunks)

    def _rows(self, prompts: list[str]) -> Tensor:
        return self._texts(prompts).to(self._device)


def _going_on(stream: Stream) -> FilmBatch | None:
    """What the film that takes another piece is about; None where a new one begins."""
    return stream.story if next_piece(stream.length, stream.film, stream.spec, ()).start else None


class OnTheWay:
    """A stream as a run carries it from one process to the next."""

    def __init__(self, stream: Stream, net: Any, device: torch.device) -> None:
        self._stream, self._net, self._device = stream, net, device

    def state_dict(self) -> dict[str, Any]:
        """The film as far as it is made."""
        return self._stream.snapshot()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with it."""
        story = ("prompts", "cues")
        state = {name: _moved(part, self._device) if name in story else part for name, part in state.items()}
        none = torch.empty(1, 0, 0)
        draws = SampleDraws(0, 0, range(0), self._device)
        self._stream.restore(state, self._net, FilmBatch(none, none, (0, 0, 0), draws))


def _moved(part: Any, device: torch.device) -> Any:
    if isinstance(part, dict):
        return {name: _moved(value, device) for name, value in part.items()}
    return part.to(device) if isinstance(part, Tensor) else part
