"""`grounded open`: the storyboard that a film, or an edit, was made from."""

from __future__ import annotations

import json
from argparse import Namespace

from ..errors import GroundedError
from .files import is_film, read_text


def open_film(args: Namespace) -> int:
    """Print the storyboard, and with --settings everything else that the film knows of its making."""
    text = read_text(args.film)
    print(text, end="" if text.endswith("\n") else "\n")
    if args.settings:
        if not is_film(args.film):
            raise GroundedError(f"{args.film} has no settings", "leave --settings away; only films have them")
        from ..engine.recorded import read_recorded

        print(json.dumps(read_recorded(args.film).everything, indent=2, ensure_ascii=False))
    return 0
