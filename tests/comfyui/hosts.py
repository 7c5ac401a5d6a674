"""Where the ComfyUI checkouts are that the tests drive, and a throw-away base directory for each.

Looked for in this order: every path in GROUNDED_HOSTS (separated like PATH), COMFYUI_PATH, the ComfyUI this pack
is installed in (custom_nodes/), ~/comfy/ComfyUI. The host's own Python is COMFYUI_PYTHON or a venv near it.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PACK = "grounded_forcing"
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("models", "custom_nodes", "input", "output", "temp", "user")


@dataclass(frozen=True)
class Host:
    """One ComfyUI checkout."""

    path: Path
    """folder that holds main.py"""
    python: Path
    """interpreter that has the host's packages"""
    version: str
    """as comfyui_version.py says, e.g. "0.33.0" """

    @property
    def name(self) -> str:
        """Short text for test ids."""
        return f"comfyui-{self.version}"


def _interpreters(comfy: Path) -> list[Path]:
    named = os.environ.get("COMFYUI_PYTHON")
    if named:
        return [Path(os.path.expanduser(named))]
    folders = [comfy.parent / "venv", comfy / ".venv", comfy / "venv", comfy.parent / ".venv"]
    found = [folder / place for folder in folders for place in ("bin/python", "Scripts/python.exe")]
    embedded = ("python_embeded", "python_embedded")
    return found + [comfy.parent / folder / "python.exe" for folder in embedded]


def _version(comfy: Path) -> str:
    stated = comfy / "comfyui_version.py"
    match = re.search(r'__version__\s*=\s*"([^"]+)"', stated.read_text()) if stated.exists() else None
    return match[1] if match else "unknown"


def _host(comfy: Path) -> Host | str:
    """The host at `comfy`, or one line that says why there is none."""
    if not (comfy / "main.py").exists() or not (comfy / "comfy").is_dir():
        return f"{comfy}: no ComfyUI there"
    tried = _interpreters(comfy)
    python = next((path for path in tried if path.exists()), None)
    if python is None:
        return f"{comfy}: no Python for it found; name one in COMFYUI_PYTHON"
    return Host(comfy, python, _version(comfy))


@lru_cache(maxsize=1)
def find_hosts() -> tuple[tuple[Host, ...], str]:
    """The hosts to test with (usually one) and, when there is none, the reason."""
    several = [
        Path(os.path.expanduser(p)) for p in os.environ.get("GROUNDED_HOSTS", "").split(os.pathsep) if p
    ]
    if several:
        looked = [_host(path) for path in several]
        wrong = [text for text in looked if isinstance(text, str)]
        if wrong:
            raise FileNotFoundError(f"GROUNDED_HOSTS: {'; '.join(wrong)}")
        return tuple(host for host in looked if isinstance(host, Host)), ""
    if os.environ.get("COMFYUI_PATH"):
        candidates = [Path(os.path.expanduser(os.environ["COMFYUI_PATH"]))]
    else:
        inside = [ROOT.parent.parent] if ROOT.parent.name == "custom_nodes" else []
        candidates = [*inside, Path(os.path.expanduser("~/comfy/ComfyUI"))]
    looked = [_host(path) for path in candidates]
    found = tuple(host for host in looked if isinstance(host, Host))[:1]
    return found, "; ".join(text for text in looked if isinstance(text, str)) + " (set COMFYUI_PATH)"


def make_base(folder: Path) -> Path:
    """A base directory (models, input, output, ...) with this pack linked into custom_nodes; returns `folder`."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    link = folder / "custom_nodes" / PACK
    if not link.exists():
        link.symlink_to(ROOT, target_is_directory=True)
    return folder


def run_script(host: Host, base: Path, script: Path, *args: str, timeout: float = 280) -> str:
    """Run a test script with the host's Python, on the CPU and with the pack importable as `grounded_forcing`.

    The script needs no set-up lines of its own (see boot.py). Returns its standard output.
    Raises RuntimeError with the end of its error output when it fails.
    """
    boot = Path(__file__).with_name("boot.py")
    done = subprocess.run(
        [str(host.python), str(boot), str(host.path), str(base), str(script), *args],
        cwd=base,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"{script.name} failed in {host.name}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
        )
    return done.stdout
