"""A worker's numbers of TCP connections that it relays, by what they have in common. Bounded and cheap."""

from __future__ import annotations

from meshd.model.wire import TcpCounts
from proxy.telemetry.stats import MAX_ROWS, OTHER


class TcpRow:
    """Connections of one service, route, cluster and source."""

    __slots__ = ("closed", "opened", "received", "seconds", "sent")

    def __init__(self) -> None:
        self.opened = 0
        self.closed: dict[str, int] = {}
        """By flags."""
        self.received = 0
        """Bytes from clients; likewise ``sent`` to them."""
        self.sent = 0
        self.seconds = 0.0
        """That those that are closed lasted, together."""

    def close(self, flags: str, seconds: float) -> None:
        """Count the end of a connection."""
        self.closed[flags] = self.closed.get(flags, 0) + 1
        self.seconds += seconds


class TcpStats:
    """The rows. Connections beyond MAX_ROWS kinds are counted in one row that says ``other``."""

    def __init__(self, max_rows: int = MAX_ROWS) -> None:
        self._max_rows = max_rows
        self._rows: dict[tuple[str, str, str, str], TcpRow] = {}

    def row(self, service: str, route: str, cluster: str, source: str) -> TcpRow:
        """Where a connection is counted."""
        labels = (service, route, cluster, source)
        if labels not in self._rows and len(self._rows) >= self._max_rows:
            labels = (OTHER, OTHER, OTHER, OTHER)
        return self._rows.setdefault(labels, TcpRow())

    def snapshot(self) -> tuple[TcpCounts, ...]:
        """All rows."""
        return tuple(
            TcpCounts(
                service=service,
                route=route,
                cluster=cluster,
                source=source,
                opened=row.opened,
                closed=dict(row.closed),
                received=row.received,
                sent=row.sent,
                seconds=row.seconds,
            )
            for (service, route, cluster, source), row in self._rows.items()
        )
