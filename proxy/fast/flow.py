"""One connection's share in the fast path: what the kernel may do with it, and what it has done meanwhile.

A flow is *armed* from the moment the proxy has told the kernel what it may do with the next request until the
proxy has bytes of the client that the kernel did not carry, with no carried request unanswered: from then on,
until the next arming, the kernel carries nothing, for the client's bytes are not all consumed
(bpf/flow_state.h). Only while a flow is not armed may a connection to a server leave it.

Who disarms a flow for another reason (to close it, to give its connections away) must reckon with a program
of the kernel that runs just then, and look again after GRACE_SECONDS.
"""

from __future__ import annotations

from proxy.fast.carried_client import CarriedClient
from proxy.fast.kernel_flow import GRACE_SECONDS, KernelFlow, Stage, Turn
from proxy.fast.kernel_splice import KernelSplice
from proxy.fast.own_connections import OwnConnections
from proxy.fast.path import FastPath
from proxy.fast.settling import REMOTE_END_SECONDS, Settling
from proxy.upstream.http1 import Upstream
from proxy.upstream.pool import Pool

RELEASE_SECONDS = 2.0
"""A flow without a request for so long gives its connections to the pools. The kernel no longer uses them by
then (MESHD_MAX_QUIET_NS)."""
_MANY_UNUSED = 4
_SELDOM = 16
"""A flow that was armed so often for nothing is armed each sixteenth time."""


