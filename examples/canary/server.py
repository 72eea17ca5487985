"""A web server that answers with its version. Settings by environment: VERSION, PORT (8080), POD."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from email.utils import formatdate

VERSION = os.environ.get("VERSION", "v1")
POD = os.environ.get("POD", "")
PORT = int(os.environ.get("PORT", "8080"))
MAX_HEAD_BYTES = 16 * 1024
BODY = f"{VERSION}\n".encode()
HEAD = (
    f"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {len(BODY)}\r\n"
    f"x-version: {VERSION}\r\nx-pod: {POD}\r\n"
)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of a connection. Requests with a body are not expected here."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        open_for_more = True
        while open_for_more:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            open_for_more = b"\r\nconnection: close" not in head
            last = "" if open_for_more else "connection: close\r\n"
            date = f"date: {formatdate(usegmt=True)}\r\n"
            body = b"" if head.startswith(b"head ") else BODY
            writer.write(f"{HEAD}{date}{last}\r\n".encode() + body)
            await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(serve, None, PORT, limit=MAX_HEAD_BYTES)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
