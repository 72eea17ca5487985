"""The open loop's one connection of HTTP/2: a stream for each request that is out at a time."""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence

from meshd.bench.answer import WrongAnswerError
from meshd.bench.http1_connections import CONNECT_SECONDS, PIECE
from meshd.bench.http2_answers import Http2Answers
from meshd.bench.http2_client import Http2Client


class Http2Connection:
    """Requests have the numbers that the caller gives them. Owns its socket until ``close``."""

    def __init__(
        self,
        epoll: select.epoll,
        address: tuple[str, int],
        head: bytes,
        content: bytes | None,
        wanted: int,
    ) -> None:
        """``head``, ``content``, ``wanted``: Http2Answers'. Raises OSError, BlockError."""
        self._client = Http2Client()
        self._answers = Http2Answers(self._client, head, content, wanted)
        self._numbers: dict[int, int] = {}
        """Of the streams."""
        self._socket = socket.create_connection(address, CONNECT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(self._client.out)
        self._client.out.clear()
        self._socket.setblocking(False)
        epoll.register(self._socket, select.EPOLLIN)

    def send(self, number: int) -> None:
        """A request; ``flush`` has it go."""
        self._numbers[self._answers.ask()] = number

    def failed(self) -> Sequence[int]:
        """None: the first is raised."""
        return ()

    def flush(self) -> None:
        """Write what there is to write. Raises WrongAnswerError, OSError."""
        if out := self._client.out:
            if self._socket.send(out) != len(out):
                raise WrongAnswerError("a request did not fit into its connection")
            out.clear()

    def event(self, fd: int, _event: int) -> list[int]:
        """The numbers whose answers are complete with it. Raises WrongAnswerError, OSError."""
        if fd != self._socket.fileno():
            return []
        data = self._socket.recv(PIECE)
        if not data:
            raise WrongAnswerError("a connection was closed before its answer was complete")
        return [self._numbers.pop(stream) for stream in self._answers.take(data)]

    def close(self) -> None:
        """Close it."""
        self._socket.close()
        self._client.close()
