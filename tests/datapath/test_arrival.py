"""Segments that begin with bytes which have come before: TCP sends such when it sends again what was lost."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest

from meshd.model.listeners import Protocol
from tests.datapath.mesh import Mesh

VIP = "10.96.0.1"
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_REPAIR_OPTIONS, TCP_REPAIR_WINDOW = 19, 20, 21, 22, 29
RECEIVED, SENT = 1, 2
OFF_WITHOUT_PROBE = -1
OPTIONS = struct.pack("IIII", 2, 65483, 3, 10 << 16 | 10)
"""Longest segment, and window scales."""


def _sent_again(mesh: Mesh, sender: socket.socket, count: int) -> socket.socket:
    """A socket in the sender's place whose next byte has the number of the last ``count`` that it sent."""
    local, peer = sender.getsockname(), sender.getpeername()
    sender.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    numbers = {}
    for queue in (RECEIVED, SENT):
        sender.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        (numbers[queue],) = struct.unpack("I", sender.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, 4))
    window = sender.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR_WINDOW, 20)
    sender.close()  # and the peer does not see it
    numbers[SENT] = numbers[SENT] - count & 0xFFFF_FFFF
    with mesh.pod.entered():
        other = socket.socket()
    other.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    other.bind(local)
    for queue, number in numbers.items():
        other.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, queue)
        other.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("I", number))
    other.connect(peer)
    other.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_OPTIONS, OPTIONS)
    other.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_WINDOW, window)
    other.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, OFF_WITHOUT_PROBE)
    return other


@pytest.mark.parametrize("count", [1, 5, 5000])
def test_what_has_come_before_does_not_come_again(mesh: Mesh, count: int) -> None:
    mesh.service([VIP], 80, Protocol.HTTP)
    mesh.datapath.configure(60.0, fast_path=True)
    mesh.datapath.set_member(mesh.pod.cookie, mesh.proxy4.getsockname()[1], ipv6=True, fast_path=True)
    client = mesh.connect(VIP, 80)
    sender = mesh.accept(mesh.proxy4)
    enrolled = mesh.counted("enrolled")
    assert enrolled > 0
    first = bytes(range(250)) * 40
    sender.sendall(first)
    got = b""
    while len(got) < len(first):
        got += client.recv(65536)
    with _sent_again(mesh, sender, count) as other:
        other.sendall(first[-count:] + b" and more")
        assert client.recv(65536) == b" and more"
        other.sendall(b"!")
        assert client.recv(65536) == b"!"
    mesh.datapath.configure(60.0, fast_path=False)


def test_nothing_is_kept_of_a_closed_socket(mesh: Mesh) -> None:
    mesh.service([VIP], 80, Protocol.HTTP)
    mesh.datapath.configure(60.0, fast_path=True)
    mesh.datapath.set_member(mesh.pod.cookie, mesh.proxy4.getsockname()[1], ipv6=True, fast_path=True)
    arrivals = mesh.datapath.open_map("arrivals")
    before = len(list(arrivals))
    with mesh.connect(VIP, 80) as client, mesh.accept(mesh.proxy4) as sender:
        sender.sendall(b"x")
        assert client.recv(1) == b"x"
        assert len(list(arrivals)) == before + 1
    assert len(list(arrivals)) == before
    arrivals.close()
    mesh.datapath.configure(60.0, fast_path=False)


@pytest.mark.parametrize("before", [b"", b"before"])
def test_nothing_is_kept_of_a_socket_that_the_last_bytes_close(mesh: Mesh, before: bytes) -> None:
    """They come with the FIN, to a socket that has sent its own: TCP closes it before it passes them on."""
    mesh.service([VIP], 80, Protocol.HTTP)
    mesh.datapath.configure(60.0, fast_path=True)
    mesh.datapath.set_member(mesh.pod.cookie, mesh.proxy4.getsockname()[1], ipv6=True, fast_path=True)
    with contextlib.closing(mesh.datapath.open_map("arrivals")) as arrivals:
        kept = len(list(arrivals))
        with mesh.connect(VIP, 80) as client, mesh.accept(mesh.proxy4) as sender:
            sender.sendall(before)
            assert client.recv(100) == before if before else True
            client.shutdown(socket.SHUT_WR)
            assert sender.recv(1) == b""
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            sender.sendall(b"last")
            sender.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b"last"
            assert client.recv(100) == b""
            assert len(list(arrivals)) == kept
    mesh.datapath.configure(60.0, fast_path=False)
