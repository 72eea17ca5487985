"""The open loop's connections of HTTP/1.1: one for each request that is out at a time."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Sequence

from meshd.bench.answer import AnswerReader, WrongAnswerError

CONNECT_SECONDS = 5.0
PIECE = 256 * 1024
"""What is read at a time, at most."""


class Http1Connections:
    """They are numbered. Owns their sockets until ``close``."""

    def __init__(
        self,
        epoll: select.epoll,
        address: tuple[str, int],
        message: bytes,
        body_bytes: int,
        connections: int,
        new: bool,
    ) -> None:
        """``new``: each request is sent on a connection of its own. Raises OSError."""
        self._address = (socket.gethostbyname(address[0]), address[1])
        self._message = message
        self._new = new
        self._epoll = epoll
        self._sockets: list[socket.socket | None] = [None] * connections
        self._readers = [AnswerReader(body_bytes) for _ in range(connections)]
        self._numbers: dict[int, int] = {}
        if not new:
            for number in range(connections):
                self._open(number).settimeout(0)

    def _open(self, number: int) -> socket.socket:
        sock = socket.create_connection(self._address, CONNECT_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._add(number, sock, select.EPOLLIN)
        return sock

    def _add(self, number: int, sock: socket.socket, events: int) -> None:
        self._sockets[number] = sock
        self._numbers[sock.fileno()] = number
        self._epoll.register(sock, events)

    def send(self, number: int) -> None:
        """A request, where none is out. Raises WrongAnswerError, OSError."""
        if self._new:
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BlockingIOError):
                sock.connect(self._address)
            self._add(number, sock, select.EPOLLOUT)
        else:
            self._write(number)

    def flush(self) -> None:
        """All that was sent has gone already."""

    def failed(self) -> Sequence[int]:
        """None: the first is raised."""
        return ()

    def _write(self, number: int) -> None:
        sock = self._sockets[number]
        if sock is None or sock.send(self._message) != len(self._message):
            raise WrongAnswerError("a request did not fit into its connection")

    def event(self, fd: int, event: int) -> list[int]:
        """The numbers whose answers are complete with it. Raises WrongAnswerError, OSError."""
        number = self._numbers.get(fd)
        sock = None if number is None else self._sockets[number]
        if number is None or sock is None:
            return []
        if event & select.EPOLLOUT:
            self._epoll.modify(sock, select.EPOLLIN)
            self._write(number)
            return []
        data = sock.recv(PIECE)
        if not data:
            raise WrongAnswerError("a connection was closed before its answer was complete")
        if not self._readers[number].take(data):
            return []
        if self._new:
            self._drop(number)
        return [number]

    def _drop(self, number: int) -> None:
        if (sock := self._sockets[number]) is not None:
            del self._numbers[sock.fileno()]
            sock.close()
            self._sockets[number] = None

    def close(self) -> None:
        """Close all connections."""
        for number in range(len(self._sockets)):
            self._drop(number)
