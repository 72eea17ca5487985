"""Scripted conversations with the agent's end of delta ADS."""

from __future__ import annotations

import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from meshd.model.clusters import EndpointSet
from meshd.model.snapshot import Delta, Snapshot
from meshd.xds.client_stream import ClientStream
from meshd.xds.delta_stream import DeltaStream
from meshd.xds.interest import Want
from meshd.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG, SHORT, Resource
from tests.xds.example import cluster, endpoints, listener, resources, route_config, service, snapshot

NODE = base_pb2.Node(id="n")


def response(
    type_url: str, config: Snapshot, *names: str, removed: tuple[str, ...] = ()
) -> discovery_pb2.DeltaDiscoveryResponse:
    found = resources(config).of(type_url)
    chosen: list[Resource] = [found[name] for name in names]
    return discovery_pb2.DeltaDiscoveryResponse(
        type_url=type_url,
        nonce="n",
        resources=[discovery_pb2.Resource(name=r.name, version=r.version, resource=r.packed) for r in chosen],
        removed_resources=removed,
    )


def take(stream: ClientStream, message: discovery_pb2.DeltaDiscoveryResponse) -> Delta | None:
    """What the response changes, which is put into force."""
    received = stream.received(message)
    delta = stream.change()
    if delta is not None:
        stream.in_force(delta)
    stream.answer(received)
    return delta


def changed(delta: Delta | None) -> dict[str, list[str]]:
    """The names in a delta, by field."""
    assert delta is not None
    return {
        field: [getattr(item, "name", item) for item in getattr(delta, field)]
        for field in delta.__struct_fields__
        if field != "generation" and getattr(delta, field)
    }


@pytest.fixture
def stream() -> ClientStream:
    fresh = ClientStream(NODE)
    fresh.connected()
    return fresh


@pytest.fixture
def serving(stream: ClientStream) -> ClientStream:
    """A client that has service a in force."""
    config = service("a")
    for type_url in (CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG):
        take(stream, response(type_url, config, "a"))
    assert changed(stream.snapshot.as_delta()) == {
        "listeners": ["a"],
        "route_configs": ["a"],
        "clusters": ["a"],
        "endpoints": ["a"],
    }
    return stream


def test_first_requests() -> None:
    requests = ClientStream(NODE).connected()
    asked = [(SHORT[r.type_url], list(r.resource_names_subscribe)) for r in requests]
    assert asked == [("CDS", []), ("LDS", []), ("status", ["*"])]
    assert [r.node.id for r in requests] == ["n", "", ""]


def test_subscriptions_go_out_before_the_acknowledgement(stream: ClientStream) -> None:
    received = stream.received(response(CLUSTER, service("a", "b"), "a", "b"))
    requests = stream.answer(received)
    assert [(SHORT[r.type_url], list(r.resource_names_subscribe)) for r in requests] == [
        ("EDS", ["a", "b"]),
        ("CDS", []),
    ]
    assert [r.response_nonce for r in requests] == ["", "n"]
    assert not requests[1].HasField("error_detail")


def test_nothing_is_in_force_before_what_it_needs(stream: ClientStream) -> None:
    config = service("a")
    assert take(stream, response(LISTENER, config, "a")) is None
    assert take(stream, response(CLUSTER, config, "a")) is None
    assert take(stream, response(ROUTE_CONFIG, config, "a")) is None
    assert stream.waiting == ("a",)
    assert changed(take(stream, response(ENDPOINTS, config, "a"))) == {
        "listeners": ["a"],
        "route_configs": ["a"],
        "clusters": ["a"],
        "endpoints": ["a"],
    }


def test_route_moves_only_when_the_new_cluster_has_endpoints(serving: ClientStream) -> None:
    config = snapshot(
        routes=[route_config("a", "b")], clusters=[cluster("b")], endpoint_sets=[endpoints("b", "10.1.0.2")]
    )
    assert take(serving, response(CLUSTER, config, "b")) is None
    assert take(serving, response(ROUTE_CONFIG, config, "a")) is None
    assert serving.snapshot.route_configs["a"] == route_config("a", "a")
    assert changed(take(serving, response(ENDPOINTS, config, "b"))) == {
        "route_configs": ["a"],
        "clusters": ["b"],
        "endpoints": ["b"],
    }


