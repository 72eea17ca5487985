"""The workload on whose behalf requests are made: its identity, its namespace, its upstream pools."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple

from meshd import netns
from meshd.model.clusters import Cluster, Endpoint
from meshd.model.workload import Workload
from proxy.runtime import Runtime
from proxy.upstream.http1 import Upstream
from proxy.upstream.http1_pool import Http1Pool
from proxy.upstream.http2_pool import Http2Pool
from proxy.upstream.pool import Pool
from proxy.upstream.server_version import speaks_http2

_PoolKey = tuple[str, str, int, bool]


class Marks(NamedTuple):
    """SO_MARKs of upstream sockets, which keep capture away from them; 0: none."""

    carried: int = 0
    """Of those over which the kernel may carry requests."""
    plain: int = 0


NO_MARKS = Marks()


class Caller:
    """One workload that this worker serves. The namespaces' fds stay their owner's."""

    def __init__(
        self, runtime: Runtime, workload: Workload, netns_fd: int, home_fd: int, marks: Marks = NO_MARKS
    ) -> None:
        self.runtime = runtime
        self.source: str
        """``namespace/name``."""
        self.namespace: str
        self._addresses: dict[int, bytes]
        self.renew(workload)
        self._netns_fd = netns_fd
        self._home_fd = home_fd
        self._marks = marks
        self._pools: dict[_PoolKey, Pool] = {}
        self.relayed = 0
        """TCP connections that are routed as a whole, and have a server."""

    def renew(self, workload: Workload) -> None:
        """Take over a workload's name and addresses."""
        self.source = f"{workload.namespace}/{workload.name}"
        self.namespace = workload.namespace
        self._addresses = {
            version: next(
                (ip for ip in workload.ips if ipaddress.ip_address(ip).version == version), ""
            ).encode()
            for version in (4, 6)
        }

    def address(self, ipv6: bool) -> bytes:
        """The workload's own address of that family, else of the other; empty where it has none."""
        return self._addresses[6 if ipv6 else 4] or self._addresses[4 if ipv6 else 6]

    def pool(self, cluster: Cluster, endpoint: Endpoint, http2: bool) -> Pool:
        """The connections to an endpoint, for requests that its cluster gets in HTTP/2, or in HTTP/1.1."""
        key = (cluster.name, endpoint.address, endpoint.port, http2)
        pool = self._pools.get(key)
        if pool is None:
            kind = Http2Pool if http2 else Http1Pool
            pool = self._pools[key] = kind(self.runtime, cluster, endpoint, self.open_socket)
        return pool

    def known_pool(self, cluster: str, address: str, port: int) -> Pool | None:
        """The same for HTTP/1.1; None: there have been none for a while."""
        return self._pools.get((cluster, address, port, False))

    def connection_between(self, local: str, server: tuple[str, int]) -> Upstream | None:
        """The one of HTTP/1.1 from ``local``, ``address:port``, to a server; None: there is none."""
        for (_, *endpoint, http2), pool in self._pools.items():
            if not http2 and (*endpoint,) == server:
                assert isinstance(pool, Http1Pool)
                for connection in pool:
                    if connection.local_address() == local:
                        return connection
        return None

    def open_socket(self, family: socket.AddressFamily) -> socket.socket:
        """A non-blocking TCP socket in the workload's namespace. Raises OSError."""
        return self._socket(family, self._marks.carried)

    def open_plain_socket(self, family: socket.AddressFamily) -> socket.socket:
        """The same, for a connection of which the kernel never carries anything. Raises OSError."""
        return self._socket(family, self._marks.plain)

    def _socket(self, family: socket.AddressFamily, mark: int) -> socket.socket:
        with netns.entered(self._netns_fd, self._home_fd):
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if mark:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            raise
        return sock

    def config_changed(self) -> None:
        """Drain the pools of endpoints that take no new requests; forget those that are empty."""
        config = self.runtime.config
        for key, pool in tuple(self._pools.items()):
            http2 = key[3]
            cluster = config.snapshot.clusters.get(key[0])
            if cluster is not None and speaks_http2(cluster, http2) == http2 and config.is_usable(key[:3]):
                pool.renew(cluster)
            elif pool.is_empty():
                pool.close()
                del self._pools[key]
            else:
                pool.drain()

    def connections(self) -> int:
        """Open upstream connections."""
        return sum(len(pool) for pool in self._pools.values()) + self.relayed

    def close(self) -> None:
        """Close all upstream connections."""
        while self._pools:
            _, pool = self._pools.popitem()
            pool.close()
