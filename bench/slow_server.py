"""Answers each GET after a time, and keeps in a file how many are out, for when it is killed.

Run as a program in a pod: ``slow_server.py PORT MILLISECONDS FILE``. /ready is answered at once and not
counted. SIGTERM: what is out is answered, then it ends.
"""

from __future__ import annotations

import asyncio
import mmap
import signal
import struct
import sys
from pathlib import Path
from typing import cast

BODY = b"0123456789abcdef"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
_COUNT = struct.Struct("=q")


class Counter:
    """Of requests that are out, in a file that is as it was when its process is killed."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(bytes(_COUNT.size))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), _COUNT.size)
        self._value = 0

    def add(self, more: int) -> None:
        self._value += more
        _COUNT.pack_into(self._memory, 0, self._value)


def count(file: Path) -> int:
    """What a server's file says. Raises OSError."""
    return int(_COUNT.unpack(file.read_bytes())[0])


class _Connection(asyncio.Protocol):
    """One request at a time on each, as all clients here have it."""

    def __init__(self, seconds: float, out: Counter) -> None:
        self._seconds = seconds
        self._out = out
        self._head = b""
        self._transport: asyncio.Transport
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        is_probe = self._head.startswith(b"GET /ready ")
        self._head = b""
        if is_probe:
            self._transport.write(_ANSWER)
            return
        self._out.add(1)
        self._waiting = asyncio.get_running_loop().call_later(self._seconds, self._answer)

    def _answer(self) -> None:
        self._waiting = None
        self._out.add(-1)
        self._transport.write(_ANSWER)

    def connection_lost(self, _: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._out.add(-1)


async def _serve(port: int, seconds: float, file: Path) -> None:
    out = Counter(file)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(seconds, out), None, port, backlog=1024)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()
    await asyncio.sleep(2 * seconds)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]) / 1000, Path(sys.argv[3])))
