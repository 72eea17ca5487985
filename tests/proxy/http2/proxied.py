"""A proxy before scripted servers that speak HTTP/2, and what HTTP/1.1 clients get of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.request_policies import Retry
from meshd.model.routes import Forward, Route, WeightedCluster
from proxy.http2.session import Limits
from tests.support.http2_server import Http2Server
from tests.support.http_bed import (
    FORWARD,
    Bed,
    Script,
    Server,
    bed,
    config,
    get,
    read_response,
    receive_head,
    server,
)

HTTP2 = Cluster(name="web", http_version=HttpVersion.HTTP2)
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello"


@contextlib.contextmanager
def proxied(
    *scripts: Script, cluster: Cluster = HTTP2, routes: tuple[Route, ...] = (FORWARD,)
) -> Iterator[tuple[Bed, list[Server]]]:
    """A proxy before a server for each script."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server(script)) for script in scripts]
        ports = tuple(each.port for each in servers)
        yield stack.enter_context(bed(config(ports, routes, cluster=cluster))), servers


class Held:
    """A server that answers when it is told to."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self.waiting: list[tuple[Http2Server, int]] = []

    def script(self, sock: socket.socket) -> None:
        peer = Http2Server(sock, self._limits)
        while True:
            stream = peer.whole_request().stream
            with self._lock:
                self.waiting.append((peer, stream))

    def answer(self) -> None:
        with self._lock:
            peer, stream = self.waiting.pop(0)
            peer.respond(stream)


def retrying(**policy: object) -> tuple[Route, ...]:
    retry = Retry(attempts=3, backoff=0.001, **policy)  # type: ignore[arg-type]
    return (Route(name="r", action=Forward(clusters=(WeightedCluster(name="web"),), retry=retry)),)


def asked(proxy: Bed, request: bytes = get()) -> bytes:
    """The whole answer that a new HTTP/1.1 client gets."""
    with proxy.connect() as client:
        client.sendall(request)
        return answer_to(client)


def answer_to(client: socket.socket) -> bytes:
    """A whole answer, whose trailers are empty if it has chunks."""
    data = receive_head(client)
    if b"Transfer-Encoding: chunked" in data:
        while not data.endswith(b"0\r\n\r\n"):
            data += client.recv(65536)
        return data
    head, body, _ = read_response(client, data)
    return head + b"\r\n\r\n" + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])
