"""Balancing by turns: round robin and least request, and the schedule that both use where weights differ."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from meshd.model.clusters import Endpoint
from meshd.model.levels import Address
from proxy.balancing.selection import Random

EndpointWeight = Callable[[Endpoint, float], float]
"""An endpoint's weight at a time: its own, times what slow start leaves of it."""


class RoundRobinTurns:
    """Each in turn, of endpoints that weigh the same.

    It starts at a random place: else each worker would begin with the same endpoint at each config change.
    """

    __slots__ = ("_endpoints", "_next")

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._endpoints = endpoints
        self._next = -1

    def pick(self, random: Random, now: float) -> Endpoint:
        """The next one."""
        endpoints = self._endpoints
        position = self._next
        if position < 0:
            position = int(random() * len(endpoints))
        self._next = position + 1 if position + 1 < len(endpoints) else 0
        return endpoints[position]


class ScheduledTurns:
    """The earliest deadline first, and the next one is 1 / weight later: Envoy's EdfScheduler.

    A weight counts from an endpoint's turn to its next one.
    """

    __slots__ = ("_deadlines", "_endpoints", "_weight")

    def __init__(self, endpoints: tuple[Endpoint, ...], weight: EndpointWeight) -> None:
        self._endpoints = endpoints
        self._weight = weight
        self._deadlines: list[tuple[float, int]] = []

    def pick(self, random: Random, now: float) -> Endpoint:
        """The one that is due."""
        heap, weight = self._deadlines, self._weight
        if not heap:
            heap.extend((random() / weight(each, now), i) for i, each in enumerate(self._endpoints))
            heapq.heapify(heap)
        deadline, index = heap[0]
        endpoint = self._endpoints[index]
        heapq.heapreplace(heap, (deadline + 1.0 / weight(endpoint, now), index))
        return endpoint


class LeastBusy:
    """The least busy of some drawn at random, of endpoints that weigh the same ("power of two choices")."""

    __slots__ = ("_active", "_choices", "_endpoints")

    def __init__(self, endpoints: tuple[Endpoint, ...], active: dict[Address, int], choices: int) -> None:
        """``active``: the requests that each has; those that have none may be missing."""
        self._endpoints = endpoints
        self._active = active
        self._choices = choices

    def pick(self, random: Random, now: float) -> Endpoint:
        """The first of those with the fewest requests."""
        endpoints, active = self._endpoints, self._active
        found = endpoints[int(random() * len(endpoints))]
        fewest = active.get((found.address, found.port), 0)
        for _ in range(self._choices - 1):
            other = endpoints[int(random() * len(endpoints))]
            requests = active.get((other.address, other.port), 0)
            if requests < fewest:
                found, fewest = other, requests
        return found
