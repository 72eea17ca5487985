"""One connection's share in the fast path: what the kernel may do with it, and what it has done meanwhile.

A flow is *armed* from the moment the proxy has told the kernel what it may do with the next request until the
proxy has bytes of the client that the kernel did not carry, with no carried request unanswered: from then on,
until the next arming, the kernel carries nothing, for the client's bytes are not all consumed
(bpf/flow_state.h). Only while a flow is not armed may a connection to a server leave it.

Who disarms a flow for another reason (to close it, to give its connections away) must reckon with a program
of the kernel that runs just then, and look again after GRACE_SECONDS.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING

from meshd.datapath.arming import Connection
from meshd.datapath.flows import Carried
from proxy import carried_request, failures
from proxy.carried_progress import CarriedProgress
from proxy.exchange import Exchange
from proxy.fast_path import FastPath, ListenerRules
from proxy.own_connections import OwnConnections
from proxy.refusal import Refusal
from proxy.upstream import Upstream

if TYPE_CHECKING:
    from proxy.downstream import Downstream
    from proxy.pool import Pool

GRACE_SECONDS = 0.02
"""After a flow is disarmed no program still acts on what it was; programs take microseconds."""
RELEASE_SECONDS = 2.0
"""A flow without a request for so long gives its connections to the pools. The kernel no longer uses them by
then (MESHD_MAX_QUIET_NS)."""
_FIRST_POLL, _LAST_POLL = 0.0005, 0.02
"""Seconds between two looks at a request that the kernel carries, when what the client sends waits for it."""
_MANY_UNUSED = 4
_SELDOM = 16
"""A flow that was armed so often for nothing is armed each sixteenth time."""
_MASK = 0xFFFF_FFFF


class Turn(enum.Enum):
    """Whose the client's next request is."""

    __hash__ = object.__hash__  # as those of exchange_state

    PROXY = "proxy"
    """The proxy's: no carried request is under way, and none will be before the next arming."""
    KERNEL = "kernel"
    """The kernel's, if it can: the flow is armed."""
    ENDING = "ending"
    """The proxy's, as soon as what the kernel carries, or has just begun to, is at its end: disarmed."""
    CLOSED = "closed"


class Stage(enum.Enum):
    """How far the request has come that the kernel carried last."""

    DONE = "done"
    """It is whole and answered, or the proxy has adopted it; or there is none."""
    UNANSWERED = "unanswered"
    UNFINISHED = "unfinished"
    """Answered, but its server waits for the rest of its body."""


