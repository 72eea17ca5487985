"""A server whose latencies are known: ``known_server.py ANSWERS``.

ANSWERS is JSON: pairs of how often an answer is given and the answer, over and over:
{"after": seconds, "stall": seconds, "status": 200, "body": "…", "length": of the header, "close": bool}.
``after`` delays this answer alone; ``stall`` stops the whole server. It writes its port when it listens.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time

ANSWERS = (answer for times, answer in itertools.cycle(json.loads(sys.argv[1])) for _ in range(times))


class Known(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not data.endswith(b"\r\n\r\n"):
            return  # the rest follows: requests are small, and there is one at a time
        answer = next(ANSWERS)
        time.sleep(answer.get("stall", 0))
        asyncio.get_running_loop().call_later(
            answer.get("after", 0), self.send, answer, b"connection: close" in data.lower()
        )

    def send(self, answer: dict[str, object], close: bool) -> None:
        if answer.get("close"):
            self.transport.close()
            return
        body = str(answer.get("body", "0123456789abcdef"))
        length = answer.get("length", len(body))
        head = f"HTTP/1.1 {answer.get('status', 200)} Known\r\nContent-Length: {length}\r\n"
        self.transport.write(f"{head}{'Connection: close' if close else 'X: y'}\r\n\r\n{body}".encode())
        if close:
            self.transport.close()


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Known, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
