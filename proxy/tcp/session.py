"""A TCP connection that is routed: from its acceptance to the end of both its ends."""

from __future__ import annotations

import asyncio
import enum
import time

from meshd.model.tcp_decision import draw
from meshd.model.tcp_routes import TcpRoute
from proxy.in_force import ListenerState
from proxy.runtime import Runtime
from proxy.tcp.end import End
from proxy.tcp.first_bytes import FirstBytes
from proxy.tcp.reaching import Place, Reaching, UnreachableError
from proxy.tcp.report import Account, report
from proxy.telemetry import response_flags
from proxy.telemetry.response_flags import Flag
from proxy.tls.client_hello import Hello
from proxy.upstream.caller import Caller

CLOSING_SECONDS = 300.0
"""For peers to take what waits for them when both have sent their last byte, while they take nothing."""


class State(enum.Enum):
    """A session's."""

    NEW = "new"
    INSPECTING = "inspecting"
    """The client's first bytes tell the route."""
    CONNECTING = "connecting"
    """There is a route; a server is being reached, and the client not read."""
    OPEN = "open"
    CLOSING = "closing"
    """Both peers have sent their last byte; what waits is on its way to them."""
    CLOSED = "closed"


WAYS: dict[State, frozenset[State]] = {
    State.NEW: frozenset((State.INSPECTING, State.CONNECTING, State.CLOSED)),
    State.INSPECTING: frozenset((State.CONNECTING, State.CLOSED)),
    State.CONNECTING: frozenset((State.OPEN, State.CLOSED)),
    State.OPEN: frozenset((State.CLOSING, State.CLOSED)),
    State.CLOSING: frozenset((State.CLOSED,)),
    State.CLOSED: frozenset(),
}


