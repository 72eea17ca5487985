"""What can be said of bytes that are not, or not yet, a request."""

from __future__ import annotations

import re
import time

from proxy.exchanges.client import Origin
from proxy.http1 import heads
from proxy.http1.refusal import Refusal
from proxy.http1.request import malformed
from proxy.telemetry import response_flags
from proxy.telemetry.access_log import AccessLogEntry, is_logged
from proxy.telemetry.response_flags import Flag

_FLAGS = response_flags.joined(Flag.DOWNSTREAM_PROTOCOL_ERROR)
_TLS_HANDSHAKE = 0x16
_TLS_ALERT = bytes((0x15, 3, 1, 0, 2, 2, 40))
"""A fatal handshake_failure (RFC 8446, 6): the client reports that, and not a puzzling end of stream."""

# A complete first line must at least look like one; one that is not complete may be anything.
_REQUEST_LINE = re.compile(rb"[^\r\n]*(?: HTTP/[0-9]\.[0-9]\r?(?:\n|\Z)|\r?\Z)")

_NOT_HTTP = malformed("this port speaks HTTP, and what came is not")
_TLS = malformed("this port speaks plain HTTP, and what came is TLS")


def refused_early(data: bytes | bytearray) -> tuple[Refusal, bytes, str] | None:
    """Whether the first bytes show another protocol: why, what to answer (may be empty), and the counter."""
    if data[0] == _TLS_HANDSHAKE:
        return _TLS, _TLS_ALERT, "downstream_tls_on_http_total"
    if not _may_begin_method(data) or _REQUEST_LINE.match(data) is None:
        return _NOT_HTTP, answer(_NOT_HTTP), "downstream_not_http_total"
    return None


def answer(refusal: Refusal) -> bytes:
    """A refusal's response, which ends the connection."""
    body = heads.message_body(refusal.message)
    date = heads.http_date(time.time())
    return heads.local_response(refusal.status, heads.PLAIN_TEXT, body, date, b"close", True)


def partial_head(data: bytes | bytearray, limit: int) -> Refusal | None:
    """Why a head that is not complete need not be waited for; None: it may still become one."""
    begun = data.lstrip(b"\r\n")  # RFC 9112, 2.2: empty lines before a request are ignored
    other = refused_early(begun) if begun else None
    if other is not None:
        return other[0]
    if len(data) > limit:
        return head_too_large(data, limit)
    lines = data.count(b"\n")
    returns = data.count(b"\r") - data.endswith(b"\r")
    if data.count(b"\r\n") != lines or returns != lines:
        return malformed("a line of the request's head does not end with CRLF")
    return None


def head_too_large(data: bytes | bytearray, limit: int) -> Refusal:
    """414 if the request line alone is over the limit, else 431 (RFC 9110, 15.5.15; RFC 6585, 5)."""
    if 0 <= data.find(b"\r\n") <= limit:
        return fields_too_large(limit)
    return Refusal(414, f"the request's target is over {limit} bytes", _FLAGS, response_flags.INVALID_URL)


def late_preface() -> Refusal:
    """HTTP/2's preface where it is not a connection's first bytes (RFC 9113, 3.4)."""
    message = "HTTP/2 begins with a connection, not between two requests of HTTP/1"
    return Refusal(505, message, _FLAGS, response_flags.LOW_VERSION)


def fields_too_large(limit: int) -> Refusal:
    """431: the fields are too many, or too long (RFC 6585, 5)."""
    message = f"the request's head is over {limit} bytes"
    return Refusal(431, message, _FLAGS, response_flags.HEADERS_TOO_LARGE)


def record(client: Origin, refusal: Refusal, method: str, target: str, protocol: str = "HTTP/1.1") -> None:
    """Count and log what was refused before it was a request. ``method``, ``target``: as far as known."""
    runtime = client.runtime
    service = client.listener.listener.name
    source = client.caller.source
    runtime.stats.record(service, "", "", source, method, refusal.status, refusal.flags, 0.0)
    share = client.listener.options.access_log_share
    if runtime.access_log is not None and is_logged(share, None, runtime.random):
        runtime.access_log.write(
            AccessLogEntry(
                start=time.time(),
                method=method,
                path=target,
                protocol=protocol,
                status=refusal.status,
                duration=0.0,
                flags=refusal.flags,
                details=refusal.details,
                source=source,
                downstream_local_address=client.local,
                downstream_remote_address=client.remote,
            )
        )


def _may_begin_method(data: bytes | bytearray) -> bool:
    """Whether the bytes up to the first space can be a method (RFC 9110, 5.6.2: token)."""
    method = bytes(data[:32]).split(b" ", 1)[0]
    return bool(method) and method.translate(None, _TOKEN) == b""


_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def method_and_target(head: bytes) -> tuple[str, str]:
    """What a head's first line says; empty where it is no request's."""
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or words[0].translate(None, _TOKEN):
        return "", ""
    return words[0].decode(), words[1][:1024].decode("utf-8", "surrogateescape")
