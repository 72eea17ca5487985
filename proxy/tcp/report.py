"""What is told of a relayed connection: the metrics' row and the access log's line."""

from __future__ import annotations

import time

from meshd.model.clusters import Endpoint
from proxy.runtime import Runtime
from proxy.telemetry.access_log import AccessLogEntry, is_logged
from proxy.telemetry.tcp_stats import TcpRow, TcpStats


class Account:
    """What is kept of a connection for the metrics and the log."""

    __slots__ = (
        "_row",
        "_service",
        "bytes_received",
        "bytes_sent",
        "cluster",
        "details",
        "endpoint",
        "flags",
        "local",
        "remote",
        "route",
        "server_name",
        "share",
        "source",
        "started",
        "upstream_local",
    )

    def __init__(
        self, service: str, share: int, source: str, local: str, remote: str, started: float
    ) -> None:
        """``share``: of the connections that is logged, in parts per million. ``started``: time.monotonic."""
        self._service = service
        self._row: TcpRow | None = None
        self.share = share
        self.source = source
        self.local = local
        self.remote = remote
        self.started = started
        self.server_name = ""
        """That the client's ClientHello asks for."""
        self.route = ""
        self.cluster = ""
        self.endpoint: Endpoint | None = None
        self.upstream_local = ""
        self.flags = ""
        self.details = ""
        self.bytes_received = 0
        """From the client; likewise ``bytes_sent`` to it."""
        self.bytes_sent = 0

    def row(self, stats: TcpStats) -> TcpRow:
        """Where it is counted, as far as is known what it is."""
        if self._row is None:
            self._row = stats.row(self._service, self.route, self.cluster, self.source)
            self._row.opened += 1
        return self._row

    def moved(self, stats: TcpStats, received: int, sent: int) -> None:
        """Count bytes, of which so many have come in all."""
        row = self.row(stats)
        row.received += received - self.bytes_received
        row.sent += sent - self.bytes_sent
        self.bytes_received, self.bytes_sent = received, sent


def report(runtime: Runtime, account: Account) -> None:
    """Count the end of a connection, and log it where there is a log."""
    seconds = time.monotonic() - account.started
    account.row(runtime.tcp_stats).close(account.flags, seconds)
    if runtime.access_log is None or not is_logged(account.share, None, runtime.random):
        return
    endpoint = account.endpoint
    runtime.access_log.write(
        AccessLogEntry(
            start=time.time() - seconds,
            method="",
            path="",
            protocol="",
            status=0,
            duration=seconds,
            flags=account.flags,
            details=account.details,
            bytes_received=account.bytes_received,
            bytes_sent=account.bytes_sent,
            route=account.route,
            source=account.source,
            upstream_host=f"{endpoint.address}:{endpoint.port}" if endpoint else "",
            upstream_cluster=account.cluster,
            upstream_local_address=account.upstream_local,
            downstream_local_address=account.local,
            downstream_remote_address=account.remote,
            requested_server_name=account.server_name,
        )
    )
