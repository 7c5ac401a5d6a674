"""For all tests: threads of sums that wait for each other sleep, as in the command, before torch is imported.

Spinning takes the processor from encoders, other processes of the tests and whatever else the machine does.
"""

import os

from gf_core.cli import SPINS

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
