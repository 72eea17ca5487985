"""How a response's body goes on to the client: as it came, or framed anew. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from proxy.http1.body import Body, BodyError, ChunkedBody, OpenBody, body_of
from proxy.http1.chunks import chunk, last_chunk
from proxy.http1.field_values import Field
from proxy.http1.response_parser import Response


def response_is_whole(response: Response, data: bytes, at: int) -> bool:
    """Whether ``data`` from ``at`` on is all of a response's body, and another one can follow it."""
    body = body_of(response.length)
    if body is None:
        return response.keep_alive and at == len(data)
    try:
        return response.keep_alive and body.feed(data, at) == len(data) and body.done
    except BodyError:
        return False


class _Framing(enum.Enum):
    AS_IT_IS = enum.auto()
    UNCHUNKED = enum.auto()
    """An HTTP/1.0 client knows no chunks: the content alone, ended by closing."""
    CHUNKED = enum.auto()
    """It is content alone, of a length that nobody knows; the client's connection is to live on."""


class ResponseRelay:
    """One response's way to one client. Decides the client's framing from both sides' versions."""

    __slots__ = ("_body", "_framing", "chunked", "done", "head", "keep_alive", "passed", "surplus")

    def __init__(self, body: Body | None, http10: bool, keep_alive: bool, sized: bool = True) -> None:
        """``body``: as the server frames it. ``http10``: the client's version.

        ``keep_alive``: the client's connection may live on. ``sized``: the head tells the content's length,
        or what else the client needs to find its end.
        """
        self._body = body
        self._framing = _Framing.AS_IT_IS
        self.head = b""
        """Goes to the client before all else."""
        self.chunked = False
        """Whether the client gets chunks."""
        self.done = body is None
        self.passed = 0
        """Bytes of body so far, as the server framed them."""
        self.surplus = False
        """Whether the server sent bytes beyond the response."""
        if isinstance(body, ChunkedBody):
            self.chunked = not http10
            if http10:
                self._framing = _Framing.UNCHUNKED
        is_open = isinstance(body, OpenBody) and not sized
        if is_open and not http10:
            self._framing = _Framing.CHUNKED
            self.chunked = True
        ends_by_closing = http10 and (is_open or isinstance(body, ChunkedBody))
        self.keep_alive = keep_alive and not ends_by_closing
        """Whether the client's connection lives on after the response."""

    def pass_on(self, data: bytes, at: int) -> bytes:
        """What the client gets for ``data`` from ``at`` on; first of all, the head. Raises BodyError."""
        body = self._body
        head, self.head = self.head, b""
        if body is None:
            self.surplus = at < len(data)
            return head
        if self._framing is _Framing.AS_IT_IS:
            end = body.feed(data, at)
            out = head + data[at:end] if head or at or end < len(data) else data
        else:
            payload: list[bytes] = []
            end = body.feed(data, at, payload)
            if self._framing is _Framing.CHUNKED:
                payload = [chunk(piece) for piece in payload]
            out = head + b"".join(payload)
        self.passed += end - at
        self.surplus = end < len(data)
        self.done = body.done
        return out

    def end(self, trailers: Sequence[Field] = ()) -> bytes | None:
        """The server sends no more: what completes the response; None: it is cut off."""
        if self._body is None or not self._body.closed():
            return None
        self.done = True
        return last_chunk(trailers) if self._framing is _Framing.CHUNKED else b""

    def break_off(self, trailers: Sequence[Field]) -> bytes | None:
        """It ends before its server has ended it: what completes it; None: it cannot have trailers."""
        return self.end(trailers) if self._framing is _Framing.CHUNKED else None
