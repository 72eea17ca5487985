"""Content in chunks (RFC 9112, 7.1), for a body whose length nobody knows. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.http1.field_values import Field

_NOT_IN_TRAILERS = frozenset(
    (b"transfer-encoding", b"content-length", b"host", b"connection", b"trailer", b"te", b"upgrade")
)
"""Fields that say how a message is framed or where it goes: after the content it is too late for them
(RFC 9110, 6.5.1)."""


def chunk(data: bytes) -> bytes:
    """``data`` as one chunk; empty for none, as an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def last_chunk(trailers: Sequence[Field] = ()) -> bytes:
    """The end of the content, with the fields that follow it."""
    if not trailers:
        return b"0\r\n\r\n"
    lines = [
        name + b": " + value + b"\r\n" for name, value in trailers if name.lower() not in _NOT_IN_TRAILERS
    ]
    return b"0\r\n" + b"".join(lines) + b"\r\n"
