"""From files to native MODEL, CLIP and VAE, for checkpoints as published and in any wrapping."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ...gf_core.builtin import BUILTIN_FILES, BUILTIN_FOLDER
from ...gf_core.checkpoints.bundle import checkpoint_fingerprint
from ...gf_core.checkpoints.identify import Identified, identify, require_drivable, require_known
from ...gf_core.checkpoints.keymaps import experts
from ...gf_core.checkpoints.lora import Lora, open_lora, parse_lora
from ...gf_core.checkpoints.networks import lora_beside
from ...gf_core.errors import CheckpointError
from ...gf_core.files.fingerprint import combine
from ...gf_core.files.lazy import LazyTensor
from ...gf_core.words import amount, counted
from . import files
from .builtin import TOKENS, make_clip, make_vae
from .lora import put_on
from .request import DETECT, PRECISIONS, Request
from .settings import Wanted, attach, from_identified, locate, plain_wan
from .shape import UNPACKED, compute_dtype, read_shape
from .text import FIX as TEXT_FIX
from .text import TOKENS as WAN_TOKENS
from .umt5 import published_text

log = logging.getLogger("grounded")


@dataclass(frozen=True)
class Loaded:
    """Values of the native sockets, and what was detected."""

    model: Any
    clip: Any
    vae: Any
    info: str


def load(request: Request) -> Loaded:
    """Open everything that a film needs.

    Raises CheckpointError: a file is missing, damaged, or of another kind; says which, and what to do.
    """
    builtin = request.model == files.BUILTIN
    path = BUILTIN_FOLDER / BUILTIN_FILES[0] if builtin else locate(request.model, files.MODEL_FOLDERS)
    if path is None:
        raise files.missing_model(request.model)
    item = _identified(path, request.assume)
    # Companions first: a missing one must be told before gigabytes are read.
    clip, text_name = (make_clip(), files.BUILTIN) if builtin else _load_text(request.text_encoder)
    vae, vae_name = (make_vae(), files.BUILTIN) if builtin else _load_vae(request.vae)
    model, writer, notes = _load_transformers(item, path, request)
    wanted = replace(
        from_identified(item),
        name=files.BUILTIN if builtin else path.name,
        fingerprint=_fingerprint(item, request.precision, model),
        builtin=builtin,
        writer=writer,
    )
    attach(model, wanted)
    info = describe(model, wanted, item, text_name, vae_name, request)
    return Loaded(model, clip, vae, "\n".join([info, *(f"note: {note}" for note in notes)]))


def judge(model: str) -> None:
    """Refuse by name and header what no setting of the node makes drivable, before anything else is asked for.

    Raises CheckpointError: says what it is; or where to get it, when it is not there.
    """
    if model == files.BUILTIN:
        return
    path = locate(model, files.MODEL_FOLDERS)
    if path is None:
        raise files.missing_model(model)
    state = path.stat()
    if said := _judged(path, state.st_size, state.st_mtime_ns):
        raise CheckpointError(*said)


@lru_cache(maxsize=16)
def _judged(path: Path, size: int, changed: int) -> tuple[str, str] | None:
    """Words and cure of a file that cannot be driven; asked at every Run, so kept until the file changes."""
    try:
        item = _opened(path)
        require_drivable(item, assumed=True)
    except CheckpointError as error:
        return error.message, error.fix
    return None


def _opened(path: Path, assumed: str | None = None) -> Identified:
    item = identify(path.parent if "-of-" in path.name else path, assume=assumed)
    if item.what.unread is not None and item.what.family == "wan_t2v" and item.file.kind != "gguf":
        # The host reads it; only causality is ours to judge. A GGUF is read by us.
        item = replace(item, what=replace(item.what, unread=None))
    return item


def _identified(path: Path, assume: str) -> Identified:
    assumed = assume if assume and assume != DETECT else None
    item = _opened(path, assumed)
    if assumed is None:
        require_known(item)
    if item.what.family == "wan_t2v" and not item.evidence:
        raise plain_wan(path.name, item.what.parameters)
    require_drivable(item, assumed=assumed is not None)
    return item


def _load_transformers(item: Identified, path: Path, request: Request) -> tuple[Any, Any, list[str]]:
    """ModelPatchers of the weights that denoise, and of those that write the memory where they are others (else None);
    and what is to be said of their LoRAs, which both get.
    """
    denoising, writing = experts(item.what.tensors)
    plain = item.file.kind == "safetensors" and item.what.scheme != "diffusers" and not writing
    whole = path if plain and item.found.outer is None and not item.found.lora else None
    models = [_load_transformer(path, tensors, request, whole) for tensors in (denoising, writing) if tensors]
    notes = []
    for lora in _loras(item, path, request):
        models = [put_on(model, lora) for model in models]
        notes += [lora.note] if lora.note else []
    return models[0], models[1] if writing else None, notes


def _load_transformer(
    path: Path, tensors: Mapping[str, LazyTensor], request: Request, whole: Path | None
) -> Any:
    """A ModelPatcher of these tensors; of all that `whole` holds, which the host itself opens, where that is given."""
    import comfy.sd

    dtype = PRECISIONS[request.precision]
    options = {} if dtype is None else {"dtype": dtype}
    if whole is not None:
        model = comfy.sd.load_diffusion_model(str(whole), model_options=options)
    else:
        numbers = {name: _numbers(tensor, dtype) for name, tensor in tensors.items()}
        model = comfy.sd.load_diffusion_model_state_dict(numbers, model_options=options)
    if model is None:
        raise CheckpointError(
            f"ComfyUI cannot open the transformer of {path.name}", "update ComfyUI, or use another file."
        )
    return model


def _numbers(tensor: LazyTensor, dtype: torch.dtype | None) -> torch.Tensor:
    """A tensor as it lies in the file; a packed one as numbers of the type that is asked for."""
    return tensor.copied(dtype or UNPACKED) if tensor.packing else tensor.load()


def _fingerprint(item: Identified, precision: str, model: Any) -> str:
    """Hash of the file, and of the type that its weights were rounded to where a key does not hold that by itself."""
    found = checkpoint_fingerprint(item)
    tensors = item.what.tensors.values()
    if any(tensor.packing for tensor in tensors):
        return combine([found, str(PRECISIONS[precision] or UNPACKED)])
    held = model.model.get_dtype()
    rounded = held != torch.float32 and held not in {tensor.dtype for tensor in tensors}
    # The type that is computed in is among a Take's facts.
    return combine([found, str(held)]) if rounded and held != compute_dtype(model) else found


def _loras(item: Identified, path: Path, request: Request) -> Iterator[Lora]:
    """The LoRA inside the file, or the one that the model cannot do without, and the one that was asked for."""
    shapes = {name: tensor.shape for name, tensor in item.what.tensors.items()}
    if item.found.lora:
        yield parse_lora(item.found.lora, f"the LoRA inside {path.name}", 1.0, shapes)
    elif (beside := lora_beside(item, [request.lora])) is not None:
        yield open_lora(beside, 1.0, shapes)
    if request.lora != files.NONE and request.lora_strength:
        found = locate(request.lora, ("loras",))
        if found is None:
            raise CheckpointError(
                f"there is no LoRA called {request.lora} in models/loras",
                f"choose another, or `{files.NONE}`.",
            )
        yield open_lora(found, request.lora_strength, shapes)


def _load_text(choice: str) -> tuple[Any, str]:
    """A CLIP with Wan's text encoder, and its file's name."""
    name = files.find("text_encoders", files.TEXT_PATTERNS) if choice == files.AUTO else choice
    path = locate(name, ("text_encoders",))
    if path is None:
        raise files.missing("text_encoders", name)
    clip = _open_text(path)
    tokens = clip.tokenize("")
    if WAN_TOKENS not in tokens:
        kinds = ", ".join(kind for kind in tokens if kind != TOKENS)
        raise CheckpointError(
            f"{name} is a text encoder for {kinds} tokens, and Wan reads UMT5-XXL's", TEXT_FIX
        )
    return clip, name


def _open_text(path: Path) -> Any:
    """The host's CLIP of a file, whichever names its tensors have."""
    import comfy.sd
    import folder_paths

    options: dict[str, Any] = {
        "embedding_directory": folder_paths.get_folder_paths("embeddings"),
        "clip_type": comfy.sd.CLIPType.WAN,
    }
    tensors = published_text(path)
    if tensors is None:
        return comfy.sd.load_clip([str(path)], **options)
    return comfy.sd.load_text_encoder_state_dicts([tensors], **options)


