"""What an endpoint's probes say of it. Pure.

The rules are Envoy's (docs: "Health checking"; core.v3.HealthCheck): the first result decides at once; later
on, so many in a row change the verdict; but an answer that says no says it for certain, and at once.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from meshd.model.cluster_policies import HealthCheck


class Verdict(enum.Enum):
    """Of the probes of one endpoint."""

    PENDING = "pending"
    """None has ended yet."""
    PASSED = "passed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How one probe ended."""

    failure: str = ""
    """Why it failed; empty: it passed."""
    certain: bool = False
    """It failed by the endpoint's own answer, and not for want of one."""


class ProbeState:
    """One endpoint's."""

    __slots__ = ("_row", "failure", "verdict")

    def __init__(self) -> None:
        self.verdict = Verdict.PENDING
        self.failure = ""
        """Of the last probe; empty: it passed, or there was none."""
        self._row = 0
        """Results in a row that speak against the verdict."""

    def take(self, result: ProbeResult, check: HealthCheck) -> bool:
        """Count a result. Whether the verdict is another one now."""
        self.failure = result.failure
        said = Verdict.FAILED if result.failure else Verdict.PASSED
        if said is self.verdict:
            self._row = 0
            return False
        self._row += 1
        enough = check.unhealthy_after if said is Verdict.FAILED else check.healthy_after
        if self.verdict is not Verdict.PENDING and not result.certain and self._row < enough:
            return False
        self.verdict = said
        self._row = 0
        return True