def test_route_to_a_cluster_that_nobody_announced_does_not_wait(serving: ClientStream) -> None:
    config = snapshot(routes=[route_config("a", "nowhere")])
    assert changed(take(serving, response(ROUTE_CONFIG, config, "a"))) == {"route_configs": ["a"]}


def test_cluster_without_endpoints_resource_has_none(stream: ClientStream) -> None:
    take(stream, response(CLUSTER, service("a"), "a"))
    delta = take(stream, response(ENDPOINTS, service("a"), removed=("a",)))
    assert changed(delta) == {"clusters": ["a"], "endpoints": ["a"]}
    assert stream.snapshot.endpoints["a"] == EndpointSet(name="a")


def test_waiting_for_endpoints_ends(stream: ClientStream) -> None:
    take(stream, response(CLUSTER, service("a"), "a"))
    stream.stop_waiting()
    assert stream.waiting == ()
    assert changed(stream.change()) == {"clusters": ["a"], "endpoints": ["a"]}


def test_bad_resource_is_refused_by_name_and_good_ones_are_taken(serving: ClientStream) -> None:
    message = response(ENDPOINTS, service("a", address="10.1.0.7"), "a")
    bad = message.resources.add(name="b", version="1")
    bad.resource.Pack(cluster_proto())
    received = serving.received(message)
    assert received.accepted == ("a",)
    assert list(received.rejected) == ["b"]
    (answer,) = serving.answer(received)
    assert answer.error_detail.message.startswith("b: resource: holds ")
    assert changed(serving.change()) == {"endpoints": ["a"]}
    assert list(serving.rejected) == ["EDS b"]


def cluster_proto() -> object:
    from meshd.xds import encode

    return encode.cluster(cluster("b"))


def test_refused_version_leaves_the_old_one_in_force_and_is_forgotten_when_mended(
    serving: ClientStream,
) -> None:
    before = serving.versions["CDS"]["a"]
    message = response(CLUSTER, service("a"), "a")
    proto = cluster_proto_with_http2()
    message.resources[0].resource.Pack(proto)
    message.resources[0].version = "bad"
    assert take(serving, message) is None
    assert serving.rejected == {"CDS a": "http2_protocol_options: not supported"}
    assert serving.versions["CDS"]["a"] == before
    take(serving, response(CLUSTER, service("a"), "a"))
    assert serving.rejected == {}


def cluster_proto_with_http2() -> object:
    from meshd.xds import encode

    message = encode.cluster(cluster("a"))
    message.http2_protocol_options.SetInParent()
    return message


def test_name_outside_and_inside_must_be_the_same(stream: ClientStream) -> None:
    message = response(CLUSTER, service("a"), "a")
    message.resources[0].name = "b"
    assert stream.received(message).rejected == {"b": "name: the resource inside is called 'a'"}


def test_change_that_could_not_be_applied_is_refused_and_comes_again(serving: ClientStream) -> None:
    received = serving.received(response(ENDPOINTS, service("a", address="10.1.0.7"), "a"))
    assert changed(serving.change()) == {"endpoints": ["a"]}
    (answer,) = serving.answer(received, "not applied: the map is full")
    assert answer.error_detail.message == "not applied: the map is full"
    assert changed(serving.change()) == {"endpoints": ["a"]}


def test_unknown_type_is_refused(stream: ClientStream) -> None:
    message = discovery_pb2.DeltaDiscoveryResponse(type_url="x", nonce="n")
    received = stream.received(message)
    assert stream.answer(received)[-1].error_detail.message == "x: a resource type that was not asked for"


def test_removals(serving: ClientStream) -> None:
    assert changed(take(serving, response(LISTENER, snapshot(), removed=("a",)))) == {
        # The route config is not referred to any more: it is unsubscribed.
        "removed_listeners": ["a"],
        "removed_route_configs": ["a"],
    }
    assert changed(take(serving, response(CLUSTER, snapshot(), removed=("a",)))) == {
        "removed_clusters": ["a"],
        "removed_endpoints": ["a"],
    }
    assert serving.snapshot.as_delta() == Delta(generation=0)


