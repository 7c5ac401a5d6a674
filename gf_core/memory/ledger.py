"""Who is in memory: a book of frame numbers that says which frame leaves, which becomes an anchor, what moves where.

No tensor is touched here. `store.DualMemory` carries out what the ledger says on keys and values; training plans the
memory of known clips with it, the estimate counts with it, the node draws it. Whoever keeps a ledger brings the one
thing it cannot know, `Choose`: which anchor a leaving frame replaces, if any. The engine asks cosines, training a
random number, the estimate nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ..config import FLUSH_KEEP, MemorySpec
from .policies import POLICIES
from .regions import Layout


@dataclass(frozen=True, slots=True)
class Frame:
    """A latent frame in memory."""

    number: int
    """In the film, from 0."""
    prompt: int
    """Number of the prompt that it was made under."""


@dataclass(frozen=True, slots=True)
class Move:
    """One change of the memory, told before the ledger itself makes it.

    promote: the `count` oldest recent frames become anchors where they lie; the border moves.
    replace: recent frame number `source` (0 the oldest) is copied over anchor `target` of sample `sample`.
    average: the `count` oldest recent frames flow into the anchors' mean.
    bank: the slots of the `count` oldest recent frames become the bank's; what lay in them is lost.
    mean: the `count` oldest recent frames flow into the means of the bank.
    drop: the `count` oldest recent frames go, the others close up.
    insert: a frame that was given becomes anchor `target`; all from there on move up by a slot.
    give: it takes the place of anchor `target`.
    """

    kind: Literal["promote", "replace", "average", "bank", "mean", "drop", "insert", "give"]
    count: int = 1
    source: int = 0
    target: int = 0
    sample: int = 0


Choose = Callable[[int, int], int | None]
"""(sample, number of a leaving recent frame from 0) -> the anchor that it replaces, or None."""


def nobody(sample: int, source: int) -> int | None:
    """No frame ever replaces an anchor."""
    return None


class Ledger:
    """The frames of one film in memory; `samples` films in step differ in their anchors only, layers in their bank."""

    def __init__(self, spec: MemorySpec, samples: int = 1, layers: int = 1) -> None:
        self.spec, self.samples, self.layers = spec, samples, layers
        self.policy = POLICIES[spec.anchor_policy]
        self.frame = 0
        """Latent frames committed since the film began."""
        self.prompt = 0
        """Number of the prompt now in force; the first is 0."""
        self.clear()

    @property
    def layout(self) -> Layout:
        """Frames in memory, without a current chunk; of the layer with the fullest bank."""
        return Layout(len(self.anchors[0]), len(self.recent), bank=max(map(len, self.banks)))

    def layer(self, number: int) -> Layout:
        """The same of one layer."""
        return Layout(len(self.anchors[0]), len(self.recent), bank=len(self.banks[number]))

    def numbers(self, layer: int = 0) -> list[int]:
        """Absolute numbers of the frames in memory, in slot order (of the first sample)."""
        return [frame.number for frame in (*self.anchors[0], *self.banks[layer], *self.recent)]

    # -- verbs --------------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget everything; the count of frames and prompts goes on."""
        self.anchors: list[list[Frame]] = [[] for _ in range(self.samples)]
        self.banks: list[list[Frame]] = [[] for _ in range(self.layers)]
        """Per layer. A bank of means holds two frames that stand for many; their numbers say nothing."""
        self.recent: list[Frame] = []
        self.apart = False
        """The next chunk stands apart in time."""
        self.cutting = False
        """The next chunk is the first after a cut."""
        self.given = 0
        """Pictures that were laid among the anchors."""
        self.begun, self.chunks = self.frame, 0
        """Where the film, or its last scene, began, and chunks committed since."""
        self.answered = [self.prompt] * self.samples
        """Per sample, the newest prompt that has had its replacement; a film's or scene's first counts as answered."""

    def begin(self, verb: str, choose: Choose = nobody) -> Iterator[Move]:
        """What a storyboard's `then`, `cut` or `scene` does; of any other nothing is known here."""
        if verb == "then":
            self.then()
        elif verb == "cut":
            yield from self.cut(choose)
        elif verb == "scene":
            self.scene()

    def then(self) -> None:
        """A new prompt in the same shot."""
        self.prompt += 1

    def cut(self, choose: Choose = nobody) -> Iterator[Move]:
        """A new shot of the same cast: recent frames leave as if evicted, then a new prompt is in force."""
        self.apart, self.cutting = self.spec.cut_position is not None, True
        # Apart, the newest frames stay: their distance in time does what leaving does else.
        yield from self.make_room(min(FLUSH_KEEP, self.spec.recent) if self.apart else 0, choose)
        if self.spec.walk:  # else the new shot would walk in the old one's place
            for anchors in self.anchors:
                del anchors[self.spec.chunk :]
            # What was kept counts as the new shot's first frames.
            self.begun = self.frame - len(self.anchors[0])
        self.prompt += 1

    def resume(self, frame: int, prompt: int) -> None:
        """Go on from an earlier memory, which is in force, as prompt `prompt` behind `frame` frames of the film.

        Where keys stand at their frames' own numbers, or a walk counts by them, recent frames get those right in front
        of what comes.
        """
        if self.spec.walk:  # it goes on where it was
            self.begun += frame - self.frame
        self.frame, self.prompt = frame, prompt
        if self.spec.walk or self.spec.positions == "absolute":
            first = frame - len(self.recent)
            self.recent = [replace(old, number=first + i) for i, old in enumerate(self.recent)]

    @property
    def pictures(self) -> int:
        """Anchors, the first ones, that are given pictures: no frame of the film takes their place."""
        return min(self.given, self.spec.capacity)

    def give(self) -> Iterator[Move]:
        """A given picture becomes an anchor, behind the pictures before it; of too many the oldest leaves.

        It belongs to no time; where positions are absolute it stands at the film's first.
        """
        slot, frame = self.given % self.spec.capacity, Frame(0, self.prompt)
        room = len(self.anchors[0]) < self.spec.capacity
        yield Move("insert" if room else "give", target=slot)
        for anchors in self.anchors:
            anchors[slot : slot if room else slot + 1] = [frame]  # put in, or put in its place
        self.given += 1

    def scene(self) -> None:
        """A new cast and place: everything is forgotten under a new prompt."""
        self.prompt += 1
        self.clear()

    def commit(self, frames: int) -> None:
        """The chunk that was made becomes recent memory."""
        self.recent += [Frame(self.frame + i, self.prompt) for i in range(frames)]
        self.frame += frames
        self.chunks += 1
        self.apart = self.cutting = False

    def walked(self, frames: int) -> list[tuple[int, int]]:
        """(slot, slot) of recent frames that the newest chunk, of `frames`, parts from now on: which takes on which.

        Number n of the film, its last scene or shot (behind what a cut kept), takes on the frame that a walk over the
        anchors' slots, forward and back in turn, is at after n steps: at the turns it stands. Until there are as many
        frames, they are the anchors.
        """
        size, layout = self.spec.capacity, self.layout
        found = list[tuple[int, int]]()
        # A chunk's worth of frames before the newest chunk; those further back have taken on theirs already.
        for slot in range(max(size, layout.past - frames - self.spec.chunk), layout.past - frames):
            turn, step = divmod(self.recent[slot - layout.kept].number - self.begun, size)
            found.append((slot, size - 1 - step if turn % 2 else step))  # odd turns go back
        return found

    def compares(self, frames: int) -> bool:
        """Whether the newest chunk, of `frames`, is one that may go to the banks if it differs from the one before."""
        spec = self.spec
        if not spec.bank or spec.averages or self.chunks < 2 or (self.chunks - 1) % spec.bank_every:
            return False
        return self.frame - frames - self.begun >= spec.bank_from

    def deposit(self, layer: int, frame: Frame) -> None:
        """`frame` goes to the bank of a layer; the oldest there leaves a full one."""
        bank = self.banks[layer]
        bank.append(frame)
        del bank[: -self.spec.bank]

    def skip(self, frames: int, prompts: int) -> None:
        """Count frames and prompts that were made elsewhere and are in no memory (what lies before a scene)."""
        self.frame, self.prompt = frames, prompts

    # -- leaving ------------------------------------------------------------------------------------------------

    def make_room(self, keep: int, choose: Choose = nobody) -> Iterator[Move]:
        """Let the oldest recent frames leave until `keep` remain: they fill missing anchors, then face the policy.

        Each move is to be carried out before the next is asked for, as what `choose` sees depends on it.
        """
        spare = 0
        if self.spec.averages and keep >= self.spec.recent and not self.banks[0]:
            # The slots of the means serve recent frames until there is something to average.
            spare = self.spec.bank
        leaving = len(self.recent) - keep - spare
        if leaving <= 0:
            return
        filling = min(leaving, self.spec.capacity - len(self.anchors[0]))
        if filling > 0:
            yield Move("promote", filling)
            for anchors in self.anchors:
                anchors += self.recent[:filling]
            del self.recent[:filling]
            leaving -= filling
        if leaving:
            # Once one has to go, the means need their slots: all beyond `keep` leave.
            leaving += spare
            if self.spec.averages:
                leaving -= yield from self._open_bank(leaving)
            yield from self._judge(leaving, choose)
            yield Move("drop", leaving)
            del self.recent[:leaving]

    def _open_bank(self, leaving: int) -> Generator[Move, None, int]:
        """The first frames that no longer fit: two of them make room for their means. Gives how many were lost."""
        size = self.spec.bank
        if self.banks[0] or leaving <= size:
            return 0
        yield Move("bank", size)
        self.banks = [self.recent[:size] for _ in range(self.layers)]
        del self.recent[:size]
        return size

    def _judge(self, leaving: int, choose: Choose) -> Iterator[Move]:
        """Offer the `leaving` oldest recent frames, still in their slots, to the anchors; oldest first."""
        if self.policy.averages:
            yield Move("average", leaving)
        if self.spec.averages and self.banks[0]:
            yield Move("mean", leaving)
        # One anchor is never judged: it has no other to be redundant with.
        if self.policy.accepts is None or len(self.anchors[0]) < 2 or self.spec.anchor_update == "never":
            return
        if self.pictures == len(self.anchors[0]):  # they stay
            return
        once = self.spec.anchor_update == "on_switch"
        for source in range(leaving):
            frame = self.recent[source]
            for sample in range(self.samples):
                if once and frame.prompt <= self.answered[sample]:  # this prompt has had its frame
                    continue
                target = choose(sample, source)
                if target is not None:
                    yield Move("replace", source=source, target=target, sample=sample)
                    self.anchors[sample][target] = frame
                    self.answered[sample] = frame.prompt

    def forget_anchors(self) -> None:
        """Count anchors but pictures as recent, so that a recache rebuilds all of memory from the newest frames."""
        count = self.layout.past - self.pictures
        self.anchors = [anchors[: self.pictures] for anchors in self.anchors]
        self.recent = [Frame(number, self.prompt) for number in range(self.frame - count, self.frame)]
