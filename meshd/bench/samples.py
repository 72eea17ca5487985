"""What a load tool hands back, whichever it was. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class LoadError(Exception):
    """A run that says nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class HeadSizes:
    """Bytes of the heads of right answers, blank line included."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Samples:
    """One run. A run with errors has no latencies: a fast error is not a fast answer."""

    answers: int
    """That were right: status 200, and a body as long as it should be."""
    seconds: float
    errors: int
    wrong: str
    """What the first error was; empty without errors."""
    latencies: Mapping[int, int]
    """Microseconds to how often."""

    @property
    def rps(self) -> float:
        """Right answers a second."""
        return self.answers / self.seconds
