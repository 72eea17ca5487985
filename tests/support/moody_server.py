"""An HTTP server that answers as its mood is; in the test's event loop, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator


class Mood(enum.Enum):
    """What becomes of a request."""

    SILENT = "silent"
    """Nothing, until the client goes."""
    HANGS_UP = "hangs up"
    RUDE = "rude"
    """What is answered is not HTTP."""


class MoodyServer:
    """One request on a connection."""

    def __init__(self) -> None:
        self.mood: Mood | int = 200
        """A number: the status that it answers."""
        self.heads: list[str] = []
        """Of the requests that came."""
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, at the port where it did before if it did. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                match self.mood:
                    case Mood.SILENT:
                        await reader.read()
                    case Mood.RUDE:
                        writer.write(b"220 mail.example.com ESMTP\r\n")
                    case int(status):
                        writer.write(b"HTTP/1.1 %d Mood\r\nContent-Length: 0\r\n\r\n" % status)
                await writer.drain()
        finally:
            self.open -= 1
            writer.close()


@contextlib.asynccontextmanager
async def moody_server() -> AsyncIterator[MoodyServer]:
    """A server in a good mood, for the body."""
    server = MoodyServer()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
