"""Opaque TCP between two pods of a node whose ends the kernel joins: as TCP, but past the wire."""

from __future__ import annotations

import array
import contextlib
import fcntl
import random
import socket
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.datapath.datapath import Datapath
from meshd.datapath.flows.enrolled_sockets import EnrolledSockets, Side
from meshd.model.listeners import Protocol
from tests.datapath.mesh import PORT, Mesh
from tests.support.http_bed import eventually
from tests.support.netns import Namespace, join, namespace

VIPS = {4: "10.96.0.20", 6: "fd00:96::20"}
CLIENT = {4: "10.9.0.1", 6: "fd00:9::1"}
SERVER = {4: "10.9.0.2", 6: "fd00:9::2"}
PIECE = 10_000
REDIRECTED = 8 << 20
"""MESHD_MAX_REDIRECTED."""
MOST = 64 << 20
"""More than may wait in the kernel: those, and what TCP's buffers take."""
_PATTERN = bytes(i * i % 251 for i in range(99_991))


class Pods:
    """A client's and a server's, and an opaque service."""

    def __init__(self, mesh: Mesh, server: Namespace) -> None:
        self.mesh = mesh
        self.server = server
        self.listeners = {
            family: mesh.listen(address, 7000, in_netns=server) for family, address in SERVER.items()
        }
        self.member(mesh.pod.cookie)
        self.member(server.cookie)
        self.serve()

    def serve(self, joined: bool = True) -> None:
        endpoints = [(address, 7000) for address in SERVER.values()]
        self.mesh.service(VIPS.values(), 80, Protocol.TCP, endpoints, joined=joined)

    def member(self, cookie: int, fast_path: bool = True, joins: bool | None = None) -> None:
        here = CLIENT if cookie == self.mesh.pod.cookie else SERVER
        self.mesh.datapath.set_member(cookie, PORT, True, fast_path, joins, here.values())

    def connect(self, family: int = 4) -> tuple[socket.socket, socket.socket]:
        """Both ends."""
        client = self.mesh.connect(VIPS[family], 80)
        server = self.mesh.accept(self.listeners[family])
        server.settimeout(5)
        return client, server

    def crossed(self) -> int:
        """Bytes that have gone over the wire, in either direction."""
        with self.server.entered():
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        fields = [line.split(":")[1].split() for line in lines[2:]]
        return sum(int(each[0]) + int(each[8]) for each in fields)

    def by_tcp(self, sender: socket.socket, reader: socket.socket, data: bytes = b"x" * PIECE) -> bool:
        """Send, and read it; whether it went over the wire."""
        before = self.crossed()
        sender.sendall(data)
        assert _read(reader, len(data)) == data
        return self.crossed() - before >= len(data)

    def entries(self) -> int:
        joined_ends = self.mesh.datapath.open_map("joined_ends")
        try:
            return len(list(joined_ends))
        finally:
            joined_ends.close()


@pytest.fixture
def pods(datapath: Datapath, mesh: Mesh) -> Iterator[Pods]:
    with namespace() as server:
        lengths = {4: 24, 6: 64}
        ends = [[f"{of[family]}/{lengths[family]}" for family in (4, 6)] for of in (CLIENT, SERVER)]
        join(mesh.pod, tuple(ends[0]), server, tuple(ends[1]))
        datapath.configure(60.0, fast_path=True)
        try:
            yield Pods(mesh, server)
        finally:
            datapath.configure(60.0, fast_path=False)
            datapath.remove_member(server.cookie)


