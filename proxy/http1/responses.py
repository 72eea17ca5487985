"""Responses as an HTTP/1 client gets them. No I/O."""

from __future__ import annotations

from meshd.model.listeners import HttpOptions
from proxy.http1 import heads
from proxy.http1.body import OpenBody, body_of
from proxy.http1.request import Request
from proxy.http1.response_parser import Response
from proxy.http1.response_relay import ResponseRelay
from proxy.requests.header_edit import Edit


def relayed(
    request: Request, response: Response, edit: Edit, options: HttpOptions, date: bytes, may_keep_alive: bool
) -> ResponseRelay:
    """A server's final response. ``may_keep_alive``: the client's connection may live on, for all we know."""
    keep_alive = request.keep_alive and may_keep_alive
    sized = response.length_at >= 0
    relay = ResponseRelay(body_of(response.length), request.http10, keep_alive, sized)
    connection = heads.connection_value(relay.keep_alive, request.http10)
    framing = heads.CHUNKED_FIELD if relay.chunked else None
    if response.length == 0 and not sized and not _is_bare(request, response):
        framing = heads.EMPTY_FIELD  # HTTP/2 tells it by END_STREAM
    relay.head = heads.response_head(response, edit, options, date, framing, connection)
    return relay


def _is_bare(request: Request, response: Response) -> bool:
    return request.head.method == "HEAD" or heads.is_bodiless(response.status)


def switched(response: Response, edit: Edit, options: HttpOptions, date: bytes) -> ResponseRelay:
    """A 101, and the stream of bytes after it."""
    relay = ResponseRelay(OpenBody(), http10=False, keep_alive=False)
    relay.head = heads.response_head(response, edit, options, date, None, b"Upgrade")
    return relay


def own(
    request: Request,
    status: int,
    headers: tuple[tuple[str, str], ...],
    body: bytes,
    date: bytes,
    keep_alive: bool,
) -> bytes:
    """A whole response of the proxy's own. ``keep_alive``: the client's connection lives on."""
    connection = heads.connection_value(keep_alive, request.http10)
    with_body = request.head.method != "HEAD"
    return heads.local_response(status, headers, body, date, connection, with_body)
