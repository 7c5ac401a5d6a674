"""Save Video: the film of a Take as a file in the output folder, with its graph inside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import InputImpl, io

from ..gf_core.errors import GroundedError, TakeError
from ..gf_core.video.place import AS_RENDERED, DEFAULT_QUALITY, available_formats
from . import host
from .compat import choice, number, schema, widget
from .shown import age, keep, shown, view
from .types import Take, TakeHandle

if TYPE_CHECKING:
    import numpy as np

    from ..gf_core.take.folder import Run
    from ..gf_core.video.audio import Audio

DEFAULT = "grounded/film"
"""The prefix that follows the name of the Take."""
QUIRK = "video-preview"
"""Some front ends add an input of this name to a node that shows a clip, so that it runs once more by itself."""
TWICE = "encoded from the film's own pictures; connect vae to encode from its latents, so only once"
"""What the node says of a film that was decoded from its file."""


class SaveVideo(io.ComfyNode):
    """Take in, file out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_SaveVideo",
            display_name="Save Video (Grounded Forcing)",
            description="Saves the film with its graph, timeline, chapters and sound, and plays it. "
            "As rendered copies the pictures without a second encoding. Nothing is ever overwritten.",
            search_aliases=["export film", "mp4", "save take", "prores", "mux audio"],
            is_output_node=True,
            inputs=[
                Take.Input("take", tooltip="The render, from Stream Sampler."),
                widget(
                    io.String,
                    "filename_prefix",
                    default=DEFAULT,
                    tooltip="Name in the output folder; may have subfolders, %date% or %date:yyyy-MM-dd hh.mm%, and "
                    "%width%. Files are numbered. Left as grounded/film, it follows the name of the Take.",
                ),
                choice(
                    "codec",
                    available_formats(),
                    "As rendered copies the pictures as they are. Any other encodes them again; "
                    "png and exr make a folder of pictures.",
                ),
                number(
                    "quality",
                    DEFAULT_QUALITY,
                    (0, 51),
                    "For another codec: 0 is lossless, 18 looks so, 51 is the worst. Unused for as rendered.",
                ),
                io.Audio.Input("audio", optional=True, tooltip="Sound; cut or padded to the film's length."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="For another codec: decodes the stored latents again, so that nothing is encoded twice.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The file, for ComfyUI's own video nodes."),
                io.String.Output(display_name="path", tooltip="Where the file is."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """Refuse a prefix that cannot be before anything is sampled; one from another node is only known later."""
        return host.allowed(host.check_prefix, filename_prefix)

    @classmethod
    @host.said_plainly
    def execute(
        cls,
        take: TakeHandle,
        filename_prefix: str,
        codec: str,
        quality: int,
        audio: dict[str, Any] | None = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        run = take.open()
        if not run.film.exists():
            _check(run)
        graph = _graph(cls.hidden.prompt, cls.hidden.extra_pnginfo)
        wanted = json.dumps(
            [take.folder, take.run, age(run.film), filename_prefix, codec, quality, _plain(cls.hidden.prompt)]
        )
        path = _saved.get(wanted) if audio is None else None
        if path is None or not path.exists():
            _check(run)
            path = _place(run, _following(filename_prefix, take), codec, quality, _sound(audio), vae, graph)
            _remember(wanted, path)
        host.log.info("film saved as %s", path)
        film = InputImpl.VideoFromFile(str(run.film if path.is_dir() else path))
        return io.NodeOutput(film, str(path), ui=_shown(run, path, filename_prefix, codec, vae is not None))


def _check(run: Run) -> None:
    """Save nothing damaged; the next Run makes it anew, though nothing in the graph has changed.

    Raises TakeError: the film is not what was rendered.
    """
    from .rendering import forget

    try:
        run.check_film()
    except TakeError:
        forget(run.folder)
        raise


def _following(prefix: str, take: TakeHandle) -> str:
    """`prefix`, or where it is left at its default one with the name of the Take."""
    if prefix != DEFAULT:
        return prefix
    return f"grounded/{Path(take.folder).relative_to(host.output_folder() / host.TAKES).as_posix()}"


def _place(
    run: Run, prefix: str, codec: str, quality: int, sound: Audio | None, vae: Any, graph: dict[str, str]
) -> Path:
    """The film of `run` as a new file or folder."""
    from ..gf_core.engine.imprint import film_chapters, film_metadata
    from ..gf_core.video import place_film, probe, suffix_for
    from ..gf_core.video.pictures import STILLS
    from ..gf_core.video.place import codec_of

    info, again = probe(run.film), codec != AS_RENDERED
    suffix = "" if codec in STILLS else suffix_for(codec if again else codec_of(info))
    out = host.free_name(prefix, info.width, info.height, suffix)
    return place_film(
        run.film,
        out,
        codec=codec if again else None,
        quality=quality if again else None,
        audio=sound,
        metadata={**film_metadata(run, out.stem), **graph},
        chapters=film_chapters(run),
        frames=_decoded(run, vae) if again and vae is not None else None,
    )


def _decoded(run: Run, vae: Any) -> Iterator[np.ndarray]:
    """The film's pictures uint8 [t H W 3], a chunk at a time, decoded again from its latents."""
    import torch

    from ..gf_core.vae.base import to_uint8
    from ..gf_core.vae.decoders import begin_apart
    from .native.builtin import builtin_codec
    from .native.codec import native_codec

    first = next(iter(run.committed()))
    host.bring_vae(vae, tuple(run.load_latents(first["index"]).shape))
    decoder = (builtin_codec(vae) or native_codec(vae, host.WanScale())).decoder()
    for record in run.committed():
        host.stop_if_interrupted()
        if record.get("apart"):
            begin_apart(decoder)
        with torch.no_grad():
            yield to_uint8(decoder.decode(run.load_latents(record["index"])))


def _sound(audio: dict[str, Any] | None) -> Audio | None:
    """ComfyUI's AUDIO (waveform [1 channels n]) as ours."""
    if audio is None:
        return None
    from ..gf_core.video.audio import Audio

    wave = audio["waveform"]
    if wave.ndim != 3 or not wave.shape[-1]:
        raise GroundedError(
            f"the sound is {list(wave.shape)}, not [1, channels, samples]", "load another one"
        )
    return Audio(wave[0].float().cpu().numpy(), int(audio["sample_rate"]))


def _graph(prompt: Any, extra: Any) -> dict[str, str]:
    """`prompt` and `workflow` as JSON text where ComfyUI looks for them, unless it was told to store none."""
    if host.stores_no_metadata():
        return {}
    # What the host noted while running (is_changed) is no part of the graph: queued again, it would be believed.
    graph = {
        name: {k: v for k, v in node.items() if k != "is_changed"} for name, node in (prompt or {}).items()
    }
    parts = {"prompt": graph or None, **(extra if isinstance(extra, dict) else {})}
    return {name: json.dumps(part) for name, part in parts.items() if part is not None}


def _plain(prompt: Any) -> list[Any]:
    """The nodes of the graph without what a front end adds by itself: a film is saved once per graph."""
    return [
        [node.get("class_type"), {k: v for k, v in node.get("inputs", {}).items() if k != QUIRK}]
        for node in (prompt or {}).values()
    ]


def _shown(run: Run, path: Path, prefix: str, codec: str, decoded: bool) -> dict[str, Any]:
    """The file in words, its film, and the Take's own, which is played where a browser cannot play the file."""
    said = f"saved as {_inside(path)}"
    twice = codec != AS_RENDERED and not decoded
    facts = {
        "text": f"{said}\n{TWICE}" if twice else said,
        "film": None if path.is_dir() else view(path),
        "stand_in": view(run.film),
        "codec": codec,
        "path": str(path),
    }
    facts = keep(run, "GF_SaveVideo", facts, filename_prefix=prefix, codec=codec)
    # Not under `images`, where ComfyUI's own nodes put their films: the page would then draw the film once more.
    saved = {"filename": path.name, "subfolder": _inside(path).rpartition("/")[0], "type": "output"}
    return shown(facts, text=[said], video=[] if path.is_dir() else [saved])


def _inside(path: Path) -> str:
    """`path` as it is named inside the output folder."""
    return path.relative_to(host.output_folder()).as_posix()


_saved: dict[str, Path] = {}
"""What was saved with which settings and graph in this session: the same is not saved twice."""


def _remember(wanted: str, path: Path) -> None:
    _saved[wanted] = path
    while len(_saved) > 64:
        del _saved[next(iter(_saved))]
