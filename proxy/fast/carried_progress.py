"""How the request that the kernel carries gets on, as one look after the other sees it."""

from __future__ import annotations

from meshd.datapath.flows.arming import Connection
from meshd.datapath.flows.table import Carried
from proxy.http1.refusal import Refusal
from proxy.upstream import failures


class CarriedProgress:
    """Holds it to the route's timeout and the stream's, a sweep late as all timeouts are. No I/O."""

    __slots__ = ("_seen", "_seen_at", "_whole_at")

    def __init__(self) -> None:
        self._seen: tuple[int, ...] = ()
        """Numbers that grow or shrink with each step that it makes."""
        self._seen_at = 0.0
        self._whole_at = 0.0
        """When the request's last byte came."""

    def overdue(
        self, carried: Carried, connection: Connection | None, timeout: float, idle_limit: float, now: float
    ) -> Refusal | None:
        """What to answer if it has taken too long; times in seconds, limits of 0: none."""
        seen: tuple[int, ...] = (carried.requests, carried.request_left)
        if connection is not None:
            seen += (connection.response, connection.response_left, connection.carried)
        if seen != self._seen:
            if seen[:2] != self._seen[:2]:
                # When the request's last byte came is not known to less than a sweep.
                began_before = self._seen[:1] == seen[:1]
                self._whole_at = now if began_before else carried.began
            self._seen, self._seen_at = seen, now
        if timeout > 0 and not carried.request_left and now - self._whole_at > timeout:
            return failures.route_timeout(timeout)
        if 0 < idle_limit < now - self._seen_at:
            return failures.stream_idle(idle_limit, carried.request_left == 0)
        return None
