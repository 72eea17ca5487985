"""Priorities by where a client is."""

from __future__ import annotations

import itertools

import pytest

from meshd.model.clusters import Endpoint, EndpointSet, Health, Nearness
from meshd.xds.nearness import Place, seen_from, zones

PLACES = {"1": "/a/n1", "2": "/a/n2", "3": "/b/n3", "4": ""}
ENDPOINTS = tuple(Endpoint(address=f"10.0.0.{i}", port=80, locality=place) for i, place in PLACES.items())


def priorities(place: Place, nearness: Nearness) -> dict[str, int]:
    found = seen_from(place, EndpointSet(name="c", endpoints=ENDPOINTS, nearness=nearness))
    assert found.nearness is Nearness.ANY
    return {each.address[-1]: each.priority for each in found.endpoints}


@pytest.mark.parametrize(
    ("place", "nearness", "wanted"),
    [
        (Place("a", "n1"), Nearness.ANY, {"1": 0, "2": 0, "3": 0, "4": 0}),
        (Place("a", "n1"), Nearness.ZONE, {"1": 0, "2": 0, "3": 1, "4": 1}),
        (Place("b", "n9"), Nearness.ZONE, {"1": 1, "2": 1, "3": 0, "4": 1}),
        (Place("c", "n9"), Nearness.ZONE, {"1": 0, "2": 0, "3": 0, "4": 0}),
        (Place(), Nearness.ZONE, {"1": 0, "2": 0, "3": 0, "4": 0}),
        (Place("a", "n1"), Nearness.NODE, {"1": 0, "2": 1, "3": 2, "4": 2}),
        (Place("a", "n9"), Nearness.NODE, {"1": 0, "2": 0, "3": 1, "4": 1}),
        (Place("", "n3"), Nearness.NODE, {"1": 1, "2": 1, "3": 0, "4": 1}),
        (Place(), Nearness.NODE, {"1": 0, "2": 0, "3": 0, "4": 0}),
        (Place("a", "n1"), Nearness.NODE_ONLY, {"1": 0}),
        (Place("a", "n9"), Nearness.NODE_ONLY, {}),
        (Place(), Nearness.NODE_ONLY, {"1": 0, "2": 0, "3": 0, "4": 0}),
    ],
)
def test_priorities(place: Place, nearness: Nearness, wanted: dict[str, int]) -> None:
    assert priorities(place, nearness) == wanted


def hinted(nodes: str, zones_: str, health: Health = Health.HEALTHY) -> Endpoint:
    number = next(_NUMBERS)
    return Endpoint(
        address=f"10.1.0.{number}",
        port=80,
        health=health,
        for_nodes=tuple(nodes.split()),
        for_zones=tuple(zones_.split()),
    )


_NUMBERS = itertools.count(1)
_BY_ZONE = (hinted("", "a"), hinted("", "a b"), hinted("", "c"))
_BY_BOTH = (hinted("n1", "a"), hinted("n2", "a"), hinted("n3", "b"))
_SOME_NODES = (hinted("n1", "a"), hinted("", "b"))
_LEAVING = (hinted("n1", "a"), hinted("", "", Health.DRAINING))


@pytest.mark.parametrize(
    ("endpoints", "place", "wanted"),
    [
        (_BY_ZONE, Place("a", "n1"), [0, 0, 1]),
        (_BY_ZONE, Place("b", "n1"), [1, 0, 1]),
        (_BY_ZONE, Place("d", "n1"), [0, 0, 0]),
        (_BY_ZONE, Place("", "n1"), [0, 0, 0]),
        (_BY_BOTH, Place("a", "n2"), [1, 0, 1]),
        (_BY_BOTH, Place("b", "n9"), [1, 1, 0]),
        (_BY_BOTH, Place("c", "n9"), [0, 0, 0]),
        (_SOME_NODES, Place("b", "n1"), [1, 0]),
        (_LEAVING, Place("a", "n1"), [0, 1]),
    ],
)
def test_hints(endpoints: tuple[Endpoint, ...], place: Place, wanted: list[int]) -> None:
    found = seen_from(place, EndpointSet(name="c", endpoints=endpoints, nearness=Nearness.HINTED))
    assert [each.priority for each in found.endpoints] == wanted
    assert all(each.for_nodes == each.for_zones == () for each in found.endpoints)


def test_where_only_local_ones_count_and_all_leave_they_serve() -> None:
    leaving = Endpoint(address="10.0.0.1", port=80, locality="/a/n1", health=Health.DRAINING)
    other = Endpoint(address="10.0.0.2", port=80, locality="/a/n2")
    near = EndpointSet(name="c", endpoints=(leaving, other), nearness=Nearness.NODE_ONLY)
    assert [each.health for each in seen_from(Place("a", "n1"), near).endpoints] == [Health.HEALTHY]
    assert [each.health for each in seen_from(Place(), near).endpoints] == [Health.DRAINING, Health.HEALTHY]


def test_endpoints_tell_the_zones_of_their_nodes() -> None:
    assert zones([EndpointSet(name="c", endpoints=ENDPOINTS)]) == {"n1": "a", "n2": "a", "n3": "b"}
