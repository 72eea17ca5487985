"""Spliced HTTP/2 connections that the kernel carries, on real sockets: each byte in order, and back again."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable

import pytest

from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.routes import Forward, Route, WeightedCluster
from tests.proxy.spliced.made_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    Frame,
    read,
)
from tests.proxy.worker.fast_path_bed import FastPathBed
from tests.support.http2_client import Http2Client
from tests.support.http2_server import Http2Server, serving
from tests.support.http_bed import Script, Server, eventually

CLUSTER = Cluster(name="web", http_version=HttpVersion.HTTP2)
PLAIN = Route(name="plain", action=Forward(clusters=(WeightedCluster(name="web"),)))
TIMED = Route(name="timed", action=Forward(clusters=(WeightedCluster(name="web"),), timeout=9.0))


def spliced(bed: FastPathBed, script: Script, far: bool = False) -> Server:
    """A server whose clients' connections are spliced with ones to it."""
    web = bed.serve(script, far)
    bed.configure([web], (PLAIN,), cluster=CLUSTER, spliced=True)
    return web


def leave(bed: FastPathBed, web: Server) -> None:
    """Another config, by which they are not."""
    bed.configure([web], (TIMED,), cluster=CLUSTER, spliced=True)


def redirected(bed: FastPathBed) -> tuple[int, int]:
    """Bytes that the kernel has redirected on all connections: from clients, and to them."""
    datapath = bed.mesh.datapath
    unpack = datapath.layout.codec("spliced", "up.bytes", "down.bytes").unpack
    with contextlib.closing(datapath.open_map("spliced")) as connections:
        found = [unpack(value) for _, value in connections.items()]
    return sum(up for up, _ in found), sum(down for _, down in found)


def counter(bed: FastPathBed, name: str) -> float:
    return bed.agent.stats().counters.get(name, 0)


def exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, bytes(data)
        data += piece
    return bytes(data)


def one_frame(sock: socket.socket) -> Frame:
    head = exactly(sock, 9)
    (frame,) = read(head + exactly(sock, int.from_bytes(head[:3], "big")))
    return frame


def test_all_but_the_first_bytes_are_redirected_and_requests_counted(bed: FastPathBed) -> None:
    spliced(bed, serving)
    with Http2Client(bed.connect()) as client:
        for _ in range(50):
            assert client.get().body == b"hello"
        up, down = redirected(bed)
        assert up > 40 * 9
        assert down > 50 * 9
        eventually(lambda: counter(bed, "http2_spliced_requests_total") == 50)
    eventually(lambda: bed.agent.stats().gauges["downstream_connections"] == 0)
    stats = bed.agent.stats()
    (row,) = stats.tcp
    assert (row.opened, row.service, row.cluster) == (1, "default/web:80", "web")
    assert row.received > up
    assert row.sent >= down
    assert stats.requests == ()
    assert redirected(bed) == (0, 0)


def test_to_another_node_it_is_spliced_by_the_proxy(bed: FastPathBed) -> None:
    spliced(bed, serving, far=True)
    with Http2Client(bed.connect()) as client:
        for _ in range(5):
            assert client.get().body == b"hello"
        assert redirected(bed) == (0, 0)
        assert counter(bed, "http2_spliced_connections_total") == 1


def test_another_config_takes_the_connection_back_from_the_kernel(bed: FastPathBed) -> None:
    wait, go = threading.Event(), threading.Event()
    web = spliced(bed, _holding(wait, go))
    with Http2Client(bed.connect()) as client:
        for _ in range(5):
            assert client.get().body == b"hello"
        stream = client.request(client.head(b"GET", b"/held"))
        assert wait.wait(60)
        leave(bed, web)
        client.until(lambda: len(client.goaways) == 2)
        assert [(each.last_stream, each.code) for each in client.goaways] == [(2**31 - 1, 0), (stream, 0)]
        before = redirected(bed)
        go.set()
        assert client.answer(stream).body == b"hello"
        assert redirected(bed) == before
    eventually(lambda: counter(bed, "http2_spliced_requests_total") == 6)


def _holding(wait: threading.Event, go: threading.Event) -> Script:
    """Answers, but for one path: that when ``go`` is set."""

    def script(sock: socket.socket) -> None:
        peer = Http2Server(sock)
        while True:
            request = peer.whole_request()
            if request[b":path"] == b"/held":
                wait.set()
                assert go.wait(60)
            peer.respond(request.stream)

    return script


