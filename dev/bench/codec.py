"""What the codec alone costs the pictures, with no video model: how sharp they are, and what can still be read in them.

    python dev/bench/codec.py [CODEC ...] [--clips 10] [--fit 80] [--boards 8] [--json FILE]

Half a minute for a codec on an idle core, and two more for `--fit`; the built-in codec without an argument. All scripts
are of seeds that no training sees. Tables:

- PSNR in dB on the character, of single-action clips of 33 pictures, by action and by the place of a picture in its
  latent frame; sharp: energy of the character's gradients over that of the truth, in per cent
- fitted: PSNR of the same clips' first 21 pictures when their latents are moved by `--fit` steps of Adam to what the
  decoder draws best. What it lacks then no latents can give: it is the decoder's limit. What it gains over `as encoded`
  is what the latents did not say in a way that the decoder understands.
- with the storyboards of the suite: true films, straight and through the codec, and what the reader reads in both. The
  difference bounds what a perfect codec would gain there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gf_core.arguments import Parser
from gf_core.builtin import BUILTIN_FOLDER
from gf_core.evaluation.report import percent, run_command
from gf_core.evaluation.suite import (
    SEED,
    evaluate_suite,
    mixed_scripts,
    return_scripts,
    suite_lines,
)
from gf_core.train.objectives import Precision
from gf_core.vae.base import to_uint8
from gf_core.vae.builtin import FRAMES_PER_LATENT, BuiltinCodec, load_codec
from gf_core.world import ACTIONS, render, sample_script, storyboard

FIRST = SEED + 800_000
FITTED_CLIPS, FITTED_FRAMES = 4, 21
HEAD = f"{'':<14}{'all':>7}{'character':>11}   {'by place in the latent frame':<30}{'sharp':>6}"


def clips(count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """`count` clips of every action: pictures `b t h w 3` in 0..1 and the character's mask `b t h w`."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in ACTIONS}
    seed = FIRST
    while any(len(shown) < count for shown in found.values()):
        script = sample_script(random.Random(seed), 3, "single")
        seed += 1
        of_action = found[ACTIONS[script.segments[0].action]]
        if len(of_action) < count:
            shown = render(script)
            of_action.append(
                (torch.from_numpy(shown.frames) / 255, (torch.from_numpy(shown.mask) > 0).float())
            )
    return {
        name: (torch.stack([frames for frames, _ in shown]), torch.stack([mask for _, mask in shown]))
        for name, shown in found.items()
    }


def psnr(pictures: Tensor, truth: Tensor, weight: Tensor) -> float:
    """In dB, over what `weight` `b t h w` counts."""
    error = (pictures - truth).square().mean(-1)
    return -10 * float(torch.log10((error * weight).sum() / weight.sum()))


def gradients(pictures: Tensor, weight: Tensor) -> float:
    """Energy of the differences of neighbouring pixels, both counted by `weight`."""
    across = pictures.diff(dim=-2).square().mean(-1) * weight[..., 1:]
    down = pictures.diff(dim=-3).square().mean(-1) * weight[..., 1:, :]
    return float(across.sum() + down.sum())


@torch.no_grad()
def through(codec: BuiltinCodec, frames: Tensor) -> Tensor:
    """Clips `b t h w 3` encoded and decoded."""
    return torch.cat([codec.decoder().decode(codec.encode(clip)) for clip in frames]).view_as(frames)


def score(pictures: Tensor, truth: Tensor, mask: Tensor) -> dict[str, Any]:
    """All figures of one action."""
    places = [slice(1 + place, None, FRAMES_PER_LATENT) for place in range(FRAMES_PER_LATENT)]
    return {
        "all": psnr(pictures, truth, torch.ones_like(mask)),
        "character": psnr(pictures, truth, mask),
        "places": [psnr(pictures[:, p], truth[:, p], mask[:, p]) for p in places],
        "sharp": gradients(pictures, mask) / gradients(truth, mask),
    }


