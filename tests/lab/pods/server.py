"""Answers with its pod's name over HTTP and UDP. GET /ready/no and /ready/yes change GET /ready."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import cast

NAME = os.environ["NAME"]
PORT = 8080
ready = True


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global ready
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    if path.startswith(b"/ready/"):
        ready = path == b"/ready/yes"
    status = "200 OK" if ready or path != b"/ready" else "503 Service Unavailable"
    body = f"{NAME}\n".encode()
    writer.write(
        f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
    )
    await writer.drain()
    writer.close()


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, _data: bytes, address: tuple[object, ...]) -> None:
        self.transport.sendto(NAME.encode(), address)


async def main() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("0.0.0.0", PORT))
    transport, _ = await loop.create_datagram_endpoint(Echo, sock=udp)
    server = await asyncio.start_server(serve, None, PORT)
    print(f"{NAME} serves", flush=True)
    await stop.wait()
    print(f"{NAME} ends", file=sys.stderr, flush=True)
    server.close()
    transport.close()


asyncio.run(main())
