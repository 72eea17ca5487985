"""Balancing by hash: the same endpoint for the same hash, in each worker, on each node, and in each Envoy.

The tables are Envoy's to the bit, its arithmetic with floating-point numbers included: the same endpoints in
the same order make the same table. An endpoint is known by its address and port.
"""

from __future__ import annotations

import bisect
import math
from array import array
from collections.abc import Generator

from xxhash import xxh64_intdigest

from meshd.model.clusters import Endpoint

_HASHES = 1 << 64
_STEP = 1024
"""Places of a Maglev table that are filled without a pause."""


def address_text(address: str, port: int) -> bytes:
    """As Envoy writes a socket's address."""
    return (f"[{address}]:{port}" if ":" in address else f"{address}:{port}").encode()


class Ring:
    """Ketama: each endpoint has points on a ring in proportion to its weight; a hash's is the next one.

    (RingHashLoadBalancer::Ring; Cluster.RingHashLbConfig with XX_HASH.)
    """

    __slots__ = ("_endpoints", "_owners", "_points")

    def __init__(self, endpoints: tuple[Endpoint, ...], min_size: int, max_size: int) -> None:
        """About ``min_size`` points: the endpoint of the least weight has a whole number of them."""
        self._endpoints = endpoints
        total = sum(endpoint.weight for endpoint in endpoints)
        shares = [endpoint.weight / total for endpoint in endpoints]
        least = min(shares)
        scale = min(math.ceil(least * min_size) / least, float(max_size))
        points: list[tuple[int, int]] = []
        made = wanted = 0.0
        for i, (endpoint, share) in enumerate(zip(endpoints, shares, strict=True)):
            key = address_text(endpoint.address, endpoint.port)
            wanted += scale * share
            number = 0
            while made < wanted:
                points.append((xxh64_intdigest(b"%b_%d" % (key, number)), i))
                number += 1
                made += 1.0
        points.sort()
        self._points = array("Q", [point for point, _ in points])
        self._owners = array("I", [owner for _, owner in points])

    def find(self, hash_: int, attempt: int) -> Endpoint:
        """The endpoint of a hash. ``attempt``: above 0 so many points further on."""
        points = self._points
        place = bisect.bisect_left(points, hash_)
        return self._endpoints[self._owners[(place % len(points) + attempt) % len(points)]]


class MaglevTable:
    """A table that the endpoints fill in turn, each in an order of its own (Eisenbud et al., NSDI 2016, 3.4).

    (MaglevTable; Cluster.MaglevLbConfig.)
    """

    __slots__ = ("_endpoints", "_owners")

    def __init__(self, endpoints: tuple[Endpoint, ...], size: int) -> None:
        """``size``: a prime. Takes some 0.5 us a place."""
        for _ in self._make(endpoints, size):
            pass

    @classmethod
    def in_steps(cls, endpoints: tuple[Endpoint, ...], size: int) -> Generator[None, None, MaglevTable]:
        """The same in steps of some 0.5 ms, between which others may use the CPU."""
        table = cls.__new__(cls)
        yield from table._make(endpoints, size)
        return table

    def _make(self, endpoints: tuple[Endpoint, ...], size: int) -> Generator[None, None, None]:
        keyed = sorted((address_text(each.address, each.port), i) for i, each in enumerate(endpoints))
        total = sum(endpoint.weight for endpoint in endpoints)
        places, skips, shares = [], [], []
        for key, i in keyed:
            places.append(xxh64_intdigest(key) % size)
            skips.append(xxh64_intdigest(key, 1) % (size - 1) + 1)
            shares.append(endpoints[i].weight / total)
        self._endpoints = tuple(endpoints[i] for _, i in keyed)
        self._owners = yield from _filled(size, places, skips, shares)

    def find(self, hash_: int, attempt: int) -> Endpoint:
        """The endpoint of a hash. ``attempt``: above 0 that of another one instead."""
        if attempt:
            hash_ ^= _HASHES - attempt
        return self._endpoints[self._owners[hash_ % len(self._owners)]]


def _filled(
    size: int, places: list[int], skips: list[int], shares: list[float]
) -> Generator[None, None, array[int]]:
    """The owner of each place. ``places``: where each begins; changed."""
    free = [True] * size
    owners = array("I", bytes(4 * size))
    most = max(shares)
    # An endpoint of a smaller share than the largest sits out in proportion.
    due = [0.0] * len(shares)
    left = size
    turn = 0
    while True:
        turn += 1
        for i, share in enumerate(shares):
            if turn * share < due[i]:
                continue
            due[i] += most
            place, skip = places[i], skips[i]
            while not free[place]:
                place += skip
                if place >= size:
                    place -= size
            free[place] = False
            owners[place] = i
            places[i] = place
            left -= 1
            if not left:
                return owners
            if not left % _STEP:
                yield
