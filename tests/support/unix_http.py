"""GET over a Unix socket, as the agent's and Envoy's admin interfaces have it."""

from __future__ import annotations

import contextlib
import http.client
import socket
from pathlib import Path

_SECONDS = 30.0


def get(socket_path: Path, target: str) -> str:
    """The body of the answer; empty unless it is a 200, or when nobody listens (yet)."""
    connection = http.client.HTTPConnection("local", timeout=_SECONDS)
    with contextlib.closing(connection):
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_SECONDS)
        try:
            connection.sock.connect(str(socket_path))
            connection.request("GET", target)
            response = connection.getresponse()
            body = response.read().decode()
        except OSError:
            return ""
    return body if response.status == 200 else ""
