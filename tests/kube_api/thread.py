"""The tests' API server on a thread of its own, as a cluster's control plane is on other machines."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from tests.kube_api.server import Server

Result = TypeVar("Result")


class ApiThread:
    """A server and the loop that it runs in."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.stop = asyncio.Event()

    @property
    def port(self) -> str:
        """Where it listens."""
        return self.server.url.rpartition(":")[2]

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run something of the server's, there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)


@contextlib.contextmanager
def api_thread(
    server: Server, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[ApiThread]:
    """Serve for the body."""
    made = ApiThread(server)

    async def run() -> None:
        async with server.running(tls, host):
            made.ready.set()
            await made.stop.wait()
            # Who had a connection has gone; that is to be seen before the loop ends.
            for _ in range(1000):
                if not server.open_watches:
                    break
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=made.loop.run_until_complete, args=(run(),))
    thread.start()
    assert made.ready.wait(30), "the API server does not start"
    try:
        yield made
    finally:
        made.loop.call_soon_threadsafe(made.stop.set)
        thread.join(60)
        made.loop.close()
