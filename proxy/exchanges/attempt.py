"""A request that is out to an endpoint: counted while it is, and told of when it has ended."""

from __future__ import annotations

import time

from meshd.model.clusters import Endpoint
from proxy.http1.refusal import Refusal
from proxy.load import Resource
from proxy.telemetry import response_flags
from proxy.telemetry.response_flags import Flag
from proxy.upstream.pool import Pool

_REQUESTS = Resource.REQUESTS  # an enum's attributes are slow in Python 3.11

_UNANSWERED = {
    response_flags.joined(Flag.UPSTREAM_TERMINATED): 503,
    response_flags.joined(Flag.UPSTREAM_RESET): 503,
    response_flags.joined(Flag.UPSTREAM_PROTOCOL_ERROR): 503,
    response_flags.joined(Flag.UPSTREAM_TIMEOUT): 504,
}
"""What failures that are the endpoint's count as for its ejection, by their flags: as in Envoy, where a
connection that broke is a 503 (Outlier::Result::LocalOriginConnectFailed), even after the answer's head."""


class Attempt:
    """One, from the moment that it has its connection."""

    __slots__ = ("_ended", "_endpoint", "_pool", "_started")

    def __init__(self, pool: Pool, endpoint: Endpoint, started: float | None = None) -> None:
        """``started``: by time.monotonic; None: now."""
        self._pool = pool
        self._endpoint = endpoint
        self._ended = False
        if started is None:
            started = time.monotonic() if pool.cluster.outlier is not None else 0.0
        self._started = started
        pool.load.add(_REQUESTS)

    def answered(self, status: int) -> None:
        """The final response's head has come."""
        pool = self._pool
        if pool.cluster.outlier is not None:
            seconds = time.monotonic() - self._started
            pool.runtime.outcomes.record(pool.cluster, self._endpoint, status, seconds)

    def failed(self, refusal: Refusal) -> None:
        """The client, or who decides whether to try again, is told that."""
        status = _UNANSWERED.get(refusal.flags)
        if status is not None:
            self._pool.runtime.outcomes.record(self._pool.cluster, self._endpoint, status, None)

    def end(self) -> None:
        """It is out no more. Twice is once."""
        if not self._ended:
            self._ended = True
            self._pool.load.add(_REQUESTS, -1)
