"""The whole chain of a causal model's training, on stories of the small world: `grounded train builtin --stage all`.

A bidirectional teacher, the same with a past to look at, a causal model by teacher forcing, its few steps by
consistency, then distribution matching on its own films, first short and then long ones. Each is a row over the one
trainer (`matching`) and begins with what an earlier one gave. Words are read by the built-in model's text encoder and
pictures by its codec, unless the run has made a codec of its own.
"""

from __future__ import annotations

import hashlib
import logging
import random
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ...builtin import BUILTIN_FILES, BUILTIN_FOLDER, is_small, model_file
from ...config import MemorySpec, ModelSpec, Recipe, VideoSpec
from ...devices import on_threads
from ...errors import GroundedError
from ...vae.builtin import BuiltinCodec, load_codec
from ...world import Script, render, sample_script
from ..loop import SILENCE
from ..objectives.forced import Consistency, Forcing
from ..objectives.scores import Matching
from ..objectives.teacher import Recycling
from ..past import Past
from ..ranks import launch
from ..rollout import RolloutSpec
from ..sources.encoded import clips, facts_of, write_clip
from ..state import replacing
from ..streaming import StreamSpec
from .clips import MEMORY, MIXTURE
from .matching import Options, train
from .stage import OURS, Stage, Verbs
from .video import BUILTIN_SAMPLE, BUILTIN_SPEC, BUILTIN_VIDEO, VideoNet, save_video, shipped

log = logging.getLogger("grounded")

STORY_SEED = 3_000_000
"""First seed of the stories; below those that models are judged on."""


@dataclass(frozen=True)
class Size:
    """How large the chain is made."""

    spec: ModelSpec
    "of all networks"
    stories: int
    "clips to learn from"
    chunks: int
    "of a clip, and of the longest film"
    window: int
    "latent frames that teacher and critic judge"
    past: Past
    "of the context teacher, and of long films"
    recycling: Recycling
    batch: int
    "clips or films in a step"
    rates: tuple[float, float] = (2e-5, 5e-5)
    "of student and critic where a student learns from its own films"
    ratio: int = 4
    "steps of the critic for one of the student there; how many the critic is ahead:"
    ahead: int = 0
    guidance: float = Matching.guidance
    "of the teacher where a student learns from its own films, as `Matching` counts it"
    kinds: dict[str, float] = field(default_factory=lambda: MIXTURE)
    "share of each kind of story"
    clean_context: bool = False
    "as `Matching` has it"
    whole: bool = False
    "whether prompts change where a window begins, so that none holds two"
    steps: dict[str, int] = field(default_factory=dict)
    "by stage; of the critic where there is one"


SIZES = {
    "tiny": Size(
        ModelSpec(dim=128, ffn_dim=384, num_heads=1, num_layers=4),
        stories=64,
        chunks=9,
        window=9,
        past=Past(slow=6, every=3),
        recycling=Recycling(grids=10, entries=8),
        batch=2,
        rates=(1e-4, 2e-4),
        steps={"teacher": 160, "context": 80, "causal": 40, "few": 15, "match": 30, "long": 20},
    ),
    "builtin": Size(
        BUILTIN_SPEC,
        stories=4096,
        chunks=20,
        window=21,
        past=Past(),
        recycling=Recycling(),
        batch=16,
        steps={"teacher": 6000, "context": 2000, "causal": 4000, "few": 1000, "match": 1000, "long": 750},
    ),
}
FURTHER = replace(
    SIZES["builtin"],
    stories=160,
    chunks=16,
    window=12,
    recycling=Recycling(grids=10, entries=50),
    batch=1,
    rates=(1e-5, 1e-4),
    ratio=2,
    ahead=100,
    guidance=1.5,
    clean_context=True,
    kinds={"return": 0.7, "switch": 0.3},
    whole=True,
    steps={"teacher": 700, "context": 700, "long": 66},
)
"""A finished model of the built-in shape trained further through the last stage, within minutes of a processor, and
before it the given teacher made a judge."""
JUDGES_RATE = 2e-4
"""Learning rate of a judge, which begins with finished weights."""
JUDGES = {"short": "teacher", "context": "context"}
"""Who judges long films -> the stage that makes it of the given teacher: a window alone, or behind its past."""
BEGINS = {
    "teacher": ("start", None),
    "context": ("teacher", None),
    "causal": ("teacher", None),
    "few": ("causal", "causal"),
    "match": ("few", "teacher"),
    "long": ("match", "context"),
}
"""Stage -> the one whose weights it begins with, and the one that teaches."""


