"""A worker's numbers: requests by what they have in common, and plain counters. Bounded and cheap."""

from __future__ import annotations

import bisect
import itertools

from meshd.model.wire import LATENCY_BUCKETS, RequestCounts

OTHER = "other"
MAX_ROWS = 4096
"""Distinct label sets that are kept apart; requests beyond them are counted in rows that say ``other``."""

_METHODS = {
    m: m for m in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}  # RFC 9110, 9.1 and RFC 5789; a client may invent any other, and each would be a time series

_Labels = tuple[str, str, str, str, str, int, str, str]


class _Row:
    __slots__ = ("buckets", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(LATENCY_BUCKETS) + 1)


class RequestStats:
    """Requests counted by service, route, cluster, source, method, status and flags."""

    __slots__ = ("_max_rows", "_rows")

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._rows: dict[_Labels, _Row] = {}

    def record(
        self,
        service: str,
        route: str,
        cluster: str,
        source: str,
        method: str,
        status: int,
        flags: str,
        seconds: float,
        grpc_status: str = "",
    ) -> None:
        """Count one request; the arguments are those of RequestCounts.

        ``seconds``: from its head's first byte to its answer's last.
        """
        labels = (service, route, cluster, source, _METHODS.get(method, OTHER), status, flags, grpc_status)
        row = self._rows.get(labels) or self._new_row(labels)
        row.count += 1
        row.seconds += seconds
        row.buckets[bisect.bisect_left(LATENCY_BUCKETS, seconds)] += 1

    def _new_row(self, labels: _Labels) -> _Row:
        if len(self._rows) >= self._max_rows:
            # One such row for each status of both kinds: few, and the error rate stays visible.
            labels = (OTHER, OTHER, OTHER, OTHER, OTHER, labels[5], "", labels[7])
        return self._rows.setdefault(labels, _Row())

    def snapshot(self) -> tuple[RequestCounts, ...]:
        """All rows, with cumulative buckets as Prometheus has them."""
        return tuple(
            RequestCounts(
                service=service,
                route=route,
                cluster=cluster,
                source=source,
                method=method,
                status=status,
                flags=flags,
                grpc_status=grpc_status,
                count=row.count,
                seconds=row.seconds,
                buckets=tuple(itertools.accumulate(row.buckets[:-1])),
            )
            for (
                service,
                route,
                cluster,
                source,
                method,
                status,
                flags,
                grpc_status,
            ), row in self._rows.items()
        )


class Counters:
    """Named counts that only grow. The names are the program's own, so they are few."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, name: str, amount: int = 1) -> None:
        """Add to a counter; it begins at 0."""
        self._counts[name] = self._counts.get(name, 0) + amount

    def snapshot(self) -> dict[str, int]:
        """A copy of all counters."""
        return dict(self._counts)
