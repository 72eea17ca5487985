"""What a connection is called in the log."""

from __future__ import annotations

import socket


def local_name(sock: socket.socket) -> str:
    """``address:port`` of our end; empty: it is closed."""
    try:
        name = sock.getsockname()
    except OSError:
        return ""
    return f"[{name[0]}]:{name[1]}" if sock.family is socket.AF_INET6 else f"{name[0]}:{name[1]}"
