"""Requests as an HTTP/2 server gets them, and what it answers as the proxy has it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.http1 import websocket
from proxy.http1.body import CONTENT
from proxy.http1.field_values import HOP_BY_HOP, Field, content_length
from proxy.http1.refusal import reason_phrase
from proxy.http1.response_parser import Response, ResponseError
from proxy.upstream.outgoing import Outgoing

_NOT_TRANSLATED = HOP_BY_HOP | {b"host", b"http2-settings"}


def head(request: Outgoing) -> list[Field]:
    """A request's (RFC 9113, 8.2.2 and 8.3.1). Field names in lower case; Host becomes :authority."""
    authority = b""
    rest: list[Field] = []
    for name, value in request.fields:
        lower = name.lower()
        if lower not in _NOT_TRANSLATED:
            rest.append((lower, value))
        elif lower == b"host":
            authority = value
        elif lower == b"te" and value.lower() == b"trailers":
            rest.append((lower, value))
    target = request.target.encode("utf-8", "surrogateescape")
    return [
        (b":method", request.asked.head.method.encode()),
        (b":scheme", b"http"),
        (b":authority", authority),
        (b":path", target),
        *rest,
    ]


def is_tunnel(request: Outgoing) -> bool:
    """Whether it asks for a WebSocket, the one upgrade that HTTP/2 has a counterpart of (RFC 8441)."""
    return b"websocket" in (each.strip(b" \t").lower() for each in request.asked.upgrade.split(b","))


def tunnel_head(request: Outgoing) -> list[Field]:
    """An extended CONNECT's."""
    _method, *rest = head(request)
    return [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        *(field for field in rest if field[0] != websocket.KEY),
    ]


def response(fields: Sequence[Field], ended: bool, method: str) -> Response:
    """A server's response to a request of ``method``. ``ended``: its head is all. Raises ResponseError."""
    status = int(fields[0][1])
    found = Response(status, reason_phrase(status))
    is_bare = status < 200 or status == 204
    kept = found.fields
    for field in fields[1:]:
        name = field[0]
        if name == b"content-length":
            if content_length(field[1]) is None:
                raise ResponseError("the response's Content-Length is no number")
            if is_bare:
                continue  # RFC 9110, 8.6: there must be none
            found.length_at = len(kept)
        elif name == b"date":
            found.has_date = True
        elif name == b"via":
            found.via = len(kept)
        kept.append(field)
    has_none = ended or is_bare or status == 304 or method == "HEAD"
    found.length = 0 if has_none else CONTENT
    return found


def tunnel_response(fields: Sequence[Field], ended: bool, request: Outgoing) -> Response:
    """A server's answer to an extended CONNECT: 2xx is what 101 is in HTTP/1.1. Raises ResponseError."""
    found = response(fields, ended, "CONNECT")
    if not 200 <= found.status < 300:
        return found
    if ended:
        raise ResponseError("it accepts a WebSocket, and ends it at once")
    switched = Response(101, reason_phrase(101))
    switched.fields = [field for field in found.fields if field[0] != b"content-length"]
    switched.has_date = found.has_date
    switched.via = next((at for at, field in enumerate(switched.fields) if field[0] == b"via"), -1)
    switched.upgrade = b"websocket"
    key = next((value for name, value in request.fields if name.lower() == websocket.KEY), None)
    if key is not None:
        switched.fields.append((websocket.ACCEPT, websocket.accept_of(key)))
    return switched
