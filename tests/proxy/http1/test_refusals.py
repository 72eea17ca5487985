"""What the proxy answers by itself: bad requests, bad servers, limits, timeouts."""

from __future__ import annotations

import socket
import time

import pytest

from meshd.model.clusters import Cluster
from meshd.model.listeners import HttpOptions
from meshd.model.routes import Forward, Route, WeightedCluster
from proxy.downstream import http1 as downstream
from tests.proxy.http1.ways import DATE, Way, ok
from tests.support.http_bed import (
    answering,
    bed,
    config,
    eventually,
    get,
    read_response,
    receive_all,
    receive_head,
    receive_until,
    refusing_ports,
)

MALFORMED = {
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc",
    "a signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc",
    "a negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc",
    "an immense length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
    "length and chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "chunked and length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"
    ),
    "chunked not last": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked on two lines": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    "obsolete folding": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "leading space in a name": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
    "one bare LF": b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "bad Host": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "Host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "relative target": b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    "other scheme": b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nabc\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_requests_get_400_and_reach_no_server(way: Way, request_bytes: bytes) -> None:
    with way.server(answering(ok())) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(request_bytes + get(b"/smuggled"))
        data = receive_all(client)
        assert data.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert data.count(b"HTTP/1.1 ") == 1
        assert b"\r\nconnection: close\r\n" in data
        assert web.connections == 0
        assert [(row.status, row.flags) for row in proxy.rows()] == [(400, "DPE")]


OTHERS = {
    "version 2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "version 1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "unknown coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "unknown method": (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "a large field": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    "many fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", 431),
    "a large field without end": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000, 431),
    "a long target": (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "an endless target": (b"GET /" + b"x" * 70_000, 414),
    "not HTTP": (b"\x00\x01\x02\x03binary", 400),
    "another text protocol": (b"EHLO example.org\r\n", 400),
}


@pytest.mark.parametrize(("request_bytes", "status"), OTHERS.values(), ids=OTHERS.keys())
def test_refused_with_the_right_status(way: Way, request_bytes: bytes, status: int) -> None:
    with way.bed(config(())) as proxy, proxy.connect() as client:
        client.sendall(request_bytes)
        data = receive_all(client)
        assert data.startswith(b"HTTP/1.1 %d " % status)
        assert data.count(b"HTTP/1.1 %d " % status) == 1
        assert proxy.rows()[0].flags == "DPE"


