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
from dev.parity.replay import Kinds, asked, main

KINDS: Kinds = ((streaming.serves, streaming.replay), *training.KINDS)


def replay_document(case: Path, out: Path) -> list[str]:
    """Replay a JSON alone; returns what differs."""
    document = json.loads(case.read_text("utf-8"))
    got = bookkeeping.replay(document)
    out.write_text(json.dumps(got, indent=1), "utf-8")
    return bookkeeping.differences(got, document)


if __name__ == "__main__":
    named = asked()
    if named.case.with_suffix(".safetensors").is_file():
        sys.exit(main(KINDS))
    said = replay_document(named.case.with_suffix(".json"), named.out)
    print("\n".join(said) or "as recorded")
    sys.exit(1 if said else 0)
