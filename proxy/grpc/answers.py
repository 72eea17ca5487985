"""Answers of the proxy's own, as a gRPC client understands them: an HTTP 200 with the status in the head.

So is Envoy's local reply (Http::Utility::prepareLocalReply); gRPC's doc/PROTOCOL-HTTP2.md, "Trailers-Only".
"""

from __future__ import annotations

from meshd.model import grpc
from proxy.http1.field_values import Field

STATUS, MESSAGE = "grpc-status", "grpc-message"
_REPLACED = frozenset({"content-type", "content-length", STATUS, MESSAGE})
_PLAIN = frozenset(range(0x20, 0x7F)) - {0x25}
"""What stands for itself in a message; all else is percent-encoded, byte by byte."""

Headers = tuple[tuple[str, str], ...]


def trailers_only(status: int, headers: Headers, body: bytes) -> Headers:
    """The head's fields of an answer with a gRPC status, in place of one with ``headers`` and ``body``."""
    kept = tuple(field for field in headers if field[0] not in _REPLACED)
    message = ((MESSAGE, percent_encoded(body)),) if body else ()
    return (("content-type", grpc.CONTENT_TYPE), (STATUS, str(status)), *message, *kept)


def status_trailers(status: int, message: bytes) -> list[Field]:
    """What ends an answer that has begun, with a gRPC status."""
    return [(STATUS.encode(), b"%d" % status), (MESSAGE.encode(), percent_encoded(message).encode())]


def percent_encoded(text: bytes) -> str:
    """``text`` as the field grpc-message holds it."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text)
