"""The proxy's TCP side without capture: on loopback, in a thread, in front of scripted servers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from typing import cast

from meshd.model.clusters import Cluster, Endpoint, EndpointSet
from meshd.model.listeners import Listener, Protocol
from meshd.model.routes import WeightedCluster
from meshd.model.snapshot import Delta
from meshd.model.tcp_routes import TcpRoute
from meshd.model.wire import TcpCounts
from proxy.tcp.session import Session
from tests.support.http_bed import SERVICE_PORT, VIP, Bed

NAME = "default/db:80"
Ports = Mapping[str, tuple[int, ...]]
"""By cluster, on 127.0.0.1."""


def route(
    *clusters: str,
    names: tuple[str, ...] = (),
    name: str = "default/db/0",
    idle: float = 60.0,
    attempts: int = 1,
) -> TcpRoute:
    """To each cluster the same share."""
    return TcpRoute(
        name=name,
        server_names=names,
        clusters=tuple(WeightedCluster(name=cluster) for cluster in clusters),
        idle_timeout=idle,
        connect_attempts=attempts,
    )


def config(
    ports: Ports,
    *routes: TcpRoute,
    clusters: tuple[Cluster, ...] = (),
    hello_timeout: float = 15.0,
    generation: int = 1,
) -> Delta:
    """One TCP service. ``clusters``: those that are more than a name."""
    made = {name: Cluster(name=name) for name in ports} | {cluster.name: cluster for cluster in clusters}
    return Delta(
        generation=generation,
        listeners=(
            Listener(
                name=NAME,
                service="default/db",
                addresses=(VIP,),
                port=SERVICE_PORT,
                protocol=Protocol.TCP,
                cluster="db",
                tcp_routes=routes,
                hello_timeout=hello_timeout,
            ),
        ),
        clusters=tuple(made.values()),
        endpoints=tuple(
            EndpointSet(
                name=name, endpoints=tuple(Endpoint(address="127.0.0.1", port=port) for port in several)
            )
            for name, several in ports.items()
        ),
    )


class _Accepting(asyncio.Protocol):
    def __init__(self, session: Session) -> None:
        self._session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._session.begin(cast(asyncio.Transport, transport))


class TcpBed(Bed):
    """A running proxy."""

    async def _listen(self, delta: Delta) -> asyncio.Server:
        self.runtime.config.apply(delta)
        listener = self.runtime.config.listener_at(VIP, SERVICE_PORT, "default")
        assert listener is not None
        server = await self._loop.create_server(
            lambda: _Accepting(Session(self.runtime, self.caller, listener, "vip:80", "client:1")),
            "127.0.0.1",
            0,
            backlog=4096,
        )
        self.port = server.sockets[0].getsockname()[1]
        return server

    def counts(self) -> tuple[TcpCounts, ...]:
        """The metrics' rows, between two events of the proxy's loop."""
        self.call(lambda: None)
        return self.runtime.tcp_stats.snapshot()


@contextlib.contextmanager
def tcp_bed(delta: Delta) -> Iterator[TcpBed]:
    running = TcpBed(delta)
    try:
        yield running
    finally:
        running.close()


def hello(server_name: str | None, alpn: tuple[str, ...] = ()) -> bytes:
    """What OpenSSL sends first, as Python has it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=server_name).do_handshake()
    return out.read()


def closed_port() -> int:
    """One that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def send_reset(sock: socket.socket) -> None:
    """End a connection with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
