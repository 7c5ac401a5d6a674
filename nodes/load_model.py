"""Load Model: a causal video model with its text encoder and decoder, as native MODEL, CLIP and VAE."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..gf_core.errors import GroundedError, installed
from .compat import choice, number, schema
from .host import in_words, said_plainly
from .native import files
from .native.request import PRECISIONS, Request, assume_choices


class LoadModel(io.ComfyNode):
    """Files in, native objects out, with what was detected in words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="GF_LoadModel",
            display_name="Load Model (Grounded Forcing)",
            description="Opens a causal Wan video model as published, in any wrapping, and finds its text encoder and "
            "decoder. The built-in model needs no download. Any other loader works in this node's place.",
            search_aliases=[
                "causal wan",
                "self forcing",
                "longlive",
                "checkpoint loader",
            ],
            inputs=[*_files(), *_weights()],
            outputs=[
                io.Model.Output(
                    display_name="MODEL", tooltip="The video model, for Stream Sampler or a LoRA node."
                ),
                io.Clip.Output(display_name="CLIP", tooltip="Its text encoder."),
                io.Vae.Output(display_name="VAE", tooltip="Its decoder."),
                io.String.Output(
                    display_name="info", tooltip="What was detected: size, steps, shift, memory."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str = files.BUILTIN) -> bool | str:
        """Say what a missing or wrong model file is before anything runs; of one input, or it would be said of each."""
        try:
            with installed():
                from .native.loader import judge

                judge(model)
        except GroundedError as error:
            return in_words(error)
        return True

    @classmethod
    @said_plainly
    def execute(
        cls,
        model: str,
        text_encoder: str,
        vae: str,
        precision: str,
        lora: str,
        lora_strength: float,
        assume: str,
    ) -> io.NodeOutput:
        from .native.loader import load

        loaded = load(Request(model, text_encoder, vae, precision, lora, lora_strength, assume))
        shown = ui.PreviewText(loaded.info)
        return io.NodeOutput(loaded.model, loaded.clip, loaded.vae, loaded.info, ui=shown)


def _files() -> list[Any]:
    """Model, text encoder and decoder."""
    return [
        choice(
            "model",
            files.model_choices(),
            "The built-in model draws a small cartoon world and needs no download. Others come from "
            "models/diffusion_models and models/checkpoints; known causal models are listed first.",
        ),
        choice(
            "text_encoder",
            [files.AUTO, *files.names("text_encoders")],
            "auto takes the UMT5-XXL in models/text_encoders, a GGUF if there is no other. The "
            "built-in model brings its own.",
        ),
        choice(
            "vae",
            [files.AUTO, *files.names("vae")],
            "auto takes the Wan 2.1 VAE in models/vae, else its tiny version taew2_1, which is faster "
            "and softer. The built-in model brings its own.",
        ),
    ]


def _weights() -> list[Any]:
    """How the model's weights are held, what is added to them, and what they are taken for."""
    return [
        choice(
            "precision",
            list(PRECISIONS),
            "How the weights are stored in memory. auto leaves it to ComfyUI; fp8 halves the memory "
            "of bf16 and changes the picture a little.",
        ),
        choice(
            "lora",
            [files.NONE, *files.names("loras")],
            "A LoRA for Wan 2.1 under any naming. ComfyUI's own LoRA nodes work behind this node too.",
        ),
        number(
            "lora_strength",
            1.0,
            (-10.0, 10.0),
            "How much of the LoRA to add; 0 leaves it out.",
            step=0.05,
        ),
        choice(
            "assume",
            assume_choices(),
            "For a causal model under another name: which published one it is like. Causal and plain "
            "Wan files look the same inside, so a wrong choice here gives noise.",
            advanced=True,
        ),
    ]
