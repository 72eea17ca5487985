"""Requests over HTTP/2 to HTTP/1.1 servers: what of them goes on, and what comes back."""

from __future__ import annotations

import socket

import pytest

from meshd.model.cluster_policies import Limits
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.http2 import DEFAULT_STREAM_WINDOW
from meshd.model.listeners import HttpOptions
from meshd.model.request_policies import Retry
from meshd.model.routes import DirectResponse, Forward, HeaderEdit, Redirect, Route, WeightedCluster
from proxy.http2 import codes
from tests.proxy.http2.pairs import to_http1
from tests.support.http2_client import Http2Client
from tests.support.http_bed import (
    FORWARD,
    answering,
    bed,
    by_connection,
    config,
    eventually,
    get,
    ok,
    read_response,
    receive_all,
    receive_head,
    receive_until,
    request_heads,
    server,
)


def test_a_head_as_an_http1_server_gets_it() -> None:
    seen: list[bytes] = []
    with server(answering(ok(), seen)) as web, bed(to_http1(web.port)) as proxy:
        with Http2Client(proxy.connect()) as client:
            answer = client.get(
                b"/a?b",
                (b"cookie", b"a=1"),
                (b"x-forwarded-for", b"1.2.3.4"),
                (b"te", b"trailers"),
                (b"cookie", b"b=2"),
                (b"x-request-id", b"7"),
                (b"host", b"WEB"),
            )
        assert (answer.status, answer.body) == (200, b"hello")
        assert answer.final.keys() == {b":status", b"content-length", b"date"}
        assert seen == [
            b"GET /a?b HTTP/1.1\r\nhost: web\r\ncookie: a=1; b=2\r\nx-forwarded-for: 1.2.3.4, 10.1.0.7\r\n"
            b"x-request-id: 7\r\nx-forwarded-proto: http\r\nConnection: TE\r\nTE: trailers\r\n\r\n"
        ]
        (entry,) = proxy.log.entries
        assert (entry.protocol, entry.method, entry.path, entry.status) == ("HTTP/2", "GET", "/a?b", 200)
        assert entry.bytes_sent == 5
        assert [(row.status, row.count) for row in proxy.rows()] == [(200, 1)]


def test_fields_of_an_http1_connection_stay_there() -> None:
    response = ok(
        b"hello", b"Connection: keep-alive, X-Hop", b"Keep-Alive: timeout=5", b"X-Hop: 1", b"X-End: 2"
    )
    with (
        server(answering(response)) as web,
        bed(to_http1(web.port)) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        assert client.get().final.keys() == {b":status", b"content-length", b"date", b"x-end"}


@pytest.mark.parametrize("length", [None, 11], ids=["chunked", "with a length"])
def test_bodies_and_trailers_both_ways(length: int | None) -> None:
    got: list[bytes] = []

    def script(sock: socket.socket) -> None:
        data = receive_head(sock)
        head, _, body = data.partition(b"\r\n\r\n")
        while not (body.endswith(b"0\r\nx-sum: 1\r\n\r\n") if length is None else len(body) == length):
            body += sock.recv(65536)
        got.append(body)
        assert (b"Transfer-Encoding: chunked" in head) == (length is None)
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 2\r\nContent-Length: 7\r\n\r\n"
        )

    with server(script) as web, bed(to_http1(web.port)) as proxy, Http2Client(proxy.connect()) as client:
        fields = client.head(b"POST", b"/")
        if length is not None:
            fields.append((b"content-length", b"%d" % length))
        stream = client.request(fields, False)
        client.session.send(stream, b"hello ")
        client.flush()
        client.session.finish(stream, b"world", [(b"x-sum", b"1")])
        client.flush()
        answer = client.answer(stream)
        assert (answer.status, answer.body) == (200, b"abcde")
        assert answer.trailers == [(b"x-sum", b"2")]
        assert got[0].replace(b"\r\n", b"").count(b"world") == 1


def _silent(sock: socket.socket) -> None:
    receive_all(sock)


def test_a_trailer_section_that_is_too_long() -> None:
    with (
        server(_silent) as web,
        bed(to_http1(web.port)) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        stream = client.request(client.head(b"POST"), False)
        client.session.finish(stream, b"x", [(b"x-%d" % n, b"y" * 1000) for n in range(62)])
        client.flush()
        assert client.answer(stream).status == 400
        assert not client.is_closed


def test_interim_answers() -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + ok())

    with server(script) as web, bed(to_http1(web.port)) as proxy, Http2Client(proxy.connect()) as client:
        assert client.get().statuses == [103, 100, 200]


