"""Where the frames are in one direction of an HTTP/2 connection whose bytes pass as they come. Pure.

Frame headers are all that is read (RFC 9113, 4.1): what is in header blocks only the two ends know, for they
alone hold the state that they are compressed by. The kernel does the same in bpf/frames.h, and each goes on
from where the other stopped.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from meshd.datapath.flows.frame_position import Position

PREFACE_BYTES: Final = 24
HEADER_BYTES: Final = 9
_HEADERS, _PUSH_PROMISE, _CONTINUATION = 1, 5, 9
PING, GOAWAY = 6, 7
ACK: Final = 1
_END_HEADERS: Final = 4
_STREAM_BITS: Final = 2**31 - 1
_COUNT_BITS: Final = 2**32 - 1


class Header(NamedTuple):
    """A frame's."""

    length: int
    type: int
    flags: int
    stream: int

    @property
    def opens(self) -> int:
        """The stream that it opens, if that is not open yet: a client's have odd numbers; 0: none."""
        return self.stream if self.type == _HEADERS and self.stream & 1 else 0


AFTER_PREFACE: Final = Position()
"""Where a server begins."""
BEFORE_PREFACE: Final = Position(left=PREFACE_BYTES)
"""Where a client does."""


class Frames:
    """Follows one direction."""

    __slots__ = ("_begun", "_head", "_highest", "_in_block", "_left", "_opened")

    def __init__(self, position: Position) -> None:
        self._left = position.left
        self._head = bytearray(position.head[: position.have])
        self._in_block = position.in_block
        self._begun = position.begun
        self._highest = position.highest
        self._opened = position.opened

    def position(self) -> Position:
        """Where it is."""
        return Position(
            self._left,
            len(self._head),
            bytes(self._head),
            self._in_block,
            self._begun,
            self._highest,
            self._opened,
        )

    @property
    def left(self) -> int:
        """As a Position's."""
        return self._left

    @property
    def highest(self) -> int:
        """As a Position's."""
        return self._highest

    @property
    def is_in_header(self) -> bool:
        """Whether some of a frame's header has come, and not all of it."""
        return bool(self._head)

    @property
    def is_between(self) -> bool:
        """Whether another frame may be put in here. Not before the first one, which is SETTINGS (3.4)."""
        return self._begun and not (self._left or self._head or self._in_block)

    def feed(self, data: bytes) -> None:
        """Pass over all of it."""
        at = 0
        while at < len(data):
            at, _ = self.step(data, at)

    def step(self, data: bytes, at: int) -> tuple[int, Header | None]:
        """Pass over what comes at ``at``: some of a payload, or of a header. Where it ends, and a header that
        has its last byte there.
        """
        if self._left:
            taken = min(self._left, len(data) - at)
            self._left -= taken
            return at + taken, None
        taken = min(HEADER_BYTES - len(self._head), len(data) - at)
        self._head += data[at : at + taken]
        if len(self._head) < HEADER_BYTES:
            return at + taken, None
        head = self._head
        header = Header(
            int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big") & _STREAM_BITS
        )
        self._head = bytearray()
        self._begin(header)
        return at + taken, header

    def _begin(self, header: Header) -> None:
        self._left = header.length
        self._begun = True
        if header.type in (_HEADERS, _PUSH_PROMISE):
            self._in_block = not header.flags & _END_HEADERS
        elif header.type == _CONTINUATION and header.flags & _END_HEADERS:
            self._in_block = False
        if header.opens > self._highest:
            self._highest = header.opens
            self._opened = self._opened + 1 & _COUNT_BITS


def ping(payload: bytes) -> bytes:
    """A PING frame. ``payload``: 8 bytes."""
    return b"\0\0\x08" + bytes((PING, 0)) + bytes(4) + payload


def goaway(last_stream: int) -> bytes:
    """A GOAWAY frame with NO_ERROR."""
    return b"\0\0\x08" + bytes((GOAWAY, 0)) + bytes(4) + last_stream.to_bytes(4, "big") + bytes(4)
