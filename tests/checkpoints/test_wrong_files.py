"""Wrong files are refused in words, before anything is loaded: every message as a person reads it."""

from __future__ import annotations

import pickle
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gf_core.checkpoints.bundle import load_model
from gf_core.errors import CheckpointError

sys.path.insert(0, str(Path(__file__).parent))
from published import Codec, Text, build, plain, row_of


def wan():
    return plain(row_of("self_forcing"))[0]


def shapes(**named):
    return {name.replace("__", "."): torch.ones(shape) for name, shape in named.items()}


def saved(tensors, path):
    save_file(tensors, path)
    return path


def lora(width):
    down, up = (f"blocks.0.self_attn.q.lora_{side}.weight" for side in "AB")
    return {down: torch.ones(4, width), up: torch.ones(width, 4)}


class Command:
    def __reduce__(self):
        return print, ("run",)


def with_code(path):
    path.write_bytes(pickle.dumps({"generator": Command()}))
    return path


def cut(path):
    whole = saved(wan(), path).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    return path


def widened(tensors, channels):
    shape = list(tensors["patch_embedding.weight"].shape)
    shape[1] = channels
    return {**tensors, "patch_embedding.weight": torch.ones(shape)}


CASES = {
    "bidirectional": lambda d: saved(wan(), d / "wan2.1_t2v_1.3B_bf16.safetensors"),
    "image head": lambda d: saved(
        {**widened(wan(), 36), "img_emb.proj.0.weight": torch.ones(8)}, d / "wan2.1_i2v_480p_14B.safetensors"
    ),
    "wan 2.2 5b": lambda d: saved(
        {**widened(wan(), 48), "head.head.weight": torch.ones(4 * 48, 128)}, d / "wan2.2_ti2v_5B.safetensors"
    ),
    "control inputs": lambda d: saved(widened(wan(), 48), d / "wan2.1_fun_control_1.3B.safetensors"),
    "vae": lambda d: saved(
        shapes(decoder__conv1__weight=(8, 16, 3, 3, 3), decoder__middle__0__residual__0__gamma=(8,)),
        d / "wan_2.1_vae.safetensors",
    ),
    "text encoder": lambda d: saved(
        shapes(blocks__0__pos_embedding__embedding__weight=(32, 2)), d / "umt5_xxl_fp16.safetensors"
    ),
    "sdxl": lambda d: saved(
        shapes(
            model__diffusion_model__input_blocks__0__0__weight=(320, 4, 3, 3),
            model__diffusion_model__label_emb__0__0__weight=(8, 8),
            first_stage_model__decoder__conv_in__weight=(8, 4, 3, 3),
        ),
        d / "sd_xl_base_1.0.safetensors",
    ),
    "flux": lambda d: saved(
        shapes(double_blocks__0__img_attn__qkv__weight=(24, 8), img_in__weight=(8, 64)),
        d / "flux1-dev.safetensors",
    ),
    "truncated": lambda d: cut(d / "self_forcing_dmd.safetensors"),
    "pickle with code": lambda d: with_code(d / "self_forcing_dmd.pt"),
    "nvfp4": lambda d: build(row_of("self_forcing_nvfp4"), d / "x").rename(d / "mine_nvfp4.safetensors"),
    "lora as model": lambda d: saved(lora(128), d / "style_lora.safetensors"),
    "loha as model": lambda d: saved(
        shapes(blocks__0__self_attn__q__hada_w1_a=(128, 4)), d / "style_loha.safetensors"
    ),
    "lora of another width": lambda d: saved(lora(5120), d / "style_lora_14b.safetensors"),
}


MESSAGES = Path(__file__).with_name("wrong_files.txt")
"""What each case says, as it stands; `python test_wrong_files.py` writes it anew."""


def said(case: str, folder: Path) -> str:
    if case in ("lora of another width", "nvfp4"):
        model = CASES[case](folder) if case == "nvfp4" else build(row_of("self_forcing"), folder)
        loras = [] if case == "nvfp4" else [(CASES[case](folder), 1.0)]
        assume = "self_forcing" if case == "nvfp4" else None
    else:
        model, loras, assume = CASES[case](folder), [], None
    with pytest.raises(CheckpointError) as error:
        load_model(model, text=Text(), vae=Codec(), loras=loras, assume=assume)
    return str(error.value)


def read() -> dict[str, str]:
    parts = MESSAGES.read_text(encoding="utf-8").split("## ")[1:]
    return {title: body.strip() for title, _, body in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize("case", CASES)
def test_every_wrong_file_is_refused_in_these_words(case, tmp_path):
    assert said(case, tmp_path) == read()[case]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        told = []
        for number, case in enumerate(CASES):
            folder = Path(home) / str(number)
            folder.mkdir()
            told.append(f"## {case}\n{said(case, folder)}\n")
    MESSAGES.write_text("\n".join(told), encoding="utf-8")
