"""Sums of the workers' counters that never go back, though workers come and go. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from meshd.model.grpc import as_http
from meshd.model.wire import LATENCY_BUCKETS, RequestCounts, Stats, TcpCounts


class RequestKey(NamedTuple):
    """What requests have in common that are counted together: see RequestCounts."""

    service: str
    route: str
    cluster: str
    source: str
    method: str
    status: int
    flags: str
    grpc_status: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether the server, or the mesh for it, has answered with an error."""
        grpc = self.grpc_status
        return self.status >= 500 or (grpc.isdecimal() and as_http(int(grpc)) >= 500)


TcpKey = tuple[str, str, str, str]
"""service, route, cluster, source."""


@dataclasses.dataclass(slots=True)
class TcpTotal:
    """TCP connections of one key."""

    opened: int = 0
    closed: Counter[str] = dataclasses.field(default_factory=Counter)
    """By response flags."""
    received: int = 0
    """Bytes from clients; likewise ``sent`` to them."""
    sent: int = 0
    seconds: float = 0.0
    """That those that are closed lasted, together."""

    def add(self, row: TcpCounts) -> None:
        """Add counts of the same key."""
        self.opened += row.opened
        self.closed.update(row.closed)
        self.received += row.received
        self.sent += row.sent
        self.seconds += row.seconds


@dataclasses.dataclass(slots=True)
class RequestTotal:
    """Requests of one key."""

    count: int = 0
    seconds: float = 0.0
    buckets: list[int] = dataclasses.field(default_factory=lambda: [0] * len(LATENCY_BUCKETS))

    def add(self, count: int, seconds: float, buckets: Iterable[int]) -> None:
        """Add counts of the same key."""
        self.count += count
        self.seconds += seconds
        self.buckets = [a + b for a, b in zip(self.buckets, buckets, strict=True)]


class Totals:
    """All workers' numbers together, and the kernel's.

    A worker's counters begin at zero with its process: what an ended process had counted is kept and added,
    so that a sum never falls and rates over it stay right.
    """

    def __init__(self) -> None:
        self._ended_requests: dict[RequestKey, RequestTotal] = {}
        self._ended_tcp: dict[TcpKey, TcpTotal] = {}
        self._ended_counters: Counter[str] = Counter()
        self._latest: dict[int, Stats] = {}
        self.kernel: Mapping[RequestKey, RequestTotal] = {}
        """Requests that the kernel carried: they are in ``requests`` as the workers' are."""

    def update(self, stats: Iterable[Stats]) -> None:
        """Take the newest numbers of some workers."""
        for new in stats:
            self._latest[new.pid] = new

    def keep_only(self, pids: Iterable[int]) -> None:
        """These are the living worker processes; all others have ended."""
        for pid in self._latest.keys() - set(pids):
            last = self._latest.pop(pid)
            _add_requests(self._ended_requests, last.requests)
            _add_tcp(self._ended_tcp, last.tcp)
            self._ended_counters.update(last.counters)

    def requests(self) -> dict[RequestKey, RequestTotal]:
        """Totals by key."""
        totals: dict[RequestKey, RequestTotal] = {}
        for key, ended in self._ended_requests.items():
            totals[key] = RequestTotal(ended.count, ended.seconds, list(ended.buckets))
        for stats in self._latest.values():
            _add_requests(totals, stats.requests)
        for key, carried in self.kernel.items():
            totals.setdefault(key, RequestTotal()).add(carried.count, carried.seconds, carried.buckets)
        return totals

    def tcp(self) -> dict[TcpKey, TcpTotal]:
        """Those of TCP connections by key."""
        totals = {key: dataclasses.replace(ended) for key, ended in self._ended_tcp.items()}
        for total in totals.values():
            total.closed = Counter(total.closed)
        for stats in self._latest.values():
            _add_tcp(totals, stats.tcp)
        return totals

    def counters(self) -> dict[str, int]:
        """Totals by name."""
        totals = Counter(self._ended_counters)
        for stats in self._latest.values():
            totals.update(stats.counters)
        return dict(totals)

    def gauges(self) -> dict[str, float]:
        """Sums over the living workers by name."""
        totals: dict[str, float] = {}
        for stats in self._latest.values():
            for name, value in stats.gauges.items():
                totals[name] = totals.get(name, 0.0) + value
        return totals


def _add_requests(totals: dict[RequestKey, RequestTotal], rows: Iterable[RequestCounts]) -> None:
    for row in rows:
        key = RequestKey(*(getattr(row, field) for field in RequestKey._fields))
        totals.setdefault(key, RequestTotal()).add(row.count, row.seconds, row.buckets)


def _add_tcp(totals: dict[TcpKey, TcpTotal], rows: Iterable[TcpCounts]) -> None:
    for row in rows:
        key = (row.service, row.route, row.cluster, row.source)
        totals.setdefault(key, TcpTotal()).add(row)
