"""Stand-ins for the files that the workflows name, so that their lists know them: empty files and one picture."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from .hosts import ROOT

FILES = {
    "diffusion_models": ("longlive_base.pt",),
    "loras": ("lora.pt",),
    "text_encoders": ("umt5_xxl_fp8_e4m3fn_scaled.safetensors",),
    "vae": ("wan_2.1_vae.safetensors",),
}
"""model folder -> the files that 03_your_wan_model chooses"""
PICTURE = "example.png"
"""the picture that ComfyUI itself puts into input/"""


def fill_models(base: Path) -> Path:
    """Put the stand-ins into a base directory; returns it."""
    for folder, names in FILES.items():
        (base / "models" / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (base / "models" / folder / name).touch()
    (base / "input").mkdir(parents=True, exist_ok=True)
    with Image.open(ROOT / "workflows" / "pictures" / "fox.jpg") as picture:
        picture.save(base / "input" / PICTURE)
    return base
