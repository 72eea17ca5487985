"""Requests to servers that speak HTTP/2: what they get, and what comes back."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest

from meshd.model.clusters import Cluster
from meshd.model.request_policies import Mirror
from meshd.model.routes import Forward, Route, WeightedCluster
from proxy.http2.events import Closed, Data, Field
from tests.proxy.http2.pairs import SETTINGS
from tests.proxy.http2.proxied import POST, asked, proxied, status
from tests.support.http2_client import Http2Client
from tests.support.http2_server import OK, Http2Server, Request
from tests.support.http_bed import (
    eventually,
    get,
    receive_all,
    receive_until,
)


def test_a_head_as_an_http2_server_gets_it() -> None:
    seen: list[Request] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            seen.append(peer.whole_request())
            peer.respond(seen[-1].stream, fields=(*OK, (b"x-end", b"1")))

    with proxied(script) as (proxy, _):
        hops = b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"TE: trailers"
        answer = asked(proxy, get(b"/a?b", *hops, b"X-Own: A", b"X-Request-ID: 7"))
        assert b"\r\nx-end: 1" in answer
        assert answer.endswith(b"5\r\nhello\r\n0\r\n\r\n")
        assert seen[0].fields == [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"web"),
            (b":path", b"/a?b"),
            (b"x-own", b"A"),
            (b"x-request-id", b"7"),
            (b"x-forwarded-for", b"10.1.0.7"),
            (b"x-forwarded-proto", b"http"),
            (b"te", b"trailers"),
        ]
        (entry,) = proxy.log.entries
        assert (entry.protocol, entry.status, entry.bytes_sent) == ("HTTP/1.1", 200, 5)
        assert entry.upstream_local_address.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("method", "fields", "body", "end"),
    [
        (b"GET", OK, b"hello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (b"GET", (*OK, (b"content-length", b"5")), b"hello", b"\r\n\r\nhello"),
        (b"GET", OK, b"", b"content-length: 0\r\n\r\n"),
        (b"HEAD", (*OK, (b"content-length", b"5")), b"", b"\r\n\r\n"),
        (b"HEAD", OK, b"", b"\r\n\r\n"),
        (b"GET", ((b":status", b"204"),), b"", b"\r\n\r\n"),
        (b"GET", ((b":status", b"304"),), b"", b"\r\n\r\n"),
        (b"GET", ((b":status", b"299"),), b"", b"content-length: 0\r\n\r\n"),
    ],
)
def test_how_an_answer_is_framed_for_an_http1_client(
    method: bytes, fields: Sequence[Field], body: bytes, end: bytes
) -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            peer.respond(peer.whole_request().stream, body, fields)

    request = b"%b / HTTP/1.1\r\nHost: web\r\n\r\n" % method
    with proxied(script) as (proxy, _), proxy.connect() as client:
        # The second one shows that the first one's end was where the client takes it to be.
        client.sendall(request + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        first, second = receive_all(client).split(b"HTTP/1.1 ")[1:]
        assert first.endswith(end)
        assert first[:3] == second[:3] == fields[0][1]
        has_length = b"content-length" in first
        assert has_length == (b"content-length" in end or any(f[0] == b"content-length" for f in fields))


def test_bodies_and_trailers_both_ways() -> None:
    seen: list[Request] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        seen.append(peer.whole_request())
        peer.respond(seen[0].stream, b"abc", trailers=((b"x-sum", b"2"),))
        peer.drop()

    with proxied(script) as (proxy, _), proxy.connect() as client:
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n"
        )
        client.sendall(b"1\r\n!\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n")
        answer = receive_until(client, b"0\r\nx-sum: 2\r\n\r\n")
    assert b"3\r\nabc\r\n" in answer
    assert (seen[0].body, seen[0].trailers) == (b"hello!", [(b"x-sum", b"1")])


def test_interim_answers() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        stream = peer.request().stream
        peer.session.interim(stream, ((b":status", b"103"), (b"link", b"</x>")))
        peer.session.interim(stream, ((b":status", b"100"),))
        peer.flush()
        while not peer.requests[stream].ended:
            peer.wait_for(Data)
        peer.respond(stream)
        peer.drop()

    with proxied(script) as (proxy, _), proxy.connect() as client:
        head, body = POST.split(b"\r\n\r\n")
        client.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        interim = receive_until(client, b"100 Continue\r\n\r\n")
        assert interim.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n")
        client.sendall(body)
        assert receive_until(client, b"0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_answer_before_the_requests_end() -> None:
    ended: list[Closed] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peer.respond(peer.request().stream)
        ended.append(peer.wait_for(Closed))
        peer.serve()

    with proxied(script) as (proxy, (web,)):
        with proxy.connect() as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 9\r\n\r\n")
            assert receive_all(client).endswith(b"0\r\n\r\n")
        eventually(lambda: ended)
        assert status(asked(proxy)) == 200
        assert web.connections == 1


def test_both_ends_speak_it_and_the_cluster_says_nothing() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            request = peer.whole_request()
            peer.respond(request.stream, request.body, trailers=request.trailers)

    with proxied(script, cluster=Cluster(name="web")) as (proxy, _), Http2Client(proxy.connect()) as client:
        stream = client.request(client.head(b"POST"), ended=False)
        client.session.finish(stream, b"hello", ((b"x-sum", b"1"),))
        client.flush()
        answer = client.answer(stream)
        assert (answer.body, answer.trailers) == (b"hello", [(b"x-sum", b"1")])
        assert b"content-length" not in answer.final


def test_a_websocket_of_an_http1_client() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        request = peer.request()
        assert (request[b":method"], request[b":protocol"]) == (b"CONNECT", b"websocket")
        assert not [name for name, _ in request.fields if name in (b"upgrade", b"sec-websocket-key")]
        peer.session.respond(request.stream, OK, ended=False)
        while not request.ended:
            peer.session.send(request.stream, peer.wait_for(Data).data)
            peer.flush()
        peer.session.finish(request.stream, b"bye")
        peer.flush()
        peer.drop()

    upgrade = get(
        b"/", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    )
    with proxied(script) as (proxy, _), proxy.connect() as client:
        client.sendall(upgrade + b"early")
        head = receive_until(client, b"early")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        client.sendall(b"late")
        assert receive_until(client, b"late")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"bye"


def test_a_server_that_takes_no_websockets() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(SETTINGS)
        while sock.recv(65536):
            pass

    upgrade = get(b"/", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: AAAA")
    with proxied(script) as (proxy, _):
        answer = asked(proxy, upgrade)
        assert status(answer) == 502
        assert b"takes no WebSockets over HTTP/2" in answer


def test_copies_of_requests() -> None:
    seen: list[bytes] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            request = peer.whole_request()
            seen.append(request[b":authority"])
            peer.respond(request.stream, request.body)

    to = Forward(clusters=(WeightedCluster(name="web"),), mirrors=(Mirror(cluster="web", share=1_000_000),))
    with proxied(script, routes=(Route(name="r", action=to),)) as (proxy, _):
        assert status(asked(proxy, POST)) == 200
        eventually(lambda: proxy.runtime.mirrored == 0)
        assert sorted(seen) == [b"web", b"web-shadow"]
        assert proxy.counter("mirrored_requests_failed_total") == 0
