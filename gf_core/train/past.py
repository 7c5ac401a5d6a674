"""Which frames of a film's past score networks are shown, clean, before those that they judge (Context Forcing)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Past:
    """Sink, slow and fast frames, laid side by side in time; the defaults are Context Forcing's (arXiv 2602.06028)."""

    sink: int = 3
    """First latent frames of the film."""
    slow: int = 12
    """Most frames picked from between sink and fast ones, the newest first."""
    fast: int = 6
    """Newest frames before those that are judged."""
    every: int = 6
    """Latent frames from one slow frame to the next."""

    def of(self, before: int) -> list[int]:
        """The numbers of those frames among `before`, each once and in order."""
        sink = min(self.sink, before)
        fast = max(sink, before - self.fast)
        # Counted from the fast frames back, so that the newest slow one is `every` before them.
        slow = range(fast - self.every, sink - 1, -self.every)[: self.slow]
        return [*range(sink), *reversed(slow), *range(fast, before)]