class FastFlow:
    """Belongs to one Downstream; what it is asked by it, by connections to servers and by the sweep."""

    __slots__ = (
        "_down",
        "_kernel",
        "_left_at",
        "_most",
        "_next_look",
        "_own",
        "_path",
        "_quiet_since",
        "_settling",
        "_watched",
    )

    def __init__(self, path: FastPath, key: bytes) -> None:
        """``key``: of the ``flows`` map."""
        self._path = path
        self._down: CarriedClient
        self._kernel = KernelFlow(path, key)
        self._own = OwnConnections(path, self)
        self._settling = Settling(path, self._kernel, self._own)
        self._most = 0
        """Connections that it has had at one time."""
        self._quiet_since = 0.0
        self._next_look = 0.0
        self._watched = False
        self._left_at: float | None = None
        """When the client's socket began to leave the kernel's maps: it is the proxy's from then on."""

    def belongs_to(self, downstream: CarriedClient) -> None:
        """Called once, before anything else."""
        self._down = downstream
        self._settling.belongs_to(downstream)

    @property
    def armed(self) -> bool:
        """Whether the kernel may be carrying a request, or begin to."""
        return self._kernel.armed

    # -- the proxy's turn ----------------------------------------------------------------------------

    def take(self, pool: Pool) -> Upstream | None:
        """The flow's own connection to an endpoint, for a request that the proxy sends; None: it has none."""
        return self._own.take(pool)

    def keep(self, upstream: Upstream) -> bool:
        """Keep the connection of a request that has ended well. False: it is not wanted, or not usable."""
        pool = upstream.pool
        if not self._may_arm() or pool.draining or not upstream.is_reusable():
            return False
        if pool.cluster.limits.connections:
            return False  # nobody may sit on a connection that others wait for
        self._own.add(upstream)
        if len(self._own) > self._most:
            self._most = len(self._own)
            self._settling.unused = 0  # one upcall for each is what it takes
        return True

    def arm(self, pending: int) -> None:
        """Let the kernel have the next request: the last one has ended cleanly, and nothing came after it.

        ``pending``: bytes of its answer yet to be written; the kernel waits until the client has read them.
        """
        if not self._own:
            return
        if not self._may_arm():
            self._own.release_all()
            return
        self._quiet_since = self._down.runtime.now
        unused = self._settling.unused
        if unused < _MANY_UNUSED or unused % _SELDOM == 0:
            self._arm(pending)
        else:
            self._settling.unused += 1
        if self._own and not self._watched:
            self._watched = True
            self._path.watch(self)

    def _may_arm(self) -> bool:
        down = self._down
        return (
            not self._settling.pipelines
            and self._left_at is None
            and not down.eof
            and not down.listener.removed
            and self._path.is_on()
            and self._path.rules(down.listener) is not None
        )

    def _arm(self, pending: int) -> None:
        down = self._down
        rules = self._path.rules(down.listener)
        assert rules is not None
        entries = self._own.entries(down.runtime, down.ipv6)
        if not entries:
            return
        options = down.listener.options
        caller = down.forwarded_for() if options.forwarded_for else b""
        self._own.leave_to_kernel()
        try:
            self._kernel.arm(rules, down.received, down.written + pending, options, caller, entries)
        except OSError:
            self._own.take_from_kernel()
            down.runtime.counters.add("fast_path_arm_failures_total")
            return
        self._settling.begin()

    def disarm(self) -> None:
        """Let the kernel carry nothing more. What it carries goes on."""
        self._kernel.disarm(self._down.runtime.loop.time())

    def splice(self) -> KernelSplice | None:
        """The kernel's share in splicing the connection as a whole; None: it is to have none."""
        return KernelSplice(self._path, self._kernel.key) if self._path.is_on() else None

    def leave(self, now: float) -> bool:
        """Have the kernel carry nothing more, ever. Whether nothing is on its way to the client any more."""
        if self._left_at is None:
            self._left_at = now
        if self._kernel.armed:
            self._end_turn()
            return False
        carried = self._kernel.carried()
        return carried is None or not carried.remote or now - self._left_at > REMOTE_END_SECONDS

    # -- the client's side ---------------------------------------------------------------------------

    def is_settled(self, data: bool) -> bool:
        """Whether no carried request is under way, so that what came of the client is the proxy's.

        ``data``: bytes came; else the client has sent its last. False: ``Downstream.settled`` is called when
        it is so, or the connection has been ended, or the bytes belong to the request that it now serves.
        """
        return not self._kernel.armed or self._settling.is_settled(data)

    def take_drawn(self) -> bool | None:
        """Whether the kernel drew the request that has just come for the access log; None: it drew none."""
        drawn, self._settling.drawn = self._settling.drawn, None
        return drawn

    def may_close(self, now: float) -> bool:
        """Whether the connection can be closed between two requests. False: ask again with the next sweep."""
        kernel = self._kernel
        if not kernel.armed:
            return True
        self.disarm()
        if now - kernel.disarmed_at < GRACE_SECONDS:
            return False
        carried = kernel.carried()
        return carried is None or kernel.stage(carried) is not Stage.UNANSWERED

    def quiet_since(self) -> float:
        """When the kernel last began to carry a request, or the proxy armed the flow; by the loop's clock."""
        kernel = self._kernel
        carried = kernel.carried() if kernel.armed else None
        if carried is not None and kernel.is_used(carried):
            self._quiet_since = max(self._quiet_since, carried.began)
        return self._quiet_since

    def closed(self) -> None:
        """The connection is gone, and the client sends nothing more."""
        self._settling.end()
        kernel = self._kernel
        armed = kernel.armed
        carried = kernel.carried() if armed else None
        kernel.close(self._down.runtime.loop.time())
        nothing = self._path.table.responses["RESPONSE_NONE"] if armed else 0
        for upstream in self._own:
            connection = kernel.connection(upstream.key) if armed else None
            unfinished = carried is not None and carried.request_left and carried.connection == upstream.key
            if armed and (unfinished or connection is None or connection.response != nothing):
                self._own.abort(upstream)
            else:
                self._own.release(upstream)

    def _end_turn(self) -> None:
        """Disarm, and see to it that the sweep takes the turn."""
        self.disarm()
        self._next_look = 0.0

    # -- the servers' side ---------------------------------------------------------------------------

    def upstream_data(self, upstream: Upstream, data: bytes) -> None:
        """Bytes of a server that has no exchange: an answer that the kernel leaves to the proxy, or noise."""
        self._settling.upstream_data(upstream, data)

    def upstream_ended(self, upstream: Upstream) -> None:
        """The server has closed a connection that has no exchange, or it broke."""
        if upstream not in self._own:
            return
        self._own.forget(upstream)
        status = self._kernel.status(upstream.key) if self._kernel.armed else 0
        upstream.close()
        self._settling.connection_left(status)

    def leave_server(self, upstream: Upstream, now: float) -> bool:
        """Have the kernel carry nothing more to a server. Whether nothing is on its way there any more.

        A request that waits there unread will be answered by TCP, so that it is the proxy's from now on.
        """
        kernel = self._kernel
        if not kernel.armed:
            return True
        self._end_turn()
        carried = kernel.carried()
        if carried is None or now - kernel.disarmed_at < GRACE_SECONDS:
            return False
        if carried.connection != upstream.key or kernel.stage(carried) is Stage.DONE:
            return True
        if carried.request_left or kernel.is_begun(carried):
            return False
        self._settling.adopt(carried, upstream)
        return True

    def withdraw(self) -> None:
        """An endpoint takes no more requests: give up the connections to it, when the kernel has."""
        if self._kernel.armed:
            self.disarm()
        else:
            self._own.release_draining()

    # -- the sweep -----------------------------------------------------------------------------------

    def is_over(self) -> bool:
        """FastPath: nothing to look after."""
        over = self._kernel.turn is Turn.CLOSED or not (self._kernel.armed or self._own)
        if over:
            self._watched = False
        return over

    def is_due(self, now: float) -> bool:
        """FastPath: it is time for a look."""
        return now >= self._next_look

    def look(self, now: float) -> None:
        """FastPath's sweep: times out what is carried, and gives away what is not used."""
        kernel = self._kernel
        if kernel.turn is Turn.CLOSED or not self._down.is_idle():
            return
        self._next_look = now + self._look_interval()
        if kernel.turn is Turn.PROXY:
            if self._own and now - self._quiet_since > RELEASE_SECONDS:
                self._own.release_all()
            return
        carried = kernel.carried()
        if carried is None:
            return  # the client has closed; TCP tells us
        if kernel.is_used(carried):
            self._quiet_since = max(self._quiet_since, carried.began)
            self._down.active_at(self._quiet_since)
        self._own.listen_to_missed()
        stage = kernel.stage(carried)
        if stage is Stage.UNANSWERED:
            self._settling.check(carried, now)
        elif stage is Stage.UNFINISHED:
            pass  # nobody else may have its connection
        elif kernel.turn is Turn.ENDING:
            if now - kernel.disarmed_at > GRACE_SECONDS and not self._down.is_waiting():
                self._settling.release(carried)
        elif now - self._quiet_since > RELEASE_SECONDS:
            self.disarm()
            self._next_look = now

    def _look_interval(self) -> float:
        if self._kernel.turn is not Turn.KERNEL or self._kernel.rules.has_timeouts:
            return 0.0
        return min(RELEASE_SECONDS, self._down.listener.options.stream_idle_timeout / 10 or RELEASE_SECONDS)
