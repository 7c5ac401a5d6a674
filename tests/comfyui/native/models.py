"""The same random weights through every way into ComfyUI: all must make the same film."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

import comfy.sd
import tiny
import torch
from grounded_forcing.gf_core.checkpoints.keymaps import original_to_diffusers, rename
from grounded_forcing.gf_core.checkpoints.load import build_network
from grounded_forcing.gf_core.files.tensors import open_file
from grounded_forcing.nodes.native import builtin, files, loader
from grounded_forcing.nodes.native.bundle import native_bundle
from safetensors.torch import save_file

DIFFUSION, LORAS = Path.cwd() / "models/diffusion_models", Path.cwd() / "models/loras"
TEXT = Path.cwd() / "models/text_encoders"
for folder in (DIFFUSION, LORAS, TEXT):
    folder.mkdir(parents=True, exist_ok=True)
(TEXT / "t5_small.safetensors").touch()
RANK = 4


def loras(tensors):
    """The same LoRA under core's names and under PEFT's."""
    generator = torch.Generator().manual_seed(9)
    modules = [f"blocks.{n}.{part}" for n in range(2) for part in ("self_attn.q", "cross_attn.v", "ffn.0")]
    core, peft = {}, {}
    for module in modules:
        out, into = tensors[f"{module}.weight"].shape
        down = torch.randn(RANK, into, generator=generator) * 0.1
        up = torch.randn(out, RANK, generator=generator) * 0.1
        core |= {
            f"diffusion_model.{module}.lora_A.weight": down,
            f"diffusion_model.{module}.lora_B.weight": up,
        }
        peft |= {
            f"base_model.model.model.{module}.lora_A.default.weight": down,
            f"base_model.model.model.{module}.lora_B.default.weight": up,
        }
    save_file(peft, LORAS / "peft.safetensors")
    save_file(
        {f"unet.strange.{n}.lora_{part}.weight": torch.zeros(2, 2) for n in "ab" for part in "AB"},
        LORAS / "other.safetensors",
    )
    return core


def scaled(tensors):
    """The weights of the blocks as fp8 with a scale each, as some repackaged files have them."""
    out = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, value in tensors.items():
        linear = name.startswith("blocks.") and value.ndim == 2
        scale = value.abs().max() / 448 if linear else None
        out[name] = value if scale is None else (value / scale).to(torch.float8_e4m3fn)
        if scale is not None:
            out[name.removesuffix("weight") + "scale_weight"] = scale
    return out


@torch.inference_mode()
def main():
    tiny.VAE = tiny.wan_vae()
    tensors, clip = tiny.wan_tensors(), tiny.StubClip()
    save_file(tensors, DIFFUSION / "self_forcing_dmd.safetensors")
    save_file(tensors, DIFFUSION / "renamed.safetensors")
    wrapped = {f"model._fsdp_wrapped_module.{name}": value for name, value in tensors.items()}
    torch.save({"generator_ema": wrapped, "generator": {}, "step": 1}, DIFFUSION / "training.pt")
    save_file(rename(tensors, original_to_diffusers), DIFFUSION / "sfwan2.1_diffusers.safetensors")
    core_lora = loras(tensors)

    def bundle(model, **options):
        return native_bundle(model, clip, tiny.VAE, **options)

    plain = comfy.sd.load_diffusion_model(str(DIFFUSION / "self_forcing_dmd.safetensors"))
    by_name = bundle(plain, model_file="self_forcing_dmd.safetensors")
    want = tiny.film(by_name)
    facts = {"size": float(want.std())}
    for file in ("self_forcing_dmd.safetensors", "training.pt", "sfwan2.1_diffusers.safetensors"):
        loaded = tiny.load(file)
        facts[file] = tiny.gap(tiny.film(bundle(loaded.model)), want)
        facts.setdefault("info", loaded.info)
    own = open_file(DIFFUSION / "self_forcing_dmd.safetensors").tree
    alone = bundle(tiny.load("self_forcing_dmd.safetensors").model)
    alone.model = build_network(alone.spec, own)
    alone.ready = alone.done = None
    facts["standalone"] = tiny.gap(tiny.film(alone), want)

    patched, _ = comfy.sd.load_lora_for_models(plain, None, core_lora, 0.7, 0.0)
    by_core = bundle(patched, model_file="self_forcing_dmd.safetensors")
    with_lora = tiny.film(by_core)
    ours = bundle(tiny.load("self_forcing_dmd.safetensors", lora="peft.safetensors", lora_strength=0.7).model)
    facts["lora"] = tiny.gap(tiny.film(ours), with_lora)
    facts["lora_changes"] = tiny.gap(with_lora, want)
    facts["unpatched_again"] = tiny.gap(tiny.film(by_name), want)
    facts["fingerprints"] = len({by_name.fingerprint, by_core.fingerprint})
    facts["fingerprint_again"] = bundle(plain, assume="self_forcing").fingerprint == by_name.fingerprint

    part, _ = comfy.sd.load_lora_for_models(
        comfy.sd.load_diffusion_model(str(DIFFUSION / "self_forcing_dmd.safetensors")),
        None,
        core_lora,
        0.7,
        0.0,
    )
    part.load(torch.device("cpu"), lowvram_model_memory=1_000_000)
    little = bundle(part, assume="self_forcing")
    little.ready = None
    facts["partial"] = tiny.gap(tiny.film(little), with_lora)
    facts["partial_modules"] = sum(bool(getattr(m, "weight_function", None)) for m in part.model.modules())

    rounded = {
        precision: bundle(tiny.load("self_forcing_dmd.safetensors", precision=precision).model)
        for precision in ("auto", "fp32", "bf16", "fp8_e4m3fn")
    }
    facts["told_apart"] = len({(b.fingerprint, str(b.dtype)) for b in rounded.values()})
    facts["as_it_is"] = rounded["fp32"].fingerprint == rounded["auto"].fingerprint
    fp8 = rounded["fp8_e4m3fn"]
    facts["fp8"] = tiny.gap(tiny.film(fp8), want)
    facts["fp8_stored"] = str(next(fp8.model.blocks.parameters()).dtype)

    save_file(scaled(tensors), DIFFUSION / "self_forcing_dmd_scaled.safetensors")
    packed = bundle(tiny.load("self_forcing_dmd_scaled.safetensors").model)
    facts["scaled_fp8"] = tiny.gap(tiny.film(packed), want)

    facts["long_prompt"] = len(by_name.text.encode(["long"])[0])
    save_file({"conv_in.weight": torch.zeros(8, 4, 3, 3)}, DIFFUSION / "wrong.safetensors")
    facts["refusals"] = {
        "not causal": tiny.refused(lambda: bundle(plain, model_file="renamed.safetensors")),
        "no file": tiny.refused(lambda: bundle(plain)),
        "load not causal": tiny.refused(lambda: tiny.load("renamed.safetensors")),
        "lora": tiny.refused(lambda: tiny.load("self_forcing_dmd.safetensors", lora="other.safetensors")),
        "missing": tiny.refused(lambda: tiny.load("self_forcing_dmdd.safetensors")),
        "no text encoder": tiny.refused(lambda: files.find("text_encoders", files.TEXT_PATTERNS)),
        "no vae": tiny.refused(lambda: files.find("vae", files.VAE_PATTERNS)),
        "wrong before missing": tiny.refused(lambda: loader.judge("wrong.safetensors")),
        "assumed": tiny.refused(lambda: bundle(plain, assume="self_forcing")),
        "built-in vae": tiny.refused(
            lambda: native_bundle(plain, clip, builtin.make_vae(), assume="self_forcing")
        ),
    }
    tiny.report(**facts)


main()
