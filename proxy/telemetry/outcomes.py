"""How requests to endpoints ended, gathered for the agent, who ejects those that answer badly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshd.model.clusters import Cluster, Endpoint
from meshd.model.outcomes import EndpointTally, Tally

REPORT_SECONDS = 0.1
"""From a request's end to the report of it, at the most."""
URGENT_SECONDS = 0.01
"""The same where an endpoint has as many errors in a row as eject it; no two reports are closer together."""

Report = Callable[[tuple[EndpointTally, ...]], None]
"""Takes a report to the agent. Never raises: a report that cannot be sent is lost."""


class Outcomes:
    """One for each worker. Between two reports it holds a tally for each endpoint at the most."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.report: Report = lambda tallies: None
        self._loop = loop
        self._tallies: dict[tuple[str, str, int], Tally] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._urgent = False
        self._reported = loop.time() - URGENT_SECONDS

    def record(self, cluster: Cluster, endpoint: Endpoint, status: int, seconds: float | None) -> None:
        """A request has ended; the arguments are those of Tally.count."""
        policy = cluster.outlier
        if policy is None:
            return
        key = (cluster.name, endpoint.address, endpoint.port)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally()
        tally.count(status, seconds)
        urgent = (
            0 < policy.consecutive_5xx <= tally.errors.last
            or 0 < policy.consecutive_gateway <= tally.gateway.last
        )
        if self._timer is None:
            self._urgent = urgent
            self._start_timer()
        elif urgent and not self._urgent:
            self._urgent = True
            self._timer.cancel()
            self._start_timer()

    def close(self) -> None:
        """Report no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self) -> None:
        delay = REPORT_SECONDS
        if self._urgent:
            delay = max(0.0, self._reported + URGENT_SECONDS - self._loop.time())
        self._timer = self._loop.call_later(delay, self._send)

    def _send(self) -> None:
        self._timer = None
        self._reported = self._loop.time()
        tallies, self._tallies = self._tallies, {}
        self.report(tuple(EndpointTally(*key, tally) for key, tally in tallies.items()))
