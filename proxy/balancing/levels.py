"""The endpoints of one address family, by priority, each level with its policy."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol

from meshd.model.clusters import Endpoint
from meshd.model.levels import Level
from proxy.balancing.selection import Random, Selection

SELECTION_ATTEMPTS = 5
"""Draws for an endpoint that has not failed yet, after the first (host_selection_retry_max_attempts)."""
_HASHES = 1 << 64


class Policy(Protocol):
    """Draws from the endpoints of one level."""

    def pick(self, random: Random, now: float) -> Endpoint:
        """The endpoint for a new request."""


class HashTable(Protocol):
    """Maps hashes to the endpoints of one level."""

    def find(self, hash_: int, attempt: int) -> Endpoint:
        """The endpoint of a hash; with ``attempt`` above 0 probably another one."""


class Drawing:
    """Levels, one of which is drawn by its load for each request, and of it an endpoint by its policy."""

    __slots__ = ("_bounds", "_only", "_policies")

    def __init__(self, levels: Sequence[Level], policy: Callable[[tuple[Endpoint, ...]], Policy]) -> None:
        """``levels``: at least one."""
        self._policies = [policy(level.endpoints) for level in levels]
        self._bounds = list(itertools.accumulate(level.load for level in levels))
        self._only = self._policies[0] if len(levels) == 1 else None

    def pick(self, selection: Selection) -> Endpoint:
        """An endpoint that has not failed the request, if some draws bring one."""
        found = self._draw(selection)
        if selection.excluded:
            for _ in range(SELECTION_ATTEMPTS):
                if (found.address, found.port) not in selection.excluded:
                    break
                found = self._draw(selection)
        return found

    def _draw(self, selection: Selection) -> Endpoint:
        random = selection.random
        policy = self._only
        if policy is None:
            drawn = bisect.bisect_right(self._bounds, random() * self._bounds[-1])
            policy = self._policies[min(drawn, len(self._policies) - 1)]
        return policy.pick(random, selection.now)


class Hashing:
    """Levels, one of which is found by the request's hash, and of it an endpoint by its table.

    A table is made when the first request needs it, for a node has more clusters than its workloads use, or
    before that by ``made_by``.
    """

    __slots__ = ("_bounds", "_levels", "_make", "_tables")

    def __init__(self, levels: Sequence[Level], make: Callable[[tuple[Endpoint, ...]], HashTable]) -> None:
        """``levels``: at least one."""
        self._levels = levels
        self._bounds = list(itertools.accumulate(level.load for level in levels))
        self._make = make
        self._tables: dict[int, HashTable] = {}

    def made_by(
        self, make: Callable[[tuple[Endpoint, ...]], Generator[None, None, HashTable]]
    ) -> Iterator[None]:
        """Have all tables made now, in steps."""
        for number, level in enumerate(self._levels):
            self._tables[number] = yield from make(level.endpoints)

    def pick(self, selection: Selection) -> Endpoint:
        """As Drawing's. A request that has no hash gets a random one (LoadBalancerImpl::chooseHost)."""
        hash_ = selection.hash
        if hash_ is None:
            hash_ = int(selection.random() * _HASHES)
        level = bisect.bisect_right(self._bounds, hash_ % 100)
        table = self._tables.get(level)
        if table is None:
            table = self._tables[level] = self._make(self._levels[level].endpoints)
        found = table.find(hash_, 0)
        if selection.excluded:
            for attempt in range(1, SELECTION_ATTEMPTS + 1):
                if (found.address, found.port) not in selection.excluded:
                    break
                found = table.find(hash_, attempt)
        return found
