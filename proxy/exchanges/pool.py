"""Upstream connections of one workload to one endpoint, kept for reuse. Made in the workload's namespace.

A request that finds none idle waits. For each that waits a connection is made, as far as the cluster's limit
allows, and the first one that is there, new or given back, goes to who has waited longest. As in Envoy, a
pool that has none may always make one: else who waits in it would wait for connections of other pools.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Protocol

from meshd import log
from meshd.datapath.rules.fingerprint import cluster_id
from meshd.model.clusters import Cluster, Endpoint
from proxy.exchanges.load import Resource
from proxy.exchanges.upstream import Upstream
from proxy.runtime import Runtime

_logger = logging.getLogger("meshd.proxy.pool")

MAX_CONNECTIONS = 16 * 1024
"""To one endpoint from one workload; a workload has about 28,000 ephemeral ports for one destination."""
IDLE_JITTER = 0.1
"""Connections that came together do not expire together: each idle time is shortened by up to this share."""

OpenSocket = Callable[[socket.AddressFamily], socket.socket]
"""A new non-blocking TCP socket in the workload's namespace, marked as the proxy's own. Raises OSError."""


class LimitReachedError(Exception):
    """A limit is reached. The message says of what there are too many."""


class Waiter(Protocol):
    """Who asked for a connection, and is told once what became of that."""

    def connected(self, upstream: Upstream) -> bool:
        """Here is one. False: not wanted."""

    def connect_failed(self, reason: str, timed_out: bool) -> None:
        """It could not be made."""

    def withdrawn(self) -> None:
        """The endpoint takes no new requests any more."""


class Pool:
    """LIFO: the connection used last is the least likely to be closed by the server meanwhile."""

    def __init__(
        self, runtime: Runtime, cluster: Cluster, endpoint: Endpoint, open_socket: OpenSocket
    ) -> None:
        self.runtime = runtime
        self.cluster = cluster
        self.draining = False
        """The endpoint takes no new requests: connections end with the exchange that they carry."""
        self.address = endpoint.address, endpoint.port
        self.cluster_id = cluster_id(cluster.name)
        self.endpoint = endpoint
        self._open_socket = open_socket
        self._idle: deque[Upstream] = deque()
        self._all: set[Upstream] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._making: dict[Upstream, asyncio.Task[None]] = {}
        """Of those, which have got as far as to make an Upstream."""
        self._waiting: dict[Waiter, None] = {}
        """In the order of their coming."""
        self.load = runtime.loads.of(cluster.name)
        self._counted = 0
        """Connections, made and being made, that the load knows of."""
        runtime.timed.add(self)

    def renew(self, cluster: Cluster) -> None:
        """The config has changed, and the endpoint takes requests."""
        self.draining = False
        self.cluster = cluster
        self._connect_for_waiting()

    def take(self) -> Upstream | None:
        """An idle connection, or None."""
        while self._idle:
            upstream = self._idle.pop()
            if upstream.is_open():
                return upstream
        return None

    def connect(self, waiter: Waiter) -> None:
        """Wait for a connection; ``waiter`` hears of it later. Raises LimitReachedError."""
        limits = self.cluster.limits
        if not self.load.has_room(Resource.PENDING, limits.pending):
            raise LimitReachedError(f"requests that wait for a connection ({limits.pending})")
        if len(self._all) + len(self._connecting) >= MAX_CONNECTIONS:
            raise LimitReachedError(f"connections from this pod to one endpoint ({MAX_CONNECTIONS})")
        self._waiting[waiter] = None
        self.load.add(Resource.PENDING)
        self._connect_for_waiting()

    def forget(self, waiter: Waiter) -> None:
        """It does not wait any more, if it did."""
        if waiter in self._waiting:
            self._take_out(waiter)

    def release(self, upstream: Upstream) -> None:
        """Take back a connection whose exchange ended cleanly."""
        upstream.exchange = None
        if self.draining or not upstream.is_reusable():
            upstream.close()
            return
        upstream.reused = True
        # Who waits may have what must not be sent twice, so look twice at the connection.
        if self._waiting and upstream.has_ended():
            upstream.abort()
        else:
            self._offer(upstream)

    def discard(self, upstream: Upstream) -> None:
        """Forget an idle connection."""
        with contextlib.suppress(ValueError):
            self._idle.remove(upstream)

    def opened(self, upstream: Upstream) -> None:
        """A connection stands."""
        self._connecting.discard(self._making.pop(upstream))
        self._all.add(upstream)
        self._count()
        self.runtime.counters.add("upstream_connections_total")
        self._offer(upstream)

    def lost(self, upstream: Upstream) -> None:
        """A connection that stood is gone."""
        self._all.discard(upstream)
        self.discard(upstream)
        self._count()
        self._connect_for_waiting()

    def drain(self) -> None:
        """The endpoint is gone or going: close what is idle, give up on what is not made, let the rest end.

        An address that is gone does not even refuse: a connect to it would hang until its timeout.
        """
        self.draining = True
        for task in self._connecting:
            task.cancel()
        for waiter in tuple(self._waiting):
            self._take_out(waiter)
            waiter.withdrawn()
        while self._idle:
            self._idle.pop().close()
        for upstream in tuple(self._all):
            if upstream.flow is not None:
                upstream.flow.withdraw()

    def close(self) -> None:
        """Close everything at once."""
        self.drain()
        for upstream in tuple(self._all):
            upstream.abort()
        self.runtime.timed.discard(self)

    def is_empty(self) -> bool:
        """Whether nothing of it is left."""
        return not self._all and not self._connecting

    def __len__(self) -> int:
        return len(self._all)

    def check(self, now: float) -> None:
        """Close what has been idle for too long."""
        limit = self.cluster.idle_timeout
        if limit > 0:
            limit *= 1 - IDLE_JITTER * self.runtime.random()
            while self._idle and now - self._idle[0].idle_since > limit:
                self._idle.popleft().close()

    # -- those who wait ------------------------------------------------------------------------------

    def _take_out(self, waiter: Waiter) -> None:
        del self._waiting[waiter]
        self.load.remove(Resource.PENDING)

    def _offer(self, upstream: Upstream) -> None:
        """Give a connection to who has waited longest, else keep it."""
        while self._waiting:
            waiter = next(iter(self._waiting))
            self._take_out(waiter)
            if waiter.connected(upstream):
                return
        if self.draining:
            upstream.close()
            return
        upstream.idle_since = self.runtime.now
        self._idle.append(upstream)

    def _connect_for_waiting(self) -> None:
        while len(self._connecting) < len(self._waiting) and self._may_connect():
            task = self.runtime.loop.create_task(self._connect())
            self._connecting.add(task)
            self._count()
            task.add_done_callback(self._not_connecting)

    def _may_connect(self) -> bool:
        mine = len(self._all) + len(self._connecting)
        if mine == 0:
            return True
        limit = self.cluster.limits.connections
        return mine < MAX_CONNECTIONS and self.load.has_room(Resource.CONNECTIONS, limit)

    def _not_connecting(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        self._count()
        self._connect_for_waiting()

    def _count(self) -> None:
        now = len(self._all) + len(self._connecting)
        self.load.add(Resource.CONNECTIONS, now - self._counted)
        self._counted = now

    async def _connect(self) -> None:
        address, port = self.endpoint.address, self.endpoint.port
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock: socket.socket | None = None
        upstream: Upstream | None = None
        try:
            async with asyncio.timeout(self.cluster.connect_timeout or None):
                sock = self._open_socket(family)
                await self.runtime.loop.sock_connect(sock, (address, port))
            upstream = Upstream(self, sock)
            task = asyncio.current_task()
            assert task is not None
            self._making[upstream] = task
            await self.runtime.loop.create_connection(lambda: upstream, sock=sock)
        except TimeoutError:
            self._failed(sock, f"no answer within {self.cluster.connect_timeout:g} s", True)
        except OSError as error:
            reason = errno.errorcode.get(error.errno or 0, "")
            text = os.strerror(error.errno) if error.errno else str(error)
            self._failed(sock, f"{text} ({reason})" if reason else text, False)
        except asyncio.CancelledError:
            if sock is not None:
                sock.close()
            raise
        finally:
            if upstream is not None:
                self._making.pop(upstream, None)

    def _failed(self, sock: socket.socket | None, reason: str, timed_out: bool) -> None:
        if sock is not None:
            sock.close()
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
            waiter = next(iter(self._waiting))
            self._take_out(waiter)
            waiter.connect_failed(reason, timed_out)
