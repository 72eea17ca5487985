"""Who reads an enrolled socket by splice(2) is known at its first call, and nobody else is."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from meshd.datapath.datapath import Datapath
from meshd.datapath.flows.enrolled_sockets import Enrolled, EnrolledSockets, Side
from meshd.datapath.kernel.sock_diag import SocketQuestions
from meshd.datapath.splice_readers.app_socket import app_socket
from meshd.datapath.splice_readers.readers import SpliceReader, SpliceReaders
from tests.datapath.carried import Bed, Connection, exactly
from tests.support import io_uring
from tests.support.lab import until


@pytest.fixture(scope="module")
def carries() -> bool:
    return True


@pytest.fixture
def readers(datapath: Datapath) -> Iterator[SpliceReaders]:
    made = SpliceReaders(datapath.open_map("splice_readers"), datapath.open_map("bells"), datapath.layout)
    with contextlib.closing(made):
        made.take()
        yield made


def splice(sock: socket.socket) -> None:
    """One call, which finds nothing."""
    read, write = os.pipe()
    try:
        with pytest.raises(BlockingIOError):
            os.splice(sock.fileno(), write, 1000, flags=os.SPLICE_F_NONBLOCK)
    finally:
        os.close(read)
        os.close(write)


def inode(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def test_the_first_call_is_told(beds: Bed, readers: SpliceReaders) -> None:
    connection = Connection(beds)
    connection.arm()
    connection.exchange()
    assert not readers.take()
    for sock in (connection.client, connection.server):
        sock.setblocking(False)
        splice(sock)
        assert select.select([readers.fd], [], [], 60)[0]
        splice(sock)
        assert readers.take() == {SpliceReader(os.getpid(), inode(sock))}
        splice(sock)
        assert readers.take() == {SpliceReader(os.getpid(), inode(sock))}


def test_nobody_else_is(beds: Bed, readers: SpliceReaders) -> None:
    connection = Connection(beds)
    for sock in (connection.proxy, connection.upstream):  # no map has them
        sock.setblocking(False)
        splice(sock)
    connection.proxy.setblocking(True)
    connection.upstream.setblocking(True)
    connection.slow()
    connection.arm()
    connection.exchange()
    read, write = os.pipe()
    os.write(write, b"x")
    _, into = os.pipe()
    os.splice(read, into, 1)
    assert not readers.take()


def test_it_is_found_and_what_waits_in_its_queue_is_counted(
    beds: Bed, datapath: Datapath, readers: SpliceReaders
) -> None:
    connection = Connection(beds)
    with contextlib.closing(EnrolledSockets(datapath.open_map, datapath.layout)) as enrolled:
        for sock, far, side, pod in (
            (connection.client, connection.proxy, Side.CLIENT, beds.mesh.pod),
            (connection.server, connection.upstream, Side.SERVER, beds.far),
        ):
            with pod.entered():  # /proc tells of a task's own namespace, and here that is the thread's
                found = app_socket(threading.get_native_id(), inode(sock))
            assert found is not None
            found = found._replace(process=os.getpid())
            assert (found.local, found.remote) == (far.getpeername(), far.getsockname())
            known = enrolled.find(pod.cookie, found.local, found.remote)
            assert known == Enrolled(side, connection.flow if side is Side.CLIENT else connection.connection)
            with found.open() as own, pod.entered(), contextlib.closing(SocketQuestions()) as questions:
                far.sendall(b"x" * 5000)
                unread = partial(questions.unread, found.local, found.remote)
                assert exactly(own, 3000) == b"x" * 3000
                assert unread() == 2000
                assert exactly(sock, 2000) == b"x" * 2000
                assert unread() == 0
    assert app_socket(os.getpid(), 1) is None


def test_a_connection_can_be_ended(beds: Bed) -> None:
    connection = Connection(beds)
    ends = connection.proxy.getpeername(), connection.proxy.getsockname()
    with beds.mesh.pod.entered(), contextlib.closing(SocketQuestions()) as questions:
        questions.destroy(*ends)
        with pytest.raises(ConnectionAbortedError):
            connection.client.recv(1)
        with pytest.raises(ConnectionResetError):
            connection.proxy.recv(1)
        with pytest.raises(FileNotFoundError):
            questions.unread(*ends)
    until(lambda: beds.flows.carried(connection.flow) is None)


def test_a_splice_by_io_uring_is_told(beds: Bed, readers: SpliceReaders) -> None:
    connection = Connection(beds)
    read, write = os.pipe()
    connection.server.setblocking(False)
    try:
        with pytest.raises(BlockingIOError):
            io_uring.splice(connection.server.fileno(), write, 1000)
    finally:
        os.close(read)
        os.close(write)
    assert readers.take() == {SpliceReader(os.getpid(), inode(connection.server))}
