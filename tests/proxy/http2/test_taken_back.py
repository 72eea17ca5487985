"""Servers that speak HTTP/2 take back what they have accepted, or do not speak it after all."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from meshd.model.clusters import Cluster, HttpVersion
from proxy.http2 import codes, nghttp2
from proxy.http2.events import Settings
from tests.proxy.http2.pairs import SETTINGS, frame
from tests.proxy.http2.proxied import POST, asked, proxied, retrying, status
from tests.support.http2_client import Http2Client
from tests.support.http2_server import OK, Http2Server, Request, serving
from tests.support.http_bed import (
    Script,
    by_connection,
    eventually,
    get,
    receive_all,
    receive_until,
)


def _goaway(last: int) -> bytes:
    return frame(nghttp2.GOAWAY, payload=struct.pack(">II", last, codes.NO_ERROR))


def _going(sock: socket.socket) -> None:
    """Has not touched its first request."""
    peer = Http2Server(sock)
    peer.whole_request()
    sock.sendall(_goaway(0))
    peer.drop()


def _going_at_once(sock: socket.socket) -> None:
    peer = Http2Server(sock)
    peer.wait_for(Settings)
    sock.sendall(_goaway(0))
    peer.drop()


def _refusing(sock: socket.socket) -> None:
    peer = Http2Server(sock)
    peer.session.reset(peer.whole_request().stream, codes.REFUSED_STREAM)
    peer.serve()


@pytest.mark.parametrize("first", [_going, _refusing], ids=["GOAWAY", "REFUSED_STREAM"])
def test_what_was_not_touched_is_sent_again_whatever_it_is(first: Script) -> None:
    with proxied(by_connection(first, serving)) as (proxy, _):
        assert status(asked(proxy, POST)) == 200
        assert proxy.counter("upstream_replays_total") == 1
        assert proxy.counter("upstream_retries_total") == 0


@pytest.mark.parametrize("goes", [True, False], ids=["GOAWAY", "REFUSED_STREAM"])
def test_a_body_that_comes_after_its_head_is_sent_again_with_it(goes: bool) -> None:
    """As each call of gRPC comes: in HTTP/2 a body is a frame of its own, and the head has gone by then."""
    seen: list[Request] = []

    def takes_it(sock: socket.socket) -> None:
        answer(Http2Server(sock))

    def answer(peer: Http2Server) -> None:
        seen.append(peer.whole_request())
        peer.respond(seen[0].stream)
        peer.drop()

    def refuses(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peer.session.reset(peer.whole_request().stream, codes.REFUSED_STREAM)
        answer(peer)

    script = by_connection(_going, takes_it) if goes else refuses
    with proxied(script) as (proxy, _), Http2Client(proxy.connect()) as client:
        stream = client.request(client.head(b"POST"), ended=False)
        eventually(lambda: proxy.caller.connections() == 1)
        client.session.send(stream, b"hello ")
        client.flush()
        client.session.finish(stream, b"world", [(b"x-sum", b"2")])
        client.flush()
        assert client.answer(stream).status == 200
        assert (seen[0].body, seen[0].trailers) == (b"hello world", [(b"x-sum", b"2")])
        assert proxy.counter("upstream_replays_total") == 1


def test_a_body_that_is_too_long_to_be_kept_is_not_sent_again() -> None:
    with proxied(by_connection(_refusing, serving)) as (proxy, _), Http2Client(proxy.connect()) as client:
        stream = client.request(client.head(b"POST"), ended=False)
        eventually(lambda: proxy.caller.connections() == 1)
        client.session.finish(stream, bytes(200_000))
        client.flush()
        assert client.answer(stream).status == 503
        assert proxy.counter("upstream_replays_total") == 0


def test_a_server_that_never_touches_anything() -> None:
    with proxied(_going) as (proxy, (web,)):
        answer = asked(proxy, POST)
        assert (status(answer), proxy.log.entries[0].flags) == (503, "UR")
        assert 1 < web.connections < 20


def test_requests_within_a_goaway_end_as_ever() -> None:
    last = threading.Event()

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        first = peer.whole_request().stream
        peer.session.announce_end()
        peer.flush()
        assert last.wait(20)
        sock.sendall(_goaway(first))
        peer.respond(first, b"first")
        peer.drop()

    def others(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        stream = peer.whole_request().stream
        last.set()
        peer.respond(stream)
        peer.drop()

    with proxied(by_connection(script, others)) as (proxy, (web,)), proxy.connect() as client:
        client.sendall(get())
        eventually(lambda: proxy.counter("upstream_goaways_total"))
        assert status(asked(proxy, POST)) == 200
        assert b"first" in receive_until(client, b"0\r\n\r\n")
        assert web.connections == 2


def test_a_stream_that_is_reset() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            peer.session.reset(peer.whole_request().stream, codes.INTERNAL_ERROR)

    with proxied(script) as (proxy, (web,)):
        answer = asked(proxy)
        assert status(answer) == 503
        assert b"the server reset the request: INTERNAL_ERROR" in answer
        assert (proxy.log.entries[0].flags, proxy.log.entries[0].details) == (
            "UR",
            "upstream_reset_before_response_started{remote_reset}",
        )
        assert status(asked(proxy)) == 503
        assert web.connections == 1


def test_a_reset_is_one_to_the_retry_policy() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peer.session.reset(peer.whole_request().stream, codes.INTERNAL_ERROR)
        peer.respond(peer.whole_request().stream, fields=((b":status", b"503"),))
        peer.serve()

    with proxied(script, routes=retrying(reset=True, statuses=(503,))) as (proxy, _):
        assert status(asked(proxy, POST)) == 200
        assert proxy.counter("upstream_retries_total") == 2


def test_an_answer_that_breaks_off() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        stream = peer.whole_request().stream
        peer.session.respond(stream, (*OK, (b"content-length", b"10")), ended=False)
        peer.session.send(stream, b"hello")
        peer.flush()
        peer.session.reset(stream, codes.CANCEL)
        peer.serve()

    with proxied(script) as (proxy, (web,)):
        with proxy.connect() as client:
            client.sendall(get())
            receive_until(client, b"hello")
            with pytest.raises(ConnectionResetError):
                receive_all(client)
        assert proxy.log.entries[0].flags == "UR"
        assert status(asked(proxy)) == 200
        assert web.connections == 1


def test_a_connection_that_ends_under_its_requests() -> None:
    def script(sock: socket.socket) -> None:
        Http2Server(sock).whole_request()

    with proxied(script) as (proxy, _):
        assert (status(asked(proxy, POST)), proxy.log.entries[0].flags) == (503, "UC")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"does not speak HTTP/2"),
        (b"", b"ends the connection"),
        (_goaway(0), b"does not speak HTTP/2"),
        (SETTINGS + _goaway(0), b"the server takes no requests"),
    ],
    ids=["HTTP/1.1", "nothing", "no SETTINGS", "no requests"],
)
def test_a_server_that_does_not_speak_it(answer: bytes, why: bytes) -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(24)
        sock.sendall(answer)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    with proxied(script) as (proxy, (web,)):
        got = asked(proxy, POST)
        assert status(got) == 503
        assert why in got
        assert proxy.log.entries[0].flags == "UF"
        assert web.connections < 10


def test_a_server_that_says_nothing() -> None:
    def script(sock: socket.socket) -> None:
        receive_all(sock)

    cluster = Cluster(name="web", http_version=HttpVersion.HTTP2, connect_timeout=0.2)
    with proxied(script, cluster=cluster) as (proxy, _):
        assert b"no answer within 0.2 s" in asked(proxy)
