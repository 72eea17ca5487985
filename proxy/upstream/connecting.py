"""Making a TCP connection to an endpoint."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable

from meshd.model.clusters import Endpoint

OpenSocket = Callable[[socket.AddressFamily], socket.socket]
"""A new non-blocking TCP socket in the workload's namespace, marked as the proxy's own. Raises OSError."""


class ConnectError(Exception):
    """The connection could not be made. The message says why, to people."""

    def __init__(self, reason: str, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        """There was no answer in time."""


async def connect(
    open_socket: OpenSocket,
    endpoint: Endpoint,
    seconds: float,
    establish: Callable[[socket.socket], Awaitable[None]] | None = None,
) -> socket.socket:
    """A connected socket, the caller's to close. ``seconds``: at most; 0: no limit. Raises ConnectError.

    ``establish``: what else has to be done in that time, such as a protocol's preface. May raise OSError.
    """
    family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(seconds or None):
            sock = open_socket(family)
            await _connected(sock, (endpoint.address, endpoint.port))
            if establish is not None:
                await establish(sock)
            made, sock = sock, None
            return made
    except TimeoutError as error:
        # Of the kernel, or of ours.
        raise ConnectError(_text(error) or f"no answer within {seconds:g} s", timed_out=True) from None
    except OSError as error:
        raise ConnectError(_text(error) or str(error)) from None
    finally:
        if sock is not None:
            sock.close()


async def _connected(sock: socket.socket, address: tuple[str, int]) -> None:
    """Wait for the handshake. Raises OSError."""
    for _ in range(2):
        try:
            sock.connect(address)
        except BlockingIOError:
            # On one node it is over by the time that the kernel returns, which a second call is told.
            continue
        return
    await asyncio.get_running_loop().sock_connect(sock, address)


def _text(error: OSError) -> str:
    if not error.errno:
        return ""
    return f"{os.strerror(error.errno)} ({errno.errorcode.get(error.errno, error.errno)})"
