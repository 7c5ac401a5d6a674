"""A file with a second set of weights, which writes the memory (SGF+), opened by Load Model: the engine's own film."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import comfy.sd
import tiny
import torch
from grounded_forcing.gf_core.checkpoints.keymaps import experts
from grounded_forcing.gf_core.checkpoints.load import build_network
from grounded_forcing.gf_core.files.tensors import open_file
from grounded_forcing.nodes.native import loader
from grounded_forcing.nodes.native.bundle import native_bundle
from safetensors.torch import save_file

NAME = "self_gradient_forcing_plus.safetensors"
FILE = Path.cwd() / "models/diffusion_models" / NAME
FILE.parent.mkdir(parents=True, exist_ok=True)


def second(tensors):
    """Other weights for some layers, under the names of a second set."""
    return {
        name.replace("self_attn", "memory_self_attn"): value * 1.5
        for name, value in tensors.items()
        if ".self_attn.q.weight" in name or ".self_attn.v.weight" in name
    }


@torch.inference_mode()
def main():
    tiny.VAE, clip = tiny.wan_vae(), tiny.StubClip()
    tensors = tiny.wan_tensors()
    save_file({**tensors, **second(tensors)}, FILE)
    loader.judge(NAME)
    loaded = tiny.load(NAME)
    bundle = native_bundle(loaded.model, clip, tiny.VAE)
    made = tiny.film(bundle)
    alone = native_bundle(loaded.model, clip, tiny.VAE)
    sets = experts(open_file(FILE).tree)
    alone.model, alone.writer = (build_network(alone.spec, part) for part in sets)
    alone.ready = alone.done = None
    want = tiny.film(alone)
    alone.writer = None
    lora = {
        "diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.full((2, 256), 0.3),
        "diffusion_model.blocks.0.self_attn.q.lora_B.weight": torch.full((256, 2), 0.3),
    }
    patched, _ = comfy.sd.load_lora_for_models(loaded.model, None, lora, 0.7, 0.0)
    tiny.report(
        same=tiny.gap(made, want),
        one_set=tiny.gap(tiny.film(alone), want),
        assumed=native_bundle(loaded.model, clip, tiny.VAE, assume="sgf_plus").writer is bundle.writer,
        notes=[bundle.notes, native_bundle(patched, clip, tiny.VAE).notes],
        info=loaded.info,
    )


main()
