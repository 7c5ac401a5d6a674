"""The bytes of films: SHA-256 of latents and film per storyboard and memory, to hold one version against another.

    python dev/bench/bytes.py [--json FILE] [--against FILE] [--short]

The shipped storyboards with the built-in model's own memory, then one storyboard with every verb and option under each
preset. The last bit of a sum depends on the machine and the number of threads (two here): compare on one machine only.
`--against` names the first difference per film and ends with status 1; `--short` leaves the shipped storyboards out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gf_core import load_model
from gf_core.checkpoints.model_bundle import ModelBundle
from gf_core.config import MemorySpec
from gf_core.engine.render import render_film
from gf_core.memory.presets import PRESETS

BOARDS = Path(__file__).resolve().parents[2] / "workflows" / "storyboards"
SHIPPED = ("first_film", "nine_segments")
EVERYTHING = """\
@seed 5
a red fox walks right in a meadow at noon | 3s
then: it jumps | 3s | recache 0.6
then: it strolls to the left | 3s | blend 1.5s
cut: the same red fox dances on a beach at sunset | 2.25s | seed 11
then: it sleeps | 2.25s
scene: a blue owl stands still in the forest at night | 2.25s
then: it jumps | 1.5s
"""
"""Every verb, and every option that changes what is sampled."""


def _digest(*paths: Path) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def film_bytes(
    bundle: ModelBundle, text: str, folder: Path, memory: MemorySpec | None = None
) -> dict[str, str]:
    """Render `text` from nothing in `folder`; digests of all latents in order, and of the growing film."""
    recipe = replace(bundle.recipe, memory=memory or bundle.recipe.memory)
    result = render_film(
        bundle, text, folder / "film.mp4", take_folder=folder / "take", recipe=recipe, sheet=False
    )
    latents = sorted(result.run.glob("latents/*.safetensors"))
    return {
        "latents": _digest(*latents),
        "film": _digest(result.run / "film.mp4"),
        "chunks": str(len(latents)),
    }


def all_films(short: bool) -> dict[str, dict[str, str]]:
    """Name of a film -> its digests."""
    bundle, found = load_model("builtin"), {}
    jobs: list[tuple[str, str, Any]] = [
        (f"everything, {name}", EVERYTHING, spec) for name, spec in PRESETS.items()
    ]
    if not short:
        jobs = [(name, (BOARDS / f"{name}.txt").read_text(encoding="utf-8"), None) for name in SHIPPED] + jobs
    for name, text, memory in jobs:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = film_bytes(bundle, text, Path(folder), memory)
        print(
            f"{name:<36} latents {found[name]['latents'][:16]}  film {found[name]['film'][:16]}", flush=True
        )
    return found


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="digests of films, to hold one version against another")
    parser.add_argument("--json", type=Path, help="write them there")
    parser.add_argument("--against", type=Path, help="a file of another version")
    parser.add_argument("--short", action="store_true", help="leave the shipped storyboards out")
    options = parser.parse_args()
    torch.set_num_threads(2)
    found = all_films(options.short)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.against is None:
        return 0
    before = json.loads(options.against.read_text())
    differ = [
        f"{name}: {kind}"
        for name, film in found.items()
        for kind in film
        if name in before and before[name][kind] != film[kind]
    ]
    print("\n".join(differ) or "the same bytes")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
