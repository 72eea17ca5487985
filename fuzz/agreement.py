"""What the kernel's parsers take must be what the proxy's read, and would write. All else is the proxy's.

The proxy's own lines (x-forwarded-for and so on, Date) are left out: the kernel adds them elsewhere
(bpf/request_lines.h) or leaves the message to the proxy.
"""

from __future__ import annotations

from fuzz.native import FIELD_HOST, MAX_PREFIX_ELEMENTS, Heads
from meshd.datapath.rules.compilation import METHODS
from meshd.datapath.rules.fingerprint import fnv1a
from meshd.model.listeners import HttpOptions
from proxy.http1 import heads
from proxy.http1.body import CHUNKED
from proxy.http1.refusal import Refusal
from proxy.http1.request import Request
from proxy.http1.request_parser import RequestParser
from proxy.http1.response_parser import ResponseError, ResponseParser
from proxy.requests.header_edit import Edit

_ADD_NOTHING = HttpOptions(forwarded_for=False, forwarded_proto=False, request_id=False)
_NO_EDIT = Edit(())
_CHUNKED = b"Transfer-Encoding: chunked"


class DisagreementError(Exception):
    """The kernel takes a head that the proxy refuses, or reads or writes in another way."""


class Agreement:
    """Holds the kernel's parsers to the proxy's."""

    def __init__(self, native: Heads) -> None:
        self._native = native
        self._requests = RequestParser()
        self._responses = ResponseParser()

    def request(self, data: bytes) -> bool:
        """Whether the kernel takes the request that ``data`` begins with. Raises DisagreementError."""
        if self._native.parse_request(data):
            return False
        found = self._native.request
        head = data[: found.length]
        _same("the head", head, data[: data.find(b"\r\n\r\n") + 4])
        try:
            request = self._requests.parse(head)
        except Refusal as refusal:
            raise DisagreementError(f"the proxy refuses it: {refusal}") from None
        self._read_alike(request, head)
        fields = heads.request_fields(request, None, _NO_EDIT, _ADD_NOTHING, b"")
        _same("what goes on", heads.request_head(request.head.method, request.target, fields), head)
        return True

    def _read_alike(self, request: Request, head: bytes) -> None:
        found = self._native.request
        path = head[found.path_start : found.path_end]
        _same("method", METHODS[found.method - 1], request.head.method)
        _same("path", path, request.head.path.encode())
        _same("query", bool(found.has_query), request.head.query is not None)
        _same("path hash", found.path_hash, fnv1a(path))
        ends = [at for at in range(1, len(path)) if path[at] == ord("/")][:MAX_PREFIX_ELEMENTS]
        elements = [(each.end - found.path_start, each.hash) for each in found.element[: found.elements]]
        _same("elements", elements, [(end, fnv1a(path[:end])) for end in ends])
        _same("host", self._value(FIELD_HOST, head), request.head.host)
        _same("length", found.content_length, request.length)
        _same("persistence", request.keep_alive, True)
        _same(
            "what is the proxy's", (request.http10, request.upgrade, request.te_trailers), (False, b"", False)
        )
        _same("expectation", request.expects_continue, False)
        _same("lists", (request.forwarded_for, request.via), (-1, -1))
        _same("request id", bool(found.has_request_id), request.request_id >= 0)
        _same("x-forwarded-proto", bool(found.has_forwarded_proto), request.forwarded_proto >= 0)
        for slot, name in enumerate(self._native.indexed):
            values = request.head.headers.getall(name.decode(), [])
            _same(f"fields {name!r}", found.field[slot].count, len(values))
            if values:
                _same(f"value of {name!r}", self._value(slot, head), values[-1])

    def _value(self, slot: int, head: bytes) -> str:
        field = self._native.request.field[slot]
        return head[field.start : field.start + field.length].decode()

    def response(self, data: bytes, method: str = "GET") -> bool:
        """Whether the kernel takes the response to ``method`` that ``data`` begins with. Raises
        DisagreementError."""
        if self._native.parse_response(data, method == "HEAD"):
            return False
        found = self._native.response
        head = data[: found.length]
        _same("the head", head, data[: data.find(b"\r\n\r\n") + 4])
        try:
            response = self._responses.parse(head, method)
        except ResponseError as error:
            raise DisagreementError(f"the proxy refuses it: {error}") from None
        chunked = response.length == CHUNKED
        _same("status", found.status, response.status)
        _same("chunked", bool(found.chunked), chunked)
        _same("length", found.content_length, 0 if chunked else response.length)
        _same("persistence", response.keep_alive, True)
        _same("what is the proxy's", (response.has_date, response.via, response.upgrade), (True, -1, b""))
        framing = heads.CHUNKED_FIELD if chunked else None
        written = heads.response_head(response, _NO_EDIT, _ADD_NOTHING, b"", framing, b"")
        if chunked:
            # The proxy says it last, and in its own letters.
            lines = [line for line in head.split(b"\r\n") if line.lower() != _CHUNKED.lower()]
            head = b"\r\n".join((*lines[:-2], _CHUNKED, b"", b""))
        _same("what goes on", written, head)
        return True


def _same(what: str, one: object, other: object) -> None:
    if one != other:
        raise DisagreementError(f"{what}: {one!r} and {other!r}")
