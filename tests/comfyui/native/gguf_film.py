"""A GGUF file (Q8_0) opened by the ComfyUI-GGUF pack: its MODEL drives a film like the same weights in float32."""

import logging
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import comfy.sd
import tiny
import torch
from gguf_files import write
from grounded_forcing.nodes.native.bundle import native_bundle
from grounded_forcing.nodes.native.trace import trace_model_file

NAME = "self_forcing_dmd-Q8_0.gguf"
FOLDER = Path.cwd() / "models/unet"
FOLDER.mkdir(parents=True, exist_ok=True)


class Warnings(logging.Handler):
    """Keeps what the pack under test warns of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


@torch.inference_mode()
def main():
    sys.path.insert(1, str(Path.cwd() / "custom_nodes"))
    from gguf_pack.nodes import UnetLoaderGGUF

    heard = Warnings()
    logging.getLogger("grounded").addHandler(heard)
    tensors, vae, clip = tiny.wan_tensors(), tiny.wan_vae(), tiny.StubClip()
    unpacked = write(FOLDER / NAME, tensors)
    write(FOLDER / "other-Q8_0.gguf", {name: value * 1.01 for name, value in tensors.items()})
    prompt = {
        "1": {"class_type": "UnetLoaderGGUF", "inputs": {"unet_name": NAME}},
        "2": {"class_type": "LoraLoaderModelOnly", "inputs": {"model": ["1", 0], "lora_name": "x"}},
        "3": {"class_type": "GF_StreamSampler", "inputs": {"model": ["2", 0]}},
    }
    file = trace_model_file(prompt, "3")

    def bundle(model, **options):
        return native_bundle(model, clip, vae, **options)

    def plain(weights):
        return bundle(comfy.sd.load_diffusion_model_state_dict(dict(weights)), assume="self_forcing")

    packed = UnetLoaderGGUF().load_unet(NAME, dequant_dtype="float32")[0]
    driven = bundle(packed, model_file=file)
    want, same = tiny.film(plain(tensors)), tiny.film(plain(unpacked))
    made = tiny.film(driven)
    core = {
        "diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.full((2, 256), 0.3),
        "diffusion_model.blocks.0.self_attn.q.lora_B.weight": torch.full((256, 2), 0.3),
    }
    patched, _ = comfy.sd.load_lora_for_models(packed, None, core, 0.7, 0.0)
    with_lora = tiny.film(bundle(patched, model_file=file))
    on_plain, _ = comfy.sd.load_lora_for_models(
        comfy.sd.load_diffusion_model_state_dict(dict(unpacked)), None, core, 0.7, 0.0
    )
    # The pack keeps its choice for all models: from here on it unpacks into float16, its default.
    different = bundle(UnetLoaderGGUF().load_unet("other-Q8_0.gguf")[0], assume="self_forcing")
    by_default = bundle(UnetLoaderGGUF().load_unet(NAME)[0], model_file=file)
    tiny.report(
        file=file,
        name=driven.name,
        stored=sorted({str(getattr(p, "tensor_type", None)) for p in packed.model.parameters()}),
        same=tiny.gap(made, same),
        half=tiny.gap(tiny.film(by_default), same),
        quantised=tiny.gap(made, want),
        lora=tiny.gap(with_lora, tiny.film(bundle(on_plain, assume="self_forcing"))),
        lora_changes=tiny.gap(with_lora, made),
        fingerprints=len(
            {driven.fingerprint, bundle(patched, model_file=file).fingerprint, different.fingerprint}
        ),
        warnings=heard.said,
    )


main()
