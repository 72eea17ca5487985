"""A TCP connection's way to a server: an endpoint, a connection to it, and another one if that fails."""

from __future__ import annotations

import asyncio
import socket

from meshd.model.clusters import Endpoint
from meshd.model.request_policies import Retry
from meshd.model.tcp_routes import TcpRoute
from proxy.balancing.balancer import Balancer
from proxy.balancing.hash_keys import address_hash
from proxy.balancing.selection import Selection
from proxy.exchanges.retry_state import RetryState
from proxy.load import Load, Resource
from proxy.runtime import Runtime
from proxy.telemetry.response_flags import Flag
from proxy.upstream.caller import Caller
from proxy.upstream.connecting import ConnectError, OpenSocket, connect

_BACKOFF, _MAX_BACKOFF = 0.05, 0.5
"""Seconds between two tries where no other endpoint is left: a request's that its route does not retry."""


class UnreachableError(Exception):
    """No server is to be had; the message says why, to people."""

    def __init__(self, flag: Flag, message: str) -> None:
        super().__init__(message)
        self.flag = flag


class Place:
    """What a connection takes at an endpoint, from the first try to its end: it is counted while it does."""

    __slots__ = ("_balancer", "_load", "endpoint")

    def __init__(self, balancer: Balancer, endpoint: Endpoint, load: Load) -> None:
        self._balancer = balancer
        self._load: Load | None = load
        self.endpoint = endpoint
        balancer.started(endpoint)
        load.add(Resource.CONNECTIONS)

    def leave(self) -> None:
        """It is no more. Twice is once."""
        if self._load is not None:
            self._load.remove(Resource.CONNECTIONS)
            self._load = None
            self._balancer.finished(self.endpoint)


class Reaching:
    """One connection's search for a server."""

    def __init__(
        self,
        runtime: Runtime,
        caller: Caller,
        route: TcpRoute,
        cluster: str,
        ipv6: bool,
        open_socket: OpenSocket,
    ) -> None:
        """``cluster``: the one that was drawn. ``ipv6``: whether the client called an IPv6 address."""
        self._runtime = runtime
        self._caller = caller
        self._route = route
        self._cluster = cluster
        self._ipv6 = ipv6
        self._open_socket = open_socket
        self._failed: frozenset[tuple[str, int]] = frozenset()
        self._endpoint: Endpoint | None = None
        """That is being connected to."""
        self._is_withdrawn = False
        """That endpoint is: the attempt is being cancelled, and nothing else."""
        self._task: asyncio.Task[object]

    async def run(self) -> tuple[Place, socket.socket]:
        """A connected socket, and the place that it takes; both are the caller's. Raises UnreachableError."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        attempts = self._route.connect_attempts
        retries = RetryState(Retry(attempts=attempts - 1, backoff=_BACKOFF, max_backoff=_MAX_BACKOFF))
        while True:
            place = self._pick()
            try:
                return place, await self._connect(place.endpoint)
            except ConnectError as error:
                place.leave()
                self._runtime.counters.add("upstream_connect_failures_total")
                address = place.endpoint.address, place.endpoint.port
                message = f"cannot connect to {address[0]}:{address[1]}: {error}"
                failure = UnreachableError(Flag.UPSTREAM_CONNECT_FAILURE, message)
                if not retries.take():
                    raise failure from None
                self._runtime.counters.add("upstream_connect_retries_total")
                self._failed |= {address}
                if self._is_nobody_left():
                    await asyncio.sleep(retries.patience(self._runtime.random()))
            except asyncio.CancelledError:
                place.leave()
                if not self._goes_on():
                    raise

    def check(self) -> None:
        """The config may have changed: an address that is gone does not even refuse. Then go elsewhere."""
        endpoint = self._endpoint
        if endpoint is None or self._is_withdrawn:
            return
        if not self._runtime.config.is_usable((self._cluster, endpoint.address, endpoint.port)):
            self._is_withdrawn = True
            self._task.cancel()

    def _goes_on(self) -> bool:
        """Whether what was cancelled is an attempt, and not the search."""
        was_withdrawn, self._is_withdrawn = self._is_withdrawn, False
        return was_withdrawn and self._task.uncancel() == 0

    def _pick(self) -> Place:
        """An endpoint of now. Raises UnreachableError."""
        runtime = self._runtime
        balancer = runtime.config.balancers.get(self._cluster)
        if balancer is None:
            raise UnreachableError(Flag.NO_CLUSTER, f"cluster {self._cluster} does not exist")
        endpoint = balancer.pick(self._selection(balancer))
        if endpoint is None:
            message = f"no healthy endpoint in cluster {self._cluster}"
            raise UnreachableError(Flag.NO_HEALTHY_UPSTREAM, message)
        limits, load = balancer.cluster.limits, runtime.loads.of(self._cluster)
        for resource, limit in (
            (Resource.CONNECTIONS, limits.connections),
            (Resource.PENDING, limits.pending),
        ):
            if not load.has_room(resource, limit):
                runtime.counters.add("upstream_overflows_total")
                what = "connections" if resource is Resource.CONNECTIONS else "connections being made"
                message = f"cluster {self._cluster} has too many {what} ({limit})"
                raise UnreachableError(Flag.UPSTREAM_OVERFLOW, message)
        return Place(balancer, endpoint, load)

    def _selection(self, balancer: Balancer) -> Selection:
        hashed = balancer.hashes and self._route.hash_source
        return Selection(
            self._runtime.random,
            self._runtime.now,
            self._ipv6,
            hash=address_hash(self._caller.address(self._ipv6)) if hashed else None,
            excluded=self._failed,
        )

    def _is_nobody_left(self) -> bool:
        """Whether all endpoints of now have failed this connection."""
        balancer = self._runtime.config.balancers.get(self._cluster)
        endpoint = None if balancer is None else balancer.pick(self._selection(balancer))
        return endpoint is None or (endpoint.address, endpoint.port) in self._failed

    async def _connect(self, endpoint: Endpoint) -> socket.socket:
        """Raises ConnectError. What comes of it counts for ejection (Envoy's LocalOriginConnect results)."""
        runtime = self._runtime
        cluster = runtime.config.snapshot.clusters[self._cluster]
        load = runtime.loads.of(self._cluster)
        load.add(Resource.PENDING)
        self._endpoint = endpoint
        try:
            sock = await connect(self._open_socket, endpoint, cluster.connect_timeout)
        except ConnectError:
            runtime.outcomes.record(cluster, endpoint, 503, None)
            raise
        finally:
            self._endpoint = None
            load.remove(Resource.PENDING)
        runtime.outcomes.record(cluster, endpoint, 200, None)
        return sock
