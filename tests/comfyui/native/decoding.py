"""The host's VAEs decoded as a stream, against the host's own decode of the whole film."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import comfy.latent_formats
import comfy.model_management as management
import comfy.sd
import tiny
import torch
from grounded_forcing.gf_core.vae.tiles import Tiled
from grounded_forcing.nodes.native.codec import native_codec

FRAMES, ROWS, COLUMNS = 10, 4, 4
SPLITS = {"3": [3, 3, 3, 1], "2": [2, 2, 2, 2, 2], "1": [1] * 10, "mixed": [1, 4, 1, 1, 3], "all": [10]}


class Scale:
    """How the host normalises Wan's latents."""

    def __init__(self):
        self.format = comfy.latent_formats.Wan21()

    def process_latent_in(self, latents):
        return self.format.process_in(latents)

    def process_latent_out(self, latents):
        return self.format.process_out(latents)


def streamed(codec, latents, split):
    decoder = codec.decoder()
    return torch.cat([decoder.decode(piece) for piece in latents.split(split)])


def compare(vae):
    """Largest error of each split; the error after a restore; the error of encoding."""
    scale = Scale()
    codec = native_codec(vae, scale)
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(FRAMES, 16, ROWS, COLUMNS, generator=generator)
    natural = codec.natural(latents).float()
    management.load_models_gpu([vae.patcher])
    whole = vae.decode(natural)
    whole = (whole[0] if whole.ndim == 5 else whole).clamp(0, 1)  # the host leaves that out for tiny VAEs
    out = {"frames": len(whole), "spread": float(whole.std())}
    for name, split in SPLITS.items():
        out[name] = float((streamed(codec, latents, split) - whole).abs().max())
    first, second = codec.decoder(), codec.decoder()
    a = first.decode(latents[:4])
    second.restore({name: value.clone() for name, value in first.snapshot().items()})
    out["restored"] = float((torch.cat([a, second.decode(latents[4:])]) - whole).abs().max())
    tiled = Tiled(codec, 16)  # all of it is one tile, whose state is put away after every chunk
    out["tiled"] = float((streamed(tiled, latents, 3) - whole).abs().max())
    out["kind"] = tiled.kind
    pictures = whole[:5].float()
    ours = codec.encode(pictures)
    theirs = scale.process_latent_in(vae.encode(pictures))[0].movedim(0, 1)
    out["encode"] = float((ours - theirs).abs().max())
    return out


def tiny_vae():
    """A tiny VAE with random weights, or None where the host has no such class."""
    try:
        import comfy.taesd.taehv as taehv
    except ImportError:
        return None
    network = tiny.randomised(taehv.TAEHV(latent_channels=16), 3)
    return comfy.sd.VAE(sd=dict(network.state_dict()))


@torch.inference_mode()
def main():
    facts = {"wan": compare(tiny.wan_vae())}
    small = tiny_vae()
    facts["tiny"] = None if small is None else compare(small)
    small_image = comfy.sd.VAE(sd={})  # nothing in it
    facts["empty"] = tiny.refused(lambda: native_codec(small_image, Scale()))
    tiny.report(**facts)


main()
