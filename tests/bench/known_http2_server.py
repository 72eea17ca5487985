"""A server of HTTP/2 whose latencies are known: ``known_http2_server.py ANSWERS``.

ANSWERS is JSON, as known_server.py's: pairs of how often an answer is given and the answer, over and over:
{"after": seconds, "stall": seconds, "status": 200, "body": "…", "trailers": {…}, "reset": code}. It writes
its port when it listens. Content is answered when the first of it has come: of a stream, too.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import Any

from proxy.http2.events import Data, Headers
from proxy.http2.session import Limits, Session

ANSWERS = (answer for times, answer in itertools.cycle(json.loads(sys.argv[1])) for _ in range(times))


def fields(of: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in of.items()]


class Known(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.session = Session(True, Limits(), time.monotonic)

    def data_received(self, data: bytes) -> None:
        self.session.feed(data)
        for event in self.session.events():
            if isinstance(event, Data) or (isinstance(event, Headers) and event.ended):
                answer = next(ANSWERS)
                time.sleep(answer.get("stall", 0))
                asyncio.get_running_loop().call_later(answer.get("after", 0), self.send, event.stream, answer)
        self.transport.write(self.session.take())

    def send(self, stream: int, answer: dict[str, Any]) -> None:
        if "reset" in answer:
            self.session.reset(stream, answer["reset"])
        else:
            self.session.respond(stream, fields({":status": str(answer.get("status", 200))}), ended=False)
            body = answer.get("body", "0123456789abcdef").encode()
            self.session.finish(stream, body, fields(answer.get("trailers", {})))
        self.transport.write(self.session.take())


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Known, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
