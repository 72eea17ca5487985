"""Scripted conversations with the delta server stream."""

from __future__ import annotations

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from meshd.model.snapshot import Snapshot
from meshd.xds import delta_stream
from meshd.xds.delta_stream import DeltaStream
from meshd.xds.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG, SHORT, STATUS
from meshd.xds.server_stream import MAX_NAMES, MAX_TYPES, Rejection, StreamError
from tests.xds.example import cluster, endpoints, listener, resources, route_config, service, snapshot

Sent = tuple[str, list[str], list[str]]


class Client:
    """The other end: says what a client says, and notes what it is sent as (type, resources, removed)."""

    def __init__(self, config: Snapshot, chained: bool = True) -> None:
        """``chained``: whether sets say what they have changed of the last, as a control plane's do."""
        self._chained = chained
        self._resources = resources(config)
        self.stream = DeltaStream(self._resources)
        self.unanswered: list[discovery_pb2.DeltaDiscoveryResponse] = []

    def ask(
        self, type_url: str, *subscribe: str, gone: tuple[str, ...] = (), has: dict[str, str] | None = None
    ) -> None:
        self.stream.received(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=type_url,
                resource_names_subscribe=subscribe,
                resource_names_unsubscribe=gone,
                initial_resource_versions=has or {},
            )
        )

    def sent(self) -> list[Sent]:
        """What comes until the server waits for an answer."""
        found = []
        while (response := self.stream.next_response()) is not None:
            self.unanswered.append(response)
            names = [resource.name for resource in response.resources]
            found.append((SHORT.get(response.type_url, ""), names, list(response.removed_resources)))
        return found

    def answer(self, error: str = "") -> Rejection | None:
        response = self.unanswered.pop(0)
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=response.type_url, response_nonce=response.nonce
        )
        if error:
            request.error_detail.message = error
        return self.stream.received(request)

    def drain(self) -> list[Sent]:
        """All that comes when every response is acknowledged."""
        found = self.sent()
        while self.unanswered:
            self.answer()
            found += self.sent()
        return found

    def publish(self, config: Snapshot) -> None:
        self._resources = resources(config, self._resources if self._chained else None)
        self.stream.publish(self._resources)


@pytest.fixture
def ab() -> Client:
    """A client that has all of services a and b."""
    client = Client(service("a", "b"))
    client.ask(CLUSTER)
    client.ask(ENDPOINTS, "a", "b")
    client.ask(LISTENER)
    client.ask(ROUTE_CONFIG, "a", "b")
    client.drain()
    return client


def test_what_is_referred_to_is_acknowledged_before_what_refers_to_it_is_sent() -> None:
    client = Client(service("a", "b"))
    client.ask(ROUTE_CONFIG, "a")
    client.ask(LISTENER)
    client.ask(ENDPOINTS, "b")
    client.ask(CLUSTER)
    # A client may acknowledge clusters only once they have their endpoints, and listeners with their routes.
    assert client.sent() == [("CDS", ["a", "b"], []), ("EDS", ["b"], [])]
    client.answer()
    assert client.sent() == []
    client.answer()
    assert client.sent() == [("LDS", ["a", "b"], []), ("RDS", ["a"], [])]
    client.answer()
    client.answer()
    assert client.sent() == []


def test_wildcard_with_nothing_to_send_is_answered_once() -> None:
    client = Client(snapshot())
    client.ask(CLUSTER)
    assert client.drain() == [("CDS", [], [])]
    client.publish(snapshot())
    assert client.drain() == []


def test_only_what_changed_is_sent(ab: Client) -> None:
    changed = service("a", "b")
    ab.publish(
        snapshot(
            changed.listeners.values(),
            changed.route_configs.values(),
            changed.clusters.values(),
            [endpoints("a", "10.1.0.1"), endpoints("b", "10.1.0.9")],
        )
    )
    assert ab.drain() == [("EDS", ["b"], [])]


def test_same_content_is_not_sent_again(ab: Client) -> None:
    ab.publish(service("a", "b"))
    assert ab.drain() == []


def test_what_is_added_comes_before_what_is_removed(ab: Client) -> None:
    # The route moves from b to c, and b goes.
    old = service("a", "b")
    ab.publish(
        snapshot(
            [old.listeners["a"]],
            [route_config("a", "c")],
            [old.clusters["a"], cluster("c")],
            [old.endpoints["a"], endpoints("c", "10.1.0.3")],
        )
    )
    ab.ask(ENDPOINTS, "c")
    assert ab.drain() == [
        ("CDS", ["c"], []),
        ("EDS", ["c"], []),
        ("LDS", [], ["b"]),
        ("RDS", ["a"], []),
        ("RDS", [], ["b"]),
        ("EDS", [], ["b"]),
        ("CDS", [], ["b"]),
    ]