def _load_vae(choice: str) -> tuple[Any, str]:
    """The host's VAE object, and its file's name."""
    import comfy.sd
    import comfy.utils

    name = files.find("vae", files.VAE_PATTERNS) if choice == files.AUTO else choice
    path = locate(name, ("vae", "vae_approx"))
    if path is None:
        raise files.missing("vae", name)
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(path)))
    if getattr(vae, "first_stage_model", None) is None or vae.latent_channels != 16:
        raise CheckpointError(
            f"{name} is not a Wan 2.1 VAE",
            f"choose {files.WANTED['vae'][0]} ({files.WANTED['vae'][2]}), or `{files.AUTO}`.",
        )
    return vae, name


def describe(model: Any, wanted: Wanted, item: Identified, text: str, vae: str, request: Request) -> str:
    """What was detected, for the node: one fact per line."""
    spec, recipe = read_shape(model), wanted.recipe
    memory, sample, video = recipe.memory, recipe.sample, recipe.video
    size = amount(item.what.parameters)
    stored = str(item.what.dtype).removeprefix("torch.")
    computed = str(compute_dtype(model)).removeprefix("torch.")
    lines = [
        f"{wanted.name}: causal Wan 2.1 text-to-video, {size} parameters ({spec.num_layers} layers of {spec.dim})",
        f"why: {wanted.evidence}",
        f"stored as {item.what.quantised or stored}, computed in {computed}",
        f"steps {sample.steps_in_words()}; shift {sample.shift:g}",
        f"chunk {memory.chunk}; memory {counted(memory.anchors, 'anchor')} (frames kept for the cast) and "
        f"{counted(memory.recent, 'recent frame')}; window {memory.window}",
        f"made for {video.width}x{video.height} at {video.fps} fps",
        f"text encoder: {text}",
        f"decoder: {vae}",
    ]
    if wanted.writer is not None:
        lines.insert(1, "two sets of weights: one denoises, the other writes the memory")
    if wanted.licence:
        lines.insert(1, f"licence: {wanted.licence}")
    if request.lora != files.NONE:
        lines.append(f"LoRA: {request.lora} at {request.lora_strength:g}")
    if item.known is not None and item.known.note:
        lines.append(f"note: {item.known.note}")
    return "\n".join(lines)
