"""An endpoint set as the callers on one node get it: the nearer endpoints first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from meshd.model.clusters import Endpoint, EndpointSet, Health, Nearness


class Place(NamedTuple):
    """Where a client's callers are; what is not known is empty."""

    zone: str = ""
    node: str = ""


def place_of(endpoint: Endpoint) -> Place:
    """Where an endpoint is."""
    _, zone, node = (*endpoint.locality.split("/"), "", "")[:3]
    return Place(zone, node)


def zones(sets: Iterable[EndpointSet]) -> dict[str, str]:
    """The zone of each node that has an endpoint, as far as the endpoints tell."""
    places = (place_of(endpoint) for each in sets for endpoint in each.endpoints)
    return {place.node: place.zone for place in places if place.node and place.zone}


def seen_from(place: Place, found: EndpointSet) -> EndpointSet:
    """The set with the priorities that its nearness means at a place.

    Priorities have no gaps: where nothing is near, the next is the first (ClusterLoadAssignment, "priorities
    should range from 0 to N without skipping"). At a place that is not known all endpoints are as near.
    """
    if found.nearness is Nearness.ANY:
        return found
    plain = msgspec.structs.replace(found, nearness=Nearness.ANY)
    if found.nearness is Nearness.NODE_ONLY:
        own = tuple(each for each in found.endpoints if not place.node or place_of(each).node == place.node)
        return msgspec.structs.replace(plain, endpoints=_some_serve(own))
    if found.nearness is Nearness.HINTED:
        hinted = _hinted(place, found.endpoints)
        far = [0 if each in hinted else 1 for each in found.endpoints]
    else:
        far = [_distance(place, each, found.nearness) for each in found.endpoints]
    priority = {distance: i for i, distance in enumerate(sorted(set(far)))}
    endpoints = tuple(
        msgspec.structs.replace(each, priority=priority[distance], for_nodes=(), for_zones=())
        for each, distance in zip(found.endpoints, far, strict=True)
    )
    return msgspec.structs.replace(plain, endpoints=endpoints)


def _some_serve(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Where all that there are drain, they go on taking requests (KEP-1669, for Local by itself)."""
    if any(each.health is not Health.DRAINING for each in endpoints):
        return endpoints
    return tuple(msgspec.structs.replace(each, health=Health.HEALTHY) for each in endpoints)


def _hinted(place: Place, endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Those that are meant for a place; none: the hints say nothing about it.

    Hints of nodes count before those of zones, and each only where all ready endpoints have them and one is
    for the place (kubernetes pkg/proxy/topology.go, topologyModeFromHints).
    """
    ready = [each for each in endpoints if each.health is Health.HEALTHY]
    if place.node and all(each.for_nodes for each in ready):
        own = tuple(each for each in ready if place.node in each.for_nodes)
        if own:
            return own
    if place.zone and all(each.for_zones for each in ready):
        return tuple(each for each in ready if place.zone in each.for_zones)
    return ()


def _distance(place: Place, endpoint: Endpoint, nearness: Nearness) -> int:
    there = place_of(endpoint)
    if nearness is Nearness.NODE and place.node and there.node == place.node:
        return 0
    return 1 if place.zone and there.zone == place.zone else 2
