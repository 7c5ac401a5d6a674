"""What is known of one published checkpoint: what its file is called, how it is saved, and what it wants.

Sizes are arithmetic from the number of parameters (one copy of the network), not measurements of files. A licence is
what the authors' own repository states; the page of the weights may say more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...config import MemorySpec, Recipe, SampleSpec
from ...memory.presets import PRESETS
from ..keymaps import Scheme

APACHE = "Apache-2.0"
BY_NC = "CC BY-NC 4.0 (not for commercial use)"
BY_NC_SA = "CC BY-NC-SA 4.0 (not for commercial use)"
ACADEMIC = "Tencent's own terms (academic use only)"
UNSTATED = "not known here (read its page before you publish)"

FOUR_STEPS = SampleSpec()
INITIAL = "an initialisation from the middle of a training, not a finished generator"
FSDP = "model._fsdp_wrapped_module."
_SIZES = {1536: "5.7 GB in fp32, 2.8 GB in bf16", 3072: "20 GB in fp32, 10 GB in bf16"}
_LARGEST = "57 GB in fp32, 28.6 GB in bf16"
WIDTHS = (1536, 3072, 5120)
"""Of published Wan transformers: the 1.3B, the 5B and the 14B."""


@dataclass(frozen=True)
class KnownCheckpoint:
    """One row: a checkpoint or a family of equal ones."""

    id: str
    """Short name, also accepted by `assume`."""
    title: str
    """Name for people."""
    repository: str
    """Where it is published (Hugging Face repository)."""
    file: str
    """File in that repository; ends in '/' for a folder."""
    patterns: tuple[str, ...]
    """What the end of its path looks like, written as `normal` does; folders where the pattern has them."""
    licence: str
    """Under which terms its authors give it."""
    generic: tuple[str, ...] = ()
    """The same for names that many projects use: they count only with the file's outer key, where nothing else fits."""
    sample: SampleSpec = FOUR_STEPS
    """Steps, shift and first chunk that it was distilled for."""
    memory: str = "grounded"
    """Memory preset that makes long films with it."""
    trained_memory: str = "self_forcing"
    """Memory preset that it was trained with."""
    regions: tuple[int, int] | None = None
    """Anchors and recent frames of `memory` where they are not the preset's."""
    chunk: int = 3
    """Latent frames denoised together."""
    dim: int = 1536
    """Width of the transformer: 1536 is the 1.3B, 3072 the 5B, 5120 the 14B."""
    channels: int = 16
    """Latent channels: 16 go with the Wan 2.1 VAE, 48 with that of Wan 2.2."""
    writer: bool = False
    """It holds a second set of weights, which writes the memory in the clean pass."""
    outer: str | None = None
    """Outer key to take; None takes the first of the usual ones."""
    groups: tuple[str, ...] = ()
    """Outer keys of the file as published; none where it is flat."""
    inner: str = "model."
    """What stands before the names of its tensors."""
    scheme: Scheme = "original"
    """Naming scheme of its tensors."""
    packed: str = ""
    """How its weights are quantised: `fp8` with a scale beside each, or `nvfp4`; empty for plain ones."""
    lora: str | None = None
    """File beside it that has to be merged first."""
    causal: bool = True
    """False for files that generate whole clips at once."""
    refusal: str = ""
    """Why the engine does not drive it; empty when it does."""
    note: str = ""
    """What a user should know."""

    @property
    def size(self) -> str:
        """Expected size of one copy of the network."""
        return _SIZES.get(self.dim, _LARGEST)

    @property
    def films(self) -> bool:
        """Whether films are made with it."""
        return self.causal and not self.refusal

    @property
    def spec(self) -> MemorySpec:
        """The memory that makes long films with it."""
        spec = replace(PRESETS[self.memory], chunk=self.chunk)
        return (
            spec if self.regions is None else replace(spec, anchors=self.regions[0], recent=self.regions[1])
        )

    @property
    def recipe(self) -> Recipe:
        """What it wants: its steps, and the memory that makes long films with it."""
        return Recipe(self.spec, self.sample)

    @property
    def reason(self) -> str:
        """Why `memory` and no other, in words."""
        trained = replace(PRESETS[self.trained_memory], chunk=self.chunk)
        if self.memory == self.trained_memory:
            return "it was trained with it"
        if self.spec.window == trained.window:
            return f"as large as the {self.trained_memory} that it was trained with, and its anchors follow the story"
        return (
            f"it never saw more than {trained.window} latent frames, and these {self.spec.window} do not grow"
        )

    def misfit(self, dim: int, channels: int = 0, writer: bool | None = None) -> str:
        """What of a network (width, latent channels, a second set of weights) is not as in this row; else empty.

        Widths and channels that no published Wan has say nothing; nor does a `writer` of None.
        """
        if self.causal and dim in WIDTHS and dim != self.dim:
            return f"the network is {dim} wide and not {self.dim}"
        if self.causal and channels in (16, 48) and channels != self.channels:
            return f"its latents have {channels} channels and not {self.channels}"
        if self.causal and writer is not None and writer != self.writer:
            both = "a second set of weights, which writes the memory"
            return f"the file holds {both}" if writer else f"the file lacks {both}"
        return ""
