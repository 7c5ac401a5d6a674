"""A clip by ComfyUI's own causal sampler, the whole way from a seed. `core_clip.py FILE` keeps it.

The weights are random from a fixed seed, so that the file holds latents alone; `sampling/test_core_clip.py` makes the
same clip without a host.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import comfy.model_management
import comfy.sample
import comfy.samplers
import tiny
import torch
from grounded_forcing.nodes.native.bundle import native_bundle
from safetensors.torch import save_file

SEED, FRAMES, CHUNK, STEPS, USED = 11, 9, 3, 4, 5


def prompt_rows():
    """Text rows [1 512 4096] of which the first few say something."""
    rows = torch.zeros(1, 512, 4096)
    rows[:, :USED] = torch.randn(1, USED, 4096, generator=torch.Generator().manual_seed(5)) * 0.1
    return rows


@torch.inference_mode()
def main():
    model = tiny.causal_model()
    bundle = native_bundle(model, tiny.StubClip(), tiny.wan_vae())
    latent = torch.zeros(1, 16, FRAMES, tiny.ROWS, tiny.COLUMNS)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    words = [[prompt_rows(), {}]]
    made = comfy.sample.sample_custom(
        model, comfy.sample.prepare_noise(latent, SEED), 1.0,
        comfy.samplers.ksampler("ar_video", {"num_frame_per_block": CHUNK}), sigmas, words, words, latent,
        disable_pbar=True, seed=SEED,
    )  # fmt: skip
    clip = model.model.process_latent_in(made).transpose(1, 2).float().contiguous()
    if len(sys.argv) > 1:
        save_file({"clip": clip, "sigmas": sigmas.float()}, sys.argv[1])
    kind = type(bundle.model).__name__
    tiny.report(frames=clip.shape[1], sigmas=sigmas.tolist(), size=float(clip.abs().max()), kind=kind)


main()
