"""A server that does what the path of each request asks for. ``python -m soak.server ADDRESS LISTENERS``.

It prints its ports, and, when its standard input ends, what it found wrong.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Awaitable, Callable

import uvloop

from soak.exchange import Exchange, Server, framing_field, from_target
from soak.wire import WrongBytesError, read_body, reset, write_body

_DATE = b"Date: Sat, 21 Nov 2026 00:00:00 GMT\r\n"
_MOST_FAULTS = 20


class Report:
    """What came."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.requests = 0

    def fault(self, text: str) -> None:
        """Note something that must not be."""
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(text)


def _conversation(report: Report) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _exchange(reader, writer, report):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went, and the proxy with it
        except Exception as error:
            report.fault(repr(error))
        finally:
            writer.close()

    return converse


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, report: Report) -> bool:
    """One request; False: the connection is at its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    wanted = from_target(head.split(b" ", 2)[1])
    try:
        await read_body(reader, head.lower(), wanted.sent())
    except WrongBytesError as error:
        report.fault(f"request {wanted}: {error}")
        return False
    report.requests += 1
    await _answer(writer, wanted)
    return wanted.server in (Server.ANSWER, Server.PIECES, Server.PLAIN)


async def _answer(writer: asyncio.StreamWriter, wanted: Exchange) -> None:
    if wanted.server is Server.SILENT:
        return
    body = wanted.answer()
    head = b"HTTP/1.1 200 OK\r\n" + (b"" if wanted.server is Server.PLAIN else _DATE)
    if wanted.server is Server.CLOSE:
        head += b"Connection: close\r\n"
    head += framing_field(len(body), wanted.chunked_down) + b"\r\n\r\n"
    if wanted.server in (Server.CUT, Server.RESET):
        await write_body(writer, body[: len(body) // 2], wanted.chunked_down, head, whole=False)
        if wanted.server is Server.RESET:
            reset(writer)
    elif wanted.server is Server.PIECES:
        writer.write(head[:17])
        await asyncio.sleep(0.002)
        await write_body(writer, body[:0], False, head[17:])
        for cut in itertools.pairwise((0, len(body) // 3, len(body) // 2, len(body))):
            await asyncio.sleep(0.002)
            last = cut[1] == len(body)
            if last or cut[0] < cut[1]:
                await write_body(writer, body[slice(*cut)], wanted.chunked_down, whole=last)
    else:
        await write_body(writer, body, wanted.chunked_down, head)


async def _serve(address: str, listeners: int) -> None:
    report = Report()
    loop = asyncio.get_running_loop()
    servers = [
        await asyncio.start_server(_conversation(report), address, 0, backlog=4096) for _ in range(listeners)
    ]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"requests": report.requests, "faults": report.faults}), flush=True)


def main() -> None:
    """Serve until standard input ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1], int(sys.argv[2])))


if __name__ == "__main__":
    main()
