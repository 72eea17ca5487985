"""The handshake of a WebSocket over HTTP/1.1 (RFC 6455, 4), for a client that has none: it speaks HTTP/2."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from typing import Final

from proxy.http1.field_values import Field

KEY: Final = b"sec-websocket-key"
ACCEPT: Final = b"sec-websocket-accept"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def new_key() -> bytes:
    """A request's Sec-WebSocket-Key."""
    return base64.b64encode(os.urandom(16))


def accepts(request: Sequence[Field], response: Sequence[Field]) -> bool:
    """Whether a server's Sec-WebSocket-Accept, if it has one, answers the request's key."""
    key, accept = _value(request, KEY), _value(response, ACCEPT)
    if key is None or accept is None:
        return True  # a server that speaks HTTP/2 has none
    return accept == accept_of(key)


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept that answers a key."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _value(fields: Sequence[Field], name: bytes) -> bytes | None:
    return next((value for field, value in fields if field.lower() == name), None)
