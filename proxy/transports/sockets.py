"""What a connection's socket tells beside its transport."""

from __future__ import annotations

import socket


def end_name(address: str, port: int) -> str:
    """``address:port``."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def local_name(sock: socket.socket) -> str:
    """``address:port`` of our end; empty: it is closed."""
    try:
        name = sock.getsockname()
    except OSError:
        return ""
    return end_name(*name[:2])


def has_something(sock: socket.socket) -> bool:
    """Whether bytes, or the stream's end, have come that the loop has not read yet."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
