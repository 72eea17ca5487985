"""What has been sent of a request, or is to be, kept as long as it may be sent again. No I/O."""

from __future__ import annotations

MAX_KEPT_BODY_BYTES = 1024 * 1024
"""Of a body, for a route that sends requests again: Envoy's per_connection_buffer_limit_bytes."""


class KeptRequest:
    """Its head and what has come of its body."""

    __slots__ = ("_head", "_more", "_room", "is_whole", "limit")

    def __init__(self, head: bytes, body: bytes, limit: int) -> None:
        """``limit``: bytes of body; what has gone out beyond them is not kept, and nothing before it."""
        self._head = head + body if body else head
        self._more: list[bytes] = []
        self._room = limit - len(body)
        self.limit = limit
        self.is_whole = bool(head)
        """Nothing of what has come is missing: it can be sent again."""

    def add(self, data: bytes, is_sent: bool) -> None:
        """More of its body has come. What has not been sent is kept in any case."""
        self._room -= len(data)
        if is_sent and self._room < 0:
            self.drop()
        elif self.is_whole:
            self._more.append(data)

    def read(self) -> bytes:
        """All of it; empty where it has been dropped."""
        if self._more:
            self._head += b"".join(self._more)
            self._more.clear()
        return self._head

    def drop(self) -> None:
        """It will not be sent again."""
        self._head = b""
        self._more.clear()
        self.is_whole = False
