"""Tiny random parts for the scripts that run inside ComfyUI: a Wan transformer, VAEs, a CLIP, and a short film."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import comfy.k_diffusion.sampling as sampling
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from grounded_forcing.gf_core.config import MemorySpec, ModelSpec
from grounded_forcing.gf_core.errors import GroundedError
from grounded_forcing.gf_core.memory.presets import PRESETS
from grounded_forcing.gf_core.model.wan import WanModel
from grounded_forcing.gf_core.sampling.chunkwise import make_sampler
from grounded_forcing.gf_core.sampling.noise import chunk_noise
from grounded_forcing.gf_core.sampling.sampler import Chunk
from grounded_forcing.nodes.native import loader
from random_weights import randomised
from safetensors.torch import save_file

torch.set_num_threads(1)
SPEC = ModelSpec(dim=256, ffn_dim=512, num_heads=2, num_layers=2)
ROWS, COLUMNS = 4, 6


def wan_tensors():
    """State of a random causal Wan under original names, float32."""
    tensors = randomised(WanModel(SPEC)).state_dict()
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def causal_model():
    """Those weights as a model that core's own autoregressive sampler takes; ends the script where there is none."""
    if not hasattr(sampling, "sample_ar_video"):
        report(host_lacks="this ComfyUI has no autoregressive sampler")
        sys.exit()
    path = Path.cwd() / "models" / "causal.safetensors"
    save_file(wan_tensors(), path, {"config": '{"transformer": {"causal_ar": true}}'})
    return comfy.sd.load_diffusion_model(str(path))


def wan_vae():
    """The host's VAE object with random weights; the oldest host knows only the full width."""
    import inspect

    import comfy.ldm.wan.vae as wan

    options = {"z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    wide = (
        "sd["
        not in inspect.getsource(comfy.sd.VAE.__init__).split("decoder.middle.0.residual.0.gamma")[1][:1800]
    )
    network = randomised(
        wan.WanVAE(dim=96 if wide else 16, temperal_downsample=[False, True, True], **options), 1
    )
    return comfy.sd.VAE(sd=dict(network.state_dict()))


class StubClip:
    """Looks like a Wan CLIP; every prompt has its own random rows."""

    def __init__(self):
        self.cond_stage_model = torch.nn.Linear(2, 2)
        device = torch.device("cpu")
        self.patcher = comfy.model_patcher.ModelPatcher(self.cond_stage_model, device, device)

    def tokenize(self, text):
        return {"umt5xxl": [text]}

    def encode_from_tokens_scheduled(self, tokens):
        text = tokens["umt5xxl"][0]
        generator = torch.Generator().manual_seed(len(text))
        rows = torch.zeros(1, 600 if text == "long" else 512, 4096)
        used = rows.shape[1] if text == "long" else len(text)
        rows[:, :used] = torch.randn(1, used, 4096, generator=generator) * 0.1
        return [[rows, {"pooled_output": None}]]


def load(request_model, **options):
    """What Load Model gives, with a stub for the text encoder and a tiny VAE, as the real ones are too large here."""
    kept = loader._load_text, loader._load_vae
    loader._load_text = lambda choice: (StubClip(), choice)
    loader._load_vae = lambda choice: (VAE, choice)
    try:
        return loader.load(loader.Request(model=request_model, **options))
    finally:
        loader._load_text, loader._load_vae = kept


@torch.no_grad()
def film(bundle, memory: MemorySpec | None = None, chunks=4, seed=3):
    """Latents [1 f c h w] of a short film with a prompt switch in the middle."""
    if bundle.ready is not None:
        bundle.ready(0)
    sampler = make_sampler(
        bundle.model,
        bundle.spec,
        replace(bundle.recipe, memory=memory or PRESETS["grounded"]),
        latent_height=ROWS,
        latent_width=COLUMNS,
        device=bundle.device,
        dtype=bundle.dtype,
        kernel=bundle.kernel,
        writer=bundle.writer,
    )
    shape = (1, 3, bundle.spec.in_dim, ROWS, COLUMNS)
    texts = [rows[None] for rows in bundle.text.encode(["a fox", "an owl flies"])]
    out = []
    for chunk in range(chunks):
        if chunk == 0:
            sampler.director.start(texts[0])
        elif chunk == chunks // 2:
            sampler.director.switch(texts[1])
        number = chunk

        def noise(step, number=number):
            return chunk_noise(seed, number, step, shape)

        out += [clean.latents.float() for clean in sampler.feed(Chunk(chunk, noise))]
    if bundle.done is not None:
        bundle.done()
    return torch.cat(out, dim=1)


def gap(a, b):
    """Largest difference relative to the size of b."""
    return float((a - b).abs().max() / b.abs().max())


def report(**facts):
    """The script's answer, on the last line."""
    print(json.dumps(facts))


VAE = SimpleNamespace(first_stage_model=None)
"""Replaced by the script with `wan_vae()`."""


def refused(call):
    """The words of a refusal; empty when there was none."""
    try:
        call()
    except GroundedError as error:
        return str(error)
    return ""
