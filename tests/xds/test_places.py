"""Endpoints as clients at different places get them, from version to version."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.model.clusters import Endpoint, EndpointSet, Nearness
from meshd.model.snapshot import Delta, Snapshot
from meshd.model.status import ConfigStatus
from meshd.xds.namespaces import Namespaces
from meshd.xds.nearness import Place, seen_from
from meshd.xds.places import Places
from meshd.xds.resources import CLUSTER, ENDPOINTS, ResourceSet, next_set
from tests.support.resource_sets import resource_set
from tests.xds.example import cluster

PLACES = ("", "/a/n1", "/a/n2", "/b/n3")
ASKED = (Place(), Place(node="n1"), Place(node="n3"), Place(node="n9"), Place("b", "n9"))


def endpoints(name: str, nearness: Nearness = Nearness.ZONE, *places: str) -> EndpointSet:
    found = tuple(
        Endpoint(address=f"10.0.0.{i + 1}", port=80, locality=place)
        for i, place in enumerate(places or PLACES)
    )
    return EndpointSet(name=name, endpoints=found, nearness=nearness)


def whole(*sets: EndpointSet) -> ResourceSet:
    snapshot = Snapshot(0, clusters={each.name: cluster(each.name) for each in sets})
    return resource_set(snapshot.apply(Delta(generation=0, endpoints=sets)), ConfigStatus())


def priorities(resources: ResourceSet, name: str) -> list[int]:
    source = resources.of(ENDPOINTS)[name].source
    assert isinstance(source, EndpointSet)
    assert source.nearness is Nearness.ANY
    return [each.priority for each in source.endpoints]


def test_a_node_is_in_the_zone_of_its_endpoints_unless_its_client_says_another() -> None:
    found = whole(endpoints("near"))
    places = Places(found)
    assert priorities(places.seen_from(found, Place(node="n1")), "near") == [1, 0, 0, 1]
    assert priorities(places.seen_from(found, Place("b", "n1")), "near") == [1, 1, 1, 0]
    assert priorities(places.seen_from(found, Place(node="n9")), "near") == [0, 0, 0, 0]


def test_where_nothing_prefers_near_endpoints_all_get_the_same() -> None:
    found = whole(endpoints("any", Nearness.ANY))
    assert Places(found).seen_from(found, Place("a", "n1")) is found


def test_a_namespaces_view_has_priorities_too() -> None:
    found = whole(endpoints("near"))
    base = ResourceSet(found.version, dict(found.by_type))
    seen = Places(found).seen_from(base, Place("a", "n1"))
    assert priorities(seen, "near") == [1, 0, 0, 1]
    assert seen.of(CLUSTER) == found.of(CLUSTER)
    assert Namespaces(found).of("x") is found


@pytest.mark.parametrize("name", ["near", "any"])
def test_a_view_follows_the_view_before_it(name: str) -> None:
    first = whole(endpoints("near"), endpoints("any", Nearness.ANY))
    before = Places(first)
    old = before.seen_from(first, Place("a", "n1"))
    changed = endpoints(name, Nearness.ZONE if name == "near" else Nearness.ANY, "/b/n3", "/a/n1")
    second = next_set(first, Delta(generation=0, endpoints=(changed,)), (), ())
    new = Places(second, before).seen_from(second, Place("a", "n1"))
    assert (new.follows, new.changed) == (old.identity, {ENDPOINTS: frozenset({name})})
    other = "any" if name == "near" else "near"
    assert new.of(ENDPOINTS)[other] is old.of(ENDPOINTS)[other]
    assert priorities(new, name) == ([1, 0] if name == "near" else [0, 0])


names = st.sampled_from(("x", "y", "z"))
sets = st.builds(
    lambda name, nearness, places: endpoints(name, nearness, *places),
    names,
    st.sampled_from(Nearness),
    st.lists(st.sampled_from(PLACES), min_size=1, max_size=3),
)
changes = st.tuples(st.lists(sets, max_size=2, unique_by=lambda each: each.name), st.sets(names, max_size=1))


@given(st.lists(changes, min_size=1, max_size=5))
def test_changes_come_to_what_the_whole_comes_to(several: list[tuple[list[EndpointSet], set[str]]]) -> None:
    snapshot, resources = Snapshot(), ResourceSet()
    places = Places(resources)
    for changed, removed in several:
        gone = tuple(removed - {each.name for each in changed})
        delta = Delta(generation=0, endpoints=tuple(changed), removed_endpoints=gone)
        snapshot = snapshot.apply(delta)
        resources = next_set(resources, delta, (), ())
        places = Places(resources, places)
        for place in ASKED:
            seen = places.seen_from(resources, place)
            zone = place.zone or places.zone_of(place.node)
            for name, found in snapshot.endpoints.items():
                wanted = seen_from(Place(zone, place.node), found)
                source = seen.of(ENDPOINTS)[name].source
                assert isinstance(source, EndpointSet)
                assert msgspec.structs.replace(source, nearness=Nearness.ANY) == wanted
            assert seen.of(ENDPOINTS).keys() == snapshot.endpoints.keys()
