"""An endpoint that cannot be reached: the request is tried on another one, as none of it was sent."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

from meshd.model.clusters import Cluster
from meshd.model.request_policies import Retry
from meshd.model.routes import Forward, Route, WeightedCluster
from tests.proxy.http1.ways import Way, ok
from tests.support.http_bed import answering, config, get, read_response, receive_head, refusing_ports

LONG = 3600.0
POST = b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc"


def _route(retries: int, timeout: float = 0.0) -> tuple[Route, ...]:
    retry = Retry(attempts=retries, backoff=0.05, max_backoff=0.5)
    forward = Forward(clusters=(WeightedCluster(name="web"),), retry=retry, timeout=timeout)
    return (Route(name="default/web/0", action=forward),)


@contextlib.contextmanager
def _silent_port() -> Iterator[int]:
    """One that answers no SYN: its queue is full, as good as an address that is gone."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            yield int(full.getsockname()[1])


def test_a_refused_request_goes_to_another_endpoint_whatever_its_method(way: Way) -> None:
    seen: list[bytes] = []
    with way.server(answering(ok(), seen)) as web, refusing_ports(1) as refusing:
        ports = (*refusing, web.port)
        with way.bed(config(ports, _route(2))) as proxy, proxy.connect() as client:
            for _ in range(20):
                client.sendall(POST)
                assert read_response(client)[0].startswith(b"HTTP/1.1 200 ")
            # In turn by the proxy, at random by the kernel.
            assert 0 < proxy.counter("upstream_connect_retries_total") <= 20
            assert [(row.status, row.flags, row.count) for row in proxy.rows()] == [(200, "", 20)]
            assert proxy.log.entries[0].upstream_host == f"127.0.0.1:{web.port}"
        assert len(seen) == 20


def test_retries_are_bounded_and_the_last_failure_is_told(way: Way) -> None:
    with refusing_ports(6) as ports, way.bed(config(ports, _route(2))) as proxy, proxy.connect() as client:
        client.sendall(get())
        head, body, _ = read_response(client)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Connection refused" in body
        assert proxy.counter("upstream_connect_failures_total") == 3
        assert [(row.status, row.flags, row.count) for row in proxy.rows()] == [(503, "UF,URX", 1)]


def test_without_another_endpoint_the_same_is_tried_again_after_a_moment(way: Way) -> None:
    with (
        refusing_ports(1) as ports,
        way.bed(config(ports, _route(2))) as proxy,
        proxy.connect() as client,
    ):
        began = time.monotonic()
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 503 ")
        # Two waits, of at least half of 50 and 100 ms.
        assert time.monotonic() - began >= 0.075
        assert proxy.counter("upstream_connect_failures_total") == 3


def test_an_endpoint_that_comes_in_that_moment_serves_the_request(way: Way) -> None:
    with (
        refusing_ports(1) as ports,
        way.server(answering(ok())) as web,
        way.bed(config(ports, _route(2))) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(get())
        proxy.apply(config((web.port,), _route(2), generation=2))
        assert read_response(client)[0].startswith(b"HTTP/1.1 200 ")


def test_without_retries_there_is_one_attempt(way: Way) -> None:
    with refusing_ports(2) as ports, way.bed(config(ports)) as proxy, proxy.connect() as client:
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 503 ")
        assert proxy.counter("upstream_connect_failures_total") == 1


def test_an_endpoint_that_is_removed_is_not_waited_for(way: Way) -> None:
    with contextlib.ExitStack() as stack:
        silent, web = stack.enter_context(_silent_port()), stack.enter_context(way.server(answering(ok())))
        delta = config((silent,), _route(2), cluster=Cluster(name="web", connect_timeout=LONG))
        proxy = stack.enter_context(way.bed(delta))
        client = stack.enter_context(proxy.connect())
        client.sendall(get())
        time.sleep(0.1)
        proxy.apply(config((web.port,), _route(2), generation=2))
        assert read_response(client)[0].startswith(b"HTTP/1.1 200 ")


def test_an_endpoint_that_is_removed_and_has_no_successor_fails_the_request_soon(way: Way) -> None:
    with _silent_port() as silent, way.bed(config((silent,), _route(2))) as proxy, proxy.connect() as client:
        client.sendall(get())
        time.sleep(0.1)
        proxy.apply(config((), _route(2), generation=2))
        head, body, _ = read_response(client)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"no healthy endpoint" in body


def test_the_route_timeout_includes_connecting_and_all_attempts(way: Way) -> None:
    with _silent_port() as one, _silent_port() as other:
        cluster = Cluster(name="web", connect_timeout=0.4)
        delta = config((one, other), _route(2, timeout=0.6), cluster=cluster)
        with way.bed(delta) as proxy, proxy.connect() as client:
            began = time.monotonic()
            client.sendall(get())
            assert receive_head(client).startswith(b"HTTP/1.1 504 ")
            assert time.monotonic() - began > 0.5
            assert [row.flags for row in proxy.rows()] == ["UT"]


def test_a_client_that_leaves_while_another_endpoint_is_tried_leaves_nothing(way: Way) -> None:
    with _silent_port() as silent, way.bed(config((silent,), _route(2))) as proxy:
        with proxy.connect() as client:
            client.sendall(get())
            time.sleep(0.1)
            proxy.present = False
        deadline = time.monotonic() + 60
        while not proxy.rows():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        proxy.apply(config((), _route(2), generation=2))
        assert [row.flags for row in proxy.rows()] == ["DC"]
