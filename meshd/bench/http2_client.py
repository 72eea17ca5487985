"""A client's end of one HTTP/2 connection (RFC 9113), for the load tools. Bytes in, bytes out: no socket.

It has what a load needs: requests with content, answers piece by piece, windows both ways. What it does not
expect of a server (a push, a frame of no known use) is an error, or ignored where the RFC says so.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from meshd.bench.answer import WrongAnswerError
from meshd.bench.header_blocks import BlockError, Decoder, Field, block

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    0, 1, 3, 4, 5, 6, 7, 8, 9,
)  # fmt: skip
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_ENABLE_PUSH, _INITIAL_WINDOW, _MAX_FRAME = 2, 4, 5
_WINDOW = 65535
"""Until the peer says otherwise (RFC 9113, 6.9.2)."""
_OUR_WINDOW = (1 << 31) - 1
"""Of each stream and of the connection: the client never holds a server back."""
_CREDIT_AT = 1 << 30
"""Bytes that have come on either before the peer is given as many again."""
_FRAME = 16384
"""The longest that is sent and, since nothing else is asked for, taken (6.5.2)."""
_HEAD = struct.Struct(">BHBBI")


class Piece(NamedTuple):
    """What came on a stream."""

    stream: int
    fields: list[Field] | None
    """A head's or the trailers'; None: it is content."""
    content: bytes
    ended: bool
    """It is the last of its stream."""


class Http2Client:
    """Requests go into ``out``, which the caller sends and empties; answers come out of ``take``."""

    def __init__(self) -> None:
        """Raises BlockError without the library."""
        self._decoder = Decoder()
        settings = struct.pack(">HIHI", _ENABLE_PUSH, 0, _INITIAL_WINDOW, _OUR_WINDOW)
        self.out = bytearray(_PREFACE + _frame(_SETTINGS, 0, 0, settings))
        self.out += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _OUR_WINDOW - _WINDOW))
        self._next = 1
        self._came = b""
        """The beginning of a frame."""
        self._block: tuple[int, bool, bytes] | None = None
        """Of a head whose end has not come: stream, whether it is the last of it, what there is."""
        self._windows = {0: _WINDOW}
        """What may be sent: on the connection (0) and on each open stream."""
        self._initial = _WINDOW
        self._held: deque[tuple[int, bytes, bool]] = deque()
        """Content for which a window was too small."""
        self._uncredited: dict[int, int] = {0: 0}

    def close(self) -> None:
        """Free the decoder."""
        self._decoder.close()

    def request(self, head: bytes, content: bytes | None, ended: bool) -> int:
        """Begin one; returns its stream. ``head``: header_blocks.block's. ``content``: None for none."""
        stream, self._next = self._next, self._next + 2
        over = ended and content is None
        self.out += _frame(_HEADERS, _END_HEADERS | (_END_STREAM if over else 0), stream, head)
        self._windows[stream] = self._initial
        if content is not None:
            self.send(stream, content, ended)
        return stream

    def send(self, stream: int, content: bytes, ended: bool) -> None:
        """More content, as soon as the windows let it go."""
        if not self._fits(stream, content, ended):
            self._held.append((stream, content, ended))

    def _fits(self, stream: int, content: bytes, ended: bool) -> bool:
        windows, size = self._windows, len(content)
        if size > min(windows[0], windows[stream]):
            return False
        windows[0] -= size
        windows[stream] -= size
        for at in range(0, max(size, 1), _FRAME):
            last = at + _FRAME >= size
            self.out += _frame(_DATA, _END_STREAM if ended and last else 0, stream, content[at : at + _FRAME])
        return True

    def take(self, data: bytes) -> list[Piece]:
        """What is said by bytes that came. Raises WrongAnswerError."""
        data = self._came + data if self._came else data
        found: list[Piece] = []
        at = 0
        while len(data) - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            end = at + 9 + (high << 16) + low
            if len(data) < end:
                break
            try:
                self._frame(kind, flags, stream & 0x7FFFFFFF, data[at + 9 : end], found)
            except (BlockError, struct.error, IndexError) as error:
                raise WrongAnswerError(f"a frame of type {kind} that cannot be read: {error}") from error
            at = end
        self._came = data[at:]
        return found

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes, found: list[Piece]) -> None:
        if self._block is not None and kind != _CONTINUATION:
            raise WrongAnswerError("a head was not continued")
        if kind == _DATA:
            self._credit(0, len(payload))
            self._credit(stream, len(payload))
            ended = bool(flags & _END_STREAM)
            found.append(Piece(stream, None, _unpadded(payload, flags), ended))
            if ended:
                self._forget(stream)
        elif kind == _HEADERS:
            payload = _unpadded(payload, flags)
            payload = payload[5:] if flags & _PRIORITY else payload
            self._head(stream, bool(flags & _END_STREAM), payload, flags, found)
        elif kind == _CONTINUATION:
            if self._block is None or self._block[0] != stream:
                raise WrongAnswerError("CONTINUATION of no head")
            (_, ended, begun), self._block = self._block, None
            self._head(stream, ended, begun + payload, flags, found)
        elif kind == _RST_STREAM and stream in self._windows:  # else its answer was complete
            raise WrongAnswerError(f"a stream was reset with code {struct.unpack('>I', payload)[0]}")
        elif kind == _GOAWAY:
            code = struct.unpack_from(">I", payload, 4)[0]
            raise WrongAnswerError(f"the connection was ended by GOAWAY with code {code}")
        elif kind == _PUSH:
            raise WrongAnswerError("a push, which was not allowed")
        elif kind == _PING and not flags & _ACK:
            self.out += _frame(_PING, _ACK, 0, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._settings(payload)
        elif kind == _WINDOW_UPDATE:
            if stream in self._windows:  # else it is over, and has no use for it
                self._windows[stream] += struct.unpack(">I", payload)[0]
            self._flush()

    def _head(self, stream: int, ended: bool, payload: bytes, flags: int, found: list[Piece]) -> None:
        if not flags & _END_HEADERS:
            self._block = (stream, ended, payload)
            return
        found.append(Piece(stream, self._decoder.fields(payload), b"", ended))
        if ended:
            self._forget(stream)

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _INITIAL_WINDOW:
                for stream in self._windows:
                    self._windows[stream] += value - self._initial if stream else 0
                self._initial = value
        self.out += _frame(_SETTINGS, _ACK, 0, b"")
        self._flush()

    def _flush(self) -> None:
        held, self._held = self._held, deque()
        for stream, content, ended in held:
            if stream in self._windows:
                self.send(stream, content, ended)

    def _credit(self, stream: int, size: int) -> None:
        size += self._uncredited.get(stream, 0)
        if size >= _CREDIT_AT:
            self.out += _frame(_WINDOW_UPDATE, 0, stream, struct.pack(">I", size))
            size = 0
        self._uncredited[stream] = size

    def _forget(self, stream: int) -> None:
        self._windows.pop(stream, None)
        self._uncredited.pop(stream, None)


def head(path: str, authority: str, headers: Iterable[tuple[str, str]], grpc: bool) -> bytes:
    """A request's block: a GET, or a gRPC call's (PROTOCOL-HTTP2.md of grpc/grpc)."""
    fields = [(":method", "POST" if grpc else "GET"), (":scheme", "http"), (":path", path)]
    fields += [(":authority", authority), *(GRPC_HEADERS if grpc else ()), *headers]
    return block(fields)


GRPC_HEADERS = (("content-type", "application/grpc"), ("te", "trailers"))
"""Of every call."""


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEAD.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _unpadded(payload: bytes, flags: int) -> bytes:
    return payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