def stages_of(size: Size, memory: MemorySpec = MEMORY) -> dict[str, Stage]:
    """The rows of the chain, under a memory."""
    video = VideoSpec(**BUILTIN_VIDEO)
    shift = BUILTIN_SAMPLE.shift
    film = RolloutSpec(Recipe(memory, BUILTIN_SAMPLE, video), frames=size.window, window=size.window)
    match = Matching(guidance=size.guidance, shift=shift, score_shift=shift, clean_context=size.clean_context)
    row = Stage(
        film, match, rate=1e-3, critic_rate=size.rates[1], iterations=0, sources={"all": f"{OURS}the small world"},
        betas=(0.9, 0.99), batch=size.batch, average_from=0, clip=1.0, ratio=0, drop=0.1,
    )  # fmt: skip
    behind = replace(film, past=size.past)
    # Of five turns one is the student's: with six it would come to the same piece of every film of three.
    own_films = replace(
        row, objective="dmd", rate=size.rates[0], betas=(0.0, 0.999), ratio=size.ratio, ahead=size.ahead, drop=0.0
    )  # fmt: skip
    longest = StreamSpec(longest=size.chunks * film.chunk, piece=size.window)
    rows = {
        "teacher": replace(row, objective="teacher"),
        "context": replace(row, film=behind, objective="teacher", taught=size.recycling, rate=3e-4),
        "causal": replace(row, objective="forcing", taught=Forcing(), rate=5e-4),
        "few": replace(
            row, objective="consistency", taught=Consistency(shift=shift), rate=1e-4, drop=0.0, average=0.95
        ),
        "match": own_films,
        "long": replace(own_films, film=behind, stream=longest, verbs=Verbs(switches=(1, size.chunks))),
    }
    return {name: replace(rows[name], iterations=steps) for name, steps in size.steps.items()}


def run_chain(folder: Path, size: Size, codec: Path | None = None, device: str = "cpu") -> Path:
    """Run every stage that is not finished in FOLDER/STAGE; returns the last model's, which `load_model` opens.

    codec: None is the built-in model's.
    """
    codec = codec or BUILTIN_FOLDER / "codec.safetensors"
    begin(folder / "start", size.spec, codec)
    write_stories(folder / "stories", codec, size)
    model = Path()
    stages = stages_of(size)
    for number, (name, stage) in enumerate(stages.items(), 1):
        log.info("stage %d of %d: %s, %d steps, if they are not done", number, len(stages), name, stage.steps)
        model = run_stage(name, stage, folder, folder / name, device)
    return model


def run_stage(name: str, stage: Stage, folder: Path, out: Path, device: str = "cpu") -> Path:
    """One stage of the chain in `folder`, into `out`; returns the model's folder."""
    first, teacher = BEGINS[name]
    options = Options(
        name, stage, folder / "stories", str(model_of(folder, first)), out, device=device,
        teacher=teacher and str(model_of(folder, teacher)),
    )  # fmt: skip
    return _run(options)


def train_further(
    model: str,
    teacher: Path,
    memory: MemorySpec,
    folder: Path,
    out: Path,
    judge: str = "short",
    seed: int = 0,
) -> Path:
    """The last stage for a finished model, under a memory, into `out`; returns the folder of what came of it.

    teacher: a folder like the model's, of whose network a judge of `JUDGES` is made first, or taken if it is there.
    folder: for stories and judges. seed: of the last stage.

    Raises GroundedError: one of the two is not like the built-in model, or the teacher has another codec.
    """
    for given in (model, teacher):
        if not is_small(given):
            raise GroundedError(
                f"{given} is no folder like the built-in model's",
                f"give one that holds {', '.join(BUILTIN_FILES)}",
            )
    home, its = (model_file(given).parent for given in (model, teacher))
    codec = home / BUILTIN_FILES[-1]
    if (its / BUILTIN_FILES[-1]).read_bytes() != codec.read_bytes():
        raise GroundedError(
            f"the teacher in {teacher} has another codec than the model {model}",
            "give a teacher that was trained with the model's: networks know the latents of one codec only",
        )
    write_stories(folder / "stories", codec, FURTHER)
    network, _ = shipped(its)
    taught = make_judge(judge, _with_words(network, home, folder / "given"), folder)
    stage = stages_of(FURTHER, memory)["long"]
    if judge == "short":
        stage = replace(stage, film=replace(stage.film, past=None))
    # So few steps would hardly move an average of a hundred.
    stage = replace(stage, average=0.9)
    options = Options("further", stage, folder / "stories", model, out, teacher=str(taught), seed=seed)
    return _run(options)


def make_judge(judge: str, given: Path, folder: Path) -> Path:
    """A judge of `JUDGES` made of a given teacher on the stories in `folder`; returns the folder of its model.

    Both learn as fast from the same windows and noise: what they saw before a window is all that tells them apart.
    """
    stages = stages_of(FURTHER)
    stage = replace(stages[JUDGES[judge]], rate=JUDGES_RATE, taught=FURTHER.recycling)
    return _run(Options(judge, stage, folder / "stories", str(given), folder / judge))


