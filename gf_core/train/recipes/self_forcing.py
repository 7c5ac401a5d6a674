"""Self Forcing (arXiv 2506.08009): five-second films, matched to a bidirectional teacher. Values only.

From an ODE-initialised causal 1.3B; teacher 14B for `dmd`, 1.3B for `sid`; prompts only (VidProM, extended).
"""

from __future__ import annotations

from dataclasses import replace

from ...config import Recipe, SampleSpec, VideoSpec
from ...memory.presets import PRESETS
from ..objectives.scores import Matching
from ..rollout import RolloutSpec
from .stage import OPEN, Stage

CODE = "guandeh17/Self-Forcing, configs/self_forcing_dmd.yaml"
DEFAULTS = "guandeh17/Self-Forcing, configs/default_config.yaml"

DMD = Stage(
    film=RolloutSpec(
        Recipe(PRESETS["self_forcing"], SampleSpec(steps=(1000, 750, 500, 250), shift=5.0), VideoSpec()),
        frames=21,
        window=21,
    ),
    match=Matching(guidance=3.0, shift=5.0, score_shift=8.0, lowest=20.0, highest=980.0),
    rate=2e-6,
    critic_rate=4e-7,
    iterations=600,
    sources={
        "film": f"{CODE}: denoising_step_list, warp_denoising_step, timestep_shift, image_or_video_shape, "
        f"num_frame_per_block; {DEFAULTS}: num_training_frames 21, same_step_across_blocks",
        "match": f"{CODE}: guidance_scale 3.0 as c + g (c - u); model/dmd.py: levels clamped to 20..980",
        "rate": f"{CODE}: lr",
        "critic_rate": f"{CODE}: lr_critic",
        "iterations": "README: 600 iterations, by the loop's counter of critic steps",
        "objective": f"{CODE}: distribution_loss",
        "taught": "trainer/distillation.py: its own films only",
        "drop": "trainer/distillation.py: no prompt is dropped",
        "betas": f"{CODE}: beta1, beta2",
        "critic_betas": f"{CODE}: beta1_critic, beta2_critic",
        "decay": f"{DEFAULTS}: weight_decay",
        "clip": "trainer/distillation.py: max_grad_norm 10 for both",
        "ratio": f"{CODE}: dfake_gen_update_ratio",
        "ahead": "trainer/distillation.py: the student learns in the first step, too",
        "batch": f"{CODE}: total_batch_size",
        "average": f"{CODE}: ema_weight",
        "average_from": f"{CODE}: ema_start_step, in critic steps",
        "stream": "trainer/distillation.py: a film for every step",
        "lora": "trainer/distillation.py: none",
        "verbs": "paper, section 4: one prompt a film",
    },
)

SID = replace(
    DMD,
    objective="sid",
    critic_rate=2e-6,
    decay=0.0,
    sources=DMD.sources
    | {
        "objective": f"{OPEN}configs/self_forcing_sid.yaml says dmd; sid is what its name and the paper mean",
        "critic_rate": "configs/self_forcing_sid.yaml: lr_critic",
        "decay": "configs/self_forcing_sid.yaml: weight_decay",
        "match": "configs/self_forcing_sid.yaml: sid_alpha 1.0; levels as in dmd, which its class leaves unset",
    },
)

CAUSAL = "thu-ml/Causal-Forcing, causal_ode_chunkwise.yaml"
ODE = replace(
    DMD,
    objective="regression",
    ratio=0,
    iterations=5000,
    betas=(0.9, 0.999),
    sources=DMD.sources
    | {
        "film": f"{CODE}: steps, shift and frames of the student; paper: states of the teacher's ODE at those",
        "objective": "model/ode_regression.py: every block from a state of its own, no clean past",
        "ratio": "trainer/ode.py: no critic",
        "rate": f"{OPEN}no settings ship for this stage; {CAUSAL}: lr",
        "betas": f"{OPEN}as rate; {CAUSAL}: beta1, beta2",
        "iterations": f"{OPEN}as rate; {CAUSAL}: 1,000 at least, 5,000 to 10,000 are better",
        "batch": f"{OPEN}as rate; that of the dmd stage",
        "average": f"{OPEN}as rate; that of the dmd stage",
        "average_from": f"{OPEN}as rate; that of the dmd stage",
    },
)
"""Stage 0, which gives what `dmd` begins with; data with ODE states of the bidirectional base, made at this shift."""

STAGES = {"dmd": DMD, "sid": SID, "ode": ODE}