def test_what_comes_after_it_is_not_wanted_any_more_is_not_kept() -> None:
    stream, config = ClientStream(NODE, everything=False), service("a")
    stream.connected()
    take(stream, response(LISTENER, config, "a"))
    assert stream.snapshot.listeners["a"].cold
    stream.want("a", Want.USED)
    assert [SHORT[each.type_url] for each in stream.requests()] == ["CDS", "RDS"]
    stream.want("a", Want.KNOWN)
    assert [list(each.resource_names_unsubscribe) for each in stream.requests()] == [["a"], ["a"]]
    # Sent before the server knew.
    for type_url in (CLUSTER, ROUTE_CONFIG):
        assert take(stream, response(type_url, config, "a")) is None
    assert stream.requests() == []
    assert stream.versions["CDS"] == stream.versions["RDS"] == {}


def test_a_cluster_that_never_comes_is_waited_for_and_not_for_ever() -> None:
    stream, config = ClientStream(NODE, everything=False), service("a")
    stream.connected()
    stream.want("a", Want.USED)
    take(stream, response(LISTENER, config, "a"))
    take(stream, response(ROUTE_CONFIG, config, "a"))
    assert stream.waiting == ("a",)
    assert stream.snapshot.listeners == {}
    assert not stream.synced
    stream.stop_waiting()
    assert changed(stream.change()) == {"listeners": ["a"], "route_configs": ["a"]}
    assert stream.synced


def test_reconnects_with_its_versions(serving: ClientStream) -> None:
    requests = {SHORT[r.type_url]: r for r in serving.connected()}
    assert list(requests) == ["CDS", "EDS", "LDS", "RDS", "status"]
    for kind in ("CDS", "EDS", "LDS", "RDS"):
        assert dict(requests[kind].initial_resource_versions) == serving.versions[kind]
        assert list(requests[kind].initial_resource_versions) == ["a"]
    assert list(requests["EDS"].resource_names_subscribe) == ["a"]


def test_synced_only_when_all_that_was_asked_for_has_come(stream: ClientStream) -> None:
    config = service("a")
    for type_url in (CLUSTER, ENDPOINTS, LISTENER):
        take(stream, response(type_url, config, "a"))
        assert not stream.synced
    take(stream, response(ROUTE_CONFIG, config, "a"))
    assert stream.synced


def test_client_and_server_stream_agree_through_a_change_of_everything() -> None:
    """Both machines against each other: whatever is in force at any time is whole."""
    client, server = ClientStream(NODE), DeltaStream(resources(service("a", "b")))
    for request in client.connected():
        server.received(request)

    def run() -> None:
        while (message := server.next_response()) is not None:
            received = client.received(message)
            delta = client.change()
            if delta is not None:
                client.in_force(delta)
            whole(client.snapshot)
            for request in client.answer(received):
                assert server.received(request) is None

    run()
    assert set(client.snapshot.listeners) == {"a", "b"}
    for config in (
        service("c", "d", "e"),
        snapshot([listener("c")], [route_config("c", "z")], [cluster("z")], [endpoints("z", "10.1.0.3")]),
        service("a"),
        snapshot(),
    ):
        server.publish(resources(config))
        run()
        assert client.synced
        wanted = {n: c for n, c in config.clusters.items() if n in config.endpoints}
        assert dict(client.snapshot.clusters) == wanted
        assert dict(client.snapshot.listeners) == dict(config.listeners)
        assert dict(client.snapshot.endpoints) == dict(config.endpoints)


def whole(config: Snapshot) -> None:
    """Each listener has its routes, each cluster its endpoints, each route its clusters."""
    for item in config.listeners.values():
        assert item.route_config in config.route_configs
    assert config.clusters.keys() == config.endpoints.keys()
    for name in config.listeners:
        for host in config.route_configs[name].virtual_hosts:
            for route in host.routes:
                assert all(c.name in config.clusters for c in getattr(route.action, "clusters", ()))
