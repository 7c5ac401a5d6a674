"""VBench (Huang et al. 2024) and VBench-Long on films, in an environment of their own: they need other versions of most
packages. Nothing is fetched: weights that are not there are named."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import GroundedError, reason
from ..parts import film_parts

DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
)
"""Those that VBench supports for films of any prompt."""
PROMPTED = ("overall_consistency",)
"""Those that look at the prompt too; VBench-Long takes none."""
INSIDE = Path(__file__).with_name("inside.py")


def require_vbench(python: Path, films: Sequence[Path], long: bool) -> None:
    """See that VBench is there, with the weights that it needs for these films; those that are none are passed over.

    Raises GroundedError: it is not, lacks weights, or fails.
    """
    prompts = []
    for path in films:
        with contextlib.suppress(GroundedError):
            prompts.append(_prompt(path))
    dimensions = _dimensions(prompts, long)
    with tempfile.TemporaryDirectory(prefix="vbench") as name:
        _ask(python, Path(name), {"films": None, "dimensions": dimensions, "long": long})


def score_films(
    python: Path, films: Sequence[tuple[Path, str]], long: bool = False
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """VBench's scores of films (path, prompt); `long` takes VBench-Long, which cuts films into clips of 2 s.

    Returns dimension -> its mean over films, as VBench weighs them, and for every film dimension -> value; imaging
    quality of a film is on a 0..1 scale as its mean is.

    python: that of an environment where VBench is installed. Prompts count where every film has one.

    Raises GroundedError: it is not there, lacks weights, or fails.
    """
    others = [path.name for path, _ in films if path.suffix.lower() != ".mp4"]
    if others:
        raise GroundedError(f"VBench takes .mp4 only, not {', '.join(others)}", "save them as mp4")
    dimensions = _dimensions([prompt for _, prompt in films], long)
    prompted = len(dimensions) > len(DIMENSIONS)
    with tempfile.TemporaryDirectory(prefix="vbench") as name:
        work = Path(name)
        (work / "films").mkdir()
        # VBench-Long writes beside the films, and takes a name apart at underscores and after a hyphen.
        staged = {f"film-{number}.mp4": film for number, film in enumerate(films)}
        for new, (path, _) in staged.items():
            shutil.copy(path, work / "films" / new)
        wanted = {
            "films": str(work / "films"),
            "out": str(work / "out"),
            "prompts": {new: prompt for new, (_, prompt) in staged.items()} if prompted else [],
            "dimensions": dimensions,
            "long": long,
        }
        answer = _ask(python, work, wanted)
    return _scores(answer, len(films))


def _dimensions(prompts: Sequence[str], long: bool) -> list[str]:
    """What films of these prompts are scored for."""
    return [*DIMENSIONS, *(PROMPTED if not long and all(prompts) else ())]


def _ask(python: Path, work: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """What the other side answers to what is wanted; raises GroundedError where that is no result."""
    (work / "wanted.json").write_text(json.dumps(wanted), encoding="utf-8")
    # As text and from another folder: modules of this one must not be found in the place of VBench's.
    command = [str(python.absolute()), "-c", INSIDE.read_text(encoding="utf-8"), str(work / "wanted.json")]
    try:
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise GroundedError(
            f"{python} cannot be run: {reason(error)}", "name the python of an environment with VBench"
        ) from error
    try:
        answer = json.loads((work / "answer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise GroundedError(
            f"VBench ended with {done.returncode}: {last}", f"try {python} by hand"
        ) from error
    if "missing" in answer:
        lines = "".join(f"\n  {path}\n    from {source}" for path, source in answer["missing"])
        raise GroundedError(
            f"VBench would fetch what is not there:{lines}", "put it there; nothing is fetched here"
        )
    if "results" not in answer:
        raise GroundedError(
            f"VBench fails: {answer.get('error')}",
            f"look whether it is installed there ({python} -m pip install vbench; VBench-Long: a checkout, named in "
            "PYTHONPATH) and runs by itself",
        )
    return answer


def _scores(answer: dict[str, Any], count: int) -> tuple[dict[str, float], list[dict[str, float]]]:
    """What `score_films` gives. VBench has dimension -> [mean, clips, and for long films often the films' means]."""
    films: list[dict[str, float]] = [{} for _ in range(count)]
    means = {}
    try:
        for dimension, (mean, *lists) in answer["results"].items():
            means[dimension] = float(mean)
            for row in lists[-1]:
                number = int(Path(row["video_path"]).stem.removeprefix("film-"))
                scale = 100 if dimension == "imaging_quality" else 1
                films[number][dimension] = float(row["video_results"]) / scale
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise GroundedError(
            f"VBench answers in a form that is not known here: {type(error).__name__} {error}",
            "known are vbench 0.1.5 and the checkouts of its time",
        ) from error
    return means, films


def add_scores(films: Sequence[tuple[Path, dict]], python: Path, long: bool) -> dict[str, float]:
    """Put VBench's scores under `vbench` of every film's result, and return the means, both by title."""
    means, scores = score_films(python, [(path, _prompt(path)) for path, _ in films], long)
    name = "VBench-Long" if long else "VBench"
    titles = {dimension: f"{name} {dimension.replace('_', ' ')}" for dimension in means}
    for (_, result), found in zip(films, scores):
        result.setdefault("vbench", {}).update(
            {titles[dimension]: value for dimension, value in found.items()}
        )
    return {titles[dimension]: mean for dimension, mean in means.items()}


def _prompt(path: Path) -> str:
    """The prompts of a film, each once; empty where it has none."""
    return ". ".join(dict.fromkeys(part.prompt for part in film_parts(path) if part.prompt))
