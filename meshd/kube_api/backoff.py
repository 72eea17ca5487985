"""How long to wait before an API server is asked again."""

from __future__ import annotations

import random


class Backoff:
    """Waits that double, each drawn between half of its length and the whole."""

    def __init__(self, first: float = 0.5, longest: float = 30.0) -> None:
        """Seconds."""
        self._first = first
        self._longest = longest
        self._next = first

    def take(self) -> float:
        """The next wait."""
        wait = self._next * (0.5 + random.random() / 2)
        self._next = min(2 * self._next, self._longest)
        return wait

    def reset(self) -> None:
        """All is well."""
        self._next = self._first
