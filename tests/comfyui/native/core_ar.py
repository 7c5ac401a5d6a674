"""Against ComfyUI's own autoregressive sampler: same weights, same noise, memory of the whole clip, two chunks."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

sys.path.append(str(Path(__file__).parent))

import comfy.k_diffusion.sampling as sampling
import comfy.model_management as management
import tiny
import torch
from grounded_forcing.gf_core.memory.presets import PRESETS
from grounded_forcing.gf_core.sampling.chunkwise import make_sampler
from grounded_forcing.gf_core.sampling.sampler import Chunk
from grounded_forcing.nodes.native.bundle import native_bundle

SEED, CHUNK, CHUNKS = 11, 3, 2


def core_noise(block, shape):
    """Noise that core adds after each step of a block; it draws from the global source of randomness."""
    out = {}
    for step in range(3):
        torch.manual_seed(SEED + block * 1000 + step)
        out[step + 1] = torch.randn(shape)
    return out


class Guided:
    """What core's sampler expects of a guider: callable, with the host's BaseModel two levels down."""

    def __init__(self, base, rows):
        self.inner_model, self._rows = SimpleNamespace(inner_model=base), rows

    def __call__(self, x, sigma, model_options, seed):
        options = model_options["transformer_options"]
        return self.inner_model.inner_model.apply_model(
            x, sigma, c_crossattn=self._rows, transformer_options=options
        )


def by_core(model, noise, rows, sigmas):
    """Latents [1 c f h w] of core's sampler."""
    options = {"model_options": {"transformer_options": {}}, "seed": SEED}
    return sampling.sample_ar_video(
        Guided(model.model, rows), noise, sigmas, extra_args=options, disable=True, num_frame_per_block=CHUNK
    )


@torch.inference_mode()
def main():
    tiny.VAE = tiny.wan_vae()
    model = tiny.causal_model()
    bundle = native_bundle(model, tiny.StubClip(), tiny.VAE)
    management.load_models_gpu([model])
    sampler = make_sampler(
        bundle.model, bundle.spec, replace(bundle.recipe, memory=PRESETS["self_forcing"]),
        latent_height=tiny.ROWS, latent_width=tiny.COLUMNS, device=bundle.device, dtype=bundle.dtype,
    )  # fmt: skip
    sigmas = torch.tensor([level.sigma for level in sampler.levels] + [0.0])
    noise = torch.randn(
        1, 16, CHUNK * CHUNKS, tiny.ROWS, tiny.COLUMNS, generator=torch.Generator().manual_seed(4)
    )
    rows = torch.zeros(1, 512, 4096)
    rows[:, :5] = torch.randn(1, 5, 4096, generator=torch.Generator().manual_seed(5)) * 0.1
    core = by_core(model, noise, rows, sigmas).transpose(1, 2)
    sampler.director.start(rows[:, :5])
    gaps = []
    for block in range(CHUNKS):
        mine = noise[:, :, block * CHUNK : (block + 1) * CHUNK]
        added = core_noise(block, mine.shape)
        (clean,) = sampler.feed(
            Chunk(block, lambda step, drawn={0: mine, **added}: drawn[step].transpose(1, 2))
        )
        gaps.append(tiny.gap(clean.latents, core[:, block * CHUNK : (block + 1) * CHUNK]))
    tiny.report(kind=type(bundle.model).__name__, gaps=gaps)


main()
