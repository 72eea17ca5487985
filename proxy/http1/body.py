"""Where a message's body ends (RFC 9112, 6 and 7). No I/O; bytes are inspected, not kept.

``feed`` says how many of the bytes belong to the body, so that whoever relays passes them on as they are. A
body goes through the proxy as its sender framed it, and who sends it on in another framing takes it apart.
"""

from __future__ import annotations

import re

from proxy.http1.field_values import Field

MAX_CHUNK_LINE_BYTES = 4096
"""A chunk's size line with its extensions."""
MAX_TRAILER_BYTES = 16 * 1024
MAX_CHUNK_SIZE_DIGITS = 15
"""15 hexadecimal digits stay below 2**63."""

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class BodyError(ValueError):
    """The body's framing is broken: where the message ends is unknowable. The message says how."""


class LengthBody:
    """A body of Content-Length bytes."""

    __slots__ = ("done", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0

    def feed(self, data: bytes, start: int = 0, payload: list[bytes] | None = None) -> int:
        """The position in ``data`` at which the body, if it began or goes on at ``start``, stops.

        ``payload`` gets the body's content, without its framing.
        """
        taken = min(len(data) - start, self.remaining)
        self.remaining -= taken
        self.done = self.remaining == 0
        if payload is not None and taken:
            payload.append(data[start : start + taken])
        return start + taken

    def closed(self) -> bool:
        """Whether the body is whole, now that the sender has closed the connection."""
        return self.done


class OpenBody:
    """A body whose bytes do not tell its end: its connection's end does, or HTTP/2's END_STREAM."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes, start: int = 0, payload: list[bytes] | None = None) -> int:
        """As LengthBody.feed; all of it is body."""
        if payload is not None and len(data) > start:
            payload.append(data[start:])
        return len(data)

    def closed(self) -> bool:
        """As LengthBody.closed; this, or the like of it, is how such a body ends."""
        self.done = True
        return True


class ChunkedBody:
    """A body in chunks, with its trailer section (RFC 9112, 7.1). Strict: CRLF only, no bare LF."""

    __slots__ = ("_in_data", "_line", "_remaining", "_trailer_bytes", "done", "trailers")

    def __init__(self) -> None:
        self.done = False
        self._in_data = False
        self._remaining = 0  # of the chunk's data and the CRLF after it
        self._line = b""  # the part that has come of a size or trailer line
        self._trailer_bytes = -1  # -1: not in the trailer section yet
        self.trailers: list[Field] = []
        """The fields of the trailer section, as far as it has come."""

    def feed(self, data: bytes, start: int = 0, payload: list[bytes] | None = None) -> int:
        """As LengthBody.feed. Raises BodyError."""
        at = start
        end = len(data)
        while at < end and not self.done:
            at = self._data(data, at, payload) if self._in_data else self._next_line(data, at)
        return at

    def closed(self) -> bool:
        """As LengthBody.closed."""
        return self.done

    def _data(self, data: bytes, at: int, payload: list[bytes] | None) -> int:
        content = min(self._remaining - 2, len(data) - at)
        if content > 0:
            if payload is not None:
                payload.append(data[at : at + content])
            self._remaining -= content
            at += content
        while self._remaining <= 2 and at < len(data):
            if data[at] != b"\n\r"[self._remaining - 1]:
                raise BodyError("a chunk's data is not followed by CRLF")
            self._remaining -= 1
            at += 1
            if self._remaining == 0:
                self._in_data = False
                break
        return at

    def _next_line(self, data: bytes, at: int) -> int:
        newline = data.find(b"\n", at, at + MAX_CHUNK_LINE_BYTES + 2)
        stop = len(data) if newline < 0 else newline + 1
        line = self._line + data[at:stop]
        if len(line) > MAX_CHUNK_LINE_BYTES:
            raise BodyError(f"a chunk's size line or a trailer field is over {MAX_CHUNK_LINE_BYTES} bytes")
        if newline < 0:
            self._line = line
            return stop
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise BodyError("a line in a chunked body ends with a bare LF")
        if self._trailer_bytes < 0:
            self._size(line[:-2])
        else:
            self._trailer(line)
        return stop

    def _size(self, line: bytes) -> None:
        matched = _SIZE_LINE.fullmatch(line)
        if matched is None:
            raise BodyError("a chunk's size line is malformed")
        digits = matched[1]
        if len(digits) > MAX_CHUNK_SIZE_DIGITS:
            raise BodyError("a chunk's size is too large")
        size = int(digits, 16)
        if size == 0:
            self._trailer_bytes = 0
        else:
            self._in_data = True
            self._remaining = size + 2

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.done = True
            return
        self._trailer_bytes += len(line)
        if self._trailer_bytes > MAX_TRAILER_BYTES:
            raise BodyError(f"the trailer section is over {MAX_TRAILER_BYTES} bytes")
        if _TRAILER_LINE.fullmatch(line[:-2]) is None:
            raise BodyError("a trailer field is malformed")
        name, _, value = line[:-2].partition(b":")
        self.trailers.append((name, value.strip(b" \t")))


Body = LengthBody | OpenBody | ChunkedBody

CHUNKED = -1
UNTIL_CLOSE = -2
CONTENT = -3
"""Nothing but content; that it has ended is told apart, with its trailers (HTTP/2)."""


def body_of(length: int) -> Body | None:
    """A message's body, about to begin. ``length``: in bytes, or CHUNKED, UNTIL_CLOSE or CONTENT; 0: None."""
    if length == 0:
        return None
    if length > 0:
        return LengthBody(length)
    return ChunkedBody() if length == CHUNKED else OpenBody()
