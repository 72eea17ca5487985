"""Weights as a table of slots: the kernel picks a slot at random, each is as likely. Pure."""

from __future__ import annotations

import functools
import ipaddress
import math
from collections.abc import Sequence
from typing import NamedTuple

from meshd.datapath.errors import CaptureError
from meshd.model.clusters import Endpoint, EndpointSet
from meshd.model.levels import Level, levels, weights

MAX_SLOTS = 1024
"""Of one service and address family, unless it has more endpoints than that. Bounds the error of a weight's
share to a thousandth."""

V4_MAPPED = b"\0" * 10 + b"\xff\xff"


class Target(NamedTuple):
    """An address in its 16-byte form (IPv4 as ::ffff:a.b.c.d), and a port in host order."""

    address: bytes
    port: int

    @property
    def ipv4(self) -> bool:
        """Whether it is an IPv4 address."""
        return self.address.startswith(V4_MAPPED)


class SlotTable(NamedTuple):
    """The slots of one service: those of IPv4 come first."""

    ipv4: tuple[Target, ...] = ()
    ipv6: tuple[Target, ...] = ()


def target(address: str, port: int, of: str) -> Target:
    """Parse an address. Raises CaptureError, naming ``of``."""
    try:
        return Target(_sixteen_bytes(address), port)
    except ValueError as error:
        raise CaptureError(f"{of}: {address!r} is not an IP address") from error


@functools.lru_cache(maxsize=65536)
def _sixteen_bytes(address: str) -> bytes:
    parsed = ipaddress.ip_address(address)
    return V4_MAPPED + parsed.packed if parsed.version == 4 else parsed.packed


def slot_table(endpoints: EndpointSet, panic_percent: int = 0) -> SlotTable:
    """The slots of the endpoints that take requests, sorted: a set in another order makes the same table.

    A socket of one family is given endpoints of that family only, as kube-proxy does. ``panic_percent``: the
    cluster's. Raises CaptureError.
    """
    ipv4: list[Endpoint] = []
    ipv6: list[Endpoint] = []
    for endpoint in endpoints.endpoints:
        where = target(endpoint.address, endpoint.port, f"endpoint of {endpoints.name}")
        (ipv4 if where.ipv4 else ipv6).append(endpoint)
    factor = endpoints.overprovisioning_percent
    return SlotTable(*(_spread(_weighted(levels(each, panic_percent, factor))) for each in (ipv4, ipv6)))


def _weighted(several: Sequence[Level]) -> list[tuple[Target, int]]:
    found: dict[Target, int] = {}
    for (address, port), weight in weights(several).items():
        where = Target(_sixteen_bytes(address), port)
        found[where] = found.get(where, 0) + weight
    return sorted(found.items())


def _spread(weighted: Sequence[tuple[Target, int]]) -> tuple[Target, ...]:
    counts = slot_counts([weight for _, weight in weighted])
    return tuple(where for (where, _), count in zip(weighted, counts, strict=True) for _ in range(count))


def slot_counts(weights: Sequence[int], limit: int = MAX_SLOTS) -> list[int]:
    """How many slots each positive weight gets: exact where ``limit`` allows it, at least one in any case.

    Beyond the limit the largest remainders are rounded up (Hamilton's method).
    """
    if not weights:
        return []
    divisor = math.gcd(*weights)
    total = sum(weights)
    if total // divisor <= limit:
        return [weight // divisor for weight in weights]
    counts = [max(1, weight * limit // total) for weight in weights]
    # One that got its slot although its share is less than one has had its rounding up.
    rounded_down = [index for index, weight in enumerate(weights) if weight * limit >= total]
    rounded_down.sort(key=lambda index: -(weights[index] * limit % total))
    for index in rounded_down[: max(0, limit - sum(counts))]:
        counts[index] += 1
    return counts
