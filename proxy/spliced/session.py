"""An HTTP/2 connection that is spliced: from its preface to the end of both its ends."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

from meshd.datapath.rules.splicing import Splicing
from meshd.model.routes import WeightedCluster
from meshd.model.tcp_routes import TcpRoute
from proxy.fast.kernel_flow import GRACE_SECONDS
from proxy.fast.kernel_splice import KernelSplice
from proxy.in_force import ListenerState
from proxy.runtime import Connection, Runtime
from proxy.spliced.ending import Ending, NewStreamError, Stage
from proxy.spliced.frames import AFTER_PREFACE, BEFORE_PREFACE
from proxy.spliced.way import Way
from proxy.tcp.end import End, Sink
from proxy.tcp.session import Session, State
from proxy.telemetry.response_flags import Flag
from proxy.upstream.caller import Caller

LOOK_SECONDS = 2.0
"""Between two looks at what the kernel has redirected."""
ANNOUNCED_SECONDS = 5.0
"""For a client to answer the PING that comes with the first GOAWAY (Envoy's drain_timeout)."""
_PING_BYTES = 8


def splicing_now(runtime: Runtime, listener: ListenerState) -> Splicing | None:
    """Where a new HTTP/2 connection to a listener goes as a whole; None: each of its requests by itself."""
    is_logged = runtime.access_log is not None and listener.options.access_log_share > 0
    if listener.removed or runtime.draining or is_logged:
        return None
    splicing = runtime.config.splicing(listener)
    return None if isinstance(splicing, str) else splicing


class SplicedSession(Session):
    """One endpoint is picked for the connection; then each byte passes as it came, by the proxy or in the
    kernel, until another config is in force: then the client is asked, by GOAWAY, to come again.
    """

    __slots__ = (
        "_announced",
        "_down",
        "_ending",
        "_endpoints",
        "_fall_back",
        "_is_leaving",
        "_kernel",
        "_next_look",
        "_splicing",
        "_up",
    )

    def __init__(
        self,
        runtime: Runtime,
        caller: Caller,
        listener: ListenerState,
        splicing: Splicing,
        local: str,
        remote: str,
        ipv6: bool,
        kernel: KernelSplice | None,
        fall_back: Callable[[bytes, bool], None],
    ) -> None:
        """``kernel``: its share; None: it has none. ``fall_back``: serves the client where there is no
        server; takes what has come, and whether that was all.
        """
        super().__init__(runtime, caller, listener, local, remote, ipv6)
        self._splicing = splicing
        self._kernel = kernel
        self._fall_back = fall_back
        self._endpoints = runtime.config.snapshot.endpoints.get(splicing.cluster.name)
        self._up: Way
        self._down = Way(AFTER_PREFACE, self._downstream, self._from_server)
        self._is_leaving = False
        self._ending: Ending | None = None
        self._next_look = 0.0
        self._announced = 0.0
        """When the client was told, by runtime.now."""

    def take_over(self, other: Connection, transport: asyncio.Transport, data: bytes, eof: bool) -> None:
        """Go on with another one's connection, of which ``data``, the preface first, is all that has come."""
        runtime, client, cluster = self._runtime, self._downstream, self._splicing.cluster.name
        runtime.replaced(other, self)
        runtime.spliced.add(self)
        self._to(State.CONNECTING)
        transport.set_protocol(client)
        client.connection_made(transport)
        client.received = len(data)
        client.eof = eof
        self._first.write(data)
        client.hold()
        self._idle_timeout = self._listener.options.idle_timeout
        self._account.route, self._account.cluster = self._splicing.route, cluster
        route = TcpRoute(
            name=self._splicing.route,
            clusters=(WeightedCluster(name=cluster),),
            idle_timeout=self._idle_timeout,
        )
        self._task = runtime.loop.create_task(self._reach(route))

    def made(self, end: End) -> None:
        """Owner: an end stands."""
        if end is not self._downstream:
            self._open(end)

    # -- a server ------------------------------------------------------------------------------------

    def _open_socket(self, family: socket.AddressFamily) -> socket.socket:
        return self.caller.open_socket(family)

    def _unreachable(self, flag: Flag, reason: str) -> None:
        """The proxy answers each request by itself: it can say why."""
        self._to(State.CLOSED)
        self._forget()
        self._downstream.release()
        self._fall_back(self._first.take(), self._downstream.eof)

    def _to_client(self) -> Sink:
        return self._down

    def _to_server(self, upstream: End) -> Sink:
        self._runtime.counters.add("http2_spliced_connections_total")
        self._up = Way(BEFORE_PREFACE, upstream, self._from_client)
        # Before a byte is sent: then the answer may be the kernel's from its first byte on.
        if self._kernel is not None and not self._kernel.begin(
            upstream, self._up.passed(), self._down.passed()
        ):
            self._runtime.counters.add("fast_path_arm_failures_total")
            self._end_share()
        return self._up

    def _open(self, upstream: End) -> None:
        super()._open(upstream)
        if self._is_leaving and self._state is State.OPEN:
            self._leave()

    # -- what passes ---------------------------------------------------------------------------------

    def _from_client(self, data: bytes) -> None:
        if self._ending is None:
            self._pass(self._up, data)
            return
        try:
            self._up.send(self._ending.from_client(data))
        except NewStreamError as error:
            self._fail(
                Flag.DOWNSTREAM_PROTOCOL_ERROR,
                f"the client opened stream {error} after a GOAWAY that ends before",
            )
            return
        self._say(b"")

    def _from_server(self, data: bytes) -> None:
        if self._ending is None:
            self._pass(self._down, data)
        else:
            self._say(data)

    def _pass(self, way: Way, data: bytes) -> None:
        self._catch_up()
        way.frames.feed(data)
        self._tell(way, len(data))
        way.send(data)

    # -- the kernel ----------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Learn what it has redirected."""
        redirected = None if self._kernel is None else self._kernel.redirected()
        if redirected is not None:
            self._up.catch_up(redirected[0])
            self._down.catch_up(redirected[1])

    def _tell(self, way: Way | None = None, more: int = 0) -> bool:
        """Tell it how far things are. ``more``: bytes that are sent ``way`` next. False: it does not know."""
        kernel = self._kernel
        if kernel is None:
            return True
        if way is self._down and kernel.is_server_elsewhere():
            self._end_share()
            return True
        up, down = (each.passed(more if each is way else 0) for each in (self._up, self._down))
        if kernel.tell(up, down, self._is_leaving):
            return True
        self._runtime.counters.add("fast_path_arm_failures_total")
        return False

    def _end_share(self) -> None:
        """The kernel has none any more, or is to have none."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    # -- another config ------------------------------------------------------------------------------

    def config_changed(self) -> None:
        """Runtime: leave unless all is as it was."""
        endpoints = self._runtime.config.snapshot.endpoints.get(self._splicing.cluster.name)
        is_same = endpoints is self._endpoints or endpoints == self._endpoints
        if not is_same or splicing_now(self._runtime, self._listener) != self._splicing:
            self.drain()

    def drain(self) -> None:
        """End without a lost request, as soon as there is somebody to tell."""
        if not self._is_leaving:
            self._is_leaving = True
            if self._state is State.OPEN:
                self._leave()

    def _leave(self) -> None:
        """Have the kernel give up its share, and then tell the client."""
        if self._state is not State.OPEN:
            return
        is_told = self._tell()
        self._runtime.loop.call_later(GRACE_SECONDS, self._announce if is_told else self._leave)

    def _announce(self) -> None:
        if self._state is not State.OPEN:
            return
        self._catch_up()
        self._count_requests()
        self._runtime.counters.add("http2_spliced_goaways_total")
        self._ending = Ending(self._up.frames, self._down.frames, secrets.token_bytes(_PING_BYTES))
        self._say(b"")

    def _say(self, data: bytes) -> None:
        """Pass on what the server has sent, and what the client has to be told."""
        ending = self._ending
        assert ending is not None
        before = ending.stage
        said = ending.from_server(data)
        if before is Stage.ANNOUNCING and ending.stage is Stage.ANNOUNCED:
            self._announced = self._runtime.now
        if said:
            self._down.send(said)

    # -- the end -------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Runtime's sweep."""
        ending = self._ending
        if ending is None:
            if self._state is State.OPEN and now >= self._next_look:
                self._next_look = now + LOOK_SECONDS
                self._catch_up()
                self._count_requests()
        elif ending.stage is Stage.ANNOUNCED and now - self._announced > ANNOUNCED_SECONDS:
            ending.waited_enough()
            self._say(b"")
        super().check(now)

    def _count_bytes(self, upstream: End) -> None:
        self._account.moved(self._runtime.tcp_stats, self._up.total, self._down.total)

    def _count_requests(self) -> None:
        self._runtime.counters.add("http2_spliced_requests_total", self._up.newly_opened())

    def _over(self) -> None:
        if self._upstream is not None:
            if self._ending is None:
                self._catch_up()
            self._count_requests()
        super()._over()
        self._forget()

    def _forget(self) -> None:
        self._end_share()
        self._runtime.spliced.discard(self)
