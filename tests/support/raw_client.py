"""A client that sends exactly the bytes it is told to, and reads one response."""

from __future__ import annotations

import contextlib
import http.client
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Response:
    """A response as it arrived. ``status`` 0: the connection ended without one."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case, fields in their order."""
    body: bytes = b""

    def header(self, name: str) -> str:
        """The fields of that name, joined by ", "; empty when there is none."""
        return ", ".join(value for field, value in self.headers if field == name)


def exchange(connection: socket.socket, request: bytes, method: str = "GET") -> Response:
    """Send ``request`` and read the response to it; 1xx responses are passed over. Closes the connection.

    Raises TimeoutError by the socket's own timeout.
    """
    with contextlib.closing(connection):
        try:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            body = response.read()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            return Response(0)
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        return Response(response.status, headers, body)
