"""Priorities by where a client is."""

from __future__ import annotations

import pytest

from meshd.model.clusters import Endpoint, EndpointSet, Nearness
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


def test_endpoints_tell_the_zones_of_their_nodes() -> None:
    assert zones([EndpointSet(name="c", endpoints=ENDPOINTS)]) == {"n1": "a", "n2": "a", "n3": "b"}
