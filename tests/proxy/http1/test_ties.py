"""Requests that are tied to an endpoint, by a session or a hash: on whatever path, it stays the same."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import msgspec
import pytest

from meshd.model.cluster_policies import Balancing, Maglev, RingHash, RoundRobin, SlowStart
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.request_policies import HashCookie, HashHeader, Retry, Session, SessionCookie, SessionHeader
from meshd.model.routes import Forward, HeaderEdit, Route, WeightedCluster
from meshd.model.snapshot import Delta
from tests.proxy.http1.ways import Way, ok
from tests.support.http_bed import answering, config, get, read_response

COOKIE, HEADER = SessionCookie(name="s"), SessionHeader(name="x-session")


def _route(forward: Forward) -> tuple[Route, ...]:
    return (Route(name="default/web/0", action=forward),)


def _to(*clusters: WeightedCluster, session: Session) -> tuple[Route, ...]:
    return _route(Forward(clusters=clusters, session=session, retry=Retry(attempts=2)))


def _set(name: str, *endpoints: Endpoint) -> EndpointSet:
    return EndpointSet(name=name, endpoints=endpoints)


def _with(delta: Delta, *endpoints: EndpointSet, generation: int = 1) -> Delta:
    """``delta`` with these endpoints, and a cluster for each set."""
    clusters = tuple(Cluster(name=each.name) for each in endpoints)
    return msgspec.structs.replace(delta, generation=generation, clusters=clusters, endpoints=endpoints)


@contextlib.contextmanager
def _servers(way: Way, count: int) -> Iterator[tuple[int, ...]]:
    """Ports of servers each of which answers with its own."""
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(way.server(_telling_its_port)).port for _ in range(count))


def _telling_its_port(sock: socket.socket) -> None:
    answering(ok(b"%d" % sock.getsockname()[1]))(sock)


class Answer:
    """Who answered, and what the client was told."""

    def __init__(self, client: socket.socket, *headers: tuple[str, str]) -> None:
        client.sendall(get(b"/", *(f"{name}: {value}".encode() for name, value in headers)))
        head, body, _ = read_response(client)
        status, *fields = head.decode().rstrip().split("\r\n")
        assert status == "HTTP/1.1 200 OK"
        self.port = int(body)
        named = [field.split(": ", 1) for field in fields]
        self.told = {name.lower(): value for name, value in named}
        assert len(self.told) == len(named)

    def back(self, session: Session) -> tuple[str, str]:
        """The field by which the client comes back."""
        if isinstance(session, SessionCookie):
            return "Cookie", self.told["set-cookie"].partition(";")[0]
        return session.name, self.told[session.name]


@pytest.mark.parametrize("session", [COOKIE, HEADER])
def test_a_session_keeps_its_endpoint(way: Way, session: Session) -> None:
    routes = _to(WeightedCluster(name="web"), session=session)
    with _servers(way, 4) as ports, way.bed(config(ports, routes)) as proxy:
        with proxy.connect() as client:
            first = Answer(client)
            # Whoever has no session is balanced: four requests see all four servers.
            assert {Answer(client).port for _ in ports[1:]} == set(ports) - {first.port}
            for _ in range(5):
                again = Answer(client, first.back(session))
                assert again.port == first.port
                assert not {"set-cookie", "x-session"} & again.told.keys()
        with proxy.connect() as another:
            assert Answer(another, first.back(session)).port == first.port


def test_a_session_outlives_the_draining_of_its_endpoint_but_not_its_end(way: Way) -> None:
    routes = _to(WeightedCluster(name="web"), session=COOKIE)
    with _servers(way, 2) as ports:
        delta = config(ports, routes)
        leaving, staying = (Endpoint(address="127.0.0.1", port=port) for port in ports)
        draining = msgspec.structs.replace(leaving, health=Health.DRAINING)
        ill = msgspec.structs.replace(leaving, health=Health.UNHEALTHY)
        with way.bed(_with(delta, _set("web", leaving))) as proxy, proxy.connect() as client:
            field = Answer(client).back(COOKIE)
            proxy.apply(_with(delta, _set("web", draining, staying), generation=2))
            assert [Answer(client, field).port for _ in range(3)] == [leaving.port] * 3
            assert [Answer(client).port for _ in range(3)] == [staying.port] * 3
            for generation, endpoints in enumerate(((ill, staying), (staying,)), 3):
                proxy.apply(_with(delta, _set("web", *endpoints), generation=generation))
                moved = Answer(client, field)
                assert moved.port == staying.port
                assert Answer(client, moved.back(COOKIE)).port == staying.port


def test_a_session_whose_endpoint_fails_begins_anew(way: Way) -> None:
    routes = _to(WeightedCluster(name="web"), session=HEADER)
    with _servers(way, 1) as (port,), contextlib.ExitStack() as stack:
        other = stack.enter_context(way.server(answering(ok(b"1"))))
        delta = config((other.port,), routes)
        with way.bed(delta) as proxy, proxy.connect() as client:
            field = Answer(client).back(HEADER)
            proxy.apply(config((other.port, port), routes, generation=2))
            stack.close()
            assert Answer(client, field).back(HEADER) != field


def test_a_session_stays_in_its_cluster_with_that_clusters_edits(way: Way) -> None:
    marked = HeaderEdit(set=(("x-of", "old"),))
    routes = _to(
        WeightedCluster(name="web", weight=1),
        WeightedCluster(name="old", weight=0, response_headers=marked),
        session=COOKIE,
    )
    before = _to(WeightedCluster(name="old"), session=COOKIE)
    with _servers(way, 3) as ports:
        one, *others = (Endpoint(address="127.0.0.1", port=port) for port in ports)
        both = _set("web", *others), _set("old", one)
        with way.bed(_with(config((), before), *both)) as proxy, proxy.connect() as client:
            field = Answer(client).back(COOKIE)
            proxy.apply(_with(config((), routes), *both, generation=2))
            again = Answer(client, field)
            assert (again.port, again.told.get("x-of")) == (one.port, "old")
            fresh = Answer(client)
            assert fresh.port != one.port
            assert "x-of" not in fresh.told


@pytest.mark.parametrize("policy", [RingHash(), Maglev()])
def test_the_same_hash_goes_to_the_same_endpoint(way: Way, policy: Balancing) -> None:
    routes = _route(Forward(clusters=(WeightedCluster(name="web"),), hash_keys=(HashHeader(name="x-user"),)))
    cluster = Cluster(name="web", balancing=policy)
    with _servers(way, 4) as ports, way.bed(config(ports, routes, cluster=cluster)) as proxy:
        users = [("X-User", f"user-{i}") for i in range(12)]
        with proxy.connect() as client:
            found = [Answer(client, user).port for user in users]
            assert [Answer(client, user).port for user in users] == found
            assert len(set(found)) > 1
        with proxy.connect() as another:
            assert [Answer(another, user).port for user in users] == found


def test_a_cookie_that_is_missing_is_made(way: Way) -> None:
    keys = (HashCookie(name="h", path="/", ttl=60),)
    routes = _route(Forward(clusters=(WeightedCluster(name="web"),), hash_keys=keys))
    cluster = Cluster(name="web", balancing=RingHash())
    with _servers(way, 4) as ports, way.bed(config(ports, routes, cluster=cluster)) as proxy:
        for _ in range(3):
            with proxy.connect() as client:
                first = Answer(client)
                assert first.told["set-cookie"].endswith('"; Max-Age=60; Path=/; HttpOnly')
                again = Answer(client, first.back(COOKIE))
                assert (again.port, "set-cookie" in again.told) == (first.port, False)
        # Round robin has no use for it.
        proxy.apply(config(ports, routes, generation=2))
        with proxy.connect() as client:
            assert "set-cookie" not in Answer(client).told


def test_the_first_level_takes_all_that_it_can(way: Way) -> None:
    with _servers(way, 3) as ports:
        first, second, last = (
            Endpoint(address="127.0.0.1", port=port, priority=i // 2) for i, port in enumerate(ports)
        )
        delta = config(())
        with way.bed(_with(delta, _set("web", first, second, last))) as proxy, proxy.connect() as client:
            assert {Answer(client).port for _ in range(30)} == {first.port, second.port}
            ill = [msgspec.structs.replace(each, health=Health.UNHEALTHY) for each in (first, second)]
            proxy.apply(_with(delta, _set("web", first, ill[1], last), generation=2))
            # Half of the first level are there, which is good for 70 percent.
            counts = [Answer(client).port for _ in range(200)].count(last.port)
            assert 20 < counts < 110
            proxy.apply(_with(delta, _set("web", *ill, last), generation=3))
            assert {Answer(client).port for _ in range(10)} == {last.port}


def test_a_new_endpoint_is_given_little_at_first(way: Way) -> None:
    cluster = Cluster(name="web", balancing=RoundRobin(slow_start=SlowStart(window=3600)))
    with (
        _servers(way, 2) as ports,
        way.bed(config(ports[:1], cluster=cluster)) as proxy,
        proxy.connect() as client,
    ):
        proxy.apply(config(ports, cluster=cluster, generation=2))
        counts = [Answer(client).port for _ in range(110)].count(ports[1])
        assert 8 <= counts <= 12  # a tenth of what the other gets
