"""What waits to be sent on one stream. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from proxy.http2.events import Field

HIGH_BYTES = 64 * 1024
"""More than that should not wait on one stream: who sends it is to pause."""
LOW_BYTES = 16 * 1024


class Sending:
    """Content in the order of its coming, then perhaps trailers."""

    __slots__ = ("_at", "_pieces", "ended", "is_deferred", "is_high", "size", "stops_peer", "trailers")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._at = 0
        """Bytes of the first piece that have gone."""
        self.size = 0
        """Bytes that wait."""
        self.ended = False
        self.trailers: Sequence[Field] = ()
        self.stops_peer = False
        """When all has gone the peer is told to say no more."""
        self.is_deferred = False
        """Who sends has been told that nothing is there, and is to be told when something is."""
        self.is_high = False
        """Too much has waited, and not enough of it has gone since."""

    def add(self, data: bytes) -> None:
        """More content."""
        if data:
            self._pieces.append(data)
            self.size += len(data)
            if self.size > HIGH_BYTES:
                self.is_high = True

    def take(self, limit: int) -> bytes | memoryview:
        """The next content, at most ``limit`` bytes; empty: there is none at the moment."""
        pieces = self._pieces
        if not pieces:
            return b""
        first, at = pieces[0], self._at
        left = len(first) - at
        if left > limit:
            self._at += limit
            self.size -= limit
            return memoryview(first)[at : at + limit]
        pieces.popleft()
        taken: bytes | memoryview = memoryview(first)[at:] if at else first
        self._at = 0
        if pieces and left < limit:
            together = bytearray(taken)
            while pieces and len(together) + len(pieces[0]) <= limit:
                together += pieces.popleft()
            taken = memoryview(together)
        self.size -= len(taken)
        return taken

    def has_drained(self) -> bool:
        """Whether enough has gone now, after too much had waited. True once."""
        if self.is_high and self.size <= LOW_BYTES:
            self.is_high = False
            return True
        return False
