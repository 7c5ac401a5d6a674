"""Installing the pack moves nothing of a ComfyUI that is there, and its nodes import with what that one brings."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import torch

from gf_core.errors import GroundedError
from gf_core.text.tokens import JsonTokenizer, SentencePieceTokenizer
from gf_core.text.umt5 import build
from gf_core.vae.load import build_vae

from .conftest import ROOT

HOSTS = {
    "2025": {"transformers": "4.50.3", "huggingface_hub": "0.30.0", "numpy": "1.25.2", "av": "14.2.0"},
    "transformers-4": {
        "transformers": "4.57.6",
        "huggingface_hub": "0.36.2",
        "numpy": "1.26.4",
        "av": "16.0.1",
    },
    "transformers-5": {
        "transformers": "5.23.0",
        "huggingface_hub": "2.4.0",
        "numpy": "2.4.6",
        "av": "18.1.0",
        "diffusers": "0.42.1",
    },
}
"""What differs between three years of ComfyUI; `BROUGHT` is in all of them."""
BROUGHT = {
    "torch": "2.13.0",
    "einops": "0.8.0",
    "tokenizers": "0.21.0",
    "sentencepiece": "0.2.0",
    "safetensors": "0.4.5",
    "pillow": "11.0.0",
    "psutil": "6.0.0",
}
NOT_BROUGHT = ("diffusers", "transformers", "ftfy", "sentencepiece", "huggingface_hub")
IMPORT_ALL = """
import importlib.util, pathlib, sys, types
ROOT, absent = pathlib.Path(sys.argv[1]), sys.argv[2].split(",")

class AnyType(type):
    def __getattr__(cls, name):
        return cls if not name.startswith("__") else super().__getattribute__(name)

class Anything(metaclass=AnyType):
    def __init__(self, *given, **named): pass
    def __getattr__(self, name): return Anything
    def __call__(self, *given, **named): return self

class Host:
    '''Stand-ins for whatever ComfyUI brings of its own; what it may lack is not there.'''
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=top)
        if top.startswith("comfy") or top in ("folder_paths", "server", "aiohttp"):
            return importlib.util.spec_from_loader(name, self, is_package=True)
    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: getattr(Anything, name)
        return module
    def exec_module(self, module): pass

sys.meta_path.insert(0, Host())
import comfy_api.latest
spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["pack"])
for path in sorted((ROOT / "nodes").rglob("*.py")):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    importlib.import_module(f"pack.{name}")
"""
"""A fresh interpreter in which every module of the nodes is imported without the packages named."""


def put(site: Path, name: str, version: str) -> None:
    """A package as far as pip looks: its name and version."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "RECORD").touch()


@pytest.mark.parametrize("host", HOSTS)
def test_pip_has_nothing_to_do_where_comfyui_is(host: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "host", with_pip=False)
    site = sysconfig.get_path("purelib", "venv", {"base": str(tmp_path / "host")})
    for name, version in {**BROUGHT, **HOSTS[host]}.items():
        put(Path(site), name, version)
    asked = ["--dry-run", "--no-index", "--quiet", "--report", "-", "-r", str(ROOT / "requirements.txt")]
    python = tmp_path / "host" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", *asked]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["install"] == []


def test_every_node_imports_without_what_only_the_command_line_needs() -> None:
    told = [sys.executable, "-c", IMPORT_ALL, str(ROOT), ",".join(NOT_BROUGHT)]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


NEEDED = {
    "diffusers.models.autoencoders.autoencoder_kl_wan": lambda: build_vae(
        {"decoder.mid_block.resnets.0.norm1.gamma": torch.zeros(1)}
    ),
    "transformers": lambda: build({}, torch.float32),
    "sentencepiece": lambda: SentencePieceTokenizer(b""),
    "tokenizers": lambda: JsonTokenizer(Path("tokenizer.json")),
}


@pytest.mark.parametrize("package", NEEDED)
def test_what_only_the_command_line_needs_is_asked_for_in_words(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(GroundedError, match=f"needs the package {package.partition('.')[0]},") as told:
        NEEDED[package]()
    assert told.value.fix.startswith("pip install")