class End:
    """One of a connection's: sends made-up frames, cut anywhere, and keeps what comes."""

    def __init__(self, sock: socket.socket, seed: int, is_client: bool) -> None:
        self._sock = sock
        self._random = random.Random(seed)
        self._is_client = is_client
        self._answers: list[Frame] = []
        """To PINGs, which are not from the other end."""
        self.may_open = True
        self.goaways = 0
        self.opened = 0
        self.sent = bytearray()
        """But for those answers."""
        self.received = bytearray()
        self._kept = b""
        self._write((PREFACE if is_client else b"") + Frame(SETTINGS).packed())

    def _write(self, data: bytes) -> None:
        self.sent += data
        self._send(data)

    def _send(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            cut = at + (self._random.randrange(1, 12) if self._random.random() < 0.3 else 20_000)
            self._sock.sendall(data[at:cut])
            at = cut

    def run(self, frames: int) -> None:
        """Send so many, or more until ``may_open`` is taken back from a client."""
        for _ in range(frames):
            self._write(b"".join(self._some() for _ in range(self._random.choice([1, 1, 2, 40]))))
            while self._answers:
                self._send(self._answers.pop().packed())

    def _some(self) -> bytes:
        draw = self._random
        if draw.random() < 0.4 and self.may_open:
            self.opened += 1
            stream = 2 * self.opened - 1
            more = [draw.randbytes(draw.randrange(40)) for _ in range(draw.choice([0, 0, 1, 2]))]
            block = [Frame(HEADERS, 0 if more else END_HEADERS, stream, draw.randbytes(draw.randrange(60)))]
            block += [
                Frame(CONTINUATION, END_HEADERS if i == len(more) - 1 else 0, stream, each)
                for i, each in enumerate(more)
            ]
            return b"".join(each.packed() for each in block)
        size = draw.choice([0, 1, 30, 1000, 16384])
        return Frame(DATA, 0, 1, draw.randbytes(size)).packed()

    def read(self) -> None:
        """All that comes, to the end."""
        while data := self._sock.recv(65536):
            self.received += data
            if self._is_client:
                self._obey(data)

    def _obey(self, data: bytes) -> None:
        self._kept += data
        while len(self._kept) >= 9:
            size = 9 + int.from_bytes(self._kept[:3], "big")
            if len(self._kept) < size:
                return
            (frame,) = read(self._kept[:size])
            self._kept = self._kept[size:]
            if frame.type == GOAWAY:
                self.may_open = False
                self.goaways += 1
            elif frame.type == PING:
                self._answers.append(Frame(PING, ACK, 0, frame.payload))


class Talk:
    """Two ends that send at the same time, each from a thread of its own."""

    def __init__(self, client: socket.socket, accepted: list[socket.socket], seed: int) -> None:
        """``accepted``: where the server's end of it comes to."""
        before = len(accepted)
        self.client = End(client, seed, True)
        eventually(lambda: len(accepted) > before)
        server = accepted[before]
        self.server = End(server, seed + 1000, False)
        self._socks = client, server
        self._readers = self._running(self.client.read, self.server.read)

    @staticmethod
    def _running(*actions: Callable[[], None]) -> list[threading.Thread]:
        threads = [threading.Thread(target=each, daemon=True) for each in actions]
        for thread in threads:
            thread.start()
        return threads

    def send(self, frames: int) -> None:
        """So many from either side."""
        _wait_for(self._running(lambda: self.client.run(frames), lambda: self.server.run(frames)))

    def end(self) -> None:
        """Both have sent their last byte."""
        for sock in self._socks:
            sock.shutdown(socket.SHUT_WR)
        _wait_for(self._readers)


def _wait_for(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
def test_bytes_are_right_wherever_the_way_changes(bed: FastPathBed, far: bool) -> None:
    accepted: list[socket.socket] = []
    done = threading.Event()

    def script(sock: socket.socket) -> None:
        accepted.append(sock)
        done.wait(300)

    web = spliced(bed, script, far)
    try:
        talks = [Talk(bed.connect(), accepted, seed) for seed in range(4)]
        for talk in talks:
            talk.send(60)
        up, down = redirected(bed)
        assert (up > 0, down > 0) == (not far, not far)
        changing = Talk._running(lambda: leave(bed, web))
        for talk in talks:
            talk.send(60)
        _wait_for(changing)
        for talk in talks:
            while talk.client.goaways < 2:
                talk.send(1)
            talk.end()
            _check(talk)
    finally:
        done.set()


def _check(talk: Talk) -> None:
    client, server = talk.client, talk.server
    assert bytes(server.received) == bytes(client.sent)
    found = read(bytes(client.received))
    said = [i for i, frame in enumerate(found) if frame.type in (GOAWAY, PING)]
    assert [found[i].type for i in said] == [GOAWAY, PING, GOAWAY]
    assert said[1] == said[0] + 1
    assert int.from_bytes(found[said[2]].payload[:4], "big") == 2 * client.opened - 1
    assert b"".join(frame.packed() for i, frame in enumerate(found) if i not in said) == bytes(server.sent)
