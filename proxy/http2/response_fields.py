"""Responses as an HTTP/2 client gets them. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from meshd.model.listeners import HttpOptions
from proxy.http1 import heads
from proxy.http1.body import Body, BodyError, ChunkedBody
from proxy.http1.field_values import HOP_BY_HOP, Field
from proxy.http1.response_parser import Response
from proxy.http1.response_relay import ResponseRelay
from proxy.requests.header_edit import Edit

_NOT_FOR_TUNNELS = frozenset((b"sec-websocket-accept", b"content-length"))


def relayed(response: Response, edit: Edit, options: HttpOptions, date: bytes) -> list[Field]:
    """A server's final response."""
    return _head(response.status, heads.response_fields(response, edit, options, date, False))


def interim(response: Response) -> list[Field]:
    """A server's 1xx response that is not the last."""
    return _head(response.status, response.fields)


def switched(response: Response, edit: Edit, options: HttpOptions, date: bytes) -> list[Field]:
    """A server's 101, which is a success where the request was an extended CONNECT (RFC 8441, 5)."""
    fields = _head(200, heads.response_fields(response, edit, options, date, False))
    return [field for field in fields if field[0] not in _NOT_FOR_TUNNELS]


def own(status: int, headers: tuple[tuple[str, str], ...], body: bytes, date: bytes) -> list[Field]:
    """A response of the proxy's own."""
    return _head(status, heads.local_fields(status, headers, body, date))


def _head(status: int, fields: Sequence[Field]) -> list[Field]:
    head = [(b":status", b"%d" % status)]
    for name, value in fields:
        lower = name.lower()
        if lower not in HOP_BY_HOP:
            head.append((lower, value))
    return head


_NOT_IN_TRAILERS = HOP_BY_HOP | {b"content-length", b"host", b"trailer"}


def trailers(fields: Sequence[Field]) -> list[Field]:
    """What follows the content: without fields for one connection (RFC 9113, 8.1)."""
    return [(lower, value) for name, value in fields if (lower := name.lower()) not in _NOT_IN_TRAILERS]


class ContentRelay(ResponseRelay):
    """One response's content on its way to an HTTP/2 client, and what follows it."""

    __slots__ = ("_refused", "_told")

    def __init__(self, body: Body | None) -> None:
        """``body``: as the server frames it."""
        # An HTTP/1.0 client, too, gets content alone.
        super().__init__(body, http10=True, keep_alive=True)
        self.keep_alive = True
        self._told: Sequence[Field] = ()
        self._refused = ""

    def refuse(self, reason: str) -> None:
        """The client is to get nothing of it: the next ``pass_on`` raises BodyError."""
        self._refused = reason

    def pass_on(self, data: bytes, at: int) -> bytes:
        """As ResponseRelay's."""
        if self._refused:
            raise BodyError(self._refused)
        return super().pass_on(data, at)

    def end(self, trailers: Sequence[Field] = ()) -> bytes | None:
        """As ResponseRelay's."""
        self._told = trailers
        return super().end(trailers)

    @property
    def trailers(self) -> list[Field]:
        """When it is done."""
        body = self._body
        return trailers(body.trailers if isinstance(body, ChunkedBody) else self._told)
