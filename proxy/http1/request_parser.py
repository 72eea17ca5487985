"""Requests' heads, parsed by aiohttp's C parser. One parser object serves all connections of a worker."""

from __future__ import annotations

from aiohttp import http_exceptions
from aiohttp._http_parser import HttpRequestParser

from proxy.http1.head_cache import HeadCache
from proxy.http1.message_parser import HeadError, MessageParser
from proxy.http1.refusal import Refusal
from proxy.http1.request import PROTOCOL_ERROR, Request, malformed, version_refusal
from proxy.http1.request_decision import Message, decide
from proxy.telemetry import response_flags


class RequestParser:
    """Turns heads into Requests. What it makes of a head depends on no other head."""

    __slots__ = ("_cache", "_parser")

    def __init__(self) -> None:
        self._parser: MessageParser[Message] = MessageParser(HttpRequestParser, "request")
        self._cache: HeadCache[Request] = HeadCache()

    def parse(self, head: bytes) -> Request:
        """A request from its head's bytes, the empty line included. Raises Refusal."""
        request = self._cache.get(head)
        if request is None:
            request = self._parse(head)
            self._cache.put(head, request)
        return request

    def _parse(self, head: bytes) -> Request:
        try:
            message = self._parser.read(head)
        except HeadError as error:
            raise (_refusal(error.cause, head) if error.cause else malformed(str(error))) from None
        return decide(message)


def _refusal(error: http_exceptions.BadHttpMessage, head: bytes) -> Refusal:
    if isinstance(error, http_exceptions.BadHttpMethod):
        return Refusal(501, "the request's method is not known", PROTOCOL_ERROR, response_flags.CODEC_ERROR)
    if isinstance(error, http_exceptions.InvalidURLError):
        return malformed("the request's target is malformed", response_flags.INVALID_URL)
    first_line = head.split(b"\r\n", 1)[0]
    if b" HTTP/" in first_line and not first_line.endswith((b" HTTP/1.1", b" HTTP/1.0")):
        return version_refusal()
    lines = error.message.strip().splitlines()
    reason = lines[0].strip().rstrip(":.") if lines else "it is not HTTP/1"
    if reason.startswith("Missing 'Host'"):
        return malformed("the request has no Host field", response_flags.MISSING_HOST)
    if "can't be present" in reason:
        return malformed(f"the request's head is malformed: {reason}", response_flags.LENGTH_AND_CHUNKED)
    return malformed(f"the request's head is malformed: {reason}")
