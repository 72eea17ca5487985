"""Where a request goes: the endpoint that is picked for it, and the connection to it."""

from __future__ import annotations

from typing import Protocol

from meshd.model.clusters import Cluster, Endpoint
from proxy.balancing.balancer import Balancer
from proxy.balancing.selection import Selection
from proxy.exchanges.client import Client
from proxy.http1.refusal import Refusal
from proxy.load import Resource
from proxy.routing.affinity import Affinity
from proxy.upstream import failures
from proxy.upstream.pool import LimitReachedError, Pool
from proxy.upstream.server import Server
from proxy.upstream.server_version import speaks_http2

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""Methods of requests that may be sent twice (RFC 9110, 9.2.2)."""


class Passenger(Protocol):
    """Who waits for a connection, and is told once what became of that."""

    def begin(self, upstream: Server) -> None:
        """Here it is."""

    def connect_failed(self, refusal: Refusal) -> None:
        """It could not be made."""

    def go_elsewhere(self) -> None:
        """The endpoint takes no new requests any more. It has got nothing of this one."""

    def turn_away(self, refusal: Refusal) -> None:
        """There are too many others."""


class Destination:
    """One request's. Holds the endpoint's count while the request is out to it."""

    __slots__ = (
        "_affinity",
        "_balancer",
        "_client",
        "_counted",
        "_failed",
        "_http2",
        "_passenger",
        "endpoint",
        "pool",
    )

    def __init__(
        self, client: Client, balancer: Balancer, http2: bool, affinity: Affinity | None = None
    ) -> None:
        """``http2``: whether the request came in HTTP/2.

        ``affinity``: what ties the request to an endpoint; None: nothing does.
        """
        self._http2 = http2
        self._affinity = affinity
        self._client = client
        self._balancer = balancer
        self._failed: frozenset[tuple[str, int]] = frozenset()
        self._counted = False
        self._passenger: Passenger | None = None
        self.endpoint: Endpoint | None = None
        """The last one that was picked."""
        self.pool: Pool

    # -- an endpoint ---------------------------------------------------------------------------------

    def pick(self) -> Refusal | None:
        """Choose an endpoint of the family that the client called, a fresh one if there is one."""
        client, affinity = self._client, self._affinity
        endpoint = self._balancer.pick(
            Selection(
                client.runtime.random,
                client.runtime.now,
                client.ipv6,
                hash=affinity.hash() if affinity is not None and self._balancer.hashes else None,
                wanted=None if affinity is None else affinity.wanted,
                excluded=self._failed,
            )
        )
        self.leave()
        if endpoint is None:
            return failures.no_endpoint(self._cluster.name)
        self.endpoint = endpoint
        self._counted = True
        self._balancer.started(endpoint)
        cluster = self._cluster
        self.pool = client.caller.pool(cluster, endpoint, speaks_http2(cluster, self._http2))
        return None

    def pick_again(self) -> Refusal | None:
        """Choose among the endpoints of now: the config may have changed since the request came."""
        self.leave()
        self._balancer = self._client.runtime.config.balancers.get(self._cluster.name, self._balancer)
        return self.pick()

    def fail(self) -> None:
        """The endpoint has failed this request."""
        if self.endpoint is not None:
            self._failed |= {(self.endpoint.address, self.endpoint.port)}

    def is_fresh(self) -> bool:
        """Whether the endpoint has not failed this request."""
        endpoint = self.endpoint
        return endpoint is not None and (endpoint.address, endpoint.port) not in self._failed

    def leave(self) -> None:
        """The request is not out to the endpoint, nor waits for it, any more."""
        if self._passenger is not None:
            self._passenger = None
            self.pool.forget(self)
        if self._counted and self.endpoint is not None:
            self._counted = False
            self._balancer.finished(self.endpoint)

    @property
    def _cluster(self) -> Cluster:
        return self._balancer.cluster

    # -- a connection --------------------------------------------------------------------------------

    def why_full(self) -> Refusal | None:
        """Why no more requests may be out to the cluster; None: one more may."""
        limit = self.pool.cluster.limits.requests
        return (
            None if self.pool.load.has_room(Resource.REQUESTS, limit) else self._full(f"requests ({limit})")
        )

    def at_once(self, method: str) -> Server | None:
        """Who takes a request now, or None."""
        own = self._client.own_connection(self.pool)
        return own or self.pool.take(careful=method not in IDEMPOTENT)

    def connect(self, passenger: Passenger) -> Refusal | None:
        """Get one that is not there yet. ``passenger`` hears of it later, unless it is refused at once."""
        try:
            self.pool.connect(self)
        except LimitReachedError as error:
            return self._full(str(error))
        self._passenger = passenger
        return None

    def _full(self, what: str) -> Refusal:
        self._client.runtime.counters.add("upstream_overflows_total")
        return failures.overflow(self.pool.cluster.name, what)

    # -- for the pool --------------------------------------------------------------------------------

    def connected(self, upstream: Server) -> bool:
        """The connection stands. False: it is not wanted any more."""
        passenger, self._passenger = self._passenger, None
        if passenger is None:
            return False
        refusal = self.why_full()
        if refusal is not None:
            passenger.turn_away(refusal)
            return False
        passenger.begin(upstream)
        return True

    def connect_failed(self, reason: str, timed_out: bool) -> None:
        """The connection could not be made."""
        passenger, self._passenger = self._passenger, None
        if passenger is not None and self.endpoint is not None:
            passenger.connect_failed(failures.no_connection(self.endpoint, reason, timed_out))

    def withdrawn(self) -> None:
        """The endpoint takes no new requests any more."""
        passenger, self._passenger = self._passenger, None
        if passenger is not None:
            passenger.go_elsewhere()