def fitted(codec: BuiltinCodec, frames: Tensor, mask: Tensor, steps: int) -> tuple[float, float]:
    """PSNR on the character of latents as they are encoded, and after `steps` steps towards the truth."""
    codec.requires_grad_(False)
    frames, mask = frames[:FITTED_CLIPS, :FITTED_FRAMES], mask[:FITTED_CLIPS, :FITTED_FRAMES]
    latents = codec.encode_batch(frames).requires_grad_()
    adam = torch.optim.Adam([latents], 0.03)
    figures = []
    for step in range(steps + 1):
        with Precision().autocast():
            pictures = codec.decode_batch(latents).float()
        if step in (0, steps):
            figures.append(psnr(pictures.detach().clamp(0, 1), frames, mask))
        adam.zero_grad()
        (100 * ((1 + 4 * mask)[..., None] * (pictures - frames).square()).mean()).backward()
        adam.step()
    return figures[0], figures[-1]


def row(name: str, figures: dict[str, Any]) -> str:
    """One line of the first table."""
    places = "  ".join(f"{value:.1f}" for value in figures["places"])
    sharp = percent(figures["sharp"])
    return f"{name:<14}{figures['all']:>7.2f}{figures['character']:>11.2f}   {places:<30}{sharp:>6}"


def true_films(boards: int) -> Iterator[tuple[str, np.ndarray]]:
    """Storyboards of the suite, each with its true film."""
    for script in (*mixed_scripts(boards), *return_scripts(boards)):
        yield storyboard(script), render(script).frames


def judged(boards: int, codec: BuiltinCodec | None) -> dict[str, Any]:
    """The suite on true films, through the codec where there is one."""
    films = dict(true_films(boards))

    def shown(text: str) -> np.ndarray:
        frames = films[text]
        return frames if codec is None else to_uint8(through(codec, torch.from_numpy(frames)[None] / 255)[0])

    return evaluate_suite(shown, mixed=boards, returns=boards, long=0)


def measure(paths: list[Path], count: int, steps: int, boards: int) -> dict[str, Any]:
    """All tables, printed as they come."""
    found: dict[str, Any] = {}
    material = clips(count)
    for path in paths:
        codec = load_codec(path)
        print(f"\n{path}: codec {codec.fingerprint}\n{HEAD}")
        figures: dict[str, Any] = {}
        shown = {name: through(codec, frames) for name, (frames, _) in material.items()}
        for name, (frames, mask) in material.items():
            figures[name] = score(shown[name], frames, mask)
            print(row(name, figures[name]))
        pictures, masks = (torch.cat([pair[i] for pair in material.values()]) for i in (0, 1))
        figures["all"] = score(torch.cat(list(shown.values())), pictures, masks)
        print(row("all of them", figures["all"]), flush=True)
        for name, (frames, mask) in material.items() if steps else ():
            before, after = figures[name]["fitted"] = fitted(codec, frames, mask, steps)
            print(f"{name:<14}as encoded {before:6.2f}   fitted {after:6.2f} dB", flush=True)
        found[path.name if len(paths) == 1 else str(path)] = figures
        if boards:
            figures["suite"] = judged(boards, codec)
            print("true films through the codec:", *suite_lines(figures["suite"]), sep="\n", flush=True)
    if boards:
        found["truth"] = judged(boards, None)
        print("\ntrue films:", *suite_lines(found["truth"]), sep="\n")
    return found


def main() -> int:
    """Command line."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "codecs", nargs="*", type=Path, metavar="CODEC", help="files (default: the built-in's)"
    )
    parser.add_argument("--clips", type=int, default=10, help="clips of every action")
    parser.add_argument(
        "--fit", type=int, default=0, help="steps in which latents are fitted (default: none)"
    )
    parser.add_argument(
        "--boards", type=int, default=8, help="storyboards of each kind for the reader; 0: none"
    )
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = options.codecs or [BUILTIN_FOLDER / "codec.safetensors"]
    return run_command(lambda: measure(paths, options.clips, options.fit, options.boards), options.json)


if __name__ == "__main__":
    raise SystemExit(main())
