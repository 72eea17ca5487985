"""The access log's lines: Envoy's default text, or JSON with the field names of Istio's JSON log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from meshd.model.grpc import name_of
from meshd.model.request_policies import MILLION


def is_logged(share: int, drawn: bool | None, random: Callable[[], float]) -> bool:
    """Whether a request is one of the share (in parts per million) that is logged.

    ``drawn``: what the kernel drew when it passed the request up; None: it drew nothing. Of all or none
    nothing is drawn at all.
    """
    if share >= MILLION:
        return True
    return random() * MILLION < share if drawn is None else drawn


class AccessLogEntry:
    """What is known of a request when it has ended. Empty text and None are written as "-" or null."""

    __slots__ = (
        "authority",
        "bytes_received",
        "bytes_sent",
        "details",
        "downstream_local_address",
        "downstream_remote_address",
        "duration",
        "flags",
        "forwarded_for",
        "grpc_status",
        "method",
        "path",
        "protocol",
        "request_id",
        "requested_server_name",
        "route",
        "source",
        "start",
        "status",
        "upstream_cluster",
        "upstream_host",
        "upstream_local_address",
        "upstream_service_time",
        "user_agent",
    )

    def __init__(
        self,
        *,
        start: float,
        method: str,
        path: str,
        protocol: str,
        status: int,
        duration: float,
        flags: str = "",
        grpc_status: str = "",
        details: str = "",
        bytes_received: int = 0,
        bytes_sent: int = 0,
        upstream_service_time: float | None = None,
        forwarded_for: str = "",
        user_agent: str = "",
        request_id: str = "",
        authority: str = "",
        route: str = "",
        source: str = "",
        upstream_host: str = "",
        upstream_cluster: str = "",
        upstream_local_address: str = "",
        downstream_local_address: str = "",
        downstream_remote_address: str = "",
        requested_server_name: str = "",
    ) -> None:
        """``start``: seconds since the epoch. ``duration``, ``upstream_service_time``: seconds.

        ``path``: as the client sent it, with its query. ``status``: 0 when no response was begun.
        Byte counts are of bodies, or of all that went over a TCP connection. ``requested_server_name``: a TLS
        client's. ``grpc_status``: as RequestCounts has it.
        """
        self.start = start
        self.method = method
        self.path = path
        self.protocol = protocol
        self.status = status
        self.duration = duration
        self.flags = flags
        self.grpc_status = grpc_status
        self.details = details
        self.bytes_received = bytes_received
        self.bytes_sent = bytes_sent
        self.upstream_service_time = upstream_service_time
        self.forwarded_for = forwarded_for
        self.user_agent = user_agent
        self.request_id = request_id
        self.requested_server_name = requested_server_name
        self.authority = authority
        self.route = route
        self.source = source
        self.upstream_host = upstream_host
        self.upstream_cluster = upstream_cluster
        self.upstream_local_address = upstream_local_address
        self.downstream_local_address = downstream_local_address
        self.downstream_remote_address = downstream_remote_address


def _start_time(seconds: float) -> str:
    milliseconds = int(seconds * 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03d}Z"


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def format_text(entry: AccessLogEntry) -> str:
    """One line without its newline, in Envoy's default format (its docs: "Default Format String").

    As in Envoy, quotes within a value are not escaped; use JSON where a program reads the log.
    """
    service_time = _milliseconds(entry.upstream_service_time)
    return (
        f'[{_start_time(entry.start)}] "{entry.method or "-"} {entry.path or "-"} {entry.protocol or "-"}" '
        f"{entry.status} {entry.flags or '-'} {entry.bytes_received} {entry.bytes_sent} "
        f"{_milliseconds(entry.duration)} {'-' if service_time is None else service_time} "
        f'"{entry.forwarded_for or "-"}" "{entry.user_agent or "-"}" "{entry.request_id or "-"}" '
        f'"{entry.authority or "-"}" "{entry.upstream_host or "-"}"'
    )


def _json_text(text: str) -> str | None:
    if not text:
        return None
    # Bytes that were not UTF-8 came as lone surrogates, which JSON's readers refuse.
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def format_json(entry: AccessLogEntry) -> str:
    """One line without its newline: an object with all fields, null where there is nothing to say."""
    return _encode(
        {
            "start_time": _start_time(entry.start),
            "method": _json_text(entry.method),
            "path": _json_text(entry.path),
            "protocol": _json_text(entry.protocol),
            "response_code": entry.status,
            "response_flags": _json_text(entry.flags),
            "grpc_status": _json_text(name_of(entry.grpc_status)),
            "response_code_details": _json_text(entry.details),
            "bytes_received": entry.bytes_received,
            "bytes_sent": entry.bytes_sent,
            "duration": _milliseconds(entry.duration),
            "upstream_service_time": _milliseconds(entry.upstream_service_time),
            "x_forwarded_for": _json_text(entry.forwarded_for),
            "user_agent": _json_text(entry.user_agent),
            "request_id": _json_text(entry.request_id),
            "authority": _json_text(entry.authority),
            "route_name": _json_text(entry.route),
            "source_workload": _json_text(entry.source),
            "upstream_host": _json_text(entry.upstream_host),
            "upstream_cluster": _json_text(entry.upstream_cluster),
            "upstream_local_address": _json_text(entry.upstream_local_address),
            "downstream_local_address": _json_text(entry.downstream_local_address),
            "downstream_remote_address": _json_text(entry.downstream_remote_address),
            "requested_server_name": _json_text(entry.requested_server_name),
        }
    )
