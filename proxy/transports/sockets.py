"""What a connection's socket tells beside its transport."""

from __future__ import annotations

import socket


def local_name(sock: socket.socket) -> str:
    """``address:port`` of our end; empty: it is closed."""
    try:
        name = sock.getsockname()
    except OSError:
        return ""
    return f"[{name[0]}]:{name[1]}" if sock.family is socket.AF_INET6 else f"{name[0]}:{name[1]}"


def has_something(sock: socket.socket) -> bool:
    """Whether bytes, or the stream's end, have come that the loop has not read yet."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
