"""What a model, a memory, a sampler and a film are: frozen settings that every method is a row of.

Methods of the Grounded Forcing family differ in these numbers only (`memory.presets`), never in code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from .errors import GroundedError, ResourceError

AnchorIndex = Literal["zero", "slot"]
Positions = Literal["relative", "absolute", "top_aligned"]
AnchorPolicy = Literal["diversity", "paper", "frozen", "ema", "none"]
AnchorUpdate = Literal["on_switch", "every_chunk", "never"]
Stored = Literal["full", "int8"]
BankPolicy = Literal["changes", "means", "adaptive"]
SwitchPolicy = Literal["apr", "recache", "cross_only", "flush"]
NoiseRule = Literal["chunk", "comfyui"]
ContextGradient = Literal["none", "leaky", "replay"]
"""Where in training a chunk's gradient goes beside its own last prediction: nowhere, to the predictions of earlier
chunks whose keys lay where the clean ones do now (Self Forcing as published), or to the clean passes (SGF)."""
MAX_FPS = 120
MAX_SEED = 2**53 - 1  # the largest whole number that a browser keeps exactly
FLUSH_KEEP = 2
"""Recent frames that survive `switch="flush"`, as in Infinity-RoPE."""
PLACES = 2
"""Blocks on the device that do not stay there (`Fit.resident`): the one at work and the next."""
SMALL = 1 << 24
"""Multiplications of a product of a chunk with a square matrix of the network, below which a processor gains nothing by
sharing it out."""
LATER = {"later": True}
"""Marks a field that came after Takes had been made: at its default it is in no Take's facts, whose keys stay."""


def latents_of(pictures: int, time_stride: int = 4) -> int:
    """Latent frames that so many pictures become: of the first one its own, then one for each `time_stride`."""
    return 1 + (pictures - 1) // time_stride


def pictures_of(latents: int, time_stride: int = 4) -> int:
    """Pictures that so many latent frames become, the film's first among them."""
    return 1 + (latents - 1) * time_stride


def later(settings: MemorySpec | SampleSpec) -> dict[str, Any]:
    """Those fields marked `LATER` that are not at their defaults."""
    marked = {f.name: f.default for f in fields(settings) if f.metadata == LATER}
    return {name: value for name, value in asdict(settings).items() if value != marked.get(name, value)}


def as_facts(settings: MemorySpec | SampleSpec) -> dict[str, Any]:
    """Settings as plain values for keys and records; a field marked `LATER` only where it is not at its default."""
    quiet = {f.name for f in fields(settings) if f.metadata == LATER} - later(settings).keys()
    return {name: value for name, value in asdict(settings).items() if name not in quiet}


