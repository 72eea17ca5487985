"""Routes for the callers of one namespace: all of them for an agent, plain resources for a sidecar of it."""

from __future__ import annotations

import msgspec
import pytest
from google.protobuf import struct_pb2

from meshd.model.snapshot import Snapshot
from meshd.xds import decode_listener, encode, warming
from meshd.xds.encode import CONSUMERS
from meshd.xds.metadata import METADATA
from meshd.xds.namespaces import Namespaces
from meshd.xds.resources import LISTENER, ROUTE_CONFIG
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
