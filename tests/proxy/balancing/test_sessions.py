"""Sessions: what a client brings back, what it is told, and what is none. Envoy's form: test_as_envoy."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from meshd.model.cluster_policies import RingHash, RoundRobin
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.request_policies import HashCookie, Session, SessionCookie, SessionHeader
from meshd.model.routes import Forward, Route, WeightedCluster
from proxy.balancing.balancer import Balancer
from proxy.balancing.hash_keys import Source
from proxy.balancing.selection import Selection
from proxy.balancing.sessions import session_edit, session_of
from proxy.requests.request_head import RequestHead
from proxy.routing.affinity import Affinity, RouteAffinity
from proxy.routing.share import Share

_NOW = 1_800_000_000.0
COOKIE = SessionCookie(name="s", path="/shop", ttl=60)
HEADER = SessionHeader(name="x-session")


def _request(path: str, *headers: tuple[str, str]) -> RequestHead:
    return RequestHead("GET", path, None, "web", CIMultiDict(headers))


def _brought_back(session: Session, path: str, address: tuple[str, int]) -> tuple[str, str]:
    """The field by which a client names an endpoint that it was told."""
    edit = session_edit(session, path, address, _NOW)
    if isinstance(session, SessionCookie):
        ((_, value),) = edit.add
        return "cookie", value.partition(";")[0]
    ((name, value),) = edit.set
    return name, value


@pytest.mark.parametrize("address", [("10.0.0.1", 80), ("fd00::1", 8080), ("255.255.255.255", 65535)])
@pytest.mark.parametrize("session", [COOKIE, HEADER, SessionCookie(name="s")])
def test_what_is_told_is_understood(session: Session, address: tuple[str, int]) -> None:
    field = _brought_back(session, "/shop", address)
    assert session_of(session, _request("/shop", field), _NOW) == address


def test_a_cookie_lasts_as_long_as_it_says() -> None:
    request = _request("/shop", _brought_back(COOKIE, "/shop", ("10.0.0.1", 80)))
    assert session_of(COOKIE, request, _NOW + 60) is not None
    assert session_of(COOKIE, request, _NOW + 61) is None


@pytest.mark.parametrize(
    ("path", "holds"), [("/shop", True), ("/shop/cart", True), ("/shopping", False), ("/", False)]
)
def test_a_cookie_is_for_its_path(path: str, holds: bool) -> None:
    field = _brought_back(COOKIE, "/shop", ("10.0.0.1", 80))
    assert (session_of(COOKIE, _request(path, field), _NOW) is not None) is holds
    assert bool(session_edit(COOKIE, path, ("10.0.0.1", 80), _NOW).add) is holds


@given(st.binary(max_size=40))
def test_anything_else_is_no_session_and_no_error(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    for session in (COOKIE, HEADER):
        request = _request("/shop", ("cookie", f"s={text}"), ("x-session", text))
        found = session_of(session, request, _NOW)
        assert found is None or 0 <= found[1] <= 99999


@given(st.text(max_size=40))
def test_any_text_is_no_error(text: str) -> None:
    request = _request("/shop", ("cookie", f"s={text}"), ("x-session", text))
    assert session_of(COOKIE, request, _NOW) is None
    session_of(HEADER, request, _NOW)


def _balancer(name: str, *endpoints: Endpoint) -> Balancer:
    return Balancer(Cluster(name=name), EndpointSet(name=name, endpoints=endpoints))


def test_the_endpoint_of_a_session_is_kept_while_it_serves() -> None:
    balancer = _balancer(
        "a",
        Endpoint(address="10.0.0.1", port=80),
        Endpoint(address="10.0.0.2", port=80, health=Health.DRAINING),
        Endpoint(address="10.0.0.3", port=80, health=Health.UNHEALTHY),
    )

    def picked(last: int, excluded: tuple[tuple[str, int], ...] = ()) -> str:
        found = balancer.pick(Selection(lambda: 0.0, wanted=(f"10.0.0.{last}", 80), excluded=excluded))
        assert found is not None
        return found.address

    assert picked(1) == "10.0.0.1"
    assert picked(2) == "10.0.0.2"
    assert picked(2, excluded=(("10.0.0.2", 80),)) == "10.0.0.1"
    assert picked(3) == "10.0.0.1"
    assert picked(4) == "10.0.0.1"
    several = [(f"10.0.0.{i}", 80) for i in range(1, 5)]
    assert [balancer.is_usable(each, sessions=False) for each in several] == [True, False, False, False]
    assert [balancer.is_usable(each, sessions=True) for each in several] == [True, True, False, False]


def _affinity(forward: Forward) -> RouteAffinity:
    route = Route(name="r", action=forward)
    return RouteAffinity(forward, [Share(route, cluster) for cluster in forward.clusters])


def test_a_session_stays_in_its_cluster_whatever_the_weights() -> None:
    balancers = {
        "a": _balancer("a", Endpoint(address="10.0.0.1", port=80)),
        "b": _balancer("b", Endpoint(address="10.0.0.2", port=80), Endpoint(address="10.0.0.1", port=81)),
    }
    clusters = tuple(
        WeightedCluster(name=name, weight=weight) for name, weight in (("a", 9), ("b", 0), ("c", 1))
    )
    affinity = _affinity(Forward(clusters=clusters, session=COOKIE))
    found = affinity.share_of(("10.0.0.2", 80), "a", balancers)
    assert found is not None
    assert found.cluster == "b"
    assert affinity.share_of(("10.0.0.1", 80), "a", balancers) is None
    assert affinity.share_of(("10.0.0.9", 80), "a", balancers) is None


def _told(affinity: Affinity) -> dict[str, str]:
    """By an answer of the first endpoint."""
    return dict(affinity.answer_edit(("10.0.0.1", 80)).text_added)


def test_an_answer_tells_only_what_the_client_does_not_know() -> None:
    forward = Forward(
        clusters=(WeightedCluster(name="a"),), session=HEADER, hash_keys=(HashCookie(name="h", ttl=5),)
    )
    route = _affinity(forward)
    first = Affinity(route, _request("/"), Source("10.1.0.1", "c"), _NOW)
    assert first.wanted is None
    assert first.hash() == first.hash()
    told = _told(first)
    assert told.keys() == {"x-session", "set-cookie"}
    again = _request("/", ("x-session", told["x-session"]), ("cookie", told["set-cookie"].partition(";")[0]))
    second = Affinity(route, again, Source("10.1.0.1", "d"), _NOW)
    assert second.wanted == ("10.0.0.1", 80)
    assert second.hash() == first.hash()
    assert not second.answer_edit(("10.0.0.1", 80))
    assert second.answer_edit(("10.0.0.2", 80))
    assert not _affinity(Forward(clusters=(WeightedCluster(name="a"),)))
    # No cookie is made where nothing is hashed.
    assert "set-cookie" not in _told(Affinity(route, _request("/"), Source("", ""), _NOW))


@pytest.mark.parametrize("policy", [RingHash(), RoundRobin()])
def test_who_has_failed_is_not_picked_again_where_there_is_another(policy: RingHash | RoundRobin) -> None:
    endpoints = tuple(Endpoint(address=f"10.0.0.{i}", port=80) for i in range(1, 4))
    balancer = Balancer(Cluster(name="a", balancing=policy), EndpointSet(name="a", endpoints=endpoints))
    for hash_ in range(0, 2**64, 2**58):
        first = balancer.pick(Selection(lambda: 0.5, hash=hash_))
        assert first is not None
        other = balancer.pick(Selection(lambda: 0.5, hash=hash_, excluded={(first.address, first.port)}))
        assert other is not None
        assert other != first
