"""The open loop's connections of HTTP/1.1 of a run that goes on after failures, which it counts."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence

from meshd.bench.answer import AnswerReader, WrongAnswerError
from meshd.bench.http1_connections import Http1Connections


class EnduringConnections(Http1Connections):
    """As Http1Connections, kept alive; a failure ends one connection, not the run.

    A connection that is closed while no request is out is replaced, and counts as nothing.
    """

    def __init__(
        self,
        epoll: select.epoll,
        address: tuple[str, int],
        message: bytes,
        body_bytes: int,
        connections: int,
    ) -> None:
        """Raises OSError."""
        super().__init__(epoll, address, message, body_bytes, connections, new=False)
        self.failures: list[tuple[int, str]] = []
        """When each was known (time.monotonic_ns), and what was wrong: as many as requests at most."""
        self._body_bytes = body_bytes
        self._out: set[int] = set()
        self._failed: list[int] = []

    def send(self, number: int) -> None:
        """A request, where none is out."""
        self._out.add(number)
        try:
            if self._sockets[number] is None:
                self._open(number).settimeout(0)
            super().send(number)
        except (OSError, WrongAnswerError) as error:
            self._end(number, error)

    def event(self, fd: int, event: int) -> list[int]:
        """The numbers whose answers are complete with it."""
        number = self._numbers.get(fd)
        if number is None:
            return []
        try:
            complete = super().event(fd, event)
        except (OSError, WrongAnswerError) as error:
            self._end(number, error)
            return []
        self._out.difference_update(complete)
        return complete

    def failed(self) -> Sequence[int]:
        """The numbers whose requests have failed since it was last asked."""
        failed, self._failed = self._failed, []
        return failed

    def _end(self, number: int, error: Exception) -> None:
        self._drop(number)
        self._readers[number] = AnswerReader(self._body_bytes)
        if number in self._out:
            self._out.discard(number)
            self._failed.append(number)
            self.failures.append((time.monotonic_ns(), str(error)))