def _read(end: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count and (piece := end.recv(count - len(found))):
        found += piece
    return bytes(found)


def _is_joined(pods: Pods, ends: tuple[socket.socket, socket.socket]) -> bool:
    """In both directions or in none."""
    ways = [pods.by_tcp(*each) for each in (ends, ends[::-1], ends)]
    assert len(set(ways)) == 1, ways
    return not ways[0]


@pytest.mark.parametrize("family", [4, 6])
def test_both_ends_are_joined_from_the_first_byte(pods: Pods, family: int) -> None:
    before = pods.mesh.counted("joined")
    client, server = pods.connect(family)
    assert client.getpeername()[:2] == (VIPS[family], 80)
    assert server.getpeername()[0] == CLIENT[family]
    assert _is_joined(pods, (client, server))
    assert pods.mesh.counted("joined") - before == 1


def test_a_server_that_speaks_first(pods: Pods) -> None:
    client, server = pods.connect()
    assert not pods.by_tcp(server, client)


def test_bytes_that_come_before_the_server_accepts(pods: Pods) -> None:
    client = pods.mesh.connect(VIPS[4], 80)
    client.sendall(b"a" * PIECE)
    client.sendall(b"b" * PIECE)
    client.shutdown(socket.SHUT_WR)
    server = pods.mesh.accept(pods.listeners[4])
    assert _read(server, 3 * PIECE) == b"a" * PIECE + b"b" * PIECE


def test_who_is_joined(pods: Pods) -> None:
    client, server = pods.mesh.pod.cookie, pods.server.cookie
    pods.serve(joined=False)
    before = pods.mesh.counted("enrolled")
    assert not _is_joined(pods, pods.connect())
    pods.member(client, joins=True)
    assert _is_joined(pods, pods.connect())
    pods.member(server, joins=False)
    assert not _is_joined(pods, pods.connect())
    pods.serve()
    assert not _is_joined(pods, pods.connect())
    pods.member(server)
    pods.member(client, joins=False)
    assert not _is_joined(pods, pods.connect())
    pods.member(client, fast_path=False)
    assert not _is_joined(pods, pods.connect())
    pods.member(client)
    pods.mesh.datapath.configure(60.0, fast_path=False)
    assert not _is_joined(pods, pods.connect())
    pods.mesh.datapath.configure(60.0, fast_path=True)
    pods.mesh.datapath.remove_member(server)
    assert not _is_joined(pods, pods.connect())
    assert pods.mesh.counted("enrolled") - before == 2, "nobody else's sockets are touched"
    pods.member(server)
    assert _is_joined(pods, pods.connect())


@pytest.mark.parametrize("which", [0, 1], ids=["client", "server"])
def test_half_closed_both_ways(pods: Pods, which: int) -> None:
    ends = pods.connect()
    first, second = ends[which], ends[1 - which]
    first.sendall(b"a" * PIECE)
    first.shutdown(socket.SHUT_WR)
    assert _read(second, 2 * PIECE) == b"a" * PIECE
    assert not pods.by_tcp(second, first)
    second.sendall(b"b" * PIECE)
    second.close()
    assert _read(first, 2 * PIECE) == b"b" * PIECE


def test_a_reset_ends_both(pods: Pods) -> None:
    client, server = pods.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert _is_joined(pods, (client, server))
    client.close()
    with pytest.raises(ConnectionResetError):
        server.recv(1)
    eventually(lambda: pods.entries() == 0)


def test_who_writes_to_one_that_has_closed_is_told_as_by_tcp(pods: Pods) -> None:
    client, server = pods.connect()
    assert _is_joined(pods, (client, server))
    server.close()
    assert client.recv(1) == b""

    def is_told() -> bool:
        try:
            client.sendall(b"x")
        except (BrokenPipeError, ConnectionResetError):
            return True
        return False

    eventually(is_told)


def test_nothing_is_left_of_connections_that_end(pods: Pods) -> None:
    for ends in [pods.connect() for _ in range(5)]:
        assert _is_joined(pods, ends)
        assert pods.entries() > 0
        assert pods.mesh.datapath.end_count() > 0
        for end in ends:
            end.close()
    eventually(lambda: pods.entries() == 0)
    assert pods.mesh.datapath.end_count() == 0


def test_waiting_bytes_are_counted_and_seen(pods: Pods) -> None:
    client, server = pods.connect()
    client.sendall(b"x" * 1000)
    waiting = array.array("i", [0])
    fcntl.ioctl(server, termios.FIONREAD, waiting)
    assert waiting[0] == 1000
    assert server.recv(5, socket.MSG_PEEK) == b"x" * 5
    assert _read(server, 1000) == b"x" * 1000


def test_what_waits_for_a_reader_is_bounded_and_comes_in_order(pods: Pods) -> None:
    """The rest goes by TCP, whose window holds the sender back; it is redirected again once it is read."""
    client, server = pods.connect()
    client.setblocking(False)
    before = pods.mesh.counted("join_lagged")
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < MOST:
            start = sent % len(_PATTERN)
            sent += client.send((_PATTERN * 2)[start : start + 65536])
    assert REDIRECTED <= sent < MOST
    assert pods.mesh.counted("join_lagged") - before == 1
    client.settimeout(5)
    assert _read(server, sent) == (_PATTERN * (sent // len(_PATTERN) + 1))[:sent]
    # The first message after one that found no room is not given to the program (tcp_bpf_send_verdict).
    client.sendall(b"x")
    assert _read(server, 1) == b"x"
    assert not pods.by_tcp(server, client), "which tells that all was read"
    assert not pods.by_tcp(client, server)


def test_a_pod_that_is_taken_off_goes_on_by_tcp(pods: Pods) -> None:
    client, server = pods.connect()
    client.sendall(b"a" * PIECE)
    pods.member(pods.server.cookie, fast_path=False)
    before = pods.crossed()
    client.sendall(b"b" * PIECE)
    assert _read(server, 2 * PIECE) == b"a" * PIECE + b"b" * PIECE
    assert pods.crossed() - before >= PIECE
    assert pods.by_tcp(server, client)
    assert pods.by_tcp(client, server)
    pods.member(pods.server.cookie)
    assert pods.by_tcp(client, server), "that the other was read is not known yet"
    server.sendall(b"e")
    assert not pods.by_tcp(client, server)


def test_both_ends_are_known_as_the_meshs_own(pods: Pods) -> None:
    client, server = pods.connect()
    datapath = pods.mesh.datapath
    sockets = EnrolledSockets(datapath.open_map, datapath.layout)
    try:
        for cookie, end in ((pods.mesh.pod.cookie, client), (pods.server.cookie, server)):
            local = end.getsockname()[:2]
            remote = (SERVER[4], 7000) if end is client else end.getpeername()[:2]
            enrolled = sockets.find(cookie, local, remote)
            assert enrolled is not None
            assert enrolled.side is Side.JOINED
            assert sockets.find(cookie, local, (remote[0], remote[1] + 1)) is None
    finally:
        sockets.close()


def _pour(end: socket.socket, size: int, seed: int) -> None:
    """Write in pieces of all sizes, then end."""
    draw = random.Random(seed)
    at = 0
    while at < size:
        length = min(size - at, draw.choice((1, 100, 5000, 70_000)))
        start = at % len(_PATTERN)
        end.sendall((_PATTERN * 2)[start : start + length])
        at += length
    end.shutdown(socket.SHUT_WR)


def _drain(end: socket.socket, wrong: list[int]) -> None:
    """Read to the end and compare; reports what came, and -1 where it was not what was sent."""
    at = 0
    while data := end.recv(100_000):
        start = at % len(_PATTERN)
        if data != (_PATTERN * 3)[start : start + len(data)]:
            wrong.append(-1)
            return
        at += len(data)
    wrong.append(at)


def test_no_byte_is_lost_or_doubled_while_both_send_as_they_can(pods: Pods) -> None:
    size = 24 << 20
    client, server = pods.connect()
    for end in (client, server):
        end.settimeout(30)
    came: list[int] = []
    threads = [
        threading.Thread(target=target, args=args)
        for end, seed in ((client, 1), (server, 2))
        for target, args in ((_pour, (end, size, seed)), (_drain, (end, came)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert came == [size, size]


def test_no_byte_is_lost_or_doubled_while_it_changes_over_and_back(pods: Pods) -> None:
    ends = pods.connect()
    draw = random.Random(3)
    before, total, on = pods.crossed(), 0, True
    for _ in range(200):
        for sender, reader in (ends, ends[::-1]):
            sent = b""
            for _ in range(draw.randint(1, 4)):
                if draw.random() < 0.1:
                    on = not on
                    pods.member(pods.server.cookie, fast_path=on)
                start = draw.randrange(len(_PATTERN))
                piece = (_PATTERN * 2)[start : start + draw.choice((1, 100, 5000, 20_000))]
                sender.sendall(piece)
                sent += piece
            assert _read(reader, len(sent)) == sent
            total += len(sent)
    crossed = pods.crossed() - before
    assert total / 10 < crossed < total * 9 / 10, "it went both ways"


def test_who_closes_with_bytes_unread_ends_the_stream_before_it_resets(pods: Pods) -> None:
    """Unlike by TCP, where the other end gets a reset at once (RFC 9293, 3.6.1)."""
    client, server = pods.connect()
    client.sendall(b"x" * PIECE)
    server.close()
    assert client.recv(1) == b""
