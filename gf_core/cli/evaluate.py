"""`grounded evaluate`: is the film what the storyboard says?"""

from __future__ import annotations

from argparse import Namespace

from .files import read_text


def evaluate(args: Namespace) -> int:
    """Print the text report of a film; JSON and chart where asked."""
    from ..evaluation.film import evaluate_film
    from ..evaluation.report import text_report

    for path in (args.json, args.chart):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    print(text_report(evaluate_film(args.film, read_text(args.storyboard), args.json, args.chart)))
    return 0