def test_http2_begins_with_a_connection_or_not_at_all(way: Way) -> None:
    with way.server(answering(ok())) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(get() + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        head, _, rest = read_response(client)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert (rest + receive_all(client)).startswith(b"HTTP/1.1 505 ")


def test_tls_gets_an_alert_and_a_counter(way: Way) -> None:
    with way.bed(config(())) as proxy, proxy.connect() as client:
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
        assert receive_all(client) == bytes((0x15, 3, 1, 0, 2, 2, 40))
        assert proxy.counter("downstream_tls_on_http_total") == 1


def test_client_that_waits_for_the_server_to_speak_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not by the fast path: its clients have spoken.
    monkeypatch.setattr(downstream, "FIRST_BYTE_SECONDS", 0.3)
    with bed(config(())) as proxy, proxy.connect() as client:
        assert client.recv(1) == b""
        assert proxy.counter("downstream_silent_connections_total") == 1


def test_slow_head_gets_408(way: Way) -> None:
    options = HttpOptions(request_headers_timeout=0.3)
    with way.bed(config((), options=options)) as proxy, proxy.connect() as client:
        started = time.monotonic()
        client.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert receive_all(client).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started > 0.25


def test_idle_connection_is_closed(way: Way) -> None:
    options = HttpOptions(idle_timeout=1.0)
    with way.server(answering(ok())) as web, way.bed(config((web.port,), options=options)) as proxy:
        with proxy.connect() as client:
            client.sendall(get())
            read_response(client)
            assert client.recv(1) == b""
        cluster = Cluster(name="web", idle_timeout=0.2)
        proxy.apply(config((web.port,), options=options, cluster=cluster, generation=2))
        eventually(lambda: proxy.caller.connections() == 0)


def test_no_healthy_endpoint(way: Way) -> None:
    with way.bed(config(())) as proxy, proxy.connect() as client:
        for _ in range(2):  # the connection lives on
            client.sendall(get())
            head, body, _ = read_response(client)
            assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert body == b"meshd: no healthy endpoint in cluster web\n"
        assert [(row.status, row.flags) for row in proxy.rows()] == [(503, "UH")]


def test_missing_cluster(way: Way) -> None:
    route = Route(
        name="r", action=Forward(clusters=(WeightedCluster(name="nowhere"),), missing_cluster_status=500)
    )
    with way.bed(config((), (route,))) as proxy, proxy.connect() as client:
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 500 ")
        assert [row.flags for row in proxy.rows()] == ["NC"]


def test_refused_connection(way: Way) -> None:
    with refusing_ports(1) as ports, way.bed(config(ports)) as proxy, proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc")
        head, body, _ = read_response(client)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Connection refused" in body
        assert [row.flags for row in proxy.rows()] == ["UF"]
        assert proxy.log.entries[0].details == "upstream_reset_before_response_started{connection_failure}"


def test_connect_timeout(way: Way) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            cluster = Cluster(name="web", connect_timeout=0.3)
            delta = config((full.getsockname()[1],), cluster=cluster)
            with way.bed(delta) as proxy, proxy.connect() as client:
                client.sendall(get())
                assert receive_head(client).startswith(b"HTTP/1.1 503 ")
                assert [row.flags for row in proxy.rows()] == ["UF"]


BAD_RESPONSES = {
    "not HTTP": b"220 mail ready\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\na",
    "a large head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("response", BAD_RESPONSES.values(), ids=BAD_RESPONSES.keys())
def test_bad_responses_get_502(way: Way, response: bytes) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(response)
        sock.recv(1)

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 502 ")
        assert [row.flags for row in proxy.rows()] == ["UPE"]


def test_server_that_speaks_unasked_is_not_taken_for_the_answer(way: Way) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(ok() + ok(b"smuggled"))
        sock.recv(1)

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        for _ in range(2):
            client.sendall(get())
            assert read_response(client)[1] == b"hello"
        assert web.connections == 2


def test_route_timeout(way: Way) -> None:
    route = Route(name="r", action=Forward(clusters=(WeightedCluster(name="web"),), timeout=0.2))

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        assert sock.recv(1) == b""

    with (
        way.server(script) as web,
        way.bed(config((web.port,), (route,))) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 504 ")
        assert [row.flags for row in proxy.rows()] == ["UT"]


def test_stream_idle_timeout(way: Way) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.recv(1)

    options = HttpOptions(stream_idle_timeout=0.3)
    with way.server(script) as web, way.bed(config((web.port,), options=options)) as proxy:
        with proxy.connect() as client:
            client.sendall(get())
            assert receive_head(client).startswith(b"HTTP/1.1 504 ")
        with proxy.connect() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\n")
            assert receive_head(client).startswith(b"HTTP/1.1 408 ")
        assert {row.flags for row in proxy.rows()} == {"SI"}


TRUNCATED = {
    "by length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
    "in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "broken chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!!",
}
TRUNCATED |= {
    f"{name}, dated": response.replace(b" OK\r\n", b" OK\r\n" + DATE + b"\r\n")
    for name, response in TRUNCATED.items()
}


@pytest.mark.parametrize("response", TRUNCATED.values(), ids=TRUNCATED.keys())
def test_truncated_response_is_seen_as_such(way: Way, response: bytes) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(response)

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(get())
        data = b""
        try:
            data = receive_until(client, b"hello")
            while piece := client.recv(100):
                data += piece
        except ConnectionResetError:
            pass
        assert not data.endswith(b"0\r\n\r\n")
        assert [row.flags for row in proxy.rows()] in (["UC"], ["UPE"])


def test_bad_chunk_in_a_request(way: Way) -> None:
    def script(sock: socket.socket) -> None:
        receive_all(sock)

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        eventually(lambda: web.connections == 1)
        client.sendall(b"zz\r\n")
        assert receive_all(client).startswith(b"HTTP/1.1 400 ")
        assert [row.flags for row in proxy.rows()] == ["DPE"]


def test_response_before_the_request_is_complete(way: Way) -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\nabc")
        assert receive_all(client).endswith(b"\r\n\r\nbig")


def test_leading_empty_lines_are_ignored(way: Way) -> None:
    with way.server(answering(ok())) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(b"\r\n\r\n" + get())
        assert read_response(client)[1] == b"hello"
        client.sendall(b"\r")
        time.sleep(0.05)
        client.sendall(b"\n" + get())
        assert read_response(client)[1] == b"hello"
