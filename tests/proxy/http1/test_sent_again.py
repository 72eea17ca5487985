"""A request on a used connection whose server closes without a byte of an answer: sent again, or not."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time

import pytest

from meshd.model.request_policies import Retry
from meshd.model.routes import Forward, Route, WeightedCluster
from tests.proxy.http1.ways import DATE, Plain, Way, ok
from tests.support.http_bed import (
    Bed,
    Script,
    answering,
    by_connection,
    config,
    eventually,
    get,
    one_answer_then,
    read_response,
    receive_head,
    receive_until,
    request_heads,
)

NO_LINGER = struct.pack("ii", 1, 0)
BODY = b"0123456789" * 10


def request(method: bytes, body: bytes = b"") -> bytes:
    return b"%b / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n%b" % (method, len(body), body)


def first_answers_then(then: Script, seen: list[bytes] | None = None) -> Script:
    """A server of which the first connection has one answer, and ``then`` the next; the others answer all."""
    return by_connection(one_answer_then(ok(), then), answering(ok(), seen))


def closes(sock: socket.socket) -> None:
    receive_head(sock)


def resets(sock: socket.socket) -> None:
    receive_head(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)


def used(proxy: Bed) -> socket.socket:
    """A client whose next request goes out on a connection that has carried one."""
    client = proxy.connect()
    client.sendall(get())
    assert read_response(client)[1] == b"hello"
    return client


def counts(proxy: Bed) -> list[tuple[int, str, int]]:
    return sorted((row.status, row.flags, row.count) for row in proxy.rows())


@pytest.mark.parametrize("then", [closes, resets])
@pytest.mark.parametrize("method", [b"GET", b"DELETE", b"OPTIONS"])
def test_what_may_be_sent_twice_is(way: Way, then: Script, method: bytes) -> None:
    with way.server(first_answers_then(then)) as web, way.bed(config((web.port,))) as proxy:
        with contextlib.closing(used(proxy)) as client:
            for _ in range(3):
                client.sendall(b"%b /x HTTP/1.1\r\nHost: web\r\n\r\n" % method)
                assert read_response(client)[1:] == (b"hello", b"")
        assert web.connections == 2
        assert proxy.counter("upstream_replays_total") == 1
        assert sum(row.count for row in proxy.rows()) == 4


@pytest.mark.parametrize("then", [closes, resets])
@pytest.mark.parametrize("method", [b"POST", b"PATCH"])
@pytest.mark.parametrize("body", [b"", BODY])
def test_what_may_not_is_not(way: Way, then: Script, method: bytes, body: bytes) -> None:
    with way.server(first_answers_then(then)) as web, way.bed(config((web.port,))) as proxy:
        with contextlib.closing(used(proxy)) as client:
            client.sendall(request(method, body))
            assert receive_head(client).startswith(b"HTTP/1.1 503 ")
        assert web.connections == 1
        assert counts(proxy) == [(200, "", 1), (503, "UC", 1)]


def test_on_a_new_connection_nothing_is_sent_twice() -> None:
    # Not by the fast path: there each connection has been used.
    way = Plain()
    with way.server(closes) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(get())
        assert receive_head(client).startswith(b"HTTP/1.1 503 ")
        assert counts(proxy) == [(503, "UC", 1)]
        assert web.connections == 1


def test_only_once(way: Way) -> None:
    with (
        way.server(by_connection(one_answer_then(ok(), closes), closes)) as web,
        way.bed(config((web.port,))) as proxy,
    ):
        with contextlib.closing(used(proxy)) as client:
            client.sendall(get())
            assert receive_head(client).startswith(b"HTTP/1.1 503 ")
        assert web.connections == 2
        assert counts(proxy) == [(200, "", 1), (503, "UC", 1)]


@pytest.mark.parametrize("target", [120, 300, 1900])
def test_it_is_the_same_request(way: Way, target: int) -> None:
    """With all its fields and its x-request-id, and the mesh's own added once."""
    seen: list[bytes] = []

    def then(sock: socket.socket) -> None:
        seen.append(receive_head(sock))

    filler = b"X-Filler: " + b"f" * (target - 100)
    with (
        way.server(first_answers_then(then, seen)) as web,
        way.bed(config((web.port,))) as proxy,
        contextlib.closing(used(proxy)) as client,
    ):
        client.sendall(get(b"/a%20b?c=d&e", b"X-Multi: 1", filler, b"x-multi: 2"))
        assert read_response(client)[1] == b"hello"
    assert len(seen) == 2
    first, second = (sorted(head.lower().split(b"\r\n")) for head in seen)
    assert first == second
    assert seen[1].startswith(b"GET /a%20b?c=d&e HTTP/1.1\r\nHost: web\r\nX-Multi: 1\r\n" + filler)
    assert len(re.findall(rb"x-forwarded-for: 10\.1\.0\.7\r\n", seen[1])) == 1
    assert len(re.findall(rb"x-request-id: [0-9a-f-]{36}\r\n", seen[1])) == 1


