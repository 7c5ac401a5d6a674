"""Replay a recorded training step through our objectives: `replay_training.py CASE.safetensors --out GOT.safetensors`.

As `replay.py`: reads weights, inputs and the JSON, never recorded outputs. Case may be named without its ending.
Compare with the comparison that came with the recordings, or `compare_training.py GOT CASE`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.parity.replay import main
from dev.parity.training import KINDS

if __name__ == "__main__":
    sys.exit(main(KINDS))
