"""What the two kinds of ADS server stream have in common: types, limits, what a client's NACK says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from meshd.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ORDER, ROUTE_CONFIG, ResourceSet

MAX_NAMES = 65_536
"""Names that one stream may subscribe to, per type."""
MAX_TYPES = 32
"""Types that one stream may ask for."""
WILDCARD = "*"
WARMED_BY = {CLUSTER: ENDPOINTS, LISTENER: ROUTE_CONFIG}
"""What a client may want before it acknowledges a type: Envoy answers for a changed cluster only when it has
the cluster's endpoints, and would wait for them until its initial_fetch_timeout (15 s)."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A NACK."""

    type_url: str
    nonce: str
    message: str


class StreamError(Exception):
    """The client breaks a limit or the protocol; the stream ends with this message."""


def in_order(subscriptions: Mapping[str, _T]) -> Iterable[tuple[str, _T]]:
    """The subscriptions, what is referred to before what refers to it, then types we know nothing of."""
    known = [type_url for type_url in ORDER if type_url in subscriptions]
    unknown = [type_url for type_url in subscriptions if type_url not in ORDER]
    return [(type_url, subscriptions[type_url]) for type_url in known + unknown]


def check_bounds(types: int, names: int) -> None:
    """Raises StreamError if a stream asks for too much."""
    if types > MAX_TYPES:
        raise StreamError(f"more than {MAX_TYPES} resource types asked for")
    if names > MAX_NAMES:
        raise StreamError(f"more than {MAX_NAMES} resources of one type asked for by name")


def bridging(new: ResourceSet, old: ResourceSet) -> ResourceSet:
    """The new set and with it what others may still refer to until they have moved on.

    Listeners are not kept: nothing refers to them, and a new one may take over an old one's address.
    """
    kept = (CLUSTER, ENDPOINTS, ROUTE_CONFIG)
    return new.union(ResourceSet(old.version, {type_url: old.of(type_url) for type_url in kept}))
