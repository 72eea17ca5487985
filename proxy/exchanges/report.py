"""What is told of an exchange when it has ended: the metrics' row and the access log's line."""

from __future__ import annotations

import time

from meshd.model.clusters import Endpoint
from proxy.exchanges.client import Client
from proxy.http1.field_values import Field
from proxy.http1.request import Request
from proxy.telemetry import response_flags
from proxy.telemetry.access_log import AccessLogEntry, is_logged
from proxy.upstream.server import Server


class Account:
    """What is kept of an exchange for the metrics and the log."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "cluster",
        "details",
        "drawn",
        "flags",
        "grpc_status",
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
        """The request's fields as they went on to a server; None: it did not go, or nobody knows."""
        self.route = ""
        self.cluster = ""
        self.flags = ""
        self.grpc_status = ""
        """Of a gRPC call, as the metrics have it (RequestCounts.grpc_status)."""
        self.details = response_flags.VIA_UPSTREAM
        self.bytes_received = 0
        """Of the request's body; likewise ``bytes_sent`` of the response's."""
        self.bytes_sent = 0
        self.drawn: bool | None = None
        """Whether the kernel has drawn it for the access log; None: it has drawn nothing."""


def report(
    client: Client,
    request: Request,
    account: Account,
    endpoint: Endpoint | None,
    upstream: Server | None,
    logged: bool,
) -> None:
    """Count an exchange, and log it where there is a log.

    ``endpoint``, ``upstream``: where the request is or was. ``logged``: a line can tell about it.
    """
    seconds = time.monotonic() - account.started
    runtime = client.runtime
    share = client.listener.options.access_log_share
    if logged and runtime.access_log is not None and is_logged(share, account.drawn, runtime.random):
        runtime.access_log.write(_entry(client, request, account, endpoint, upstream, seconds))
    runtime.stats.record(
        client.listener.listener.name,
        account.route,
        account.cluster,
        client.caller.source,
        request.head.method,
        account.status,
        account.flags,
        seconds,
        account.grpc_status,
    )


def _entry(
    client: Client,
    request: Request,
    account: Account,
    endpoint: Endpoint | None,
    upstream: Server | None,
    seconds: float,
) -> AccessLogEntry:
    get = request.head.headers.get
    fields = account.sent or request.fields
    return AccessLogEntry(
        start=time.time() - seconds,
        method=request.head.method,
        path=request.target,
        protocol=request.protocol,
        status=account.status,
        duration=seconds,
        flags=account.flags,
        grpc_status=account.grpc_status,
        details=account.details,
        bytes_received=account.bytes_received,
        bytes_sent=account.bytes_sent,
        upstream_service_time=account.service_time,
        forwarded_for=_value(fields, b"x-forwarded-for"),
        user_agent=get("user-agent", ""),
        request_id=_value(fields, b"x-request-id"),
        authority=request.head.host,
        route=account.route,
        source=client.caller.source,
        upstream_host=f"{endpoint.address}:{endpoint.port}" if endpoint else "",
        upstream_cluster=account.cluster,
        upstream_local_address=upstream.local_address() if upstream else "",
        downstream_local_address=client.local,
        downstream_remote_address=client.remote,
    )


def _value(fields: list[Field], name: bytes) -> str:
    """The first field of that name (lower case); empty: there is none."""
    for field, value in fields:
        if field.lower() == name:
            return value.decode("utf-8", "surrogateescape")
    return ""
