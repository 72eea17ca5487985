"""Upstream connections of one workload to one endpoint, kept for reuse. Made in the workload's namespace.

A request that finds no room on them waits. As many connections are made as those that wait need, as far as
the cluster's limit allows, and the first room that there is goes to who has waited longest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from meshd.datapath.rules.fingerprint import cluster_id
from meshd.model.clusters import Cluster, Endpoint
from proxy.load import Resource
from proxy.runtime import Runtime
from proxy.upstream.server import Server

MAX_CONNECTIONS = 16 * 1024
"""To one endpoint from one workload; a workload has about 28,000 ephemeral ports for one destination."""
IDLE_JITTER = 0.1
"""Connections that came together do not expire together: each idle time is shortened by up to this share."""


class LimitReachedError(Exception):
    """A limit is reached. The message says of what there are too many."""


class Waiter(Protocol):
    """Who asked for a connection, and is told once what became of that."""

    def connected(self, upstream: Server) -> bool:
        """Here is one. False: not wanted."""

    def connect_failed(self, reason: str, timed_out: bool) -> None:
        """It could not be made."""

    def withdrawn(self) -> None:
        """The endpoint takes no new requests any more."""


class Pool(ABC):
    """Who waits, whatever is spoken on the connections."""

    def __init__(self, runtime: Runtime, cluster: Cluster, endpoint: Endpoint) -> None:
        self.runtime = runtime
        self.cluster = cluster
        self.draining = False
        """The endpoint takes no new requests: connections end with what they carry."""
        self.address = endpoint.address, endpoint.port
        self.cluster_id = cluster_id(cluster.name)
        self.endpoint = endpoint
        self._waiting: dict[Waiter, None] = {}
        """In the order of their coming."""
        self.load = runtime.loads.of(cluster.name)
        runtime.timed.add(self)

    @abstractmethod
    def take(self, careful: bool) -> Server | None:
        """Who takes a request at once, or None. ``careful``: it must not be sent twice."""

    @abstractmethod
    def check(self, now: float) -> None:
        """Runtime's sweep: close what has been idle for too long."""

    @abstractmethod
    def close(self) -> None:
        """Close everything at once."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether nothing of it is left."""

    @abstractmethod
    def __len__(self) -> int:
        """Connections that stand."""

    @abstractmethod
    def _connections(self) -> int:
        """Connections that stand or are being made."""

    @abstractmethod
    def _connect_for_waiting(self) -> None:
        """Make the connections that those who wait need, and may have."""

    def renew(self, cluster: Cluster) -> None:
        """The config has changed, and the endpoint takes requests."""
        self.draining = False
        self.cluster = cluster
        self._connect_for_waiting()

    def drain(self) -> None:
        """The endpoint is gone or going: let what is under way end, and begin nothing."""
        self.draining = True
        for waiter in tuple(self._waiting):
            self._take_out(waiter)
            waiter.withdrawn()

    def connect(self, waiter: Waiter) -> None:
        """Wait for a connection; ``waiter`` hears of it later. Raises LimitReachedError."""
        limits = self.cluster.limits
        if not self.load.has_room(Resource.PENDING, limits.pending):
            raise LimitReachedError(f"requests that wait for a connection ({limits.pending})")
        if self._connections() >= MAX_CONNECTIONS:
            raise LimitReachedError(f"connections from this pod to one endpoint ({MAX_CONNECTIONS})")
        self._waiting[waiter] = None
        self.load.add(Resource.PENDING)
        self._connect_for_waiting()

    def forget(self, waiter: Waiter) -> None:
        """It does not wait any more, if it did."""
        if waiter in self._waiting:
            self._take_out(waiter)

    def _next_waiter(self) -> Waiter:
        """Who has waited longest, and waits no more. There is one."""
        waiter = next(iter(self._waiting))
        self._take_out(waiter)
        return waiter

    def _take_out(self, waiter: Waiter) -> None:
        del self._waiting[waiter]
        self.load.remove(Resource.PENDING)
