"""What all connections of a worker share: its config, its clock, its numbers."""

from __future__ import annotations

import asyncio
import resource
import time
from random import Random
from typing import Protocol

from proxy.http1.heads import http_date
from proxy.http1.request_parser import RequestParser
from proxy.http1.response_parser import ResponseParser
from proxy.http2.request_decision import RequestDecisions
from proxy.in_force import ConfigInForce
from proxy.load import Loads
from proxy.node_buckets import NodeBuckets
from proxy.telemetry.access_log import AccessLogEntry
from proxy.telemetry.outcomes import Outcomes
from proxy.telemetry.stats import Counters, RequestStats
from proxy.telemetry.tcp_stats import TcpStats
from proxy.waiting import Waiting

SWEEP_SECONDS = 0.25
MAX_DOWNSTREAM_CONNECTIONS = 64 * 1024


class Timed(Protocol):
    """Something that times out."""

    def check(self, now: float) -> None:
        """Compare its deadlines with ``now`` (the loop's clock, seconds) and act on those that passed."""


class Connection(Timed, Protocol):
    """A client's connection, whatever is spoken on it."""

    @property
    def caller(self) -> object:
        """Whose it is: the same object for all of a workload's."""

    def drain(self) -> None:
        """The worker is about to end: end as soon as that harms nobody."""

    def close_at_once(self) -> None:
        """Close, whether or not the client reads what waits for it."""


class AccessLog(Protocol):
    """Where access log entries go."""

    def write(self, entry: AccessLogEntry) -> None:
        """Take one entry. Never blocks, never raises."""


class Runtime:
    """One worker's shared state. ``now`` and ``date`` advance with each sweep: coarse, and free to read.

    One sweep looks at everything that may time out; a timer for each request would cost more than the
    request's routing. Timeouts are therefore up to SWEEP_SECONDS late.
    """

    def __init__(self, access_log: AccessLog | None = None, buckets: NodeBuckets | None = None) -> None:
        """``buckets``: shared with other workers, and owned from now on; None: its own."""
        self.loop = asyncio.get_running_loop()
        self.config = ConfigInForce(self.loop.time)
        self.stats = RequestStats()
        self.tcp_stats = TcpStats()
        self.counters = Counters()
        self.waiting = Waiting(self.config, self.counters, self.loop.time)
        self.loads = Loads()
        self.outcomes = Outcomes(self.loop)
        self.requests = RequestParser()
        self.responses = ResponseParser()
        self.http2_requests = RequestDecisions()
        self.access_log = access_log
        self.random = Random().random
        self.buckets = buckets or NodeBuckets()
        """Of the routes' rate limits."""
        self.active_faults = 0
        """Requests that have been delayed or aborted on purpose and are not at their end."""
        self.mirrored = 0
        """Copies of requests that are not at their end."""
        self.draining = False
        self.connections: set[Connection] = set()
        """Clients'."""
        self._all_closed = asyncio.Event()
        # Each downstream connection may need an upstream one, and both are files.
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._max_downstream = min(MAX_DOWNSTREAM_CONNECTIONS, files // 2)
        self.now = self.loop.time()
        self.date = http_date(time.time())
        self.timed: set[Timed] = set()
        self._sweep = self.loop.call_later(SWEEP_SECONDS, self._on_sweep)

    @property
    def downstream_connections(self) -> int:
        """How many there are."""
        return len(self.connections)

    def opened(self, connection: Connection) -> None:
        """A downstream connection has been accepted."""
        self.timed.add(connection)
        self.connections.add(connection)
        self.counters.add("downstream_connections_total")

    def replaced(self, connection: Connection, other: Connection) -> None:
        """A downstream connection is another one's now."""
        for several in (self.timed, self.connections):
            several.discard(connection)
            several.add(other)

    def closed(self, connection: Connection) -> None:
        """A downstream connection is gone."""
        self.timed.discard(connection)
        self.connections.discard(connection)
        if not self.connections:
            self._all_closed.set()

    async def all_closed(self) -> None:
        """Wait until no downstream connection is open, nor waits to be."""
        while self.connections or self.waiting:
            self._all_closed.clear()
            await self._all_closed.wait()

    def is_full(self) -> bool:
        """Whether one more downstream connection would be too many."""
        return len(self.connections) >= self._max_downstream

    def close(self) -> None:
        """Stop the sweep, and whatever else is timed. The buckets are let go of."""
        self._sweep.cancel()
        self.outcomes.close()
        self.loads.close()
        self.buckets.close()

    def _on_sweep(self) -> None:
        self._sweep = self.loop.call_later(SWEEP_SECONDS, self._on_sweep)
        now = self.now = self.loop.time()
        self.date = http_date(time.time())
        self.waiting.check(now)
        if not self.downstream_connections and not self.waiting:
            self._all_closed.set()
        for timed in tuple(self.timed):
            timed.check(now)
