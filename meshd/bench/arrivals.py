"""The open loop's bookkeeping: when requests are due, who may send them, what each took. Pure.

Requests are due at fixed times, whatever the answers do. One that finds all connections busy waits, and its
latency counts from when it was due: so a server that stalls shows in every request that it held up, and
nothing is omitted because of it ("coordinated omission").
"""

from __future__ import annotations

from collections import deque

_LATE_NS = 1_000_000
"""What a request that found a free connection may be late before it is the tool's fault."""


class Arrivals:
    """The requests of one run. Times are nanoseconds of one clock; connections are numbers."""

    def __init__(self, rate: float, count: int, connections: int, start: int) -> None:
        self.latencies: dict[int, int] = {}
        """Microseconds to how often."""
        self.answered = 0
        self.failed = 0
        self.late = 0
        """Requests that were sent late although a connection was free: the tool did not keep up."""
        self._interval = 1e9 / rate
        self._count = count
        self._start = start
        self._sent = 0
        self._idle = deque(range(connections))
        self._idle_since = [start] * connections
        self._due = [0] * connections
        """When the request was due that is out on a connection."""

    @property
    def finished(self) -> bool:
        """All requests are answered, or have failed."""
        return self.answered + self.failed == self._count

    @property
    def seconds(self) -> float:
        """From the first request's time to the last answer or failure."""
        return (max(self._idle_since) - self._start) / 1e9

    @property
    def sent(self) -> int:
        """Requests that have been sent."""
        return self._sent

    def next(self, now: int) -> int | None:
        """The connection on which a request is to be sent now; None: none is due, or all are busy."""
        if not self._idle or self._sent == self._count:
            return None
        due = self._start + int(self._sent * self._interval)
        if due > now:
            return None
        connection = self._idle.popleft()
        # It was free all the time since it was due, and yet is sent only now.
        if now - max(due, self._idle_since[connection]) > _LATE_NS:
            self.late += 1
        self._due[connection] = due
        self._sent += 1
        return connection

    def complete(self, connection: int, now: int) -> None:
        """The answer to the request that is out on a connection has come whole."""
        micros = (now - self._due[connection]) // 1000
        self.latencies[micros] = self.latencies.get(micros, 0) + 1
        self.answered += 1
        self._free(connection, now)

    def fail(self, connection: int, now: int) -> None:
        """The request that is out on a connection gets no right answer."""
        self.failed += 1
        self._free(connection, now)

    def _free(self, connection: int, now: int) -> None:
        self._idle_since[connection] = now
        self._idle.append(connection)
