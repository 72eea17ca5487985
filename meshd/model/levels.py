"""Which endpoints of a cluster take new requests, and what share of them each has: priorities and panic.

Envoy's rules (arch_overview/upstream/load_balancing: priority levels, panic threshold), for endpoints of
which none is degraded. Agent and proxy both ask here, so that what the kernel balances agrees with the proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from meshd.model.clusters import Endpoint, Health

Address = tuple[str, int]

_SCALE = 1 << 16
"""Shares of one level among several are this exact."""


class Level(NamedTuple):
    """The endpoints that take a share of the requests together."""

    load: int
    """Percent of all requests, above 0."""
    endpoints: tuple[Endpoint, ...]
    """The healthy ones; all, where so few are healthy that who is left would only fall too."""


def levels(
    endpoints: Iterable[Endpoint], panic_percent: int, overprovisioning_percent: int
) -> tuple[Level, ...]:
    """Those that take requests, the first to be used first; their loads make 100. Empty: nobody takes any.

    Endpoints without a weight take none and count as not there.
    """
    present: dict[int, list[Endpoint]] = {}
    for endpoint in endpoints:
        if endpoint.weight > 0:
            present.setdefault(endpoint.priority, []).append(endpoint)
    everyone = [tuple(present[priority]) for priority in sorted(present)]
    healthy = [tuple(e for e in group if e.health is Health.HEALTHY) for group in everyone]
    if len(everyone) == 1 and len(healthy[0]) == len(everyone[0]):
        return (Level(100, everyone[0]),)
    # Those that drain are leaving: that they serve no more is no sign of trouble.
    staying = [sum(e.health is not Health.DRAINING for e in group) for group in everyone]
    available = [
        min(100, overprovisioning_percent * len(some) // count) if count else 0
        for some, count in zip(healthy, staying, strict=True)
    ]
    total = min(100, sum(available))
    panics = [
        total < 100 and (100 * len(some) < panic_percent * count if count else panic_percent > 0)
        for some, count in zip(healthy, staying, strict=True)
    ]
    if panics and all(panics):
        loads = _shared([len(group) for group in everyone], sum(map(len, everyone)))
    elif total:
        loads = _shared(available, total)
    else:
        # Too few are healthy to count, and nobody is to panic: the first level's, if there are any.
        loads = [100] + [0] * (len(everyone) - 1)
    chosen = zip(loads, panics, everyone, healthy, strict=False)
    return tuple(
        Level(load, takers)
        for load, panic, group, some in chosen
        if load > 0 and (takers := group if panic else some)
    )


def _shared(parts: Sequence[int], whole: int) -> list[int]:
    """A hundred percent among ``parts`` of ``whole``, while it lasts; the first gets what rounding left."""
    left = 100
    loads = []
    for part in parts:
        load = min(left, 100 * part // whole)
        loads.append(load)
        left -= load
    loads[next(i for i, part in enumerate(parts) if part)] += left
    return loads


def weights(several: Sequence[Level]) -> dict[Address, int]:
    """The weight of each address among all that take requests; above 0."""
    found: dict[Address, int] = {}
    for load, endpoints in several:
        total = sum(endpoint.weight for endpoint in endpoints)
        for endpoint in endpoints:
            weight = endpoint.weight
            if len(several) > 1:
                weight = max(1, weight * load * _SCALE // total)
            address = endpoint.address, endpoint.port
            found[address] = found.get(address, 0) + weight
    return found
