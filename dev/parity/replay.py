"""Replay a recorded case through our code: `replay.py CASE.safetensors --out GOT.safetensors`.

Reads only `weights.*`, `in.*` and the JSON beside the case, and writes tensors under the names that the case recorded
as `out.*`. Compare with `compare.py GOT CASE`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.parity import autoencoder, frequencies, naming, rolling, rollouts, schedules, single
from dev.parity.case import Case, Refusal
from gf_core.errors import GroundedError

Kinds = Sequence[tuple[Callable[[Case], bool], Callable[[Case], None]]]
"""Which cases are served, and how they are replayed."""
KINDS: Kinds = (
    (rollouts.serves, rollouts.replay),
    (rolling.serves, rolling.replay),
    (schedules.serves, schedules.replay),
    (frequencies.serves, frequencies.replay),
    (autoencoder.serves, autoencoder.replay),
    (naming.serves, naming.replay),
    (single.serves_bidirectional, single.replay_bidirectional),
)


def replay(path: Path, kinds: Kinds = KINDS) -> Case:
    """The case at `path` with its outputs computed; raises Refusal for damaged ones and kinds that we do not serve."""
    case = Case(path)
    try:
        run = next((run for serves, run in kinds if serves(case)), None)
        if run is not None:
            run(case)
            return case
    except GroundedError as error:
        raise Refusal(f"{path.name} describes what cannot be run: {error.message}") from error
    except KeyError as error:
        raise Refusal(f"{path.name} or its JSON holds no {error}") from error
    except (AttributeError, IndexError, RuntimeError, StopIteration, TypeError, ValueError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise Refusal(f"{path.name} and its JSON do not fit together: {said[-1].strip()}") from error
    raise Refusal(f"no replay for this kind of case: {case.doc.get('case', path.stem)}")


def asked() -> argparse.Namespace:
    """The command line: the case, and where the outputs go."""
    parser = argparse.ArgumentParser(description="Replay a recorded case through our code.")
    parser.add_argument("case", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main(kinds: Kinds = KINDS) -> int:
    arguments = asked()
    torch.set_num_threads(1)
    try:
        case = replay(arguments.case, kinds)
    except Refusal as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return 2
    case.save(arguments.out)
    print(f"{len(case.got)} tensors written")
    for name in case.missing():
        print(f"not produced: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
