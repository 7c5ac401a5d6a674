"""`grounded drift`: does every shot stay what its first second was?"""

from __future__ import annotations

from argparse import Namespace


def drift(args: Namespace) -> int:
    """Print a line per shot and draw the chart."""
    from ..evaluation.drift_chart import drift_chart, shot_lines
    from ..evaluation.steadiness import film_parts
    from ..video import film_length

    parts = film_parts(args.film)
    image, rows = drift_chart(args.film, parts)
    print(*shot_lines(parts, rows, float(film_length(args.film)[1])), sep="\n")
    out = args.out or args.film.with_name(f"{args.film.stem}_drift.png")
    out.parent.mkdir(parents=True, exist_ok=True)
    image.save(out)
    print(f"chart in {out}")
    return 0