def test_listener_that_takes_over_an_address_comes_with_the_removal_of_the_old_one(ab: Client) -> None:
    old = service("a", "b")
    ab.publish(
        snapshot(
            [old.listeners["a"], listener("c", old.listeners["b"].addresses[0])],
            old.route_configs.values(),
            old.clusters.values(),
            old.endpoints.values(),
        )
    )
    assert ab.drain() == [("LDS", ["c"], ["b"])]


def test_named_resource_that_does_not_exist_is_said_to_be_absent_once() -> None:
    client = Client(service("a"))
    client.ask(ROUTE_CONFIG, "a", "nowhere")
    assert client.drain() == [("RDS", ["a"], ["nowhere"])]
    client.publish(service("a", "nowhere"))
    assert client.drain() == [("RDS", ["nowhere"], [])]
    client.publish(service("a"))
    assert client.drain() == [("RDS", [], ["nowhere"])]


def test_clusters_by_name_are_the_only_ones() -> None:
    client = Client(service("a", "b", "c"))
    client.ask(LISTENER)
    assert client.drain() == [("LDS", ["a", "b", "c"], [])]
    client.ask(ROUTE_CONFIG, "a")
    client.ask(ENDPOINTS, "a")
    client.ask(CLUSTER, "a", "nowhere")
    # However they are asked for, what is referred to comes first.
    assert client.drain() == [("CDS", ["a"], ["nowhere"]), ("EDS", ["a"], []), ("RDS", ["a"], [])]
    client.ask(CLUSTER, "b")
    assert client.drain() == [("CDS", ["b"], [])]
    client.publish(service("a", "b", "c", "nowhere"))
    assert client.drain() == [("CDS", ["nowhere"], []), ("LDS", ["nowhere"], [])]
    client.ask(CLUSTER, gone=("a", "b"))
    assert client.drain() == []
    client.publish(snapshot())
    assert client.drain() == [
        ("LDS", [], ["a", "b", "c", "nowhere"]),
        ("RDS", [], ["a"]),
        ("EDS", [], ["a"]),
        ("CDS", [], ["nowhere"]),
    ]


def test_clusters_by_name_after_a_lost_stream() -> None:
    had = resources(service("a", "b")).of(CLUSTER)
    client = Client(service("a", "c"))
    client.ask(CLUSTER, "a", "b", "c", has={"a": had["a"].version, "b": had["b"].version})
    assert client.drain() == [("CDS", ["c"], []), ("CDS", [], ["b"])]


def test_who_gives_up_all_names_has_not_asked_for_everything() -> None:
    client = Client(service("a", "b"))
    client.ask(CLUSTER, "a")
    client.drain()
    client.ask(CLUSTER, gone=("a",))
    client.publish(service("a", "b", "c"))
    assert client.drain() == []


def test_changed_cluster_has_its_endpoints_sent_again(ab: Client) -> None:
    old = service("a", "b")
    ab.publish(
        snapshot(
            old.listeners.values(),
            old.route_configs.values(),
            [cluster("a", connect_timeout=1), cluster("b")],
            old.endpoints.values(),
        )
    )
    assert ab.drain() == [("CDS", ["a"], []), ("EDS", ["a"], [])]


def test_reconnecting_client_gets_only_what_it_lacks() -> None:
    had = resources(service("a", "b", "old"))

    def versions(type_url: str) -> dict[str, str]:
        return {name: resource.version for name, resource in had.of(type_url).items()}

    client = Client(service("a", "b", "new"))
    client.ask(CLUSTER, has=versions(CLUSTER))
    client.ask(ENDPOINTS, "a", "b", "old", has=versions(ENDPOINTS))
    # Services are numbered in order, so "new" has the address that "old" had.
    client.ask(LISTENER, has=versions(LISTENER))
    assert client.drain() == [
        ("CDS", ["new"], []),
        ("LDS", ["new"], ["old"]),
        ("EDS", [], ["old"]),
        ("CDS", [], ["old"]),
    ]


def test_reconnecting_client_that_lacks_nothing_gets_nothing() -> None:
    had = resources(service("a"))
    client = Client(service("a"))
    client.ask(CLUSTER, has={"a": had.of(CLUSTER)["a"].version})
    assert client.drain() == []


