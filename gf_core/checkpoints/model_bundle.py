"""A model ready to make films: transformer, text encoder, codec, and the settings they want. Needs no torch itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..config import Fit, ModelSpec, Recipe, VideoSpec, check_grid
from ..devices import free_bytes, held_bytes, name_of, threads

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..attention import Kernel
    from ..attention.backends import Backend
    from ..sampling.sampler import Sampler
    from ..team import Team
    from ..text.base import TextEncoder
    from ..vae.base import LatentCodec


@dataclass(frozen=True)
class Weight:
    """What an opened model takes, in bytes."""

    value: int
    """Per number of the transformers and the memory."""
    networks: int
    """All of the transformers, where they compute."""
    transformers: int
    """How many there are."""
    decoder: int | None
    """Per number of the decoder; None where it has no weights of its own."""
    program: int
    """All that the program holds, where it computes in the computer's memory; 0 on a card."""


@dataclass
class ModelBundle:
    """A model ready to make films."""

    name: str
    """What to call it: `builtin`, or the file's name."""
    model: nn.Module = field(repr=False)
    """Transformer with original Wan names."""
    spec: ModelSpec
    """Its shape."""
    text: TextEncoder = field(repr=False)
    """Prompts to rows."""
    codec: LatentCodec = field(repr=False)
    """Pictures to latents and back."""
    recipe: Recipe
    """What the weights want: the sampler they were distilled for, a memory for long films, their size."""
    fingerprint: str
    """Hash of the weights in use, LoRAs included."""
    device: torch.device | None = None
    """Where to compute; None is where the model's parameters are."""
    dtype: torch.dtype | None = None
    """What to compute in; None is the type of the model's parameters."""
    kernel: Kernel | None = None
    """Attention of the host that the model lives in; None is ours."""
    attention: str = ""
    """Name of the row in `attention.backends` that computes where no host does; empty is the fastest one."""
    threads: int = 0
    """On how many threads the network is computed on a processor; 0 is as many as suit the film's size."""
    ready: Callable[[int], None] | None = None
    """Brings a host's weights to the device, leaving so many bytes free for the work; called before every chunk."""
    done: Callable[[], None] | None = None
    """Told once when the work is over, however it ended."""
    writer: nn.Module | None = None
    """A second set of weights, which writes the memory (SGF+); None: the model does."""
    licence: str = ""
    """Under which terms its authors give it; empty where nothing is known of them, and for the built-in model."""
    fit: Fit = field(default_factory=Fit)
    """What was done so that it fits."""
    compiled: bool | None = False
    """The small operations between products and attention are compiled into fused ones (`model.compiled`). None leaves
    it to the film (`engine.compiling`), and is as False until that is settled."""
    parts_on: torch.device | None = None
    """Where the codec and the text encoder compute; None is where the network does."""
    team: Team | None = None
    """The ranks that make films together; None: this process alone."""
    notes: tuple[str, ...] = ()
    """What people should know about it, a line each: of a host's model, what lies on it and has no effect."""

    @property
    def computes_on(self) -> torch.device:
        """Where the network computes."""
        return self.device or next(self.model.parameters()).device

    @property
    def decodes_on(self) -> torch.device:
        """Where the codec computes."""
        return self.parts_on or self.computes_on

    @property
    def computes_in(self) -> torch.dtype:
        """What the network computes in."""
        return self.dtype or next(self.model.parameters()).dtype

    @property
    def device_name(self) -> str:
        """The card's own name, or `cpu`."""
        return name_of(self.computes_on)

    @property
    def weight(self) -> Weight:
        """What it takes, now that it is open."""
        from torch import nn

        from ..model.offload import device_bytes
        from ..vae.tiles import whole

        codec, place = whole(self.codec), self.computes_on
        first = next(codec.parameters(), None) if isinstance(codec, nn.Module) else None
        networks = [self.model] if self.writer is None else [self.model, self.writer]
        return Weight(
            value=self.computes_in.itemsize,
            networks=sum(device_bytes(network, place) for network in networks),
            transformers=len(networks),
            decoder=None if first is None else first.dtype.itemsize,
            program=held_bytes() if place.type == "cpu" else 0,
        )

    def opened(self) -> ModelBundle:
        """Itself, open; what is only known from notes opens now."""
        return self

    def free_memory(self) -> int:
        """Bytes free where the network computes: on its card, or in the computer."""
        return free_bytes(self.computes_on)

    def check_size(self, video: VideoSpec) -> None:
        """Raises ResourceError unless the network's grid divides the film's sides."""
        check_grid(video, self.codec.spatial_stride * self.spec.patch_size[1])

    def cells(self, video: VideoSpec) -> tuple[int, int]:
        """Rows and columns of a film's latents."""
        stride = self.codec.spatial_stride
        return video.height // stride, video.width // stride

    @property
    def own_threads(self) -> int:
        """How many threads torch takes on this processor."""
        return threads()

    def threads_for(self, recipe: Recipe) -> int:
        """On how many threads such films are computed on a processor; 0 where another device does.

        Handing half of a small product to a second thread takes longer than multiplying it, and decoding and encoding,
        which go on at the same time, have use for the core (docs/speed.md).
        """
        if self.computes_on.type != "cpu":
            return 0
        return self.threads or (1 if self.small(recipe) else self.own_threads)

    def small(self, recipe: Recipe) -> bool:
        """Whether such films are of small products (`ModelSpec.small`)."""
        return self.spec.small(recipe.memory.chunk, *self.cells(recipe.video))

    def pick_attention(self, recipe: Recipe) -> Backend:
        """Who computes attention in such films."""
        from ..attention.backends import film_call, pick

        place, cells = (self.computes_on, self.computes_in), self.cells(recipe.video)
        call = film_call(self.spec, recipe.memory, cells, *place)
        return pick(*place, self.spec.head_dim, host=self.kernel, wanted=self.attention, call=call)

    def sampler(self, recipe: Recipe) -> Sampler:
        """A fresh sampler of films of this size under these settings.

        Hooks and other forwards on `model`'s norms and feed-forwards act where they are there by now: a sampler goes
        past modules on which nothing hangs when it is made (`model.pieces.Direct`).
        """
        from .networks import Networks

        height, width = self.cells(recipe.video)
        placed: dict[str, Any] = {"latent_height": height, "latent_width": width, "dtype": self.computes_in}
        placed |= {"compiled": bool(self.compiled), "attention": self.attention}
        if self.team is not None:  # all by the kernel that is the fastest here
            placed["attention"] = self.pick_attention(recipe).name
        networks = Networks(self.model, self.writer, self.spec)
        here = {"device": self.computes_on, "kernel": self.kernel, "team": self.team}
        if self.team is None:
            return networks.sampler(recipe, **placed, **here)
        with self.team.agreed("make", recipe, threads=self.threads_for(recipe), **placed):
            return networks.sampler(recipe, **placed, **here)
