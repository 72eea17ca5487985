"""What is told of an exchange when it has ended: the metrics' row and the access log's line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from proxy.http1.field_values import Field
from proxy.telemetry import response_flags
from proxy.telemetry.access_log import AccessLogEntry

if TYPE_CHECKING:
    from proxy.exchanges.downstream import Downstream
    from proxy.exchanges.exchange import Exchange


class Account:
    """What is kept of an exchange for the metrics and the log."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "cluster",
        "details",
        "flags",
        "route",
        "sent",
        "service_time",
        "started",
        "status",
    )

    def __init__(self, started: float) -> None:
        """``started``: by time.monotonic."""
        self.started = started
        self.status = 0
        """The response's; 0: none has begun."""
        self.service_time: float | None = None
        """Seconds from ``started`` to the response's head; None: not measured, or none came."""
        self.sent: list[Field] | None = None
        """The request's fields as they went on to a server; None: it did not go."""
        self.route = ""
        self.cluster = ""
        self.flags = ""
        self.details = response_flags.VIA_UPSTREAM
        self.bytes_received = 0
        """Of the request's body; likewise ``bytes_sent`` of the response's."""
        self.bytes_sent = 0


def report(exchange: Exchange, downstream: Downstream) -> None:
    """Count the exchange, and log it where there is a log."""
    account = exchange.account
    seconds = time.monotonic() - account.started
    runtime = downstream.runtime
    # Of a request that the kernel carried the proxy has seen nothing that a line could tell.
    if runtime.access_log is not None and not exchange.adopted:
        runtime.access_log.write(_entry(exchange, downstream, seconds))
    runtime.stats.record(
        downstream.listener.listener.name,
        account.route,
        account.cluster,
        downstream.caller.source,
        exchange.request.head.method,
        account.status,
        account.flags,
        seconds,
    )


def _entry(exchange: Exchange, downstream: Downstream, seconds: float) -> AccessLogEntry:
    request, account = exchange.request, exchange.account
    get = request.head.headers.get
    endpoint = exchange.dispatch.endpoint if exchange.dispatch else None
    upstream = exchange.upstream
    return AccessLogEntry(
        start=time.time() - seconds,
        method=request.head.method,
        path=request.target,
        protocol="HTTP/1.0" if request.http10 else "HTTP/1.1",
        status=account.status,
        duration=seconds,
        flags=account.flags,
        details=account.details,
        bytes_received=account.bytes_received,
        bytes_sent=account.bytes_sent,
        upstream_service_time=account.service_time,
        forwarded_for=_sent(exchange, b"x-forwarded-for"),
        user_agent=get("user-agent", ""),
        request_id=_sent(exchange, b"x-request-id"),
        authority=request.head.host,
        route=account.route,
        source=downstream.caller.source,
        upstream_host=f"{endpoint.address}:{endpoint.port}" if endpoint else "",
        upstream_cluster=account.cluster,
        upstream_local_address=upstream.local_address() if upstream else "",
        downstream_local_address=downstream.local,
        downstream_remote_address=downstream.remote,
    )


def _sent(exchange: Exchange, name: bytes) -> str:
    """A field of the request as it went on to the server, else as it came."""
    for field, value in exchange.account.sent or exchange.request.fields:
        if field.lower() == name:
            return value.decode("utf-8", "surrogateescape")
    return ""
