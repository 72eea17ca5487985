"""What has been sent of a request, or is to be, kept as long as it may be sent again. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.http1.field_values import Field
from proxy.upstream.outgoing import Outgoing

MAX_KEPT_BODY_BYTES = 1024 * 1024
"""Of a body, for a route that sends requests again: Envoy's per_connection_buffer_limit_bytes."""


class KeptRequest:
    """Its head and what has come of its body."""

    __slots__ = ("_body", "_more", "_room", "head", "is_whole", "limit", "trailers")

    def __init__(self, head: Outgoing | None, body: bytes, limit: int) -> None:
        """``head``: None: it is not known, and cannot be sent again.

        ``limit``: bytes of body; what has gone out beyond them is not kept, and nothing before it.
        """
        self.head = head
        self._body = body
        self._more: list[bytes] = []
        self._room = limit - len(body)
        self.limit = limit
        self.is_whole = head is not None
        """Nothing of what has come is missing: it can be sent again."""
        self.trailers: Sequence[Field] | None = None
        """After a body that is CONTENT, when it has ended."""

    def add(self, data: bytes, is_sent: bool) -> None:
        """More of its body has come. What has not been sent is kept in any case."""
        self._room -= len(data)
        if is_sent and self._room < 0:
            self.drop()
        elif self.is_whole:
            self._more.append(data)

    def read(self) -> bytes:
        """All that has come of the body; empty where it has been dropped."""
        if self._more:
            self._body += b"".join(self._more)
            self._more.clear()
        return self._body

    def drop(self) -> None:
        """It will not be sent again."""
        self._body = b""
        self._more.clear()
        self.is_whole = False
