"""Connections that the proxy splices by itself: each byte as it came, and the end of it by GOAWAY."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import msgspec

from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.listeners import HttpOptions
from meshd.model.routes import Forward, Route, WeightedCluster
from meshd.model.snapshot import Delta
from tests.proxy.spliced.made_frames import (
    ACK,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    Frame,
    read,
)
from tests.proxy.spliced.talk import Talk, exactly, keeping
from tests.support.http2_client import Http2Client
from tests.support.http2_server import Http2Server, serving
from tests.support.http_bed import Bed, Script, Server, config, eventually, refusing_ports, server

CLUSTER = Cluster(name="web", http_version=HttpVersion.HTTP2)
PLAIN = Route(name="plain", action=Forward(clusters=(WeightedCluster(name="web"),)))
TIMED = Route(name="timed", action=Forward(clusters=(WeightedCluster(name="web"),), timeout=9.0))


def spliced(*ports: int, route: Route = PLAIN, generation: int = 1) -> Delta:
    unlogged = HttpOptions(access_log_share=0)
    delta = config(ports, (route,), unlogged, CLUSTER, generation)
    (listener,) = delta.listeners
    return msgspec.structs.replace(
        delta, listeners=(msgspec.structs.replace(listener, http2_fast_path=True),)
    )


class SplicingBed(Bed):
    """One whose connections hear of another config."""

    def apply(self, delta: Delta) -> None:
        super().apply(delta)
        self.call(self.runtime.config_changed)


@contextlib.contextmanager
def splicing(*scripts: Script) -> Iterator[tuple[SplicingBed, list[Server]]]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server(script)) for script in scripts]
        running = SplicingBed(spliced(*(each.port for each in servers)))
        stack.callback(running.close)
        yield running, servers


def test_requests_of_a_connection_go_to_one_server_untouched() -> None:
    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            request = peer.whole_request()
            peer.respond(request.stream, repr(request.fields).encode())

    with splicing(script, script) as (bed, servers):
        with Http2Client(bed.connect()) as client:
            asked = [client.head(b"GET", b"/%d" % i, (b"x-user", b"t")) for i in range(20)]
            streams = [client.request(each) for each in asked]
            for fields, stream in zip(asked, streams, strict=True):
                answer = client.answer(stream)
                assert (answer.code, answer.body) == (0, repr(fields).encode())
            assert sorted(each.connections for each in servers) == [0, 1]
            eventually(lambda: bed.counter("http2_spliced_requests_total") == 20)
        assert bed.counter("http2_spliced_connections_total") == 1
        eventually(lambda: not bed.runtime.connections)
        (row,) = bed.runtime.tcp_stats.snapshot()
        assert (row.service, row.route, row.cluster, row.opened) == ("default/web:80", "plain", "web", 1)
        assert bed.rows() == ()


def test_bytes_pass_as_they_came_however_large() -> None:
    got: list[bytes] = []
    sent = PREFACE + b"".join(
        Frame(0, 0, 1, bytes(i * 7 % 256 for i in range(16384))).packed() for _ in range(99)
    )

    def script(sock: socket.socket) -> None:
        got.append(exactly(sock, len(sent)))
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)

    with splicing(script) as (bed, _), bed.connect() as client:
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        assert exactly(client, len(sent)) == sent
        sender.join()
        assert client.recv(1) == b""
        assert got == [sent]


def test_another_config_ends_it_by_goaway_and_no_request_is_lost() -> None:
    wait, go = threading.Event(), threading.Event()

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        peer.respond(peer.whole_request().stream, b"first")
        held = peer.whole_request().stream
        wait.set()
        assert go.wait(60)
        peer.respond(held, b"second")
        peer.drop()

    with splicing(script) as (bed, (web,)), Http2Client(bed.connect()) as client:
        assert client.get().body == b"first"
        stream = client.request()
        assert wait.wait(60)
        bed.apply(spliced(web.port, route=TIMED, generation=2))
        client.until(lambda: len(client.goaways) == 2)
        assert [(each.last_stream, each.code) for each in client.goaways] == [(2**31 - 1, 0), (stream, 0)]
        go.set()
        assert client.answer(stream).body == b"second"
        assert bed.counter("http2_spliced_goaways_total") == 1
        # The next one is not spliced: the route does something for each request now.
        with Http2Client(bed.connect()) as other:
            stream = other.request()
            eventually(lambda: web.connections == 2)
        assert bed.counter("http2_spliced_connections_total") == 1


def test_a_config_that_says_the_same_ends_nothing_and_another_endpoint_does() -> None:
    with splicing(serving) as (bed, (web,)), Http2Client(bed.connect()) as client:
        assert client.get().body == b"hello"
        bed.apply(spliced(web.port, generation=2))
        assert client.get().body == b"hello"
        assert client.goaways == []
        bed.apply(spliced(web.port, web.port + 1, generation=3))
        client.until(lambda: client.goaways)


def test_a_client_that_goes_on_after_its_last_stream_is_cut_off() -> None:
    with splicing(_echoing) as (bed, (web,)), bed.connect() as client:
        client.sendall(PREFACE + Frame(SETTINGS).packed() + Frame(HEADERS, END_HEADERS, 1, b"\x82").packed())
        assert exactly(client, 9) == Frame(SETTINGS).packed()
        bed.apply(spliced(web.port, route=TIMED, generation=2))
        goaway, ping = read(exactly(client, 34))
        assert (goaway.type, ping.type) == (GOAWAY, PING)
        client.sendall(Frame(PING, ACK, 0, ping.payload).packed())
        (last,) = read(exactly(client, 17))
        assert last.payload == (1).to_bytes(4, "big") + bytes(4)
        client.sendall(Frame(HEADERS, END_HEADERS, 3, b"\x82").packed())
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        eventually(lambda: bed.runtime.tcp_stats.snapshot()[0].closed == {"DPE": 1})


def _echoing(sock: socket.socket) -> None:
    """Says no more than its SETTINGS."""
    sock.sendall(Frame(SETTINGS).packed())
    while sock.recv(65536):
        pass


def test_where_there_is_no_server_the_proxy_says_why() -> None:
    with refusing_ports(1) as ports:
        bed = SplicingBed(spliced(*ports))
        try:
            with Http2Client(bed.connect()) as client:
                answer = client.get()
                assert answer.status == 503
                assert b"cannot connect" in answer.body
            assert bed.counter("http2_spliced_connections_total") == 0
            assert bed.runtime.spliced == set()
        finally:
            bed.close()


def test_a_server_that_resets_resets_its_client() -> None:
    def script(sock: socket.socket) -> None:
        exactly(sock, 24)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
        sock.close()

    with splicing(script) as (bed, _), bed.connect() as client:
        client.sendall(PREFACE + Frame(SETTINGS).packed())
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        eventually(lambda: not bed.runtime.connections)
        assert bed.runtime.spliced == set()


def test_bytes_are_right_while_it_ends() -> None:
    accepted: list[socket.socket] = []
    done = threading.Event()
    script = keeping(accepted, done)
    with splicing(script) as (bed, (web,)), bed.connect() as client:
        try:
            talk = Talk(client, accepted, 7)
            talk.send(40)
            bed.apply(spliced(web.port, route=TIMED, generation=2))
            while talk.client.goaways < 2:
                talk.send(1)
            talk.end()
            talk.check()
        finally:
            done.set()
