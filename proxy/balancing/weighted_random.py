"""Balancing at random."""

from __future__ import annotations

import bisect
import itertools

from meshd.model.clusters import Endpoint
from proxy.balancing.selection import Random


class WeightedRandom:
    """Any of them, in proportion to weight. (Envoy's does not look at weights.)"""

    __slots__ = ("_bounds", "_endpoints")

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._endpoints = endpoints
        self._bounds = tuple(itertools.accumulate(endpoint.weight for endpoint in endpoints))

    def pick(self, random: Random, now: float) -> Endpoint:
        """One of them."""
        # Rounding may carry the product up to the last bound itself.
        index = bisect.bisect_right(self._bounds, random() * self._bounds[-1])
        return self._endpoints[min(index, len(self._endpoints) - 1)]
