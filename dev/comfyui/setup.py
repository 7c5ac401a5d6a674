"""Gives a ComfyUI checkout an environment of its own that runs on the processor, for `make test-comfyui`.

    python dev/comfyui/setup.py [~/comfy/ComfyUI]

Makes CHECKOUT/.venv (about 2 GB, a few minutes) unless the checkout already has a Python near it. Nothing else of
the checkout is touched, and nothing is installed outside that folder. Which torch comes, for cards or for the
processor only, is pip's to decide (PIP_EXTRA_INDEX_URL); both work.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

TORCH = ("torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0")
"""torch is named in every install, so that no other package moves it"""
FRONT_END = (
    "comfyui-frontend-package==1.35.9",
    "comfyui-workflow-templates==0.1.95",
    "comfyui-embedded-docs==0.2.6",
)
"""the oldest front end that the pack supports; the workflows are saved with it"""
PACKAGES = (
    *("transformers>=4.50.3,<5", "diffusers==0.39.0", "torchsde", "einops", "tokenizers", "sentencepiece"),
    *(
        "safetensors",
        "aiohttp",
        "yarl",
        "pyyaml",
        "Pillow",
        "scipy",
        "tqdm",
        "psutil",
        "alembic",
        "SQLAlchemy>=2",
    ),
    *("filelock", "av>=16", "requests", "simpleeval>=1.0.0", "blake3", "kornia", "spandrel"),
    *("pydantic~=2.0", "pydantic-settings~=2.0", "comfy-kitchen==0.2.31", "comfy-aimdo==0.4.13"),
    *("PyOpenGL>=3.1.8", "comfy-angle"),
)
"""what ComfyUI 0.3.64 to 0.33 import, together"""
PYTHONS = ("../venv", ".venv", "venv", "../.venv")
"""where the tests look for a checkout's Python"""


def python_of(folder: Path) -> Path:
    """The interpreter of an environment, there or not."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_environment(folder: Path) -> None:
    """Create it, install everything, and make the parts built for cards step aside."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(python_of(folder))
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, *TORCH, *PACKAGES, *FRONT_END], check=True)
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(
        subprocess.run([python, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
    )
    if not imports(python, "torchaudio"):
        # All that ComfyUI needs of it is Python; its compiled part needs a card's libraries.
        for compiled in (site / "torchaudio" / "lib").glob("*.so"):
            compiled.unlink()
    if not imports(python, "torchvision"):
        shutil.copy(Path(__file__).with_name("cpu_sitecustomize.py"), site / "sitecustomize.py")


def imports(python: str, module: str) -> bool:
    """Whether a module can be imported there."""
    return (
        subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")
    parser.add_argument(
        "checkout", nargs="?", default=default, help=f"folder with main.py (default: {default})"
    )
    checkout = Path(parser.parse_args().checkout).expanduser()
    say = sys.stdout.write
    if not (checkout / "main.py").exists():
        say(f"no ComfyUI in {checkout}: clone it there, or name another folder in COMFYUI_PATH\n")
        return 1
    found = [python_of(checkout / place) for place in PYTHONS if python_of(checkout / place).exists()]
    if os.environ.get("COMFYUI_PYTHON") or found:
        say(f"ComfyUI's Python: {os.environ.get('COMFYUI_PYTHON') or found[0]}\n")
        return 0
    say(f"making {checkout / '.venv'} ...\n")
    make_environment(checkout / ".venv")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
