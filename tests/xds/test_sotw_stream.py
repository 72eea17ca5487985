"""Scripted conversations with the state-of-the-world server stream."""

from __future__ import annotations

from envoy.service.discovery.v3 import discovery_pb2

from meshd.model.snapshot import Snapshot
from meshd.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG, SHORT
from meshd.xds.server_stream import Rejection
from meshd.xds.sotw_stream import SotwStream
from tests.xds.example import cluster, endpoints, resources, route_config, service, snapshot

Sent = tuple[str, list[str]]


class Client:
    """The other end, as Envoy is one: follows CDS and LDS by the names they need."""

    def __init__(self, config: Snapshot) -> None:
        self.stream = SotwStream(resources(config))
        self.names: dict[str, list[str]] = {}
        self.versions: dict[str, str] = {}
        self.nonces: dict[str, str] = {}

    def ask(self, type_url: str, *names: str, version: str = "") -> None:
        self.names[type_url] = list(names)
        self.stream.received(
            discovery_pb2.DiscoveryRequest(
                type_url=type_url,
                resource_names=names,
                version_info=version or self.versions.get(type_url, ""),
                response_nonce=self.nonces.get(type_url, ""),
            )
        )

    def next(self) -> Sent | None:
        response = self.stream.next_response()
        if response is None:
            return None
        self.nonces[response.type_url] = response.nonce
        self.versions[response.type_url] = response.version_info
        key = {CLUSTER: CLUSTER, ENDPOINTS: ENDPOINTS}
        assert response.type_url in key or response.type_url in SHORT
        return SHORT[response.type_url], [_name(r) for r in response.resources]

    def ack(self, type_url: str, error: str = "") -> Rejection | None:
        request = discovery_pb2.DiscoveryRequest(
            type_url=type_url,
            resource_names=self.names[type_url],
            version_info=self.versions[type_url],
            response_nonce=self.nonces[type_url],
        )
        if error:
            request.error_detail.message = error
        return self.stream.received(request)

    def drain(self) -> list[Sent]:
        found = []
        while (sent := self.next()) is not None:
            found.append(sent)
            self.ack(next(url for url, short in SHORT.items() if short == sent[0]))
        return found

    def publish(self, config: Snapshot) -> None:
        self.stream.publish(resources(config))


def _name(packed: object) -> str:
    from envoy.config.cluster.v3 import cluster_pb2
    from envoy.config.endpoint.v3 import endpoint_pb2
    from envoy.config.listener.v3 import listener_pb2
    from envoy.config.route.v3 import route_pb2
    from google.protobuf import any_pb2

    assert isinstance(packed, any_pb2.Any)
    for kind, field in (
        (cluster_pb2.Cluster, "name"),
        (endpoint_pb2.ClusterLoadAssignment, "cluster_name"),
        (listener_pb2.Listener, "name"),
        (route_pb2.RouteConfiguration, "name"),
    ):
        message = kind()
        if packed.Unpack(message):
            return str(getattr(message, field))
    raise AssertionError(packed.type_url)


def test_order_and_one_response_per_type_at_a_time() -> None:
    client = Client(service("a", "b"))
    client.ask(LISTENER)
    client.ask(CLUSTER)
    assert client.next() == ("CDS", ["a", "b"])
    assert client.next() is None
    client.ack(CLUSTER)
    assert client.next() == ("LDS", ["a", "b"])
    client.ack(LISTENER)
    client.ask(ROUTE_CONFIG, "b")
    assert client.drain() == [("RDS", ["b"])]


def test_unchanged_types_are_not_sent_again() -> None:
    client = Client(service("a"))
    client.ask(CLUSTER)
    client.ask(ENDPOINTS, "a")
    assert client.drain() == [("CDS", ["a"]), ("EDS", ["a"])]
    client.publish(service("a", address="10.1.0.2"))
    assert client.drain() == [("EDS", ["a"])]
    client.publish(service("a", address="10.1.0.2"))
    assert client.drain() == []


def test_cluster_stays_until_no_route_refers_to_it() -> None:
    client = Client(service("a", "b"))
    client.ask(CLUSTER)
    client.ask(ROUTE_CONFIG, "a")
    client.drain()
    client.publish(
        snapshot(
            routes=[route_config("a", "c")],
            clusters=[cluster("a"), cluster("c")],
            endpoint_sets=[endpoints("c", "10.1.0.3")],
        )
    )
    assert client.drain() == [("CDS", ["a", "b", "c"]), ("RDS", ["a"]), ("CDS", ["a", "c"])]


def test_reconnecting_client_with_the_present_version_gets_nothing() -> None:
    first = Client(service("a"))
    first.ask(CLUSTER)
    first.drain()
    again = Client(service("a"))
    again.ask(CLUSTER, version=first.versions[CLUSTER])
    assert again.drain() == []
    again.publish(service("a", "b"))
    assert again.drain() == [("CDS", ["a", "b"])]


def test_more_names_are_answered_even_if_nothing_changed() -> None:
    client = Client(service("a", "b"))
    client.ask(ENDPOINTS, "a")
    assert client.drain() == [("EDS", ["a"])]
    client.ask(ENDPOINTS, "a", "nowhere")
    assert client.drain() == [("EDS", ["a"])]
    client.ask(ENDPOINTS, "a")
    assert client.drain() == []


def test_clusters_by_name_are_the_only_ones() -> None:
    client = Client(service("a", "b"))
    client.ask(ROUTE_CONFIG, "a")
    client.ask(ENDPOINTS, "a")
    client.ask(CLUSTER, "a", "nowhere")
    assert client.drain() == [("CDS", ["a"]), ("EDS", ["a"]), ("RDS", ["a"])]
    client.ask(CLUSTER, "a", "nowhere", "b")
    assert client.drain() == [("CDS", ["a", "b"])]
    client.publish(service("a", "b", "nowhere"))
    assert client.drain() == [("CDS", ["a", "b", "nowhere"])]
    # One that goes is absent from the next response; who names none any more has not asked for all.
    client.publish(service("a", "b"))
    assert client.drain() == [("CDS", ["a", "b"])]
    client.ask(CLUSTER)
    client.publish(service("a", "b", "c"))
    assert client.drain() == [("CDS", [])]


def test_only_unknown_names_are_answered_with_nothing() -> None:
    client = Client(service("a"))
    client.ask(CLUSTER, "nowhere")
    assert client.drain() == [("CDS", [])]


def test_refused_version_is_reported_and_not_repeated() -> None:
    client = Client(service("a"))
    client.ask(CLUSTER)
    client.next()
    assert client.ack(CLUSTER, "a: no") == Rejection(CLUSTER, client.nonces[CLUSTER], "a: no")
    assert client.drain() == []


def test_answer_to_an_older_response_does_not_count() -> None:
    client = Client(service("a"))
    client.ask(CLUSTER)
    client.next()
    client.nonces[CLUSTER] = "0"
    client.ack(CLUSTER)
    client.publish(service("a", "b"))
    assert client.next() is None


def test_changed_cluster_has_its_endpoints_sent_again() -> None:
    client = Client(service("a"))
    client.ask(CLUSTER)
    client.ask(ENDPOINTS, "a")
    client.drain()
    client.publish(
        snapshot(clusters=[cluster("a", connect_timeout=1)], endpoint_sets=service("a").endpoints.values())
    )
    assert client.drain() == [("CDS", ["a"]), ("EDS", ["a"])]
