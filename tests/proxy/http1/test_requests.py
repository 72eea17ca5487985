"""Requests and responses through the proxy: what goes on, what stays, and in which order."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from meshd.model.listeners import HttpOptions
from meshd.model.routes import (
    DirectResponse,
    Forward,
    HeaderEdit,
    PathPrefix,
    Redirect,
    ReplacePrefix,
    Route,
    RouteMatch,
    WeightedCluster,
)
from proxy.downstream.client_connection import LINGER_SECONDS
from tests.proxy.http1.ways import Way, ok
from tests.support.http_bed import (
    FORWARD,
    answering,
    bed,
    config,
    eventually,
    get,
    read_response,
    receive_all,
    receive_head,
    receive_until,
    server,
)


def test_keep_alive_on_both_sides(way: Way) -> None:
    with way.server(answering(ok())) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        for _ in range(20):
            client.sendall(get())
            head, body, rest = read_response(client)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert (body, rest) == (b"hello", b"")
        assert web.connections == 1
        (row,) = proxy.rows()
        assert (row.service, row.route, row.cluster, row.source) == (
            "default/web:80",
            "default/web/0",
            "web",
            "default/client",
        )
        assert (row.method, row.status, row.flags, row.count) == ("GET", 200, "", 20)


def test_request_head_keeps_order_and_case_and_drops_hop_by_hop(way: Way) -> None:
    seen: list[bytes] = []
    options = HttpOptions(request_id=False, via="1.1 meshd")
    with (
        way.server(answering(ok(), seen)) as web,
        way.bed(config((web.port,), options=options)) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(
            b"GET /a?b=c HTTP/1.1\r\nX-First: 1\r\nhOsT: web:80\r\nConnection: keep-alive, X-Drop\r\n"
            b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Drop: 1\r\nX-Last:  2 \r\n"
            b"X-Forwarded-For: 1.2.3.4\r\nVia: 1.0 edge\r\nTE: trailers, gzip\r\n\r\n"
        )
        read_response(client)
    assert seen == [
        b"GET /a?b=c HTTP/1.1\r\nX-First: 1\r\nhOsT: web:80\r\nX-Last: 2\r\n"
        b"X-Forwarded-For: 1.2.3.4, 10.1.0.7\r\nVia: 1.0 edge, 1.1 meshd\r\nx-forwarded-proto: http\r\n"
        b"Connection: TE\r\nTE: trailers\r\n\r\n"
    ]


def test_a_statement_of_persistence_goes_on_as_it_is_while_it_is_true(way: Way) -> None:
    seen: list[bytes] = []
    options = HttpOptions(request_id=False, forwarded_for=False, forwarded_proto=False)
    answer = ok(b"x", b"Date: d", b"Connection: Keep-Alive", b"X-A: 1", b"Keep-Alive: timeout=5")
    with (
        way.server(answering(answer, seen)) as web,
        way.bed(config((web.port,), options=options)) as proxy,
    ):
        with proxy.connect() as client:
            client.sendall(get(b"/", b"Connection: Keep-Alive", b"X-B: 1"))
            head, _, _ = read_response(client)
            assert head + b"\r\n\r\nx" == answer
            client.sendall(get(b"/", b"Connection: close"))
            head, _, _ = read_response(client)
            assert head == (b"HTTP/1.1 200 OK\r\nDate: d\r\nX-A: 1\r\nContent-Length: 1\r\nConnection: close")
        with proxy.connect() as client:
            client.sendall(b"GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\n\r\n")
            head, _, _ = read_response(client)
            assert head == (
                b"HTTP/1.1 200 OK\r\nDate: d\r\nX-A: 1\r\nContent-Length: 1\r\nConnection: keep-alive"
            )
    assert seen == [get(b"/", b"Connection: Keep-Alive", b"X-B: 1"), get(), get()]


def test_added_fields_can_be_turned_off(way: Way) -> None:
    seen: list[bytes] = []
    options = HttpOptions(request_id=False, forwarded_for=False, forwarded_proto=False)
    with (
        way.server(answering(ok(b"x", b"Date: d"), seen)) as web,
        way.bed(config((web.port,), options=options)) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(get())
        head, _, _ = read_response(client)
    assert seen == [get()]
    assert head == b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 1"


def test_request_id_is_made_where_there_is_none(way: Way) -> None:
    seen: list[bytes] = []
    with (
        way.server(answering(ok(), seen)) as web,
        way.bed(config((web.port,))) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(get(b"/", b"X-Request-Id: mine"))
        read_response(client)
        client.sendall(get())
        read_response(client)
    assert b"X-Request-Id: mine\r\n" in seen[0]
    assert b"x-request-id" not in seen[0]
    assert b"x-request-id: " in seen[1]


def test_requests_with_the_same_head_do_not_share_what_is_added(way: Way) -> None:
    seen: list[bytes] = []
    with (
        way.server(answering(ok(), seen)) as web,
        way.bed(config((web.port,))) as proxy,
        proxy.connect() as client,
    ):
        heads = []
        for _ in range(3):
            client.sendall(get())
            heads.append(read_response(client)[0])
    assert len(set(seen)) == 3
    assert {head.count(b"\r\n") for head in seen} == {seen[0].count(b"\r\n")}
    assert len(set(heads)) == 1


def test_heads_cut_at_every_byte(way: Way) -> None:
    request = b"POST /x HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc"

    def script(sock: socket.socket) -> None:
        response = ok(b"hello", b"X-Y: z")
        for cut in range(1, len(response)):
            assert receive_until(sock, b"\r\n\r\nabc").startswith(b"POST /x HTTP/1.1\r\n")
            sock.sendall(response[:cut])
            time.sleep(0.001)
            sock.sendall(response[cut:])

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(request)):
            client.sendall(request[:cut])
            time.sleep(0.001)
            client.sendall(request[cut:])
            assert read_response(client)[1] == b"hello"
        for byte in request:
            client.sendall(bytes((byte,)))
        assert read_response(client)[1] == b"hello"


def test_absolute_form_and_its_authority(way: Way) -> None:
    seen: list[bytes] = []
    with (
        way.server(answering(ok(), seen)) as web,
        way.bed(config((web.port,))) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(b"GET http://other:8080/x?y HTTP/1.1\r\nHost: web\r\n\r\n")
        read_response(client)
    assert seen[0].startswith(b"GET /x?y HTTP/1.1\r\nHost: other:8080\r\n")


def test_edits_rewrites_and_host(way: Way) -> None:
    route = Route(
        name="r",
        match=RouteMatch(path=PathPrefix("/old")),
        request_headers=HeaderEdit(set=(("x-set", "s"),), add=(("x-add", "a"),), remove=("x-gone",)),
        response_headers=HeaderEdit(set=(("server", "mesh"),), remove=("x-secret",)),
        action=Forward(
            clusters=(WeightedCluster(name="web"),), host="inner.example", path=ReplacePrefix("/new")
        ),
    )
    seen: list[bytes] = []
    response = ok(b"hello", b"Server: s", b"X-Secret: 1")
    with (
        way.server(answering(response, seen)) as web,
        way.bed(config((web.port,), (route,))) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(get(b"/old/x?q", b"X-Gone: 1", b"X-Set: 0"))
        head, body, _ = read_response(client)
    lines = seen[0].split(b"\r\n")
    assert lines[:2] == [b"GET /new/x?q HTTP/1.1", b"Host: inner.example"]
    assert b"x-set: s" in lines
    assert b"x-add: a" in lines
    assert b"X-Set: 0" not in lines
    assert b"X-Gone" not in seen[0]
    assert b"\r\nserver: mesh" in head
    assert b"X-Secret" not in head
    assert body == b"hello"


def test_redirect_and_direct_response_and_no_route(way: Way) -> None:
    routes = (
        Route(name="to", match=RouteMatch(path=PathPrefix("/to")), action=Redirect(host="there", status=301)),
        Route(
            name="say",
            match=RouteMatch(path=PathPrefix("/say")),
            action=DirectResponse(status=418, body="tea"),
        ),
    )
    with way.bed(config((), routes)) as proxy, proxy.connect() as client:
        client.sendall(get(b"/to/x"))
        head, _, _ = read_response(client)
        assert head.startswith(b"HTTP/1.1 301 Moved Permanently\r\n")
        assert b"\r\nlocation: http://there/to/x" in head
        client.sendall(get(b"/say"))
        head, body, _ = read_response(client)
        assert head.startswith(b"HTTP/1.1 418 ")
        assert body == b"tea"
        client.sendall(get(b"/none"))
        head, _, _ = read_response(client)
        assert head.startswith(b"HTTP/1.1 404 ")
        assert {row.flags for row in proxy.rows()} == {"", "NR"}


def test_pipelined_requests_are_answered_in_order(way: Way) -> None:
    def script(sock: socket.socket) -> None:
        for i in range(200):
            head = receive_head(sock)
            assert head.count(b"\r\n\r\n") == 1, "one request at a time"
            assert head.startswith(b"GET /%d " % i)
            sock.sendall(ok(b"answer %d" % i))

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(b"".join(get(b"/%d" % i) for i in range(200)))
        rest = b""
        for i in range(200):
            _, body, rest = read_response(client, rest)
            assert body == b"answer %d" % i


@pytest.mark.parametrize("local", [False, True])
def test_pipelined_requests_are_all_answered_after_a_half_close(way: Way, local: bool) -> None:
    routes = (Route(name="say", action=DirectResponse(status=200, body="hello")),) if local else (FORWARD,)
    with (
        way.server(answering(ok())) as web,
        way.bed(config((web.port,), routes)) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(get() * 50)
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client).count(b"hello") == 50


def test_slow_reader_of_a_last_response_gets_all_of_it(way: Way) -> None:
    body = bytes(6 << 20)

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(ok(body))

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(get(b"/", b"Connection: close"))
        time.sleep(LINGER_SECONDS + 0.6)
        got = receive_all(client)
        assert len(got) - got.index(b"\r\n\r\n") - 4 == len(body)


def test_a_flood_of_pipelined_requests_is_held_back(way: Way) -> None:
    route = Route(name="say", action=DirectResponse(status=200, body="x" * 1000))
    request = get(b"/" + b"x" * 1000)
    requests = request * 20_000
    with way.bed(config((), (route,))) as proxy, proxy.connect(30) as client:
        client.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < len(requests):
                sent += client.send(requests[sent : sent + 65536])
        assert sent < len(requests), "the proxy reads on while its answers are not read"
        client.settimeout(30)
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client).count(b"HTTP/1.1 200 OK") == sent // len(request)


@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_statuses(way: Way, status: int) -> None:
    response = b"HTTP/1.1 %d X\r\nETag: 1\r\n\r\n" % status
    with (
        way.server(answering(response)) as web,
        way.bed(config((web.port,))) as proxy,
        proxy.connect() as client,
    ):
        for _ in range(3):
            client.sendall(get())
            assert receive_head(client).startswith(b"HTTP/1.1 %d X\r\n" % status)
        assert web.connections == 1


def test_head_keeps_the_length_and_has_no_body(way: Way) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    with (
        way.server(answering(response)) as web,
        way.bed(config((web.port,))) as proxy,
        proxy.connect() as client,
    ):
        for _ in range(3):
            client.sendall(b"HEAD / HTTP/1.1\r\nHost: web\r\n\r\n")
            assert b"Content-Length: 1000000" in receive_head(client)
        assert web.connections == 1


def test_chunked_both_ways_with_trailers(way: Way) -> None:
    body = b"4;ext=1\r\nwiki\r\n5\r\npedia\r\n0\r\nX-Sum: 9\r\n\r\n"

    def script(sock: socket.socket) -> None:
        for _ in range(2):
            data = receive_until(sock, b"X-Sum: 9\r\n\r\n")
            head, _, got = data.partition(b"\r\n\r\n")
            assert b"\r\nTransfer-Encoding: chunked" in head
            assert got == body
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            for i in range(len(body)):
                sock.sendall(body[i : i + 1])

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        for _ in range(2):
            client.sendall(
                b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n" + body
            )
            data = receive_until(client, b"X-Sum: 9\r\n\r\n")
            head, _, got = data.partition(b"\r\n\r\n")
            assert b"\r\nTransfer-Encoding: chunked" in head
            assert got == body
        assert web.connections == 1


def test_expect_continue_passes_through(way: Way) -> None:
    def script(sock: socket.socket) -> None:
        head = receive_head(sock)
        assert b"Expect: 100-continue" in head
        assert head.endswith(b"\r\n\r\n")
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert receive_until(sock, b"body") == b"body"
        sock.sendall(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert sock.recv(1) == b""

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert receive_head(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"body")
        data = receive_until(client, b"Content-Length: 0")
        assert data.startswith(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_http10_client_and_server(way: Way) -> None:
    def chunked(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
        )
        sock.recv(1)

    with way.server(chunked) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        data = receive_all(client)
        head, _, body = data.partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert b"\r\nConnection: close" in head
        assert body == b"abcde"

    with way.server(answering(ok())) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        for _ in range(2):
            client.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            head, body, _ = read_response(client)
            assert b"\r\nConnection: keep-alive" in head
            assert body == b"hello"
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert receive_all(client).endswith(b"hello")

    def old(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello ")
        sock.sendall(b"world")

    with way.server(old) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        for _ in range(2):  # the client's connection lives on, in chunks
            client.sendall(get())
            data = receive_until(client, b"0\r\n\r\n")
            assert b"\r\nTransfer-Encoding: chunked" in data
            assert b"world" in data
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert receive_all(client).endswith(b"\r\n\r\nhello world")
        assert web.connections == 3


def test_connection_close_is_honoured_on_both_sides(way: Way) -> None:
    response = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    with way.server(answering(response)) as web, way.bed(config((web.port,))) as proxy:
        with proxy.connect() as client:
            client.sendall(get())
            head, _, _ = read_response(client)
            assert b"onnection" not in head
            client.sendall(get(b"/", b"Connection: close"))
            assert b"\r\nConnection: close" in receive_all(client)
        assert web.connections == 2


def test_client_that_half_closes_gets_its_answer(way: Way) -> None:
    def slow(sock: socket.socket) -> None:
        receive_head(sock)
        sock.settimeout(0.6)
        with pytest.raises(TimeoutError):
            sock.recv(1)  # the request is not cancelled
        sock.sendall(ok())

    with way.server(slow) as web, way.bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(get())
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client).endswith(b"hello")


@pytest.mark.parametrize("how", ["reset", "closed"])
def test_client_gone_cancels_the_upstream_request(way: Way, how: str) -> None:
    cancelled: list[bool] = []

    def slow(sock: socket.socket) -> None:
        receive_head(sock)
        try:
            cancelled.append(sock.recv(1) == b"")
        except ConnectionResetError:
            cancelled.append(True)

    with way.server(slow) as web, way.bed(config((web.port,))) as proxy:
        client = proxy.connect()
        client.sendall(get())
        eventually(lambda: web.connections == 1)
        proxy.present = False
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        eventually(lambda: cancelled == [True])
        eventually(lambda: [row.flags for row in proxy.rows()] == ["DC"])


def test_upload_larger_than_all_buffers_arrives_whole(way: Way) -> None:
    size = 8 * 1024 * 1024

    def script(sock: socket.socket) -> None:
        data = receive_head(sock)
        got = len(data) - data.index(b"\r\n\r\n") - 4
        while got < size:
            got += len(sock.recv(1 << 20))
        sock.sendall(ok(b"%d" % got))

    with way.server(script) as web, way.bed(config((web.port,))) as proxy, proxy.connect(30) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % size)
        client.sendall(b"x" * size)
        assert read_response(client)[1] == b"%d" % size


def test_idle_connections_serve_no_second_request_when_the_endpoint_is_gone(way: Way) -> None:
    with (
        way.server(answering(ok(b"old"))) as old,
        way.server(answering(ok(b"new"))) as new,
        way.bed(config((old.port,))) as proxy,
        proxy.connect() as client,
    ):
        client.sendall(get())
        assert read_response(client)[1] == b"old"
        proxy.apply(config((new.port,), generation=2))
        client.sendall(get())
        assert read_response(client)[1] == b"new"
        eventually(lambda: proxy.caller.connections() == 1)


def test_access_log() -> None:
    # Not by the fast path: what the kernel carries has no line, and is not carried where each is to have one.
    with server(answering(ok())) as web, bed(config((web.port,))) as proxy, proxy.connect() as client:
        client.sendall(get(b"/a?b", b"User-Agent: test", b"X-Request-Id: id"))
        read_response(client)
        eventually(lambda: len(proxy.log.entries) == 1)
        entry = proxy.log.entries[0]
        assert (entry.method, entry.path, entry.protocol, entry.status) == ("GET", "/a?b", "HTTP/1.1", 200)
        assert (entry.bytes_received, entry.bytes_sent, entry.details) == (0, 5, "via_upstream")
        assert (entry.user_agent, entry.request_id, entry.authority) == ("test", "id", "web")
        assert entry.forwarded_for == "10.1.0.7"
        assert entry.upstream_service_time is not None
        assert (entry.upstream_host, entry.upstream_cluster) == (f"127.0.0.1:{web.port}", "web")
