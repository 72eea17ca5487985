"""Which endpoint of a cluster takes the next request."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Callable, Mapping

from meshd.model.cluster_policies import LeastRequest, Maglev, RandomEndpoint, RingHash, RoundRobin
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health

Random = Callable[[], float]
"""Uniform in [0, 1)."""


class _RoundRobin:
    """Each in turn; where weights differ, the earliest deadline first, as Envoy's EDF scheduler.

    It starts at a random place: else each worker would begin with the same endpoint at each config change.
    """

    __slots__ = ("_deadlines", "_endpoints", "_next", "_weighted")

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._endpoints = endpoints
        self._weighted = len({endpoint.weight for endpoint in endpoints}) > 1
        self._next = -1
        self._deadlines: list[tuple[float, int]] = []

    def pick(self, random: Random) -> Endpoint:
        endpoints = self._endpoints
        if self._weighted:
            return endpoints[self._earliest(random)]
        position = self._next
        if position < 0:
            position = int(random() * len(endpoints))
        self._next = position + 1 if position + 1 < len(endpoints) else 0
        return endpoints[position]

    def _earliest(self, random: Random) -> int:
        heap = self._deadlines
        if not heap:
            heap.extend((random() / endpoint.weight, i) for i, endpoint in enumerate(self._endpoints))
            heapq.heapify(heap)
        deadline, index = heap[0]
        heapq.heapreplace(heap, (deadline + 1 / self._endpoints[index].weight, index))
        return index


class _WeightedRandom:
    """Any of them, in proportion to weight."""

    __slots__ = ("_bounds", "_endpoints")

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._endpoints = endpoints
        self._bounds = tuple(itertools.accumulate(endpoint.weight for endpoint in endpoints))

    def pick(self, random: Random) -> Endpoint:
        # Rounding may carry the product up to the last bound itself.
        index = bisect.bisect_right(self._bounds, random() * self._bounds[-1])
        return self._endpoints[min(index, len(self._endpoints) - 1)]


class _LeastRequest:
    """The less busy of two picked at random ("power of two choices"), its load counted per unit of weight."""

    __slots__ = ("_active", "_draw", "_single")

    def __init__(self, endpoints: tuple[Endpoint, ...], active: dict[tuple[str, int], int]) -> None:
        self._draw = _WeightedRandom(endpoints)
        self._single = endpoints[0] if len(endpoints) == 1 else None
        self._active = active

    def pick(self, random: Random) -> Endpoint:
        if self._single is not None:
            return self._single
        one, other = self._draw.pick(random), self._draw.pick(random)
        return one if self._load(one) <= self._load(other) else other

    def _load(self, endpoint: Endpoint) -> float:
        return (self._active.get((endpoint.address, endpoint.port), 0) + 1) / endpoint.weight


_Policy = _RoundRobin | _WeightedRandom | _LeastRequest


def _weights(endpoints: tuple[Endpoint, ...]) -> dict[tuple[str, int], int]:
    return {(endpoint.address, endpoint.port): endpoint.weight for endpoint in endpoints}


class Balancer:
    """Picks among the healthy endpoints of one cluster, and counts the requests each of them has.

    A caller that called an IPv4 address is given an IPv4 endpoint, and IPv6 alike, as kube-proxy does: a
    dual-stack pod is two endpoints here, and may listen in one family only. Where a cluster has but the
    other family, that serves both.

    Draining, unhealthy and weightless endpoints get no new request, however few are left: there is no panic
    mode (xDS: common_lb_config.healthy_panic_threshold 0).
    """

    __slots__ = ("_active", "_policies", "_weights", "cluster", "endpoints")

    def __init__(self, cluster: Cluster, endpoints: EndpointSet, previous: Balancer | None = None) -> None:
        """``previous``: the cluster's balancer before a change; the counts of active requests carry over."""
        self.cluster = cluster
        self.endpoints = endpoints
        self._active: dict[tuple[str, int], int] = {} if previous is None else previous._active
        usable = tuple(e for e in endpoints.endpoints if e.health is Health.HEALTHY and e.weight > 0)
        by_ipv4 = tuple(e for e in usable if ":" not in e.address)
        by_ipv6 = tuple(e for e in usable if ":" in e.address)
        ipv4, ipv6 = self._policy(by_ipv4), self._policy(by_ipv6)
        self._policies = (ipv4 or ipv6, ipv6 or ipv4)
        self._weights = (_weights(by_ipv4 or by_ipv6), _weights(by_ipv6 or by_ipv4))

    def _policy(self, endpoints: tuple[Endpoint, ...]) -> _Policy | None:
        if not endpoints:
            return None
        match self.cluster.balancing:
            case RoundRobin():
                return _RoundRobin(endpoints)
            case RandomEndpoint():
                return _WeightedRandom(endpoints)
            case LeastRequest() | RingHash() | Maglev():
                return _LeastRequest(endpoints, self._active)

    def pick(self, random: Random, ipv6: bool = False) -> Endpoint | None:
        """The endpoint for a new request; None when no endpoint is healthy.

        ``ipv6``: whether the caller called an IPv6 address.
        """
        policy = self._policies[ipv6]
        return None if policy is None else policy.pick(random)

    def weights(self, ipv6: bool = False) -> Mapping[tuple[str, int], int]:
        """The endpoints that ``pick`` picks among, by address and port, and their weights."""
        return self._weights[ipv6]

    def started(self, endpoint: Endpoint) -> None:
        """A request went out to ``endpoint``."""
        key = (endpoint.address, endpoint.port)
        self._active[key] = self._active.get(key, 0) + 1

    def finished(self, endpoint: Endpoint) -> None:
        """A request that ``started`` counted has ended, well or not."""
        key = (endpoint.address, endpoint.port)
        left = self._active.get(key, 0) - 1
        if left > 0:
            self._active[key] = left
        else:
            self._active.pop(key, None)

    def active(self, endpoint: Endpoint) -> int:
        """How many requests ``endpoint`` has at the moment."""
        return self._active.get((endpoint.address, endpoint.port), 0)
