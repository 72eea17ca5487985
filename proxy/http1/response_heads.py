"""Finds responses' heads in what a server sends before the final response's body. No I/O."""

from __future__ import annotations

from proxy.http1.response_parser import Response, ResponseError, ResponseParser

MAX_RESPONSE_HEAD_BYTES = 64 * 1024


class ResponseHeads:
    """The heads that answer one request: any number of interim ones, then the final one."""

    __slots__ = ("_method", "_parser", "_partial", "has_begun")

    def __init__(self, parser: ResponseParser, method: str) -> None:
        """``method``: the request's."""
        self._parser = parser
        self._method = method
        self._partial = b""
        self.has_begun = False
        """Whether a byte of the response has come."""

    def read(self, data: bytes, at: int) -> tuple[Response | None, bytes, int]:
        """The next response, if its head is complete in ``data`` from ``at`` on, and what follows it.

        Returns the response, the bytes, and the position in them after the head. Raises ResponseError.
        """
        if self._partial:
            data, at = self._partial + data[at:], 0
            self._partial = b""
        if at == len(data):
            return None, data, at
        self.has_begun = True
        end = data.find(b"\r\n\r\n", at) + 4
        if (len(data) if end < 4 else end) - at > MAX_RESPONSE_HEAD_BYTES:
            raise ResponseError("its head is too large")
        if end < 4:
            if not b"HTTP/1.".startswith(data[at : at + 7]):
                raise ResponseError("it is not HTTP/1")
            self._partial = data[at:]
            return None, data, len(data)
        return self._parser.parse(data[at:end], self._method), data, end
