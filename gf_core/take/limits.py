"""What a Take may hold, and how long it takes to read: numbers that the keeping and the estimate share. No torch."""

from __future__ import annotations

STATES = 20 * 10**9
"""Bytes of kept states."""
FILMS = 20 * 10**9
"""Bytes of films of old runs before the oldest go by themselves."""
KEPT_FILMS = 3
"""Newest runs whose films are never removed by themselves."""
READ_SPEED = 1e9
"""Bytes per second at which a state is read and checked, on the slow side for a solid-state disk."""
