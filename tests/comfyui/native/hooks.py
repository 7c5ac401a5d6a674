"""What packs do to a MODEL: attention overrides, replaced cross-attention; networks and CLIPs that do not fit."""

import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.append(str(Path(__file__).parent))

import comfy.sd
import tiny
import torch
from grounded_forcing.nodes.native.bundle import native_bundle
from safetensors.torch import save_file


class WrongClip(tiny.StubClip):
    def tokenize(self, text):
        return {"l": [], "g": []}


def told(bundle, plain, want):
    """What is said about every kind of patch; none of them changes the film."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    def changed(change):
        model = plain.clone()
        model = change(model) or model
        made = bundle(model)
        assert tiny.gap(tiny.film(made, chunks=2), want) < 1e-5
        return list(made.notes)

    def nothing(*args, **options):
        raise AssertionError("this is never called")

    def replace_blocks(model):
        for number in range(2):
            model.set_model_patch_replace(nothing, "dit", "double_block", number)

    def replace_attention(model):
        for number in range(2):
            model.add_object_patch(f"diffusion_model.blocks.{number}.self_attn.forward", nothing)

    def feed_forward(model):
        kept = model.model.diffusion_model.blocks[0].ffn.forward
        model.add_object_patch("diffusion_model.blocks.0.ffn.forward", lambda x: kept(x))

    return {
        "plain": changed(lambda model: None),
        "feed-forward": changed(feed_forward),
        "callback": changed(lambda model: model.add_callback_with_key("on_cleanup", "mine", lambda *_: None)),
        "wrapper": changed(lambda model: model.add_wrapper_with_key("diffusion_model", "easycache", nothing)),
        "unnamed wrapper": changed(lambda model: model.add_wrapper("apply_model", nothing)),
        "function wrapper": changed(lambda model: model.set_model_unet_function_wrapper(nothing)),
        "cfg": changed(lambda model: model.set_model_sampler_cfg_function(nothing)),
        "after cfg": changed(lambda model: model.set_model_sampler_post_cfg_function(nothing)),
        "blocks": changed(replace_blocks),
        "patch": changed(lambda model: model.set_model_attn1_patch(nothing)),
        "attention": changed(replace_attention),
        "schedule": changed(lambda model: ModelSamplingSD3().patch(model, 3.0)[0]),
        "compiled": changed(
            lambda model: model.add_object_patch("diffusion_model", model.model.diffusion_model)
        ),
    }


@torch.inference_mode()
def main():
    vae, clip = tiny.wan_vae(), tiny.StubClip()
    tensors = tiny.wan_tensors()
    path = Path.cwd() / "models" / "wan.safetensors"
    save_file(tensors, path)
    plain = comfy.sd.load_diffusion_model(str(path))

    def bundle(model, clip=clip, vae=vae):
        return native_bundle(model, clip, vae, assume="self_forcing")

    want, facts, calls = tiny.film(bundle(plain), chunks=2), {}, []

    def override(function, *args, **options):
        calls.append(args[0].shape)
        return function(*args, **options)

    overridden = plain.clone()
    overridden.model_options.setdefault("transformer_options", {})["optimized_attention_override"] = override
    facts["override"] = tiny.gap(tiny.film(bundle(overridden), chunks=2), want)
    facts["override_calls"] = len(calls)

    inner = plain.model.diffusion_model.blocks[0].cross_attn
    kept, seen = inner.forward, []

    def forward(x, context, **options):
        seen.append(context.shape[1])
        return kept(x, context, **options)

    replaced = plain.clone()
    replaced.add_object_patch("diffusion_model.blocks.0.cross_attn.forward", forward)
    facts["replaced"] = tiny.gap(tiny.film(bundle(replaced), chunks=2), want)
    facts["replaced_rows"] = sorted(set(seen))
    facts["replaced_known"] = bundle(replaced).fingerprint != bundle(plain).fingerprint
    facts["put_back"] = tiny.gap(tiny.film(bundle(plain), chunks=2), want)

    facts["notes"] = told(bundle, plain, want)

    image = dict(tensors)
    image["patch_embedding.weight"] = torch.zeros(256, 36, 1, 2, 2)
    for name in (
        "img_emb.proj.0.weight",
        "img_emb.proj.0.bias",
        "img_emb.proj.4.weight",
        "img_emb.proj.4.bias",
    ):
        image[name] = torch.zeros(1280 if ".0." in name else 256)
    image["img_emb.proj.1.weight"], image["img_emb.proj.1.bias"] = torch.zeros(1280, 1280), torch.zeros(1280)
    image["img_emb.proj.3.weight"], image["img_emb.proj.3.bias"] = torch.zeros(256, 1280), torch.zeros(256)
    i2v = comfy.sd.load_diffusion_model_state_dict(image)
    other = SimpleNamespace(model=SimpleNamespace(diffusion_model=torch.nn.Linear(1, 1)))
    facts["refusals"] = {
        "i2v": tiny.refused(lambda: bundle(i2v)),
        "other": tiny.refused(lambda: bundle(other)),
        "clip": tiny.refused(lambda: bundle(plain, clip=WrongClip())),
        "no vae": tiny.refused(lambda: bundle(plain, vae=None)),
    }
    tiny.report(**facts)


main()
