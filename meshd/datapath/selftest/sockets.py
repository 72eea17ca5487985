"""The sockets of the self-test: two connections as of one request's way, on loopback."""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator

from meshd.datapath.kernel.bpf_map import Map

WAIT_SECONDS = 2.0
_SETTLE_SECONDS = 0.15
"""Bytes by TCP over loopback are there when send(2) returns, or once a softirq has run."""
_KEY = struct.Struct("=Q")
_FD = struct.Struct("=I")
_INDEX = struct.Struct("=I")
_COUNTER = struct.Struct("=I")


class CheckFailedError(Exception):
    """The kernel did something else than the fast path needs; the message says what."""


class Maps:
    """The maps of bpf/selftest.c. ``sockets`` is ``queued`` or ``bare``."""

    def __init__(self, sockets: Map, targets: Map, endings: Map, counters: Map, spliced: Map) -> None:
        self.sockets = sockets
        self.targets = targets
        self.endings = endings
        self._counters = counters
        self._spliced = spliced

    def counters(self) -> tuple[int, int, int]:
        """Sent, received, read: as of the enrolled socket that sent last. Raises CheckFailedError."""
        values = [self._counters.get(_INDEX.pack(at)) or bytes(_COUNTER.size) for at in range(4)]
        sent, received, read, known = (_COUNTER.unpack(value)[0] for value in values)
        if not known:
            raise CheckFailedError("TCP's own counters cannot be read: the kernel's BTF does not name them")
        return sent, received, read

    def take_spliced(self) -> int:
        """The inode of the enrolled socket that splice(2) has read last, since the last time; 0: none."""
        first = _INDEX.pack(0)
        (inode,) = _KEY.unpack(self._spliced.get(first) or bytes(_KEY.size))
        self._spliced[first] = bytes(_KEY.size)
        return int(inode)


class Circuit:
    """C (client) connected to A, U connected to S (server). C and S are enrolled."""

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self.client, self.proxy_client = _connection()
        self.proxy_server, self.server = _connection()
        for sock in (self.client, self.server):
            maps.sockets[_KEY.pack(_ends(sock))] = _FD.pack(sock.fileno())

    def carry(self) -> None:
        """From now on what one of C and S sends goes into the other's queue."""
        for sender, target in ((self.client, self.server), (self.server, self.client)):
            self.maps.targets[_KEY.pack(_ends(sender))] = _KEY.pack(_ends(target))

    def append(self, ending: bytes) -> None:
        """From now on these eight bytes are put behind each message that C sends and the kernel carries."""
        self.maps.endings[_KEY.pack(_ends(self.client))] = ending

    def pass_up(self) -> None:
        """From now on what C and S send goes by TCP, to A and U."""
        for sender in (self.client, self.server):
            self.maps.targets.discard(_KEY.pack(_ends(sender)))
            self.maps.endings.discard(_KEY.pack(_ends(sender)))

    def close(self) -> None:
        """Close all; the maps let go of what is closed."""
        with contextlib.suppress(OSError):  # one that a check has closed
            self.pass_up()
        for sock in (self.client, self.proxy_client, self.proxy_server, self.server):
            sock.close()


@contextlib.contextmanager
def circuit(maps: Maps) -> Iterator[Circuit]:
    """A circuit for one check. Raises OSError."""
    made = Circuit(maps)
    try:
        yield made
    finally:
        made.close()


def expect(condition: bool, otherwise: str) -> None:
    """Raises CheckFailedError."""
    if not condition:
        raise CheckFailedError(otherwise)


def expect_bytes(sock: socket.socket, wanted: bytes, who: str) -> None:
    """Reads exactly so many bytes, which must be these. Raises CheckFailedError, OSError."""
    got = bytearray()
    while len(got) < len(wanted):
        try:
            piece = sock.recv(len(wanted) - len(got))
        except TimeoutError:
            raise CheckFailedError(f"{who} got {len(got)} of {len(wanted)} bytes, then nothing") from None
        if not piece:
            raise CheckFailedError(f"{who} got {len(got)} of {len(wanted)} bytes, then the end")
        got += piece
    expect(got == wanted, f"{who} got other bytes than were sent")


def expect_end(sock: socket.socket, who: str) -> None:
    """The peer's end of data. Raises CheckFailedError, OSError."""
    try:
        got = sock.recv(64)
    except TimeoutError:
        raise CheckFailedError(f"{who} does not see the end") from None
    expect(not got, f"{who} got {len(got)} bytes in place of the end")


def expect_readable(sock: socket.socket, count: int, how: str) -> None:
    """FIONREAD says ``count``, at the latest after some time. Raises CheckFailedError."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        (found,) = struct.unpack("=i", fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0"))
        if found == count:
            return
        if time.monotonic() > deadline:
            raise CheckFailedError(f"FIONREAD says {found} when {count} bytes wait that came {how}")
        time.sleep(0.001)


def expect_wake_up(receiver: socket.socket, sender: socket.socket, edge: bool, how: str) -> None:
    """A thread that sleeps in epoll_wait is woken by a send, twice in a row. Raises CheckFailedError."""
    events = select.EPOLLIN | (select.EPOLLET if edge else 0)
    kind = "edge" if edge else "level"
    with select.epoll() as epoll:
        epoll.register(receiver, events)
        for text in (b"first", b"again"):
            expect(not epoll.poll(0), f"epoll ({kind}) reports a socket with nothing to read")
            timer = threading.Timer(0.005, sender.sendall, (text,))
            timer.start()
            woken = epoll.poll(WAIT_SECONDS)
            timer.join()
            expect(bool(woken), f"epoll ({kind}) is not woken by bytes that come {how}")
            expect_bytes(receiver, text, "the reader")


def _connection() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname(), timeout=WAIT_SECONDS)
        far, _ = listener.accept()
    far.settimeout(WAIT_SECONDS)
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def _ends(sock: socket.socket) -> int:
    """As the programs name it."""
    own, peer = sock.getsockname()[1], sock.getpeername()[1]
    return int(own) << 32 | int(peer)
