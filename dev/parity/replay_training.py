"""Replay a recorded training step through our objectives: `replay_training.py CASE.safetensors --out GOT.safetensors`.

As `replay.py`: reads weights, inputs and the JSON, never recorded outputs; compare with `compare_training.py GOT CASE`.
A case that is a JSON alone (the bookkeeping of streaming) gives a JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.parity import bookkeeping, streaming, training
from dev.parity.replay import Kinds, main

KINDS: Kinds = ((streaming.serves, streaming.replay), *training.KINDS)


def replay_document(case: Path, out: Path) -> list[str]:
    """Replay a JSON alone; returns what differs."""
    document = json.loads(case.read_text("utf-8"))
    got = bookkeeping.replay(document)
    out.write_text(json.dumps(got, indent=1), "utf-8")
    return bookkeeping.differences(got, document)


def _alone(arguments: list[str]) -> tuple[Path, Path] | None:
    """Case and output, where the case is a JSON without tensors."""
    if len(arguments) != 3 or "--out" not in arguments:
        return None
    at = arguments.index("--out") + 1
    case = Path(next(name for i, name in enumerate(arguments) if i not in (at - 1, at)))
    document = case.with_suffix(".json")
    return None if case.with_suffix(".safetensors").is_file() else (document, Path(arguments[at]))


if __name__ == "__main__":
    alone = _alone(sys.argv[1:])
    if alone is None:
        sys.exit(main(KINDS))
    said = replay_document(*alone)
    print("\n".join(said) or "as recorded")
    sys.exit(1 if said else 0)
