"""Gives a ComfyUI checkout an environment of its own that runs on the processor, for `make test-comfyui`.

    python dev/comfyui/setup.py [~/comfy/ComfyUI]

Makes CHECKOUT/.venv (2 to 7 GB, some minutes) unless the checkout already has a Python near it that can run it. Nothing
else of the checkout is touched, and nothing is installed outside that folder; started again after a failure it goes on.
Which torch comes, for cards or for the processor only, is pip's to decide (PIP_EXTRA_INDEX_URL); both work.

It fetches packages and nothing else: ComfyUI itself has to be there (`git clone`), and a Chromium for the tests of the
browser's page; where one is missing it says so, with what to do.
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
NEEDED = ("torch", "torchvision", "torchaudio", "transformers", "aiohttp", "av", "comfyui_frontend_package")
"""without one of these main.py does not start, or has no page to show"""
IMPORT = """import sys
for name in sys.argv[1:]:
    try:
        __import__(name)
    except BaseException:
        sys.exit(name)
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def python_of(folder: Path) -> Path:
    """The interpreter of an environment, there or not."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_environment(folder: Path) -> None:
    """Create it, install everything, and make the parts built for cards step aside; what is there already is kept.

    Raises subprocess.CalledProcessError when pip or venv fails (they have said why).
    """
    python = str(python_of(folder))
    if lacks(python, "pip"):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, *TORCH, *PACKAGES, *FRONT_END], check=True)
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    asked = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    site = Path(asked.stdout.strip())
    if lacks(python, "torchaudio"):
        # All that ComfyUI needs of it is Python; its compiled part needs a card's libraries.
        for compiled in (site / "torchaudio" / "lib").glob("*.so"):
            compiled.unlink()
    if lacks(python, "torchvision"):
        shutil.copy(Path(__file__).with_name("cpu_sitecustomize.py"), site / "sitecustomize.py")


def lacks(python: str, *modules: str) -> str:
    """The first module that cannot be imported by an interpreter, "" when all can."""
    try:
        done = subprocess.run([python, "-c", IMPORT, *modules], check=False, capture_output=True, text=True)
    except OSError:
        return modules[0]
    # What a module itself may have printed comes before the name; a crash leaves none.
    return (done.stderr.strip().split("\n")[-1] or modules[0]) if done.returncode else ""


def find_python(checkout: Path) -> str:
    """The interpreter that the tests will take for a checkout, "" when there is none."""
    if os.environ.get("COMFYUI_PYTHON"):
        return os.path.expanduser(os.environ["COMFYUI_PYTHON"])
    found = (python_of(checkout / place) for place in PYTHONS)
    return next((str(python) for python in found if python.exists()), "")


def say_browser() -> None:
    """A line about Chromium where none is found."""
    if not os.environ.get("CHROMIUM") and not any(map(shutil.which, BROWSERS)):
        say(
            "no Chromium found: the tests of the browser's page will be skipped (install one, or name it in CHROMIUM)"
        )


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")
    parser.add_argument(
        "checkout", nargs="?", default=default, help=f"folder with main.py (default: {default})"
    )
    checkout = Path(os.path.expanduser(parser.parse_args().checkout)).absolute()
    if not (checkout / "main.py").exists():
        say(f"no ComfyUI in {checkout}. This script does not fetch it:")
        say(f"  git clone --depth 1 https://github.com/comfyanonymous/ComfyUI {checkout}")
        say("or name another checkout in COMFYUI_PATH.")
        return 1
    say_browser()
    own, python = python_of(checkout / ".venv"), find_python(checkout)
    missing = lacks(python, *NEEDED) if python else ""
    if python and not missing:
        say(f"ComfyUI's Python: {python}")
        return 0
    if python and not Path(python).exists():
        say(f"COMFYUI_PYTHON names {python}, which is not there")
        return 1
    if python and Path(python) != own:
        say(f"{python} cannot import {missing}, and it is not this script's to change.")
        say("Install ComfyUI's requirements there, or name another interpreter in COMFYUI_PYTHON.")
        return 1
    say(f"making {checkout / '.venv'} ...")
    try:
        make_environment(checkout / ".venv")
    except subprocess.CalledProcessError as error:
        say(f"this failed, with the reason above: {' '.join(map(str, error.cmd[:5]))} ...")
        say("Packages come from pip's index, so it needs the net; start it again to go on.")
        return 1
    missing = lacks(str(own), *NEEDED)
    say(f"the new environment cannot import {missing}" if missing else f"ComfyUI's Python: {own}")
    return int(bool(missing))


if __name__ == "__main__":
    raise SystemExit(main())