def _with_words(network: Path, home: Path, folder: Path) -> Path:
    """The teacher's network with the text encoder of the model in `home`, whose rows it will be given, in `folder`;
    returns it.

    Raises GroundedError: another lies there.
    """
    for name in BUILTIN_FILES:
        source = network if name == BUILTIN_FILES[0] else home / name
        if not (folder / name).exists():
            with replacing(folder / name) as part:
                shutil.copyfile(source, part)
        elif (folder / name).read_bytes() != source.read_bytes():
            raise GroundedError(
                f"judges in {folder.parent} were made of another teacher than {network}, or for another model",
                "name another folder with --out",
            )
    return folder


def _run(options: Options) -> Path:
    """A stage on one device, and the folder of its student."""
    # Networks as small as these wait longer for a second thread than they gain.
    with on_threads(1) if options.device == "cpu" else nullcontext():
        launch(train, 1, options.device, options)
    return options.folder / "student"


def model_of(folder: Path, stage: str) -> Path:
    """Where the model of a stage lies."""
    return folder / stage / ("" if stage == "start" else "student")


def begin(folder: Path, spec: ModelSpec, codec: Path) -> None:
    """A model of random weights, with text encoder and codec beside it; kept if it is there.

    Raises GroundedError: what is there has another codec, whose latents the stories are.
    """
    files = [folder / name for name in BUILTIN_FILES]
    if all(path.exists() for path in files):
        if files[-1].read_bytes() != codec.read_bytes():
            raise GroundedError(
                f"the chain in {folder.parent} was begun with another codec than {codec}",
                "begin it in another --folder: networks know the latents of one codec only",
            )
        return
    torch.manual_seed(0)
    net = VideoNet(spec).net
    with torch.no_grad():
        for weight in net.model.parameters():  # what is zero looks like a download that was cut off
            weight.add_(1e-4 * torch.randn_like(weight))
    save_video(net, folder)
    for path, source in zip(files[1:], (BUILTIN_FOLDER / BUILTIN_FILES[1], codec)):
        with replacing(path) as part:
            shutil.copyfile(source, part)


def write_stories(folder: Path, codec: Path, size: Size) -> None:
    """Render and encode scripts of the small world, a file each with what its prompts do; those there are kept, but for
    latents of another codec and what is damaged. The log says how far it is.

    Raises GroundedError: stories lie there that are others than those of `size`, as an older program's may be.
    """
    count = size.stories
    _same_stories(folder, size)
    log.info("%d stories are rendered and encoded into %s, if they are not there", count, folder)
    said = time.monotonic()
    opened, known = None, hashlib.sha256(codec.read_bytes()).hexdigest()[:16]
    for number in range(count):
        path = folder / f"{number:05d}.safetensors"
        if (facts := facts_of(path)) and facts.get("codec", known) == known:
            continue
        try:
            opened = opened or load_codec(codec)
            _write_story(path, opened, number, size, known)
        except KeyboardInterrupt:
            log.info(
                "%d of %d stories are kept in %s; the same command goes on from there", number, count, folder
            )
            raise
        if time.monotonic() - said >= SILENCE:
            said = time.monotonic()
            log.info("story %d of %d is kept", number + 1, count)


def _same_stories(folder: Path, size: Size) -> None:
    """Look whether all clips in `folder` are stories of `size`, by what their prompts do. Raises GroundedError."""
    numbers = {folder / f"{number:05d}.safetensors": number for number in range(size.stories)}
    for path in clips(folder):
        number, facts = numbers.get(path), facts_of(path)
        if number is None or (facts and not _told(_script(number, size)).items() <= facts.items()):
            raise GroundedError(
                f"{path} is none of the {size.stories} stories that are to be learned from: other settings or an"
                " older program made it",
                f"name another folder for the run, or remove {folder} with all that was learned from it",
            )


def _write_story(path: Path, codec: BuiltinCodec, number: int, size: Size, known: str) -> None:
    script = _script(number, size)
    with torch.no_grad():
        latents = codec.encode(torch.from_numpy(render(script).frames).float() / 255)
    write_clip(path, latents, _told(script) | {"script": number, "codec": known})


def _script(number: int, size: Size) -> Script:
    """What is drawn for story `number`, the same whenever it is asked for."""
    rng = random.Random(STORY_SEED + number)
    kind = rng.choices(list(size.kinds), list(size.kinds.values()))[0]
    script = sample_script(rng, size.chunks, kind)
    while not _fits(script, size):
        script = sample_script(rng, size.chunks, kind)
    return script


def _told(script: Script) -> dict[str, Any]:
    """What a clip's file says of its script."""
    first, *later = script.segments
    cues = [[segment.start_chunk, segment.verb, segment.caption] for segment in later]
    return {"prompt": first.caption, "cues": cues}


def _fits(script: Script, size: Size) -> bool:
    """Whether the script's longest segment has a window, or all are of whole ones where that is wanted."""
    window = size.window // MEMORY.chunk
    if size.whole:
        return not any(segment.start_chunk % window for segment in script.segments)
    return max(segment.chunks for segment in script.segments) >= window
