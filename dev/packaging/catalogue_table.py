"""Writes the table of docs/checkpoints.md from the catalogue: `python -m dev.packaging.catalogue_table`."""

from __future__ import annotations

from pathlib import Path

from gf_core.arguments import Parser
from gf_core.checkpoints.catalog import CATALOG
from gf_core.checkpoints.catalog.row import FOUR_STEPS, KnownCheckpoint

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"
BEGIN, END = "<!-- catalogue: begin -->\n", "<!-- catalogue: end -->"
_HEAD = (
    "id", "checkpoint and where it is", "file, outer keys, names", "network", "steps, shift", "chunk",
    "memory for long films: window, positions", "trained with", "licence", "films",
)  # fmt: skip


def written(page: str) -> str:
    """`page` with the table as it is now."""
    front, _, rest = page.partition(BEGIN)
    return f"{front}{BEGIN}{markdown()}\n{END}{rest.partition(END)[2]}"


def markdown() -> str:
    """Every row with everything that is known of it; below it what users should know, and why a row is refused."""
    head = [_HEAD, tuple("---" for _ in _HEAD)]
    table = ["| " + " | ".join(cells) + " |" for cells in (*head, *map(_cells, CATALOG))]
    notes = [f"- `{row.id}`: {row.refusal or row.note}." for row in CATALOG if row.refusal or row.note]
    return "\n".join([*table, "", *notes, "", *_schedules()])


def _schedules() -> list[str]:
    """The step lists that rows with films ask for: a table of steps by chunk, and who takes them."""
    takers: dict[tuple[str, ...], list[str]] = {}
    for row in CATALOG:
        if row.films:
            sample, joint = row.sample, row.spec.rolling is not None
            lists = (", ".join(f"{step:g}" for step in steps) for steps in (sample.first, sample.steps))
            how = "several chunks at once" if joint else "chunk by chunk"
            warp = "table" if sample.warp else "raw"
            takers.setdefault((*lists, warp, f"{sample.shift:g}", how), []).append(f"`{row.id}`")
    first, rest = "steps without memory (a film's or scene's first chunk)", "steps of all others"
    head = f"| {first} | {rest} | numbers | shift | made | rows |"
    body = ["| " + " | ".join((*key, ", ".join(ids))) + " |" for key, ids in takers.items()]
    return ["### Steps by chunk", "", head, "|---|---|---|---|---|---|", *body]


def _cells(row: KnownCheckpoint) -> tuple[str, ...]:
    lora = f" and {row.lora}" if row.lora else ""
    sets = ", two sets" if row.writer else ""
    keys = " / ".join(row.groups) or "flat"
    names = f"`{row.inner}`" if row.inner else "bare" if row.scheme == "original" else row.scheme
    where = (f"`{row.id}`", f"{row.title}, {row.repository}")
    if not row.causal:
        return *where, row.file, _network(row), "", "", "", "", row.licence, "yes" if row.films else "no"
    warped = "" if row.sample.warp else " (raw)"
    spec = row.spec
    steps = f"{row.sample.steps_in_words()}{warped}; {row.sample.shift:g}"
    memory = f"{row.memory}: {spec.anchors} + {spec.recent} + {spec.chunk} = {spec.window}, {spec.positions}"
    if row.refusal:  # what the row does not say for itself would be a guess
        steps, memory = "" if row.sample == FOUR_STEPS else steps, ""
    return (
        *where,
        f"{row.file}{lora}; {keys}; {names}{f', {row.packed}' if row.packed else ''}{sets}",
        _network(row),
        steps,
        str(row.chunk),
        memory,
        row.trained_memory if memory else "",
        row.licence,
        "yes" if row.films else "no",
    )


def _network(row: KnownCheckpoint) -> str:
    name = {1536: "1.3B", 3072: "5B", 5120: "14B"}[row.dim]
    return f"{name}, {row.channels} channels"


if __name__ == "__main__":
    Parser(description=__doc__).parse_args()
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