@pytest.mark.parametrize("status", [204, 304])
def test_bodiless_statuses_and_head(status: int) -> None:
    response = b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status
    with (
        server(answering(response)) as web,
        bed(to_http1(web.port)) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        answer = client.get()
        assert (answer.status, answer.body, answer.code) == (status, b"", codes.NO_ERROR)
    with (
        server(answering(ok()[:-5])) as web,
        bed(to_http1(web.port)) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        head = client.answer(client.request(client.head(b"HEAD")))
        assert (head.status, head.body, head.final[b"content-length"]) == (200, b"", b"5")


def test_a_body_that_ends_with_its_connection() -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")

    with server(script) as web, bed(to_http1(web.port)) as proxy, Http2Client(proxy.connect()) as client:
        answer = client.get()
        assert (answer.body, answer.code) == (b"hello", codes.NO_ERROR)


def test_an_answer_that_breaks_off_is_seen_to() -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(ok()[:-2])

    with server(script) as web, bed(to_http1(web.port)) as proxy, Http2Client(proxy.connect()) as client:
        first, second = client.request(), client.request()
        for stream in (first, second):
            answer = client.answer(stream)
            assert (answer.status, answer.ended, answer.code) == (200, False, codes.INTERNAL_ERROR)
        assert not client.is_closed


def test_a_server_that_does_not_answer() -> None:
    with server(lambda sock: None) as web, bed(to_http1(web.port)) as proxy:
        with Http2Client(proxy.connect()) as client:
            answer = client.get()
            assert (answer.status, answer.final[b"server"]) == (503, b"meshd")
        assert [(row.status, row.flags) for row in proxy.rows()] == [(503, "UC")]


def test_routes_decide_as_for_http1() -> None:
    routes = (
        Route(name="direct", action=DirectResponse(status=403, body="no")),
        Route(name="moved", action=Redirect(host="else", status=302)),
        Route(
            name="edited",
            action=FORWARD.action,
            request_headers=HeaderEdit(set=(("x-a", "1"),)),
            response_headers=HeaderEdit(set=(("x-b", "2"),), remove=("X-Gone",)),
        ),
    )
    seen: list[bytes] = []
    with server(answering(ok(b"hello", b"X-Gone: 1"), seen)) as web:
        answers = []
        for route in routes:
            with bed(to_http1(web.port, (route,))) as proxy, Http2Client(proxy.connect()) as client:
                answers.append(client.get(b"/p"))
    direct, moved, edited = answers
    assert (direct.status, direct.body) == (403, b"no")
    assert (moved.status, moved.final[b"location"]) == (302, b"http://else/p")
    assert edited.final[b"x-b"] == b"2"
    assert b"x-gone" not in edited.final
    assert b"\r\nx-a: 1\r\n" in seen[0]


def test_a_retry_is_not_seen() -> None:
    route = Route(
        name="retried",
        action=Forward(
            clusters=(WeightedCluster(name="web"),), retry=Retry(attempts=2, statuses=(503,), backoff=0.001)
        ),
    )
    failing = answering(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    got: list[bytes] = []

    def script(sock: socket.socket) -> None:
        got.append(receive_until(sock, b"0\r\n\r\n"))
        sock.sendall(ok())

    with (
        server(by_connection(failing, script)) as web,
        bed(to_http1(web.port, (route,))) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        stream = client.request(client.head(b"POST"), False)
        client.session.finish(stream, b"body")
        client.flush()
        assert client.answer(stream).status == 200
        assert got[0].endswith(b"4\r\nbody\r\n0\r\n\r\n")


REFUSED = {
    "another host": ([(b"host", b"other")], 400),
    "a malformed authority": ([(b":authority", b"[web")], 400),
    "a fragment": ([(b":path", b"/a#b")], 400),
    "another scheme": ([(b":scheme", b"ftp")], 400),
    "a long path": ([(b":path", b"/" + b"x" * 33_000)], 414),
    "many fields": ([(b"x", b"y" * 1000)] * 62, 431),
    "CONNECT": ([(b":method", b"CONNECT")], 501),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_answered_and_the_connection_goes_on(name: str) -> None:
    changed, status = REFUSED[name]
    with server(answering(ok())) as web, bed(to_http1(web.port)) as proxy:
        with Http2Client(proxy.connect()) as client:
            fields = dict(client.head())
            fields.update({field: value for field, value in changed if field[0] == ord(":")})
            if name == "CONNECT":
                del fields[b":path"], fields[b":scheme"]
            more = [(field, value) for field, value in changed if field[0] != ord(":")]
            refused = client.answer(client.request([*fields.items(), *more]))
            assert refused.status == status
            assert client.get().status == 200
        assert sorted((row.status, row.flags) for row in proxy.rows()) == [(200, ""), (status, "DPE")]
        assert web.connections == 1


def test_what_is_no_message_is_counted() -> None:
    with server(answering(ok())) as web, bed(to_http1(web.port)) as proxy:
        with Http2Client(proxy.connect()) as client:
            stream = client.request([*client.head(), (b"connection", b"close")])
            answer = client.answer(stream)
            assert (answer.heads, answer.code) == ([], codes.PROTOCOL_ERROR)
            assert client.get().status == 200
        assert proxy.counter("downstream_http2_malformed_messages_total") == 1
        assert sorted((row.status, row.flags) for row in proxy.rows()) == [(200, ""), (400, "DPE")]


def test_a_client_that_resets_cancels_the_request() -> None:
    gone: list[bytes] = []

    def script(sock: socket.socket) -> None:
        receive_head(sock)
        try:
            gone.append(sock.recv(1))
        except ConnectionResetError:
            gone.append(b"")

    with server(script) as web, bed(to_http1(web.port)) as proxy, Http2Client(proxy.connect()) as client:
        stream = client.request()
        eventually(lambda: web.connections)
        client.session.reset(stream, codes.CANCEL)
        client.flush()
        eventually(lambda: gone == [b""])
        eventually(lambda: [row.flags for row in proxy.rows()] == ["DC"])
        assert client.answer(stream).code == codes.CANCEL


def test_an_answer_before_the_body_has_come() -> None:
    def script(sock: socket.socket) -> None:
        receive_head(sock)
        sock.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno")
        sock.recv(1)

    with server(script) as web, bed(to_http1(web.port)) as proxy, Http2Client(proxy.connect()) as client:
        stream = client.request(client.head(b"POST"), False)
        answer = client.answer(stream)
        assert (answer.status, answer.body, answer.code) == (413, b"no", codes.NO_ERROR)


def test_a_slow_server_holds_its_own_stream_alone() -> None:
    size = 8 << 20
    read: list[int] = []

    def script(sock: socket.socket) -> None:
        head = receive_head(sock)
        if b"/slow" not in head:
            sock.sendall(ok())
            return
        go_on.recv(1)
        left = size - len(head.partition(b"\r\n\r\n")[2])
        while left:
            left -= len(sock.recv(min(left, 1 << 20)))
        read.append(size)
        sock.sendall(ok())

    go_on, told = socket.socketpair()
    with (
        go_on,
        told,
        server(script) as web,
        bed(to_http1(web.port)) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        fields = [*client.head(b"POST", b"/slow"), (b"content-length", b"%d" % size)]
        slow = client.request(fields, False)
        client.session.finish(slow, bytes(size))
        client.flush()
        for _ in range(20):
            assert client.get().status == 200
        # The stream's window, what waits to be written, and the kernel's socket buffers.
        assert client.session.unsent(slow) > size - (6 << 20)
        told.send(b"x")
        assert client.answer(slow).status == 200
        assert read == [size]


def test_a_slow_reader_holds_its_own_stream_alone() -> None:
    size = 32 << 20
    sent: list[int] = [0]

    def script(sock: socket.socket) -> None:
        if b"/slow" not in receive_head(sock):
            sock.sendall(ok())
            return
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent[0] < size:
            sent[0] += sock.send(bytes(65536))

    with server(script) as web, bed(to_http1(web.port)) as proxy, Http2Client(proxy.connect()) as client:
        slow = client.request(client.head(b"GET", b"/slow"))
        client.slow.add(slow)
        client.until(lambda: len(client.answers[slow].content) == DEFAULT_STREAM_WINDOW)
        for _ in range(20):
            assert client.get().status == 200
        assert len(client.answers[slow].content) == DEFAULT_STREAM_WINDOW
        assert sent[0] < 16 << 20
        client.slow.clear()
        client.session.consume(slow, DEFAULT_STREAM_WINDOW)
        client.flush()
        assert len(client.answer(slow).content) == size


def test_a_thousand_streams_at_once() -> None:
    def script(sock: socket.socket) -> None:
        for head in request_heads(sock):
            path = head.split(b" ", 2)[1]
            sock.sendall(ok(path * 50))

    # All are open at once; that there are fewer connections to the server spares it threads.
    cluster = Cluster(name="web", http_version=HttpVersion.HTTP1, limits=Limits(connections=20))
    with server(script) as web, bed(config((web.port,), cluster=cluster)) as proxy:
        with Http2Client(proxy.connect(120)) as client:
            client.until(lambda: client.session.max_streams == 1024)
            streams = {client.session.request(client.head(b"GET", b"/%d" % n), True): n for n in range(1000)}
            client.flush()
            client.until(lambda: sum(each.code == 0 for each in client.answers.values()) == 1000, 120)
            for stream, number in streams.items():
                assert client.answers[stream].body == b"/%d" % number * 50
        assert [(row.status, row.count) for row in proxy.rows()] == [(200, 1000)]


def test_options_of_the_listener_hold() -> None:
    seen: list[bytes] = []
    options = HttpOptions(forwarded_for=False, forwarded_proto=False, request_id=False, via="1.1 mesh")
    with (
        server(answering(ok(), seen)) as web,
        bed(to_http1(web.port, (FORWARD,), options)) as proxy,
        Http2Client(proxy.connect()) as client,
    ):
        assert client.get().final[b"via"] == b"1.1 mesh"
    assert seen == [b"GET / HTTP/1.1\r\nhost: web\r\nvia: 1.1 mesh\r\n\r\n"]


def test_http1_and_http2_side_by_side() -> None:
    with server(answering(ok())) as web, bed(to_http1(web.port)) as proxy:
        with Http2Client(proxy.connect()) as client, proxy.connect() as other:
            assert client.get().status == 200
            other.sendall(get())
            assert read_response(other)[1] == b"hello"
        assert [(row.status, row.count) for row in proxy.rows()] == [(200, 2)]