class Session:
    """Owns both ends, and what the connection takes of limits."""

    __slots__ = (
        "_account",
        "_downstream",
        "_first",
        "_idle_timeout",
        "_ipv6",
        "_left",
        "_listener",
        "_moved",
        "_place",
        "_reaching",
        "_runtime",
        "_since",
        "_state",
        "_task",
        "_upstream",
        "caller",
    )

    def __init__(
        self,
        runtime: Runtime,
        caller: Caller,
        listener: ListenerState,
        local: str = "",
        remote: str = "",
        ipv6: bool = False,
    ) -> None:
        """``local``: the address that the client called, ``remote``: its own, both for the log."""
        self.caller = caller
        self._runtime = runtime
        self._listener = listener
        self._ipv6 = ipv6
        self._state = State.NEW
        self._since = runtime.now
        """When the state was entered, or a byte last seen to move."""
        self._moved = 0
        self._first = FirstBytes(self if listener.tcp.reads_names else None)
        self._downstream = End(self, self._first)
        self._upstream: End | None = None
        self._left = 2
        """Ends that are not gone."""
        self._reaching: Reaching | None = None
        self._task: asyncio.Task[None] | None = None
        self._place: Place | None = None
        self._idle_timeout = 0.0
        share = listener.options.access_log_share
        name = listener.listener.name
        self._account = Account(name, share, caller.source, local, remote, time.monotonic())

    def begin(self, transport: asyncio.Transport) -> End:
        """Take over an accepted connection. Returns who takes what comes on it."""
        self._runtime.opened(self)
        transport.set_protocol(self._downstream)
        self._downstream.connection_made(transport)
        return self._downstream

    # -- a route -------------------------------------------------------------------------------------

    def made(self, end: End) -> None:
        """Owner: an end stands."""
        if end is not self._downstream:
            self._open(end)
        elif self._listener.tcp.reads_names:
            self._to(State.INSPECTING)
        else:
            self._take_route("")

    def asked(self, hello: Hello) -> None:
        """Asker: what the client's first bytes say."""
        self._runtime.counters.add("tls_hellos_found_total" if hello.is_tls else "tls_hellos_not_found_total")
        self._account.server_name = hello.server_name
        self._take_route(hello.server_name)

    def given_up(self) -> None:
        """Asker: the client has nothing more to say."""
        self._fail(Flag.DOWNSTREAM_TERMINATED, "the client ended before its ClientHello was whole")

    def _take_route(self, server_name: str) -> None:
        route = self._listener.tcp.route(server_name)
        if route is None:
            self._fail(Flag.NO_ROUTE, "no route takes it")
            return
        self._to(State.CONNECTING)
        self._downstream.hold()
        self._idle_timeout = route.idle_timeout
        self._account.route = route.name
        self._account.cluster = draw(route, self._runtime.random())
        self._account.row(self._runtime.tcp_stats)
        self._task = self._runtime.loop.create_task(self._reach(route))

    # -- a server ------------------------------------------------------------------------------------

    async def _reach(self, route: TcpRoute) -> None:
        reaching = Reaching(self._runtime, self.caller, route, self._account.cluster, self._ipv6)
        self._reaching = reaching
        try:
            self._place, sock = await reaching.run()
        except UnreachableError as error:
            self._reaching = None
            self._fail(error.flag, str(error))
            return
        # From here on the task is not cancelled: an end that nobody waits for is reset when it stands.
        self._reaching = None
        try:
            await self._runtime.loop.create_connection(lambda: End(self, self._downstream), sock=sock)
        except OSError as error:
            sock.close()
            if self._state is State.CONNECTING:
                self._fail(Flag.UPSTREAM_CONNECT_FAILURE, str(error))

    def _open(self, upstream: End) -> None:
        if self._state is State.CLOSED:
            upstream.reset()
            return
        self._to(State.OPEN)
        self._upstream = upstream
        self.caller.relayed += 1
        self._runtime.counters.add("upstream_connections_total")
        self._account.upstream_local = upstream.local_address()
        assert self._place is not None
        self._account.endpoint = self._place.endpoint
        self._downstream.other = upstream
        # First, for the write may have it held.
        self._downstream.release()
        first = self._first.take()
        if first:
            upstream.write(first)
        if self._downstream.eof:
            upstream.write_eof()

    # -- the end -------------------------------------------------------------------------------------

    def finished(self) -> None:
        """Owner: an end's peer has sent its last byte. The other direction goes on."""
        upstream = self._upstream
        if self._state is State.OPEN and upstream is not None and self._downstream.eof and upstream.eof:
            self._to(State.CLOSING)
            self._downstream.close()
            upstream.close()

    def lost(self, end: End, exc: Exception | None) -> None:
        """Owner: an end is gone. If that was not in order, its peer's reset is passed on."""
        self._left -= 1
        if self._state is State.CLOSING and exc is None:
            if self._left == 0:
                self._over()
        elif self._state is not State.CLOSED:
            by_client = end is self._downstream
            flag = Flag.DOWNSTREAM_TERMINATED if by_client else Flag.UPSTREAM_TERMINATED
            self._fail(flag, f"the {'client' if by_client else 'server'} reset the connection")

    def drain(self) -> None:
        """Go on: TCP has no way to ask a client to come again."""

    def close_at_once(self) -> None:
        """Reset both ends."""
        if self._state is not State.CLOSED:
            self._fail(Flag.LOCAL_RESET, "the workload or the worker has ended")

    def check(self, now: float) -> None:
        """Runtime's sweep: act on what has taken too long."""
        if self._state is State.INSPECTING:
            limit = self._listener.listener.hello_timeout
            if 0 < limit < now - self._since:
                self._runtime.counters.add("tls_hello_timeouts_total")
                self._fail(Flag.DOWNSTREAM_PROTOCOL_ERROR, f"no whole ClientHello within {limit:g} s")
        elif self._reaching is not None:
            self._reaching.check()
        elif self._upstream is not None:
            self._check_idle(now, self._upstream)

    def _check_idle(self, now: float, upstream: End) -> None:
        self._count_bytes(upstream)
        moved = self._account.bytes_received + self._account.bytes_sent
        moved -= self._downstream.unsent() + upstream.unsent()
        limit = self._idle_timeout
        if self._state is State.CLOSING:
            limit = min(limit or CLOSING_SECONDS, CLOSING_SECONDS)
        if moved != self._moved:
            self._moved, self._since = moved, now
        elif 0 < limit < now - self._since:
            self._runtime.counters.add("tcp_idle_timeouts_total")
            self._fail(Flag.STREAM_IDLE_TIMEOUT, f"no byte in either direction within {limit:g} s")

    def _count_bytes(self, upstream: End) -> None:
        self._account.moved(self._runtime.tcp_stats, self._downstream.received, upstream.received)

    def _fail(self, flag: Flag, reason: str) -> None:
        """Reset what there is of both ends. ``reason``: for the log."""
        self._account.flags, self._account.details = response_flags.joined(flag), reason
        self._over()
        self._downstream.reset()
        if self._upstream is not None:
            self._upstream.reset()

    def _over(self) -> None:
        """It takes nothing any more, and is told of."""
        self._to(State.CLOSED)
        if self._reaching is not None and self._task is not None:
            self._task.cancel()
        if self._upstream is not None:
            self._count_bytes(self._upstream)
            self.caller.relayed -= 1
        if self._place is not None:
            self._place.leave()
        self._runtime.closed(self)
        report(self._runtime, self._account)

    def _to(self, state: State) -> None:
        assert state in WAYS[self._state], f"{self._state} to {state}"
        self._state = state
        self._since = self._runtime.now
