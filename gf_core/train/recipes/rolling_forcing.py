"""Rolling Forcing (arXiv 2509.25161): films whose chunks are denoised together, and in turn such made chunk by chunk.
Values only.

It begins from the ODE-initialised causal 1.3B of Self Forcing (`self_forcing`, stage `ode`). Teacher 14B; prompts only.
"""

from __future__ import annotations

from dataclasses import replace

from ...config import Recipe, SampleSpec, VideoSpec
from ...memory.presets import PRESETS
from ..rollout import RolloutSpec
from . import self_forcing
from .stage import OPEN, OURS

CODE = "TencentARC/RollingForcing, configs/rolling_forcing_dmd.yaml"
DEFAULTS = "TencentARC/RollingForcing, configs/default_config.yaml"

DMD = replace(
    self_forcing.DMD,
    film=RolloutSpec(
        Recipe(
            PRESETS["rolling_forcing"], SampleSpec(steps=(1000, 800, 600, 400, 200), shift=5.0), VideoSpec()
        ),
        frames=27,
        window=21,
        joint=0.5,
    ),
    rate=1.5e-6,
    iterations=3000,
    batch=8,
    sources=self_forcing.DMD.sources
    | {
        "film": f"{CODE}: denoising_step_list, warp_denoising_step, timestep_shift, num_frame_per_block, "
        f"image_or_video_shape; {DEFAULTS}: num_training_frames 27, same_step_across_blocks; model/base.py: a coin for "
        "every step, lengths of 21 to 27 frames, the last 21 judged; wan/modules/causal_model.py: calls see 21 frames, "
        f"the first block among them; {OURS}which calls have a gradient is drawn alike on all ranks, where the code's "
        "ranks draw each their own, and frames before the first of these calls are predictions too, where the code "
        "decodes zeros in front of the window's first picture",
        "match": f"{CODE}: guidance_scale 3.0 as c + g (c - u), timestep_shift; utils/wan_wrapper.py: score networks "
        "at a shift of 8; model/dmd.py: levels clamped to 20..980",
        "rate": f"{CODE}: lr",
        "critic_rate": f"{CODE}: lr_critic",
        "iterations": f"{OPEN}the code's loop has no end; notes on the paper say 3,000, counted in critic steps as the "
        "loop counts",
        "objective": f"{CODE}: distribution_loss",
        "betas": f"{CODE}: beta1, beta2",
        "critic_betas": f"{CODE}: beta1_critic, beta2_critic",
        "decay": f"{DEFAULTS}: weight_decay",
        "ratio": f"{CODE}: dfake_gen_update_ratio",
        "batch": f"README: 8 cards; {CODE}: batch_size 1 on each; {OURS}total_batch_size 64 there is not followed, "
        "which trainer/distillation.py does not read",
        "average": f"{CODE}: ema_weight",
        "average_from": f"{CODE}: ema_start_step, in critic steps",
        "verbs": "trainer/distillation.py: one prompt a film",
    },
)

STAGES = {"dmd": DMD}
