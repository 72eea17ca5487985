"""Responses' heads from servers: parsed by aiohttp's C parser, then framed (RFC 9112, 6.3).

As for requests (see request_parser), one parser object reads all heads of a worker.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp._http_parser import HttpResponseParser

from proxy.http1.body import CHUNKED, UNTIL_CLOSE
from proxy.http1.field_values import HOP_BY_HOP, Field, content_length, tokens, without
from proxy.http1.head_cache import HeadCache
from proxy.http1.message_parser import HeadError, MessageParser

_KEEP_ALIVE = (b"keep-alive",)
_SPECIAL = HOP_BY_HOP | {b"content-length", b"date", b"via"}
PERSISTENCE = frozenset((b"connection", b"keep-alive"))


class ResponseError(ValueError):
    """The server's bytes are no response that can be passed on. The message says why."""


class _Message(Protocol):
    """What the C parser makes of a response's head."""

    code: int
    reason: str
    version: tuple[int, int]
    raw_headers: tuple[Field, ...]
    should_close: bool


class Response:
    """One response's head, decided: where its body ends, and whether its connection can be used again.

    Not changed once it is made: responses with the same head share it.
    """

    __slots__ = (
        "fields",
        "has_date",
        "keep_alive",
        "length",
        "length_at",
        "persistence",
        "reason",
        "status",
        "upgrade",
        "via",
    )

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        self.keep_alive = True
        self.length = 0
        """Of the body: bytes, or body.CHUNKED, or body.UNTIL_CLOSE."""
        self.fields: list[Field] = []
        """What goes on to the client, without fields for one connection. Content-Length is among them."""
        self.length_at = -1
        self.persistence = False
        """Whether ``Connection: keep-alive`` or Keep-Alive are among the fields. They are as true of the
        client's connection while it lives on too (RFC 9112, 9.3), and stay, as in what the kernel carries."""
        self.has_date = False
        self.via = -1
        self.upgrade = b""


class ResponseParser:
    """Turns heads into Responses. What it makes of a head depends on no other head."""

    __slots__ = ("_cache", "_cache_for_head", "_parser")

    def __init__(self) -> None:
        self._parser: MessageParser[_Message] = MessageParser(HttpResponseParser, "response")
        self._cache: HeadCache[Response] = HeadCache()
        self._cache_for_head: HeadCache[Response] = HeadCache()

    def parse(self, head: bytes, method: str) -> Response:
        """A response from its head's bytes, the empty line included. Raises ResponseError.

        ``method``: the request's; a response to HEAD has no body.
        """
        cache = self._cache_for_head if method == "HEAD" else self._cache
        response = cache.get(head)
        if response is None:
            response = self._parse(head, method)
            cache.put(head, response)
        return response

    def _parse(self, head: bytes, method: str) -> Response:
        try:
            message = self._parser.read(head)
        except HeadError as error:
            if error.cause is None:
                raise ResponseError(str(error)) from None
            reason = next(iter(error.cause.message.strip().splitlines()), "it is not HTTP/1").rstrip(":.")
            raise ResponseError(f"{error}: {reason}") from None
        return _decide(message, method)


def _decide(message: _Message, method: str) -> Response:
    status = message.code
    if not 100 <= status <= 999:
        raise ResponseError(f"the response's status is {status}")
    response = Response(status, message.reason)
    http10 = message.version != (1, 1)
    if http10:
        if message.version != (1, 0):
            raise ResponseError("the response is not HTTP/1.0 or HTTP/1.1")
        response.keep_alive = False
    fields = response.fields
    length: int | None = None
    coding: bytes | None = None
    options: tuple[bytes, ...] = ()
    for field in message.raw_headers:
        name = field[0].lower()
        if name not in _SPECIAL:
            fields.append(field)
        elif name == b"content-length":
            value = content_length(field[1])
            if value is None or length is not None:
                raise ResponseError("the response's Content-Length is not one number")
            length = value
            response.length_at = len(fields)
            fields.append(field)
        elif name == b"date":
            response.has_date = True
            fields.append(field)
        elif name == b"connection":
            options += tokens(field[1]) or (b"",)
            response.persistence = True
            fields.append(field)
        elif name == b"keep-alive":
            response.persistence = True
            fields.append(field)
        elif name == b"transfer-encoding":
            coding = field[1].lower() if coding is None else coding + b"," + field[1].lower()
        elif name == b"via":
            response.via = len(fields)
            fields.append(field)
        elif name == b"upgrade":
            response.upgrade = field[1]
    if http10 or status < 200 or (options and options != _KEEP_ALIVE):
        if response.persistence:
            _drop(response, PERSISTENCE)
            response.persistence = False
        if options:
            _apply_connection(response, options, http10)
    _frame(response, method, length, coding, http10)
    return response


def _apply_connection(response: Response, options: tuple[bytes, ...], http10: bool) -> None:
    if b"close" in options:
        response.keep_alive = False
    elif http10 and b"keep-alive" in options:
        response.keep_alive = True
    nominated = frozenset(options) - HOP_BY_HOP - {b"close", b"content-length", b"date", b"via"}
    if nominated:
        _drop(response, nominated)


def _drop(response: Response, names: frozenset[bytes]) -> None:
    """Drop the fields of those names (lower case)."""
    response.fields = without(response.fields, names)
    response.length_at = _place(response.fields, b"content-length")
    response.via = _place(response.fields, b"via")


def _place(fields: list[Field], name: bytes) -> int:
    return max((at for at, field in enumerate(fields) if field[0].lower() == name), default=-1)


def _frame(response: Response, method: str, length: int | None, coding: bytes | None, http10: bool) -> None:
    status = response.status
    if coding is not None and (length is not None or http10 or coding.strip(b" \t") != b"chunked"):
        raise ResponseError("the response's Transfer-Encoding is not chunked alone")
    if status < 200 or status == 204:
        # Neither field may be in such a response (RFC 9110, 8.6; RFC 9112, 6.1).
        if response.length_at >= 0:
            del response.fields[response.length_at]
            response.via -= response.via > response.length_at
            response.length_at = -1
    elif method == "HEAD" or status == 304:
        pass
    elif coding is not None:
        response.length = CHUNKED
    elif length is None:
        response.length = UNTIL_CLOSE
        response.keep_alive = False
    else:
        response.length = length
