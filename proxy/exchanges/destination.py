"""Where a request goes: the endpoint that is picked for it, and again for each try."""

from __future__ import annotations

from meshd.model.clusters import Cluster, Endpoint
from proxy.balancing.balancer import Balancer
from proxy.balancing.selection import Selection
from proxy.exchanges import failures
from proxy.exchanges.client import Client
from proxy.exchanges.pool import Pool
from proxy.http1.refusal import Refusal
from proxy.routing.affinity import Affinity


class Destination:
    """One request's endpoint. Holds the endpoint's count while the request is out to it."""

    __slots__ = ("_affinity", "_balancer", "_client", "_counted", "_failed", "endpoint", "pool")

    def __init__(self, client: Client, balancer: Balancer, affinity: Affinity | None = None) -> None:
        """``affinity``: what ties the request to an endpoint; None: nothing does."""
        self._affinity = affinity
        self._client = client
        self._balancer = balancer
        self._failed: frozenset[tuple[str, int]] = frozenset()
        self._counted = False
        self.endpoint: Endpoint | None = None
        """The last one that was picked."""
        self.pool: Pool

    @property
    def cluster(self) -> Cluster:
        """As it was when an endpoint was picked."""
        return self._balancer.cluster

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
            return failures.no_endpoint(self.cluster.name)
        self.endpoint = endpoint
        self._counted = True
        self._balancer.started(endpoint)
        self.pool = client.caller.pool(self.cluster, endpoint)
        return None

    def pick_again(self) -> Refusal | None:
        """Choose among the endpoints of now: the config may have changed since the request came."""
        self.leave()
        self._balancer = self._client.runtime.config.balancers.get(self.cluster.name, self._balancer)
        return self.pick()

    def fail(self) -> None:
        """It could not be had from the endpoint."""
        if self.endpoint is not None:
            self._failed |= {(self.endpoint.address, self.endpoint.port)}

    def is_fresh(self) -> bool:
        """Whether the endpoint has not failed this request."""
        endpoint = self.endpoint
        return endpoint is not None and (endpoint.address, endpoint.port) not in self._failed

    def leave(self) -> None:
        """The request is not out to the endpoint any more."""
        if self._counted and self.endpoint is not None:
            self._counted = False
            self._balancer.finished(self.endpoint)
