"""A GGUF file (Q8_0) opened by Load Model itself: the film of its weights."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import comfy.sd
import tiny
import torch

try:
    from gguf_files import write
except ModuleNotFoundError as error:
    tiny.report(host_lacks=f"ComfyUI's Python has no package {error.name}")
    sys.exit()
from grounded_forcing.gf_core.files import scales
from grounded_forcing.nodes.native import files, loader
from grounded_forcing.nodes.native.bundle import native_bundle

NAME = "wan/self_forcing_dmd-Q8_0.gguf"
FILE = Path.cwd() / "models/diffusion_models" / NAME
FILE.parent.mkdir(parents=True, exist_ok=True)


def refused():
    """What is said where the package that unpacks is missing."""
    kept, scales.unpacks = scales.unpacks, lambda packings: not any(packings)
    loader._judged.cache_clear()
    try:
        return tiny.refused(lambda: loader.judge(NAME))
    finally:
        scales.unpacks = kept
        loader._judged.cache_clear()


@torch.inference_mode()
def main():
    tiny.VAE, clip = tiny.wan_vae(), tiny.StubClip()
    unpacked = write(FILE, tiny.wan_tensors())
    plain = comfy.sd.load_diffusion_model_state_dict(dict(unpacked))
    want = tiny.film(native_bundle(plain, clip, tiny.VAE, assume="self_forcing"))
    whole, half = tiny.load(NAME, precision="fp32"), tiny.load(NAME)
    bundles = [native_bundle(one.model, clip, tiny.VAE) for one in (whole, half)]
    loader.judge(NAME)
    tiny.report(
        listed=files.model_choices()[:2],
        same=tiny.gap(tiny.film(bundles[0]), want),
        half=tiny.gap(tiny.film(bundles[1]), want),
        stored=sorted({str(value.dtype) for value in bundles[1].model.blocks.parameters()}),
        fingerprints=len({one.fingerprint for one in bundles}),
        name=bundles[0].name,
        licence=bundles[0].licence,
        info=half.info,
        refused=refused(),
    )


main()
