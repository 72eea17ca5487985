"""How a pool's connections are made, counted and ended."""

from __future__ import annotations

import asyncio
import logging
import socket
from abc import abstractmethod
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from meshd import log
from meshd.model.clusters import Cluster, Endpoint
from proxy.load import Resource
from proxy.runtime import Runtime
from proxy.upstream.connecting import ConnectError, OpenSocket, connect
from proxy.upstream.pool import MAX_CONNECTIONS, Pool

_logger = logging.getLogger("meshd.proxy.pool")


class Connection(Protocol):
    """One, whatever is spoken on it."""

    def abort(self) -> None:
        """Close at once."""


C = TypeVar("C", bound=Connection)


class ConnectionPool(Pool, Generic[C]):
    """As in Envoy, a pool that has none may always make one: else who waits in it would wait for others'."""

    def __init__(
        self, runtime: Runtime, cluster: Cluster, endpoint: Endpoint, open_socket: OpenSocket
    ) -> None:
        super().__init__(runtime, cluster, endpoint)
        self._open_socket = open_socket
        self._all: set[C] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._making: dict[C, asyncio.Task[None]] = {}
        """Of those, which have got as far as to have a connection."""
        self._counted = 0
        """Connections, made and being made, that the load knows of."""

    # -- for subclasses ------------------------------------------------------------------------------

    @abstractmethod
    def _close_idle(self) -> None:
        """The endpoint takes no new requests: close what carries none, and let the others end."""

    @abstractmethod
    def _offer(self, connection: C) -> None:
        """Give a connection's room to those who wait, else keep it."""

    @abstractmethod
    def _needed(self) -> int:
        """Connections that those who wait need beside those that are there."""

    @abstractmethod
    async def _establish(self, sock: socket.socket) -> None:
        """Make a connection of a socket that is connected; it is ``opened``. Raises OSError."""

    def drain(self) -> None:
        """Pool: close what is idle, give up on what is not made, let the rest end.

        An address that is gone does not even refuse: a connect to it would hang until its timeout.
        """
        for task in self._connecting:
            task.cancel()
        super().drain()
        self._close_idle()

    def close(self) -> None:
        """Pool: close everything at once."""
        self.drain()
        for connection in tuple(self._all):
            connection.abort()
        self.runtime.timed.discard(self)

    def is_empty(self) -> bool:
        """Pool: whether nothing of it is left."""
        return not self._all and not self._connecting

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._all))

    def _connections(self) -> int:
        return len(self._all) + len(self._connecting)

    # -- connections ---------------------------------------------------------------------------------

    def opened(self, connection: C) -> None:
        """A connection stands."""
        self._connecting.discard(self._making.pop(connection))
        self._all.add(connection)
        self._count()
        self.runtime.counters.add("upstream_connections_total")
        self._offer(connection)

    def lost(self, connection: C) -> None:
        """A connection that stood is gone."""
        self._all.discard(connection)
        self._count()
        self._connect_for_waiting()

    def _connect_for_waiting(self) -> None:
        while len(self._connecting) < self._needed() and self._may_connect():
            task = self.runtime.loop.create_task(self._connect())
            self._connecting.add(task)
            self._count()
            task.add_done_callback(self._not_connecting)

    def _may_connect(self) -> bool:
        mine = self._connections()
        if mine == 0:
            return True
        limit = self.cluster.limits.connections
        return mine < MAX_CONNECTIONS and self.load.has_room(Resource.CONNECTIONS, limit)

    def _not_connecting(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        self._count()
        self._connect_for_waiting()

    def _count(self) -> None:
        now = self._connections()
        self.load.add(Resource.CONNECTIONS, now - self._counted)
        self._counted = now

    async def _connect(self) -> None:
        seconds = self.cluster.connect_timeout
        try:
            await connect(self._open_socket, self.endpoint, seconds, self._establish)
        except ConnectError as error:
            self._failed(str(error), error.timed_out)

    def _failed(self, reason: str, timed_out: bool) -> None:
        self.runtime.counters.add("upstream_connect_failures_total")
        # As in Envoy (LocalOriginConnectFailed).
        self.runtime.outcomes.record(self.cluster, self.endpoint, 503, None)
        log.event(
            _logger,
            logging.DEBUG,
            "connect failed",
            cluster=self.cluster.name,
            endpoint=f"{self.endpoint.address}:{self.endpoint.port}",
            reason=reason,
        )
        if self._waiting:
            self._next_waiter().connect_failed(reason, timed_out)
