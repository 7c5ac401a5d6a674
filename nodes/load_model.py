"""Load Model: a causal video model with its text encoder and decoder, as native MODEL, CLIP and VAE."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..gf_core.errors import GroundedError
from .compat import schema, widget
from .host import in_words, said_plainly
from .native import files
from .native.loader import PRECISIONS, Request, judge, load
from .native.settings import assume_choices


class LoadModel(io.ComfyNode):
    """Files in, native objects out, with what was detected in words."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        text_encoders = [files.AUTO, *files.names("text_encoders")]
        return schema(
            node_id="GF_LoadModel",
            display_name="Load Model (Grounded Forcing)",
            category="Grounded Forcing",
            description="Opens a causal Wan video model as published, in any wrapping, and finds its text encoder and "
            "decoder. The built-in model needs no download. Any other loader works in this node's place.",
            search_aliases=[
                "causal wan",
                "self forcing",
                "longlive",
                "checkpoint loader",
                "grounded forcing",
            ],
            inputs=[
                widget(
                    io.Combo,
                    "model",
                    options=files.model_choices(),
                    default=files.BUILTIN,
                    tooltip="The built-in model draws a small cartoon world and needs no download. Others come from "
                    "models/diffusion_models and models/checkpoints; known causal models are listed first.",
                ),
                widget(
                    io.Combo,
                    "text_encoder",
                    options=text_encoders,
                    default=files.AUTO,
                    tooltip="auto takes the UMT5-XXL in models/text_encoders, a GGUF if there is no other. The "
                    "built-in model brings its own.",
                ),
                widget(
                    io.Combo,
                    "vae",
                    options=[files.AUTO, *files.names("vae")],
                    default=files.AUTO,
                    tooltip="auto takes the Wan 2.1 VAE in models/vae, else its tiny version taew2_1, which is faster "
                    "and softer. The built-in model brings its own.",
                ),
                widget(
                    io.Combo,
                    "precision",
                    options=list(PRECISIONS),
                    default="auto",
                    tooltip="How the weights are stored in memory. auto leaves it to ComfyUI; fp8 halves the memory "
                    "of bf16 and changes the picture a little.",
                ),
                widget(
                    io.Combo,
                    "lora",
                    options=[files.NONE, *files.names("loras")],
                    default=files.NONE,
                    tooltip="A LoRA for Wan 2.1 under any naming. ComfyUI's own LoRA nodes work behind this node too.",
                ),
                widget(
                    io.Float,
                    "lora_strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How much of the LoRA to add; 0 leaves it out.",
                ),
                widget(
                    io.Combo,
                    "assume",
                    options=assume_choices(),
                    default=assume_choices()[0],
                    advanced=True,
                    tooltip="For a causal model under another name: which published one it is like. Causal and plain "
                    "Wan files look the same inside, so a wrong choice here gives noise.",
                ),
            ],
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
        loaded = load(Request(model, text_encoder, vae, precision, lora, lora_strength, assume))
        shown = ui.PreviewText(loaded.info)
        return io.NodeOutput(loaded.model, loaded.clip, loaded.vae, loaded.info, ui=shown)
