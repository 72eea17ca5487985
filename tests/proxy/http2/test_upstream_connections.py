"""Streams and connections to servers that speak HTTP/2, and how they hold each other up."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from meshd.model.cluster_policies import Limits
from meshd.model.clusters import Cluster, HttpVersion
from proxy.http2 import codes, nghttp2
from proxy.http2.events import Closed, Data, GoAway
from proxy.http2.session import Limits as SessionLimits
from proxy.load import Resource
from proxy.upstream import http2 as upstream
from proxy.upstream.http2_pool import Http2Pool
from tests.proxy.http2.pairs import frame
from tests.proxy.http2.proxied import HTTP2, answer_to, asked, proxied, status
from tests.support.http2_server import Http2Server, serving
from tests.support.http_bed import (
    Bed,
    by_connection,
    config,
    eventually,
    get,
    read_response,
    receive_head,
    receive_until,
    server,
)


class Held:
    """A server that answers when it is told to."""

    def __init__(self, limits: SessionLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self.waiting: list[tuple[Http2Server, int]] = []

    def script(self, sock: socket.socket) -> None:
        peer = Http2Server(sock, self._limits)
        while True:
            stream = peer.whole_request().stream
            with self._lock:
                self.waiting.append((peer, stream))

    def answer(self) -> None:
        with self._lock:
            peer, stream = self.waiting.pop(0)
            peer.respond(stream)


def _ask(proxy: Bed, count: int) -> list[socket.socket]:
    clients = [proxy.connect() for _ in range(count)]
    for client in clients:
        client.sendall(get())
    return clients


def test_streams_up_to_what_the_server_allows_then_another_connection() -> None:
    held = Held(SessionLimits(max_streams=2))
    with proxied(held.script) as (proxy, (web,)):
        first = _ask(proxy, 1)
        eventually(lambda: len(held.waiting) == 1)
        clients = first + _ask(proxy, 4)
        eventually(lambda: len(held.waiting) == 5)
        assert web.connections == 3
        while held.waiting:
            held.answer()
        for client in clients:
            assert b"200 OK" in receive_until(client, b"0\r\n\r\n")
            client.close()
        again = _ask(proxy, 6)
        eventually(lambda: len(held.waiting) == 6)
        assert web.connections == 3
        while held.waiting:
            held.answer()
        for client in again:
            receive_until(client, b"0\r\n\r\n")
            client.close()


def test_who_finds_no_room_waits_within_the_clusters_limits() -> None:
    limits = Limits(connections=1, pending=1)
    cluster = Cluster(name="web", http_version=HttpVersion.HTTP2, limits=limits)
    held = Held(SessionLimits(max_streams=1))
    with proxied(held.script, cluster=cluster) as (proxy, (web,)):
        clients = _ask(proxy, 1)
        eventually(lambda: held.waiting)
        clients += _ask(proxy, 1)
        load = proxy.runtime.loads.of("web")
        eventually(lambda: load.total(Resource.PENDING) == 1)
        assert status(asked(proxy)) == 503
        assert proxy.counter("upstream_overflows_total") == 1
        for client in clients:
            eventually(lambda: held.waiting)
            held.answer()
            receive_until(client, b"0\r\n\r\n")
            client.close()
        assert web.connections == 1


def test_requests_are_limited_by_streams() -> None:
    cluster = Cluster(name="web", http_version=HttpVersion.HTTP2, limits=Limits(requests=2))
    held = Held(SessionLimits())
    with proxied(held.script, cluster=cluster) as (proxy, _):
        clients = _ask(proxy, 2)
        eventually(lambda: len(held.waiting) == 2)
        assert status(asked(proxy)) == 503
        while held.waiting:
            held.answer()
        for client in clients:
            receive_until(client, b"0\r\n\r\n")
            client.close()


def test_settings_that_change_meanwhile() -> None:
    """Fewer streams: what is out goes on, and what comes goes elsewhere."""

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock, SessionLimits(max_streams=100))
        stream = peer.whole_request().stream
        sock.sendall(frame(nghttp2.SETTINGS, payload=struct.pack(">HI", 3, 1)))
        peer.wait_for(Closed)
        assert peer.requests[stream].ended

    held = Held(SessionLimits())
    with proxied(by_connection(script, held.script)) as (proxy, (web,)):
        first = proxy.connect()
        first.sendall(get())
        eventually(lambda: (pool := http2_pool(proxy)) is not None and len(pool) == 1 and pool.is_full())
        second = _ask(proxy, 1)
        eventually(lambda: held.waiting)
        held.answer()
        receive_until(second[0], b"0\r\n\r\n")
        first.close()
        second[0].close()
        assert web.connections == 2


def test_an_endpoint_that_goes_ends_what_it_has() -> None:
    held = Held(SessionLimits())
    with proxied(held.script) as (proxy, _), server(serving) as other, proxy.connect() as client:
        client.sendall(get())
        eventually(lambda: held.waiting)
        proxy.apply(config((other.port,), cluster=HTTP2, generation=2))
        assert status(asked(proxy)) == 200
        assert proxy.caller.connections() == 2
        held.answer()
        assert status(answer_to(client)) == 200
        eventually(lambda: proxy.caller.connections() == 1)


def http2_pool(proxy: Bed) -> Http2Pool | None:
    return next((each for each in tuple(proxy.runtime.timed) if isinstance(each, Http2Pool)), None)


def test_idle_connections_are_closed() -> None:
    ended: list[GoAway] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peer.respond(peer.whole_request().stream)
        ended.append(peer.wait_for(GoAway))
        peer.drop()

    cluster = Cluster(name="web", http_version=HttpVersion.HTTP2, idle_timeout=0.2)
    with proxied(script, cluster=cluster) as (proxy, _):
        assert status(asked(proxy)) == 200
        eventually(lambda: ended and proxy.caller.connections() == 0)
        assert ended[0].code == codes.NO_ERROR


def test_a_silent_server_is_asked_and_given_up() -> None:
    pinged = threading.Event()

    def script(sock: socket.socket) -> None:
        Http2Server(sock).whole_request()
        data = b""
        while piece := sock.recv(65536):
            data += piece
            while len(data) >= 9 and len(data) >= (size := 9 + int.from_bytes(data[:3])):
                if data[3] == nghttp2.PING:
                    pinged.set()
                data = data[size:]

    with proxied(script) as (proxy, _), proxy.connect() as client:
        client.sendall(get())
        eventually(lambda: proxy.caller.connections() == 1)

        def later(seconds: float) -> None:
            pool = http2_pool(proxy)
            assert pool is not None
            pool.check(proxy.runtime.now + seconds)

        def is_pinged() -> bool:
            proxy.call(lambda: later(upstream.KEEPALIVE_SECONDS + 1))
            return pinged.is_set()

        eventually(is_pinged)
        proxy.call(lambda: later(upstream.KEEPALIVE_SECONDS + upstream.KEEPALIVE_TIMEOUT_SECONDS + 1))
        assert read_response(client)[0].startswith(b"HTTP/1.1 503 ")
        assert proxy.counter("upstream_http2_keepalive_timeouts_total") == 1


_BIG = 8 * 1024 * 1024


def test_a_client_that_does_not_read_stalls_its_stream_alone() -> None:
    peers: list[Http2Server] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peers.append(peer)
        while True:
            request = peer.whole_request()
            peer.respond(request.stream, bytes(_BIG) if request[b":path"] == b"/big" else b"small")

    with proxied(script) as (proxy, (web,)), proxy.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.sendall(get(b"/big"))
        eventually(lambda: peers and peers[0].requests)
        unsent = _BIG
        while unsent != (unsent := peers[0].session.unsent(1)):
            assert b"small" in asked(proxy, get(b"/small"))
        assert unsent > _BIG // 4
        assert web.connections == 1
        size = 0
        while size < _BIG:
            size += len(slow.recv(65536))


def test_a_server_that_does_not_read_stalls_its_client() -> None:
    release = threading.Event()
    seen: list[int] = []

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock, consumes=False)
        request = peer.request()
        assert release.wait(20)
        while not request.ended:
            peer.session.consume(request.stream, len(peer.wait_for(Data).data))
        seen.append(len(request.body))
        peer.respond(request.stream)
        peer.drop()

    with proxied(script) as (proxy, _), proxy.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n" % _BIG)
        client.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < _BIG:
                sent += client.send(bytes(min(65536, _BIG - sent)))
        assert sent < _BIG
        release.set()
        client.settimeout(20)
        while sent < _BIG:
            sent += client.send(bytes(min(65536, _BIG - sent)))
        assert b"200 OK" in receive_head(client)
        assert seen == [_BIG]
