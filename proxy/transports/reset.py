"""Ending a connection with RST."""

from __future__ import annotations

import asyncio
import socket
import struct

_NO_TIME = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Close at once and send RST: for what must not pass for an orderly end. Unsent bytes are lost."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_TIME)
    transport.abort()
