"""A clip of ComfyUI's own causal sampler (recorded by `comfyui/native/core_clip.py`), made here from its seed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gf_core.config import ModelSpec, Recipe, SampleSpec
from gf_core.errors import GroundedError
from gf_core.memory.presets import PRESETS
from gf_core.model.wan import WanModel
from gf_core.sampling.chunkwise import make_sampler
from gf_core.sampling.film import Cues, film_chunks
from gf_core.sampling.noise import LONGEST_CLIP, check_noise
from gf_core.timeline import make_plan, parse
from gf_core.timeline.plan import Timing

sys.path.insert(0, str(Path(__file__).parents[1] / "comfyui" / "native"))
from random_weights import randomised

CLIP = Path(__file__).parents[1] / "fixtures" / "comfyui" / "causal_clip.safetensors"
SPEC = ModelSpec(dim=256, ffn_dim=512, num_heads=2, num_layers=2)


@pytest.fixture(scope="module")
def clip():
    return load_file(CLIP)


def film(noise: str, clip: torch.Tensor) -> torch.Tensor:
    """Latents [1 f c h w] of a film of one segment, as long as `clip`, by ComfyUI's seed 11."""
    recipe = Recipe(PRESETS["self_forcing"], SampleSpec(noise=noise))
    sampler = make_sampler(
        randomised(WanModel(SPEC)).requires_grad_(False), SPEC, recipe,
        latent_height=clip.shape[3], latent_width=clip.shape[4], device="cpu", dtype=torch.float32,
    )  # fmt: skip
    rows = torch.randn(1, 5, 4096, generator=torch.Generator().manual_seed(5)) * 0.1
    plan = make_plan(parse("a fox | 2.0625s | seed 11"), Timing(16, 3, 4))
    with torch.inference_mode():
        return torch.cat([clean.latents for clean in film_chunks(sampler, Cues(plan, [rows]))], 1)


def test_a_core_clip_comes_again_from_its_seed(clip):
    made = film("comfyui", clip["clip"])
    assert made.shape == clip["clip"].shape == (1, 9, 16, 4, 6)
    worst = (made - clip["clip"]).abs().max() / clip["clip"].abs().max()
    assert worst < 1e-5
    assert (film("chunk", clip["clip"]) - clip["clip"]).abs().max() > 0.1


def test_a_segment_that_core_could_not_make_is_refused_before_the_first_step():
    plan = make_plan(parse("a fox | 3s\nthen: it runs | 65s"), Timing(16, 3, 4))
    check_noise(SampleSpec(noise="chunk"), plan)
    check_noise(SampleSpec(noise="comfyui"), make_plan(parse("a fox | 60s"), Timing(16, 3, 4)))
    longest = make_plan(parse("a fox | 63.8s"), Timing(16, 4, 4))
    assert longest.chunks * 4 == LONGEST_CLIP
    check_noise(SampleSpec(noise="comfyui"), longest)
    with pytest.raises(GroundedError, match="segment 2 has 26") as error:
        check_noise(SampleSpec(noise="comfyui"), plan)
    assert "`chunk`" in error.value.fix
