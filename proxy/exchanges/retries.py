"""A request's tries besides the first: whether its route and its cluster allow one, and who counts it."""

from __future__ import annotations

from meshd.model.request_policies import Retry
from proxy.exchanges import retry_budget, retry_state
from proxy.exchanges.retry_state import RetryState
from proxy.grpc.call import status_in
from proxy.http1.response_parser import Response
from proxy.load import Load, Resource
from proxy.telemetry.response_flags import Flag
from proxy.telemetry.stats import Counters
from proxy.upstream.pool import Pool


class Retries:
    """One request's. A try is out from when it is allowed to its outcome, the time before it included."""

    __slots__ = ("_counters", "_load", "state")

    def __init__(self, policy: Retry, counters: Counters) -> None:
        self._counters = counters
        self._load: Load | None = None
        """In which the try that is out is counted."""
        self.state = RetryState(policy)

    def why_not(self, pool: Pool) -> Flag | None:
        """Why there may be no other try, after one to ``pool``'s cluster; None: it is allowed, and is out."""
        self.end()
        limits, load = pool.cluster.limits, pool.load
        if not self.state.take():
            self._counters.add("upstream_retries_limit_exceeded_total")
            return Flag.UPSTREAM_RETRY_LIMIT
        if not retry_budget.has_room(limits, load):
            self._counters.add("upstream_retries_overflow_total")
            return Flag.UPSTREAM_OVERFLOW
        load.add(Resource.RETRIES)
        self._load = load
        self._counters.add("upstream_retries_total")
        return None

    def succeed(self) -> None:
        """The client gets the answer of the last try."""
        if self._load is not None:
            self._counters.add("upstream_retries_success_total")
        self.end()

    def end(self) -> None:
        """None is out. Twice is once."""
        if self._load is not None:
            self._load.remove(Resource.RETRIES)
            self._load = None


def asks_for(policy: Retry, response: Response) -> bool:
    """Whether a policy wants another try after a final response."""
    status = status_in(response.fields) if policy.grpc_statuses else None
    return retry_state.asks_for(policy, response.status, status) and not _is_rate_limit(response)


def _is_rate_limit(response: Response) -> bool:
    """Whether an Envoy says that it has let too many requests through: another one would not help."""
    return any(name.lower() == b"x-envoy-ratelimited" for name, _ in response.fields)
