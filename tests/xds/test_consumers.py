"""Routes for the callers of one namespace: all of them for an agent, plain resources for a sidecar of it."""

from __future__ import annotations

import msgspec
import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from meshd.model.snapshot import Delta, Snapshot, difference
from meshd.xds import decode_listener, encode, warming
from meshd.xds.encode import CONSUMERS
from meshd.xds.metadata import METADATA
from meshd.xds.namespaces import Namespaces
from meshd.xds.resources import LISTENER, ROUTE_CONFIG, ResourceSet, next_set
from meshd.xds.unsupported import UnsupportedError
from tests.xds.example import cluster, endpoints, listener, resources, route_config, service, snapshot

OWN = "web/from/x"
WITH_CONSUMER = snapshot(
    (msgspec.structs.replace(listener("web"), consumers=(("x", OWN),)), listener("other", "10.0.0.2")),
    (route_config("web", "web"), route_config(OWN, "other"), route_config("other", "other")),
    (cluster("web"), cluster("other")),
    (endpoints("web", "10.1.0.1"), endpoints("other", "10.1.0.2")),
)


def test_a_namespace_of_its_own_sees_its_routes_under_the_listeners_name() -> None:
    seen = Namespaces(resources(WITH_CONSUMER)).of("x")
    assert seen.of(ROUTE_CONFIG).keys() == {"web", "other"}
    config = WITH_CONSUMER.route_configs[OWN]
    assert seen.of(ROUTE_CONFIG)["web"].source == msgspec.structs.replace(config, name="web")
    assert seen.of(LISTENER)["web"].source == listener("web")


def test_other_namespaces_see_what_they_would_see_without() -> None:
    without = snapshot(
        (listener("web"), listener("other", "10.0.0.2")),
        (route_config("web", "web"), route_config("other", "other")),
        WITH_CONSUMER.clusters.values(),
        WITH_CONSUMER.endpoints.values(),
    )
    assert Namespaces(resources(WITH_CONSUMER)).of("y").by_type == {
        **resources(without).by_type,
        **{kind: found for kind, found in resources(WITH_CONSUMER).by_type.items() if "Struct" in kind},
    }


def test_who_is_of_no_single_namespace_gets_all() -> None:
    found = resources(WITH_CONSUMER)
    assert Namespaces(found).of("") is found


def test_without_consumer_routes_all_namespaces_get_the_same() -> None:
    found = resources(service("web"))
    assert Namespaces(found).of("x") is found


def test_a_listener_waits_for_all_its_routes() -> None:
    late = Snapshot(
        0,
        WITH_CONSUMER.listeners,
        {name: each for name, each in WITH_CONSUMER.route_configs.items() if name != OWN},
        WITH_CONSUMER.clusters,
        WITH_CONSUMER.endpoints,
    )
    assert warming.warm(late, Snapshot()).listeners.keys() == {"other"}
    before = service("web", "other")
    kept = warming.warm(late, before)
    assert kept.listeners["web"] == before.listeners["web"]
    assert warming.warm(WITH_CONSUMER, before).listeners == WITH_CONSUMER.listeners


@pytest.mark.parametrize("value", ["web", {}, {"x": ""}, {"": "web"}, {"x": {"y": "z"}}])
def test_a_fact_of_another_form_is_refused(value: str | dict[str, str]) -> None:
    message = encode.listener(WITH_CONSUMER.listeners["web"])
    facts = struct_pb2.Struct()
    facts.update({CONSUMERS: value})
    message.metadata.filter_metadata[METADATA].fields[CONSUMERS].CopyFrom(facts.fields[CONSUMERS])
    with pytest.raises(UnsupportedError) as refused:
        decode_listener.listener(message)
    assert refused.value.field == f"metadata.{CONSUMERS}"


_names = st.sampled_from(("web", "shop", "cart"))
_namespaces = ("x", "y")


@st.composite
def _services(draw: st.DrawFn) -> Snapshot:
    """Some services, whose callers in some namespaces have routes of their own."""
    listeners, configs = [], []
    for number, name in enumerate(sorted(draw(st.sets(_names)))):
        own = [each for each in _namespaces if draw(st.booleans())]
        consumers = tuple((each, f"{name}/from/{each}") for each in own)
        listeners.append(msgspec.structs.replace(listener(name, f"10.0.0.{number + 1}"), consumers=consumers))
        configs += [route_config(each, draw(_names)) for each in (name, *(config for _, config in consumers))]
    return snapshot(listeners, configs, (), ())


@given(st.lists(_services(), min_size=1, max_size=5), st.data())
def test_changes_come_to_what_the_whole_comes_to(versions: list[Snapshot], data: st.DataObject) -> None:
    now, found = Snapshot(), ResourceSet()
    views = Namespaces(found)
    seen: dict[str, ResourceSet] = {}
    for version in versions:
        delta = difference(now, version)
        now, found = now.apply(delta), next_set(found, delta, (), ())
        views = Namespaces(found, views)
        for namespace in data.draw(st.sets(st.sampled_from(_namespaces))):
            view, before = views.of(namespace), seen.get(namespace)
            assert view.by_type == Namespaces(found).of(namespace).by_type
            if before is not None and view.follows is before.identity:
                for kind in (LISTENER, ROUTE_CONFIG):
                    names = view.of(kind).keys() | before.of(kind).keys()
                    others = {name for name in names if view.of(kind).get(name) != before.of(kind).get(name)}
                    assert others <= view.changed.get(kind, frozenset())
            seen[namespace] = view


def test_a_view_follows_the_one_before_it() -> None:
    first = next_set(ResourceSet(), WITH_CONSUMER.as_delta(), (), ())
    before = Namespaces(first)
    olds = [before.of(namespace) for namespace in ("x", "y")]
    changed = route_config(OWN, "web")
    second = next_set(first, Delta(generation=1, route_configs=(changed,)), (), ())
    after = Namespaces(second, before)
    for namespace, old in zip(("x", "y"), olds, strict=True):
        new = after.of(namespace)
        assert new.follows is old.identity
        assert new.changed[LISTENER] == {"web"}
        assert new.changed[ROUTE_CONFIG] == {"web", OWN}
    assert after.of("x").of(ROUTE_CONFIG)["web"].source == msgspec.structs.replace(changed, name="web")