@dataclass(frozen=True)
class ModelSpec:
    """Shape of a Wan2.1 text-to-video transformer; the defaults are the 1.3B."""

    dim: int = 1536
    """Width of the residual stream."""
    ffn_dim: int = 8960
    """Hidden width of the feed-forward network."""
    num_heads: int = 12
    """Attention heads; head width is dim / num_heads (128 in every published Wan)."""
    num_layers: int = 30
    """Transformer blocks."""
    in_dim: int = 16
    """Latent channels in."""
    out_dim: int = 16
    """Latent channels out."""
    text_len: int = 512
    """Rows of the zero-padded prompt embedding; the padding is attended, so the number matters."""
    text_dim: int = 4096
    """Width of a prompt embedding row."""
    freq_dim: int = 256
    """Width of the sinusoidal timestep embedding."""
    patch_size: tuple[int, int, int] = (1, 2, 2)
    """Latent (frames, rows, columns) per token."""
    eps: float = 1e-6
    """Epsilon of every norm."""

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    def tokens_per_frame(self, height: int, width: int) -> int:
        """Tokens in one latent frame of `height` x `width` latent cells."""
        return (height // self.patch_size[1]) * (width // self.patch_size[2])

    def small(self, frames: int, height: int, width: int) -> bool:
        """Whether products of such a chunk are `SMALL` ones."""
        return frames * self.tokens_per_frame(height, width) * self.dim**2 < SMALL


SHAPES = {
    "tiny": ModelSpec(dim=256, ffn_dim=1024, num_heads=2, num_layers=6),
    "1.3b": ModelSpec(),
    "14b": ModelSpec(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40),
}
"""Wan shapes by name, for what needs no weights; `tiny` is about the built-in model."""
STRIDE = 8
"""Pixels of a film that a latent cell of these stands for, either way."""


@dataclass(frozen=True)
class MemorySpec:
    """Geometry and policies of the dual memory (paper 4.1 to 4.3); the defaults are the paper's.

    Sizes are in latent frames.
    """

    anchors: int = 3
    """Global anchors (GCM; the `sink` of other methods)."""
    recent: int = 6
    """Most recent past frames (LTM), without the chunk being denoised."""
    chunk: int = 3
    """Frames denoised together."""
    anchor_index: AnchorIndex = "zero"
    """Time position of anchors: all 0 (the paper), or their slot number (LongLive's relative mode, Reward Forcing)."""
    positions: Positions = "relative"
    """Time positions of recent and current frames: inside the window, the frames' own numbers, or at the top of the
    trained range (SGF). Rows of `memory.regions.SCHEMES`."""
    anchor_policy: AnchorPolicy = "diversity"
    """How anchors are replaced: by diversity, by the paper's Eq. 8 to the letter (`paper`), never (`frozen`), or not
    replaced but averaged with what leaves (`ema`)."""
    anchor_update: AnchorUpdate = "on_switch"
    """When a replacement may happen (for `diversity` and `paper`)."""
    ema_keep: float = 0.999
    """Share of the old value in the running mean of `anchor_policy="ema"`."""
    switch: SwitchPolicy = "apr"
    """What a prompt switch does to the recent memory."""
    alpha_max: float = 0.8
    """Largest share of recomputed K/V in the blend of `switch="apr"` (1 with `recache`)."""
    recache_before_evict: bool = False
    """Recompute the memory before the oldest chunk leaves it (LongLive's order) rather than after."""
    recache_keeps_anchors: bool = True
    """With `recache_before_evict`: anchors survive a recache once the film is longer than the window (LongLive's
    global_sink); False rebuilds all of the memory from the newest frames, the oldest of which become the anchors."""
    recache_reach: int | None = field(default=None, metadata=LATER)
    """With `recache_before_evict`: how many of the newest frames a recache computes anew, as far as they are in memory;
    older anchors become zeros, which go on being attended (LongLive's training). None: see `recache_keeps_anchors`."""
    max_position: int | None = 20
    """Largest time position the model was trained on; None lifts the check (absolute positions grow with the film)."""
    bank: int = field(default=0, metadata=LATER)
    """Frames between anchors and recent memory that stand for what lies in between."""
    bank_policy: BankPolicy = field(default="changes", metadata=LATER)
    """What the bank holds: first frames of chunks whose keys differ from the chunk before, each layer its own (Context
    Forcing), or a slow and a fast mean of what leaves (MemRoPE), over whole frames or place by place (`adaptive`)."""
    bank_below: float = field(default=0.95, metadata=LATER)
    """`changes`: cosine of mean keys under which a chunk counts as different."""
    bank_every: int = field(default=2, metadata=LATER)
    """`changes`: every how manieth chunk is compared."""
    bank_from: int = field(default=6, metadata=LATER)
    """`changes`: frames of the film, or of its last scene, before the first chunk that is compared."""
    bank_shares: tuple[float, float] = field(default=(0.01, 0.1), metadata=LATER)
    """`means`, `adaptive`: share of what leaves in the slow and in the fast mean."""

    cut_position: int | None = field(default=None, metadata=LATER)
    """Where in time the first chunk after a cut stands, far from all before it; the two newest frames stay then
    (Infinity-RoPE's RoPE cut). None: recent memory leaves at a cut."""
    cut_blind: int = field(default=0, metadata=LATER)
    """Denoising steps of the first chunk after a cut, the noisiest, that see no anchors and no bank: less of the old
    picture, where weights carry it over. The built-in model's do not (`evaluation.verbs`)."""
    heads: tuple[tuple[tuple[int, ...], ...], ...] | None = field(default=None, metadata=LATER)
    """Per layer and head: how many of the first frames and of the newest it sees of the past (Forcing-KV, Dummy
    Forcing), and perhaps how many runs of tokens picked out of the frames in front of these: those that are least like
    the frame behind them. The table belongs to a checkpoint; None lets every head see all."""
    heads_from: int = field(default=0, metadata=LATER)
    """Chunk of the film, or of its last scene, from which the table holds; runs are picked from the next one on."""
    heads_before: tuple[int, int] | None = field(default=None, metadata=LATER)
    """First and newest frames that all heads see until then; None: all."""
    heads_runs: int = field(default=1, metadata=LATER)
    """Runs of tokens that a frame is cut into for picking."""
    stored: Stored = field(default="full", metadata=LATER)
    """How keys and values lie in memory: as computed, or a byte a number with a scale per token and head."""
    refresh: bool = field(default=False, metadata=LATER)
    """Before every chunk all of the memory is computed anew from its clean latents; no clean pass follows it (Krea)."""
    sparse: float = field(default=0.0, metadata=LATER)
    """Share of the blocks of keys that a block of queries leaves out (Light Forcing); 0 sees all. Weights want to be
    trained with it."""
    rolling: int | None = field(default=None, metadata=LATER)
    """As many chunks as there are steps are denoised together, the oldest the cleanest (Rolling Forcing), in calls that
    see at most so many frames, their own counted. None: chunk by chunk, and all of the memory is seen."""
    wave: bool = field(default=False, metadata=LATER)
    """With `rolling`: a chunk on the way sees the cleaner ones and not the noisier ones (Wave Forcing). So each has a
    call of its own, which ranks make side by side; the clean pass of the one that is finished is one of them."""
    walk: bool = field(default=False, metadata=LATER)
    """Calls see the newest `recent` frames only, and all of these but the newest chunk hold the keys and values of the
    first frames, the anchors, walked forward and back in turn (Rolling Sink)."""

    @property
    def window(self) -> int:
        """Latent frames of anchors, bank, recent memory and chunk as asked for."""
        return self.anchors + self.bank + self.recent + self.chunk

    @property
    def averages(self) -> bool:
        """The bank holds means."""
        return self.bank > 0 and self.bank_policy in ("means", "adaptive")

    @property
    def capacity(self) -> int:
        """Anchors that the policy keeps."""
        return 0 if self.anchor_policy == "none" else self.anchors

    @property
    def slots(self) -> int:
        """Latent frames that attention sees when the memory is full."""
        return self.capacity + self.bank + self.recent + self.chunk


@dataclass(frozen=True)
class SampleSpec:
    """The few-step sampler that a distilled checkpoint wants; the defaults are Self Forcing's."""

    steps: tuple[float, ...] = (1000, 750, 500, 250)
    """Step list in units of 0..1000."""
    warp: bool = True
    """The numbers are positions in the shifted 1000-entry table (the trained meaning), not raw timesteps."""
    shift: float = 5.0
    """Time shift of the noise schedule."""
    context_timestep: float = 0.0
    """Timestep fed in the clean pass that writes the memory."""
    first_chunk_frames: int | None = None
    """Frames of the very first chunk when they differ (1 for image-first models)."""
    first_steps: tuple[float, ...] | None = None
    """Step list of a chunk without memory (the film's first) when it differs: Causal Forcing++ takes 4 steps there."""

    noise: NoiseRule = field(default="chunk", metadata=LATER)
    """Where noise comes from: each chunk's own (`sampling.noise.chunk_noise`), or as ComfyUI's own causal sampler draws
    it, each segment a clip (`sampling.noise.clip_noise`)."""
    steady: float = field(default=0.0, metadata=LATER)
    """Share of the range of frequencies, in space and time, in which a chunk's first noise is that of its segment's
    first chunk (FreeInit's mixing); 0: each chunk's noise is all its own."""

    @property
    def first(self) -> tuple[float, ...]:
        """Step list of a chunk without memory."""
        return self.first_steps or self.steps

    def steps_in_words(self) -> str:
        """`1000, 500; where there is no memory yet 1000, 750, 500, 250`."""
        lists = [self.steps] if self.first_steps is None else [self.steps, self.first_steps]
        return "; where there is no memory yet ".join(
            ", ".join(f"{step:g}" for step in steps) for steps in lists
        )


@dataclass(frozen=True)
class VideoSpec:
    """Size and speed of the film in pixels and seconds."""

    width: int = 832
    """Pixels; a multiple of 16."""
    height: int = 480
    """Pixels; a multiple of 16."""
    fps: int | float = 16
    """Pictures per second of film; not whole, it stands for the fraction next to it (`words.exact_rate`)."""

    def __post_init__(self) -> None:
        """Raises GroundedError for what is no size and no speed."""
        for name in ("width", "height"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise GroundedError(
                    f"a film with {name} {value!r}", f"give {name} as a whole number of pixels"
                )
        if type(self.fps) not in (int, float) or not 0 < self.fps < float("inf"):
            raise GroundedError(
                f"a film of {self.fps!r} pictures a second", "give fps as a number such as 16 or 23.976"
            )


TINY_SIDE, SHOWN_SIDE = 192, 768
"""Films with no longer side than the first are enlarged to about the second."""


@dataclass(frozen=True)
class Encoding:
    """How a film is encoded; it changes nothing in the latents."""

    codec: str = "h264"
    """A name in `video.codecs`."""
    quality: int = 18
    """H.264 scale: 0 is lossless, 18 looks so, 51 is the worst."""
    upscale: int = 1
    """Whole-number enlargement."""

    @classmethod
    def usual(cls, video: VideoSpec) -> Encoding:
        """What a film of this size gets where nothing is asked for: tiny ones would be stamps on a screen."""
        side = max(video.width, video.height)
        return cls(upscale=SHOWN_SIDE // side if side <= TINY_SIDE else 1)


@dataclass(frozen=True)
class Fit:
    """What is done so that a film fits where it is made; by default nothing. How it is chosen: `estimate.fit`."""

    resident: int | None = None
    """Transformer blocks that stay on the device; the others wait in the computer's memory. None: all stay."""
    tile: int = 0
    """Side of the tiles that pictures are decoded in, in latent cells; 0: whole."""
    memory: Stored = "full"
    """How keys and values lie in memory, where the recipe does not say so already."""
    weights: Literal["full", "fp8", "fp8-fast"] = "full"
    """How the blocks' weights are held: in the number type of the model, as float8 with a scale per row, or as float8
    that is multiplied so (`model.fp8`)."""


@dataclass(frozen=True)
class Recipe:
    """What a film is made with, beside a model and a storyboard: what a checkpoint wants, or an artist instead."""

    memory: MemorySpec = field(default_factory=MemorySpec)
    sample: SampleSpec = field(default_factory=SampleSpec)
    video: VideoSpec = field(default_factory=VideoSpec)

    @property
    def latency(self) -> int:
        """Chunks that are fed after a chunk before it is finished."""
        if self.memory.rolling is None:
            return 0
        return len(self.sample.steps) - (not self.memory.wave)

    @property
    def ahead(self) -> int:
        """Latent frames that are denoised together with a chunk and come after it."""
        return self.latency * self.memory.chunk

    def fitted(self, fit: Fit) -> Recipe:
        """The recipe with what `fit` does to the memory."""
        return self if fit.memory == "full" else replace(self, memory=replace(self.memory, stored=fit.memory))


def check_grid(video: VideoSpec, grid: int) -> None:
    """Raises ResourceError unless `grid` pixels of a network divide the film's sides."""
    if video.width % grid or video.height % grid or min(video.width, video.height) < grid:
        width, height = (max(grid, round(side / grid) * grid) for side in (video.width, video.height))
        raise ResourceError(
            f"{video.width}x{video.height} does not fit the model's grid of {grid} pixels",
            f"use {width}x{height}",
        )
