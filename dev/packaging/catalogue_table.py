"""Writes the table of docs/checkpoints.md from the catalogue: `python -m dev.packaging.catalogue_table`."""

from __future__ import annotations

from pathlib import Path

from gf_core.checkpoints.catalog.table import markdown

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"
BEGIN, END = "<!-- catalogue: begin -->\n", "<!-- catalogue: end -->"


def written(page: str) -> str:
    """`page` with the table as it is now."""
    front, _, rest = page.partition(BEGIN)
    return f"{front}{BEGIN}{markdown()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