class FastFlow:
    """Belongs to one Downstream."""

    __slots__ = (
        "_adopted",
        "_adopted_at",
        "_delay",
        "_disarmed_at",
        "_down",
        "_entered",
        "_most",
        "_next_look",
        "_own",
        "_path",
        "_pipelines",
        "_progress",
        "_quiet_since",
        "_refusal",
        "_rules",
        "_settling",
        "_spilled",
        "_timer",
        "_turn",
        "_unused",
        "_watched",
        "key",
    )

    def __init__(self, path: FastPath, key: bytes) -> None:
        """``key``: of the ``flows`` map."""
        self._path = path
        self.key = key
        self._turn = Turn.PROXY
        self._adopted = 0
        """Requests that the kernel carried and the proxy adopted, mod 2**32."""
        self._spilled = 0
        """Of those: whose answer the kernel had begun."""
        self._down: Downstream
        self._own = OwnConnections(path, self)
        self._rules: ListenerRules
        """That it was armed by last."""
        self._entered = False
        """There is an entry in the kernel, of whatever it may do or of nothing."""
        self._adopted_at = 0
        """Requests that the kernel had carried when its turn last ended: all of them were done."""
        self._unused = 0
        self._most = 0
        """Connections that it has had at one time."""
        self._pipelines = False
        self._disarmed_at = 0.0
        self._quiet_since = 0.0
        self._next_look = 0.0
        self._watched = False
        self._timer: asyncio.TimerHandle | None = None
        self._delay = _FIRST_POLL
        self._settling = False
        self._refusal: tuple[Refusal, int] | None = None
        self._progress = CarriedProgress()

    def belongs_to(self, downstream: Downstream) -> None:
        """Called once, before anything else."""
        self._down = downstream

    @property
    def armed(self) -> bool:
        """Whether the kernel may be carrying a request, or begin to."""
        return self._turn is Turn.KERNEL or self._turn is Turn.ENDING

    # -- the proxy's turn ----------------------------------------------------------------------------

    def take(self, pool: Pool) -> Upstream | None:
        """The flow's own connection to an endpoint, for a request that the proxy sends; None: it has none."""
        return self._own.take(pool)

    def keep(self, upstream: Upstream) -> bool:
        """Keep the connection of a request that has ended well. False: it is not wanted, or not usable."""
        if not self._may_arm() or upstream.pool.draining or not upstream.is_reusable():
            return False
        self._own.add(upstream)
        if len(self._own) > self._most:
            self._most = len(self._own)
            self._unused = 0  # one upcall for each is what it takes
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
        if self._unused < _MANY_UNUSED or self._unused % _SELDOM == 0:
            self._write(pending)
        else:
            self._unused += 1
        if self._own and not self._watched:
            self._watched = True
            self._path.watch(self)

    def _may_arm(self) -> bool:
        down = self._down
        return (
            not self._pipelines
            and not down.eof
            and not down.listener.removed
            and self._path.is_on()
            and self._path.rules(down.listener) is not None
        )

    def _write(self, pending: int) -> None:
        down = self._down
        path = self._path
        rules = path.rules(down.listener)
        assert rules is not None
        entries = self._own.entries(down.runtime, down.ipv6)
        if not entries:
            return
        table = path.table
        options = down.listener.options
        flags = 0
        if options.request_id:
            flags |= table.flags["ARMED_REQUEST_ID"]
        if options.forwarded_proto:
            flags |= table.flags["ARMED_FORWARDED_PROTO"]
        caller = down.forwarded_for() if options.forwarded_for else b""
        line = b"x-forwarded-for: %b\r\n" % caller if caller else b""
        value = table.codec.pack(
            rules.fingerprint, down.received, down.written + pending, self._adopted, flags, line, entries
        )
        try:
            table.arm(self.key, value)
        except OSError:
            down.runtime.counters.add("fast_path_arm_failures_total")
            return
        self._rules = rules
        self._turn = Turn.KERNEL
        self._entered = True
        self._refusal = None
        self._settling = False
        self._cancel_timer()

    # -- whose turn it is ----------------------------------------------------------------------------

    def is_settled(self, data: bool) -> bool:
        """Whether no carried request is under way, so that what came of the client is the proxy's.

        ``data``: bytes came; else the client has sent its last. False: ``Downstream.settled`` is called when
        it is so, or the connection has been ended, or the bytes belong to the request that it now serves.
        """
        if not self.armed:
            return True
        carried = self._carried()
        if carried is None:
            self._down.close()  # the client has closed
            return False
        stage = self._stage(carried)
        if stage is not Stage.DONE and carried.request_left:
            # They are the rest of a carried request: its server has gone. Or the client has, within it.
            self._within_request(carried, stage, data)
            return False
        if stage is Stage.UNANSWERED:
            self._poll_after(_FIRST_POLL)
            return False
        self._proxys_turn(carried)
        return True

    def _proxys_turn(self, carried: Carried) -> None:
        if self._turn is Turn.ENDING:
            self._forget_entry()
        self._turn = Turn.PROXY
        self._settling = False
        if carried.pipelines:
            self._pipelines = True
        self._unused = self._unused + 1 if carried.requests == self._adopted_at else 0
        self._adopted_at = carried.requests

    def _poll_after(self, delay: float) -> None:
        if self._timer is None:
            self._delay = delay
            self._timer = self._down.runtime.loop.call_later(delay, self._poll)

    def _poll(self) -> None:
        self._timer = None
        if not self.armed or not self._down.is_idle():
            return
        carried = self._carried()
        if carried is None:
            self._down.close()
            return
        stage = self._stage(carried)
        if stage is Stage.UNANSWERED:
            self._settling = False
            if self._own.with_key(carried.connection) is None:
                self._server_gone(carried)
            else:
                self._poll_after(min(2 * self._delay, _LAST_POLL))
        elif stage is Stage.DONE and not self._settling:
            # An answer is counted just before its last bytes are with the client; ours must not overtake.
            self._settling = True
            self._poll_after(_FIRST_POLL)
        elif stage is Stage.DONE and (self._turn is Turn.ENDING or self._down.is_waiting()):
            self._proxys_turn(carried)
            self._down.settled()

    def may_close(self, now: float) -> bool:
        """Whether the connection can be closed between two requests. False: ask again with the next sweep."""
        if not self.armed:
            return True
        self._end_turn()
        if now - self._disarmed_at < GRACE_SECONDS:
            return False
        carried = self._carried()
        return carried is None or self._stage(carried) is not Stage.UNANSWERED

    def quiet_since(self) -> float:
        """When the kernel last began to carry a request, or the proxy armed the flow; by the loop's clock."""
        carried = self._carried() if self.armed else None
        if carried is not None and carried.requests != self._adopted_at:
            self._quiet_since = max(self._quiet_since, carried.began)
        return self._quiet_since

    def disarm(self) -> None:
        """Let the kernel carry nothing more. What it carries goes on."""
        if self._turn is Turn.PROXY:
            self._forget_entry()
        else:
            self._end_turn()

    def _end_turn(self) -> None:
        if self._turn is Turn.KERNEL:
            self._turn = Turn.ENDING
            self._disarmed_at = self._down.runtime.loop.time()
            self._path.table.disarm(self.key, self._adopted)

    def _forget_entry(self) -> None:
        if self._entered:
            self._entered = False
            self._path.table.forget(self.key)

    def closed(self) -> None:
        """The connection is gone, and the client sends nothing more."""
        self._cancel_timer()
        armed = self.armed
        self._end_turn()
        self._turn = Turn.CLOSED
        carried = self._carried() if armed else None
        if carried is None:
            self._forget_entry()  # else the kernel does, when it has counted what it carries
        nothing = self._path.table.responses["RESPONSE_NONE"] if armed else 0
        for upstream in self._own:
            connection = self._path.table.connection(upstream.key) if armed else None
            unfinished = carried is not None and carried.request_left and carried.connection == upstream.key
            if armed and (unfinished or connection is None or connection.response != nothing):
                self._own.abort(upstream)
            else:
                self._own.release(upstream)

    # -- the servers' side ---------------------------------------------------------------------------

    def upstream_data(self, upstream: Upstream, data: bytes) -> None:
        """Bytes of a server that has no exchange: an answer that the kernel leaves to the proxy, or noise."""
        carried = self._carried() if self.armed and self._down.is_idle() else None
        self._own.forget(upstream)
        if (
            carried is None
            or carried.connection != upstream.key
            or self._stage(carried) is not Stage.UNANSWERED
        ):
            self._down.runtime.counters.add("upstream_unsolicited_bytes_total")
            upstream.abort()
            self._connection_left(0)
            return
        responses = self._path.table.responses
        connection = self._path.table.connection(upstream.key)
        response = responses["RESPONSE_NONE"] if connection is None else connection.response
        if response == responses["RESPONSE_UPCALLED"]:
            exchange = self._adopt(carried, upstream)
            if exchange is not None:
                exchange.upstream_data(data)
        elif connection is not None and response == responses["RESPONSE_SPILLED"]:
            exchange = self._adopt(carried, upstream)
            if exchange is not None:
                exchange.go_on(carried_request.rest_of_chunks(), connection.status, connection.carried)
                exchange.upstream_data(data)
        else:
            upstream.abort()
            self._fail(carried, connection.status if connection else 0, failures.closed_unanswered())

    def upstream_ended(self, upstream: Upstream) -> None:
        """The server has closed a connection that has no exchange, or it broke."""
        if upstream not in self._own:
            return
        self._own.forget(upstream)
        status = self._status(upstream.key) if self.armed else 0
        upstream.close()
        self._connection_left(status)

    def withdraw(self) -> None:
        """An endpoint takes no more requests: give up the connections to it, when the kernel has."""
        if self.armed:
            self._end_turn()
        else:
            self._own.release_draining()

    def _connection_left(self, status: int) -> None:
        """While the flow was armed: a request may have gone that way, or go just now.

        ``status``: of the last answer on it, as far as it is known.
        """
        if not self.armed:
            return
        self._end_turn()
        carried = self._carried()
        if (
            carried is not None
            and self._stage(carried) is Stage.UNANSWERED
            and self._own.with_key(carried.connection) is None
        ):
            self._server_gone(carried, status)
        else:
            self._settling = False
            self._poll_after(GRACE_SECONDS)

    # -- carried requests that become the proxy's ----------------------------------------------------

    def is_request_whole(self) -> bool:
        """Whether the last carried request's body has come to its end."""
        carried = self._carried()
        return carried is not None and carried.request_left == 0

    def _adopt(self, carried: Carried, upstream: Upstream | None, sent: bytes = b"") -> Exchange | None:
        """From now on the proxy answers and counts it. None: the client has closed, and the kernel counted it.

        ``sent``: as for ``carried_request.adopt``.
        """
        self._cancel_timer()
        self._adopted = self._adopted + 1 & _MASK
        if not self._path.table.disarm(self.key, self._adopted):
            if upstream is not None:
                upstream.abort()
            self._down.close()
            return None
        self._turn = Turn.PROXY
        self._unused = 0
        self._adopted_at = carried.requests
        if self._is_begun(carried):
            self._spilled += 1
        method = self._path.table.methods[carried.method]
        return carried_request.adopt(self._down, self._rules, carried, method, upstream, sent)

    def _server_gone(self, carried: Carried, status: int = 0) -> None:
        """The connection that carried it is no more: what becomes of it is decided as on the slow path.

        ``status``: of its answer, if one has begun and that is known.
        """
        if self._refusal is not None or self._is_begun(carried):
            self._fail(carried, status, failures.truncated())
            return
        exchange = self._adopt(carried, None, self._sent(carried))
        if exchange is not None:
            exchange.upstream_lost()

    def _fail(self, carried: Carried, status: int, refusal: Refusal) -> None:
        """Answer a carried request whose connection is no more; cut the answer off if it has begun."""
        refusal, status = self._refusal or (refusal, status)
        begun = self._is_begun(carried)
        exchange = self._adopt(carried, None)
        if exchange is None:
            return
        if begun:
            exchange.go_on(None, status, 0)
        exchange.fail(refusal)

    def _within_request(self, carried: Carried, stage: Stage, data: bool) -> None:
        upstream = self._own.with_key(carried.connection)
        if upstream is not None and data and stage is Stage.UNANSWERED and not self._is_begun(carried):
            # Its end, or even an answer, is about to be read.
            self._own.forget(upstream)
            self._adopt(carried, upstream, self._sent(carried))
            return
        if upstream is not None:
            self._own.abort(upstream)
        if not data:
            self._down.close()
        elif stage is Stage.UNANSWERED:
            self._server_gone(carried)
        else:
            self._turn = Turn.PROXY
            self._down.end_after_answer()

    def _sent(self, carried: Carried) -> bytes:
        return self._path.kept.read(self.key, carried.kept) if carried.kept else b""

    # -- time ----------------------------------------------------------------------------------------

    def is_over(self) -> bool:
        """FastPath: nothing to look after."""
        over = self._turn is Turn.CLOSED or not (self.armed or self._own)
        if over:
            self._watched = False
        return over

    def is_due(self, now: float) -> bool:
        """FastPath: it is time for a look."""
        return now >= self._next_look

    def look(self, now: float) -> None:
        """FastPath's sweep: times out what is carried, and gives away what is not used."""
        if self._turn is Turn.CLOSED or not self._down.is_idle():
            return
        self._next_look = now + self._look_interval()
        if self._turn is Turn.PROXY:
            if self._own and now - self._quiet_since > RELEASE_SECONDS:
                self._own.release_all()
            return
        carried = self._carried()
        if carried is None:
            return  # the client has closed; TCP tells us
        if carried.requests != self._adopted_at:
            self._quiet_since = max(self._quiet_since, carried.began)
            self._down.active_at(self._quiet_since)
        stage = self._stage(carried)
        if stage is Stage.UNANSWERED:
            self._check_carried(carried, now)
        elif stage is Stage.UNFINISHED:
            pass  # nobody else may have its connection
        elif self._turn is Turn.ENDING:
            if now - self._disarmed_at > GRACE_SECONDS and not self._down.is_waiting():
                self._proxys_turn(carried)
                self._own.release_all()
        elif now - self._quiet_since > RELEASE_SECONDS:
            self._end_turn()
            self._next_look = now

    def _look_interval(self) -> float:
        if self._turn is not Turn.KERNEL or self._rules.has_timeouts:
            return 0.0
        return min(RELEASE_SECONDS, self._down.listener.options.stream_idle_timeout / 10 or RELEASE_SECONDS)

    def _check_carried(self, carried: Carried, now: float) -> None:
        if self._refusal is not None:
            return
        connection = self._connection(carried)
        timeout = self._rules.timeout(carried.route)
        idle_limit = self._down.listener.options.stream_idle_timeout
        refusal = self._progress.overdue(carried, connection, timeout, idle_limit, now)
        if refusal is not None:
            self._give_up(carried, refusal)

    def _give_up(self, carried: Carried, refusal: Refusal) -> None:
        """Take the request from its server, and answer when the server cannot any more."""
        self._refusal = refusal, self._status(carried.connection)
        self._end_turn()
        upstream = self._own.with_key(carried.connection)
        if upstream is not None:
            self._own.abort(upstream)
        self._cancel_timer()
        self._poll_after(GRACE_SECONDS)

    # -- what the kernel says ------------------------------------------------------------------------

    def _carried(self) -> Carried | None:
        return self._path.flows.carried(self.key)

    def _connection(self, carried: Carried) -> Connection | None:
        return self._path.table.connection(carried.connection)

    def _status(self, key: bytes) -> int:
        """Of the last answer on a connection that the kernel read; 0: the kernel has forgotten it."""
        connection = self._path.table.connection(key)
        return 0 if connection is None else connection.status

    def _stage(self, carried: Carried) -> Stage:
        if (carried.requests - carried.responses - self._adopted) & _MASK:
            return Stage.UNANSWERED
        if carried.request_left and carried.requests != self._adopted_at:
            return Stage.UNFINISHED
        return Stage.DONE

    def _is_begun(self, carried: Carried) -> bool:
        """Whether the client has the answer's first byte, though not yet its last."""
        return (carried.begun - carried.responses - self._spilled) & _MASK != 0

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