@pytest.mark.parametrize("size", [1, 1500, 8000])
def test_a_body_that_came_with_its_head_is_sent_again(way: Way, size: int) -> None:
    body = bytes(65 + i % 26 for i in range(size))
    got: list[bytes] = []

    def receive_request(sock: socket.socket) -> None:
        data = receive_head(sock)
        while len(data.partition(b"\r\n\r\n")[2]) < size:
            data += sock.recv(65536)
        got.append(data.partition(b"\r\n\r\n")[2])

    def others(sock: socket.socket) -> None:
        receive_request(sock)
        sock.sendall(ok())
        receive_head(sock)
        sock.sendall(ok(b"next"))

    script = by_connection(one_answer_then(ok(), receive_request), others)
    with (
        way.server(script) as web,
        way.bed(config((web.port,))) as proxy,
        contextlib.closing(used(proxy)) as client,
    ):
        client.sendall(request(b"PUT", body))
        assert read_response(client)[1:] == (b"hello", b"")
        client.sendall(get())
        assert read_response(client)[1:] == (b"next", b"")
    assert got == [body, body]


def test_a_body_of_which_more_has_gone_out_is_not(way: Way) -> None:
    def then(sock: socket.socket) -> None:
        receive_until(sock, b"first")
        go_on.set()
        receive_until(sock, b"second")

    go_on = threading.Event()
    with way.server(first_answers_then(then)) as web, way.bed(config((web.port,))) as proxy:
        with contextlib.closing(used(proxy)) as client:
            client.sendall(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 11\r\n\r\nfirst")
            assert go_on.wait(5)
            client.sendall(b"second")
            assert receive_head(client).startswith(b"HTTP/1.1 503 ")
        assert web.connections == 1


@pytest.mark.parametrize("behind", [b"", get(b"/behind")])
def test_what_comes_of_a_body_after_its_server_closed_goes_to_the_next(way: Way, behind: bytes) -> None:
    got: list[bytes] = []

    def then(sock: socket.socket) -> None:
        receive_until(sock, b"first")

    def others(sock: socket.socket) -> None:
        got.append(receive_until(sock, b"second"))
        sock.sendall(ok(b"put"))
        while True:
            got.append(receive_head(sock))
            sock.sendall(ok(b"next"))

    script = by_connection(one_answer_then(ok(), then), others)
    with way.server(script) as web, way.bed(config((web.port,))) as proxy:
        with contextlib.closing(used(proxy)) as client:
            client.sendall(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: 11\r\n\r\nfirst")
            eventually(lambda: web.connections == 2)
            client.sendall(b"sec")
            time.sleep(0.05)
            client.sendall(b"ond" + behind)
            _, body, rest = read_response(client)
            assert body == b"put"
            if behind:
                _, body, rest = read_response(client, rest)
                assert body == b"next"
            for _ in range(3):
                client.sendall(get())
                _, body, rest = read_response(client, rest)
                assert (body, rest) == (b"next", b"")
        assert got[0].partition(b"\r\n\r\n")[2][:11] == b"firstsecond"
        assert len(got) == 1 + 3 + bool(behind)


def test_half_a_head_is_an_answer(way: Way) -> None:
    def then(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + DATE + b"\r\nCont")

    with way.server(first_answers_then(then)) as web, way.bed(config((web.port,))) as proxy:
        with contextlib.closing(used(proxy)) as client:
            client.sendall(get())
            assert receive_head(client).startswith(b"HTTP/1.1 502 ")
        assert web.connections == 1
        assert counts(proxy) == [(200, "", 1), (502, "UPE", 1)]


def test_a_server_that_is_gone_for_good(way: Way) -> None:
    with way.server(one_answer_then(ok(), closes)) as web, way.bed(config((web.port,))) as proxy:
        with contextlib.closing(used(proxy)) as client:
            web.stop_listening()
            client.sendall(get())
            assert receive_head(client).startswith(b"HTTP/1.1 503 ")
        assert counts(proxy) == [(200, "", 1), (503, "UF", 1)]


def test_elsewhere_where_its_server_is_gone(way: Way) -> None:
    retrying = Forward(clusters=(WeightedCluster(name="web"),), retry=Retry(attempts=3))
    routes = (Route(name="r", action=retrying),)
    with (
        way.server(one_answer_then(ok(), closes)) as old,
        way.server(answering(ok())) as new,
        way.bed(config((old.port,), routes)) as proxy,
        contextlib.closing(used(proxy)) as client,
    ):
        old.stop_listening()
        client.sendall(get())
        eventually(lambda: proxy.counter("upstream_connect_retries_total") > 0)
        proxy.apply(config((new.port,), routes, generation=2))
        assert read_response(client)[1] == b"hello"


def test_it_goes_to_the_endpoints_of_now_by_the_route_of_then(way: Way) -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def then(sock: socket.socket) -> None:
        receive_head(sock)
        waiting.set()
        go_on.wait(5)

    old_route = Route(name="old", action=Forward(clusters=(WeightedCluster(name="web"),)))
    new_route = Route(name="new", action=Forward(clusters=(WeightedCluster(name="web"),)))
    with way.server(first_answers_then(then)) as old, way.server(answering(ok(b"new"))) as new:
        with way.bed(config((old.port,), (old_route,))) as proxy:
            with contextlib.closing(used(proxy)) as client:
                client.sendall(get())
                assert waiting.wait(5)
                proxy.apply(config((new.port,), (new_route,), generation=2))
                go_on.set()
                assert read_response(client)[1] == b"new"
                client.sendall(get())
                assert read_response(client)[1] == b"new"
            rows = {row.route: row.count for row in proxy.rows()}
        assert rows == {"old": 2, "new": 1}
        assert old.connections == 1


def test_no_endpoint_is_left(way: Way) -> None:
    waiting, go_on = threading.Event(), threading.Event()

    def then(sock: socket.socket) -> None:
        receive_head(sock)
        waiting.set()
        go_on.wait(5)

    with way.server(first_answers_then(then)) as web, way.bed(config((web.port,))) as proxy:
        with contextlib.closing(used(proxy)) as client:
            client.sendall(get())
            assert waiting.wait(5)
            proxy.apply(config((), generation=2))
            go_on.set()
            assert receive_head(client).startswith(b"HTTP/1.1 503 ")
        assert counts(proxy) == [(200, "", 1), (503, "UH", 1)]


def test_the_routes_time_goes_on(way: Way) -> None:
    def then(sock: socket.socket) -> None:
        receive_head(sock)
        time.sleep(0.3)

    def others(sock: socket.socket) -> None:
        receive_head(sock)
        with contextlib.suppress(ConnectionResetError):
            sock.recv(1)

    script = by_connection(one_answer_then(ok(), then), others)
    route = Route(name="r", action=Forward(clusters=(WeightedCluster(name="web"),), timeout=0.6))
    with way.server(script) as web, way.bed(config((web.port,), (route,))) as proxy:
        with contextlib.closing(used(proxy)) as client:
            start = time.monotonic()
            client.sendall(get())
            assert receive_head(client).startswith(b"HTTP/1.1 504 ")
            assert 0.55 < time.monotonic() - start < 0.85
        assert web.connections == 2
        assert counts(proxy) == [(200, "", 1), (504, "UT", 1)]


def test_pipelined_requests_behind_it(way: Way) -> None:
    def answer(sock: socket.socket, most: int) -> None:
        for number, head in enumerate(request_heads(sock)):
            if number == most:
                time.sleep(0.05)
                return
            sock.sendall(ok(head.split(b" ")[1]))

    script = by_connection(lambda sock: answer(sock, 1), lambda sock: answer(sock, 100))
    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(get(b"/0"))
        assert read_response(client)[1] == b"/0"
        client.sendall(b"".join(get(b"/%d" % i) for i in range(1, 6)))
        rest = b""
        for i in range(1, 6):
            _, body, rest = read_response(client, rest)
            assert body == b"/%d" % i
        assert rest == b""


def test_a_client_that_goes_meanwhile_is_counted_once(way: Way) -> None:
    waiting, gone = threading.Event(), threading.Event()

    def others(sock: socket.socket) -> None:
        receive_head(sock)
        waiting.set()
        with contextlib.suppress(ConnectionResetError):
            sock.recv(1)
        gone.set()

    script = by_connection(one_answer_then(ok(), closes), others)
    with way.server(script) as web, way.bed(config((web.port,))) as proxy:
        client = used(proxy)
        client.sendall(get())
        assert waiting.wait(5)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        client.close()
        assert gone.wait(5)
        eventually(lambda: counts(proxy) == [(0, "DC", 1), (200, "", 1)])
