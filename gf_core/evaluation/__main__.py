"""Judge a film of the built-in model from the command line.

python -m gf_core.evaluation film.mp4 storyboard.txt [--json verdict.json] [--png verdict.png]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import GroundedError
from .film import evaluate_film
from .report import text_report


def main(arguments: list[str] | None = None) -> int:
    """Print the verdict; 2 when the film or the storyboard cannot be judged."""
    parser = argparse.ArgumentParser(prog="python -m gf_core.evaluation", description=evaluate_film.__doc__)
    parser.add_argument("film", type=Path, help="film of the built-in model")
    parser.add_argument("storyboard", type=Path, help="its storyboard text")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    parser.add_argument("--png", type=Path, help="draw the chart here")
    options = parser.parse_args(arguments)
    try:
        text = options.storyboard.read_text(encoding="utf-8")
        result = evaluate_film(options.film, text, options.json, options.png)
    except (GroundedError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(text_report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