def test_refused_resource_is_not_sent_again_until_it_changes(ab: Client) -> None:
    ab.publish(service("a", "b", address="10.1.0.9"))
    assert ab.sent() == [("EDS", ["a", "b"], [])]
    nonce = ab.unanswered[0].nonce
    assert ab.answer("a: no") == Rejection(ENDPOINTS, nonce, "a: no")
    assert ab.drain() == []
    ab.publish(service("a", "b", address="10.1.0.8"))
    assert ab.drain() == [("EDS", ["a", "b"], [])]


def test_slow_client_gets_the_latest_not_the_history(ab: Client) -> None:
    ab.publish(service("a", "b", address="10.1.0.2"))
    assert ab.sent() == [("EDS", ["a", "b"], [])]
    for last in range(3, 9):
        ab.publish(service("a", "b", address=f"10.1.0.{last}"))
        assert ab.sent() == []
    assert ab.drain() == [("EDS", ["a", "b"], [])]


def test_answer_to_an_older_response_does_not_count(ab: Client) -> None:
    ab.publish(service("a", "b", address="10.1.0.2"))
    ab.sent()
    ab.stream.received(discovery_pb2.DeltaDiscoveryRequest(type_url=ENDPOINTS, response_nonce="0"))
    ab.publish(service("a", "b", address="10.1.0.3"))
    assert ab.sent() == []


def test_subscribing_again_sends_again_and_unsubscribing_ends_it(ab: Client) -> None:
    ab.ask(ENDPOINTS, "a")
    assert ab.drain() == [("EDS", ["a"], [])]
    ab.ask(ENDPOINTS, gone=("a",))
    ab.publish(service("a", "b", address="10.1.0.2"))
    assert ab.drain() == [("EDS", ["b"], [])]


def test_explicit_wildcard_and_its_end() -> None:
    client = Client(service("a", "b"))
    client.ask(ENDPOINTS, "*")
    assert client.drain() == [("EDS", ["a", "b"], [])]
    client.ask(ENDPOINTS, "a", gone=("*",))
    assert client.drain() == [("EDS", ["a"], [])]
    client.publish(service("a", "b", address="10.1.0.2"))
    assert client.drain() == [("EDS", ["a"], [])]


def test_large_responses_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_stream, "MAX_RESPONSE_BYTES", 1)
    client = Client(service("a", "b", "c"))
    client.ask(CLUSTER)
    assert client.drain() == [("CDS", ["a"], []), ("CDS", ["b"], []), ("CDS", ["c"], [])]


def test_status_and_unknown_types() -> None:
    client = Client(service("a"))
    client.ask(STATUS, "*")
    client.ask("type.googleapis.com/x.Secret", "s")
    assert client.drain() == [("status", [], []), ("", [], ["s"])]


def test_asking_for_too_much_ends_the_stream() -> None:
    client = Client(service("a"))
    with pytest.raises(StreamError, match="by name"):
        client.ask(ENDPOINTS, *(str(n) for n in range(MAX_NAMES + 1)))
    client = Client(service("a"))
    for n in range(MAX_TYPES):
        client.ask(f"type.googleapis.com/x.T{n}", "s")
    with pytest.raises(StreamError, match="types"):
        client.ask("type.googleapis.com/x.Last", "s")


_NAMES = st.lists(st.sampled_from("abc"), unique=True).map(sorted)
_STEPS = st.one_of(
    st.tuples(st.just("publish"), _NAMES, st.sampled_from(("10.1.0.1", "10.1.0.2"))),
    st.tuples(st.just("ask"), _NAMES, st.sampled_from((CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG))),
    st.tuples(st.just("give up"), _NAMES, st.sampled_from((CLUSTER, ENDPOINTS, LISTENER, ROUTE_CONFIG))),
    st.tuples(st.just("answer"), _NAMES, st.just("")),
)


@given(st.booleans(), st.lists(_STEPS, max_size=20))
def test_who_is_told_what_changed_says_the_same_as_who_looks_at_all(
    by_name: bool, steps: list[tuple[str, list[str], str]]
) -> None:
    clients = (Client(service("a")), Client(service("a"), chained=False))
    for client in clients:
        client.ask(CLUSTER, *(("a", "b") if by_name else ()))
        client.ask(ENDPOINTS, "a", has={"a": "x"})
    for what, names, detail in steps:
        for client in clients:
            if what == "publish":
                client.publish(service(*names, address=detail))
            elif what == "ask":
                client.ask(detail, *names)
            elif what == "give up":
                client.ask(detail, gone=tuple(names))
            elif client.unanswered:
                client.answer()
        assert clients[0].sent() == clients[1].sent()
    assert clients[0].drain() == clients[1].drain()
