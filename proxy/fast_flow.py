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
from typing import TYPE_CHECKING

from meshd.datapath.arming import Upstream as Entry
from meshd.datapath.flows import Carried
from proxy import adoption, failures
from proxy.arming_plan import MAX_CONNECTIONS, Own, plan
from proxy.exchange import Exchange
from proxy.fast_path import FastPath, ListenerRules
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
_REMOTE_END_SECONDS = 2.0
"""From an answer's last byte to the end of a connection whose client has sent its own. What is redirected
from another node and waits for room at the client is outside of TCP's stream: a FIN would pass it."""
_MANY_UNUSED = 4
_SELDOM = 16
"""A flow that was armed so often for nothing is armed each sixteenth time."""
_MASK = 0xFFFF_FFFF


class FastFlow:
    """Belongs to one Downstream. ``_own`` are the idle connections that the kernel may use, by their use."""

    __slots__ = (
        "_armed_at",
        "_closed",
        "_delay",
        "_disarmed_at",
        "_down",
        "_most",
        "_next_look",
        "_own",
        "_path",
        "_pipelines",
        "_progress",
        "_progress_at",
        "_quiet_since",
        "_refusal",
        "_request_whole_at",
        "_rules",
        "_settling",
        "_spilled",
        "_timer",
        "_told",
        "_unused",
        "_watched",
        "answered",
        "armed",
        "key",
    )

    def __init__(self, path: FastPath, key: bytes) -> None:
        """``key``: of the ``flows`` map."""
        self._path = path
        self.key = key
        self.armed = False
        """The kernel may be carrying a request, or begin to."""
        self.answered = 0
        """Requests that the kernel carried and whose answer the proxy brought to its end, mod 2**32."""
        self._spilled = 0
        """Of those: whose answer the kernel had begun."""
        self._down: Downstream
        self._own: list[Upstream] = []
        self._rules: ListenerRules
        """That it was armed by last."""
        self._told = False
        """There is an entry in the kernel."""
        self._armed_at = 0
        """Requests that the kernel had carried by then."""
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
        self._progress: tuple[int, ...] = ()
        self._progress_at = 0.0
        self._request_whole_at = 0.0
        self._closed = False

    def belongs_to(self, downstream: Downstream) -> None:
        """Called once, before anything else."""
        self._down = downstream

    # -- the proxy's turn: the flow is not armed -----------------------------------------------------

    def take(self, pool: Pool) -> Upstream | None:
        """The flow's own connection to an endpoint, for a request that the proxy sends; None: it has none."""
        for upstream in self._own:
            if upstream.pool is pool:
                self._forget(upstream)
                if self._is_sound(upstream):
                    return upstream
                upstream.abort()
                return None
        return None

    def keep(self, upstream: Upstream) -> bool:
        """Keep the connection of a request that has ended well. False: it is not wanted, or not usable."""
        if not self._may_arm() or upstream.pool.draining or not upstream.is_reusable():
            return False
        for other in tuple(self._own):
            if other.pool is upstream.pool:
                self._release(other)
        upstream.reused = True
        upstream.exchange = None
        upstream.flow = self
        self._own.append(upstream)
        if len(self._own) > MAX_CONNECTIONS:
            self._release(self._own[0])
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
            self._release_all()
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
        entries = self._entries()
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
            rules.fingerprint, down.received, down.written + pending, self.answered, flags, line, entries
        )
        try:
            table.arm(self.key, value)
        except OSError:
            down.runtime.counters.add("fast_path_arm_failures_total")
            return
        self._rules = rules
        self._told = self.armed = True
        self._refusal = None
        self._settling = False
        self._cancel_timer()

    def _entries(self) -> list[Entry]:
        down = self._down
        table = self._path.table
        for upstream in tuple(self._own):
            if not upstream.is_known(table):
                down.runtime.counters.add("fast_path_unusable_connections_total")
                self._release(upstream)
        balancers = down.runtime.config.balancers
        own = [Own(upstream.pool.cluster.name, upstream.pool.address) for upstream in self._own]
        weights = {
            each.cluster: balancers[each.cluster].weights(down.ipv6)
            for each in own
            if each.cluster in balancers
        }
        shares, missing = plan(own, weights, MAX_CONNECTIONS - len(own))
        entries = [
            Entry(upstream.key, upstream.pool.cluster_id, share, upstream.written, upstream.kind)
            for upstream, share in zip(self._own, shares, strict=True)
            if share
        ]
        if entries:
            clusters = {upstream.pool.cluster.name: upstream.pool.cluster_id for upstream in self._own}
            kind, none = table.kinds["UPSTREAM_MISSING"], table.codec.no_connection
            entries += [Entry(none, clusters[each.cluster], each.weight, 0, kind) for each in missing]
        return entries

    # -- whose turn it is ----------------------------------------------------------------------------

    def is_settled(self, data: bool) -> bool:
        """Whether no carried request is unanswered, so that what came of the client is the proxy's.

        ``data``: bytes came; else the client has sent its last. False: ``Downstream.settled`` is called when
        it is so, or the connection has been ended.
        """
        if not self.armed:
            return True
        carried = self._carried()
        if carried is None:
            self._down.close()  # the client has closed
            return False
        if carried.request_left:
            # They are the rest of a carried request: its server has gone. Or the client has, within it.
            self._end_within_request(carried, data)
            return False
        if self._is_busy(carried) or (carried.remote and not data):
            self._poll_after(_FIRST_POLL)
            return False
        self._proxys_turn(carried)
        return True

    def _proxys_turn(self, carried: Carried) -> None:
        self.armed = False
        self._settling = False
        if carried.pipelines:
            self._pipelines = True
        self._unused = self._unused + 1 if carried.requests == self._armed_at else 0
        self._armed_at = carried.requests

    def _poll_after(self, delay: float) -> None:
        if self._timer is None:
            self._delay = delay
            self._timer = self._down.runtime.loop.call_later(delay, self._poll)

    def _poll(self) -> None:
        self._timer = None
        if self._closed or not self.armed or not self._down.is_idle():
            return
        carried = self._carried()
        if carried is None:
            self._down.close()
        elif self._is_busy(carried):
            self._settling = False
            if self._carrier(carried) is None:
                self._fail(carried)
            else:
                self._poll_after(min(2 * self._delay, _LAST_POLL))
        elif not self._settling:
            # An answer is counted just before its last bytes are with the client; ours must not overtake.
            self._settling = True
            self._poll_after(_REMOTE_END_SECONDS if carried.remote and self._down.eof else _FIRST_POLL)
        elif not self._told or self._down.is_waiting():
            self._proxys_turn(carried)
            self._down.settled()

    def may_close(self, now: float) -> bool:
        """Whether the connection can be closed between two requests. False: ask again with the next sweep."""
        if not self.armed:
            return True
        if self._told:
            self.disarm()
        if now - self._disarmed_at < GRACE_SECONDS:
            return False
        carried = self._carried()
        if carried is None:
            return True
        if self._is_busy(carried):
            return False
        self.armed = False
        return True

    def quiet_since(self) -> float:
        """When the kernel last began to carry a request, or the proxy armed the flow; by the loop's clock."""
        carried = self._carried() if self.armed else None
        if carried is not None and carried.requests != self._armed_at:
            self._quiet_since = max(self._quiet_since, carried.began)
        return self._quiet_since

    def disarm(self) -> None:
        """Let the kernel carry nothing more. What it carries goes on."""
        if self._told:
            self._told = False
            self._disarmed_at = self._down.runtime.loop.time()
            self._path.table.disarm(self.key)

    def closed(self) -> None:
        """The connection is gone, and the client sends nothing more."""
        self._closed = True
        self._cancel_timer()
        self.disarm()
        table = self._path.table
        nothing = table.responses["RESPONSE_NONE"]
        for upstream in tuple(self._own):
            connection = table.connection(upstream.key) if self.armed else None
            if self.armed and (connection is None or connection.response != nothing):
                self._forget(upstream)
                upstream.abort()
            else:
                self._release(upstream)
        self.armed = False

    # -- the servers' side ---------------------------------------------------------------------------

    def upstream_data(self, upstream: Upstream, data: bytes) -> None:
        """Bytes of a server that has no exchange: an answer that the kernel leaves to the proxy, or noise."""
        carried = self._carried() if self.armed and self._down.is_idle() else None
        self._forget(upstream)
        if carried is None or not self._is_busy(carried) or carried.connection != upstream.key:
            self._down.runtime.counters.add("upstream_unsolicited_bytes_total")
            upstream.abort()
            self._lost(0)
            return
        table = self._path.table
        connection = table.connection(upstream.key)
        if connection is not None and connection.response == table.responses["RESPONSE_UPCALLED"]:
            self._adopt(carried, upstream).upstream_data(data)
        elif connection is not None and connection.response == table.responses["RESPONSE_SPILLED"]:
            exchange = self._adopt(carried, upstream)
            exchange.go_on(adoption.rest_of_chunks(), connection.status, connection.carried)
            exchange.upstream_data(data)
        else:
            upstream.abort()
            self._fail(carried, connection.status if connection else 0)

    def upstream_ended(self, upstream: Upstream) -> None:
        """The server has closed a connection that has no exchange, or it broke."""
        if upstream not in self._own:
            return
        self._forget(upstream)
        status = self._status(upstream.key) if self.armed else 0
        upstream.close()
        self._lost(status)

    def withdraw(self) -> None:
        """An endpoint takes no more requests: give up the connections to it, when the kernel has."""
        if self.armed:
            self.disarm()
        else:
            for upstream in tuple(self._own):
                if upstream.pool.draining:
                    self._release(upstream)

    def _lost(self, status: int) -> None:
        """A connection has left while the flow was armed: a request may have gone its way, or go just now.

        ``status``: of the last answer on it, as far as it is known.
        """
        if not self.armed or self._closed:
            return
        self.disarm()
        carried = self._carried()
        if carried is not None and self._is_busy(carried) and self._carrier(carried) is None:
            self._fail(carried, status)
        else:
            self._settling = False
            self._poll_after(GRACE_SECONDS)

    def _carrier(self, carried: Carried) -> Upstream | None:
        return next((each for each in self._own if each.key == carried.connection), None)

    # -- carried requests that become the proxy's ----------------------------------------------------

    def is_request_whole(self) -> bool:
        """Whether the last carried request's body has come to its end."""
        carried = self._carried()
        return carried is not None and carried.request_left == 0

    def adopted_ended(self, spilled: bool) -> None:
        """A carried request has been answered by the proxy; ``spilled``: the kernel had begun to."""
        self.answered = self.answered + 1 & _MASK
        self._spilled += spilled

    def _adopt(self, carried: Carried, upstream: Upstream | None) -> Exchange:
        self._cancel_timer()
        self.armed = False
        self._unused = 0
        self._armed_at = carried.requests
        return adoption.adopt(
            self._down, self._rules, carried, self._path.table.methods[carried.method], upstream
        )

    def _fail(self, carried: Carried, status: int = 0) -> None:
        """Answer a carried request whose connection is no more; cut the answer off if it has begun."""
        refusal, known_status = self._refusal or (None, status)
        begun = (carried.begun - carried.responses - self._spilled) & _MASK != 0
        exchange = self._adopt(carried, None)
        if begun:
            exchange.go_on(None, known_status, 0)
            exchange.fail(refusal or failures.truncated())
        else:
            exchange.fail(refusal or failures.closed_unanswered())

    def _end_within_request(self, carried: Carried, data: bool) -> None:
        upstream = self._carrier(carried)
        if upstream is not None:
            self._forget(upstream)
            upstream.abort()
        if data and self._is_busy(carried):
            self._fail(carried)
        elif data:
            self.armed = False
            self._down.end_after_answer()
        else:
            self._down.close()

    # -- time ----------------------------------------------------------------------------------------

    def is_over(self) -> bool:
        """FastPath: nothing to look after."""
        over = self._closed or not (self.armed or self._own)
        if over:
            self._watched = False
        return over

    def is_due(self, now: float) -> bool:
        """FastPath: it is time for a look."""
        return now >= self._next_look

    def look(self, now: float) -> None:
        """FastPath's sweep: times out what is carried, and gives away what is not used."""
        if self._closed or not self._down.is_idle():
            return
        self._next_look = now + self._look_interval()
        if not self.armed:
            if self._own and now - self._quiet_since > RELEASE_SECONDS:
                self._release_all()
            return
        carried = self._carried()
        if carried is None:
            return  # the client has closed; TCP tells us
        if carried.requests != self._armed_at:
            self._quiet_since = max(self._quiet_since, carried.began)
            self._down.active_at(self._quiet_since)
        if self._is_busy(carried):
            self._check_carried(carried, now)
        elif not self._told:
            if now - self._disarmed_at > GRACE_SECONDS and not self._down.is_waiting():
                self._proxys_turn(carried)
                self._release_all()
        elif now - self._quiet_since > RELEASE_SECONDS:
            self.disarm()
            self._next_look = now

    def _look_interval(self) -> float:
        if not self.armed or self._rules.has_timeouts or not self._told:
            return 0.0
        return min(RELEASE_SECONDS, self._down.listener.options.stream_idle_timeout / 10 or RELEASE_SECONDS)

    def _check_carried(self, carried: Carried, now: float) -> None:
        """A carried request's timeouts."""
        if self._refusal is not None:
            return
        connection = self._path.table.connection(carried.connection)
        progress: tuple[int, ...] = (carried.requests, carried.request_left)
        if connection is not None:
            progress += (connection.response, connection.response_left, connection.carried)
        if progress != self._progress:
            if progress[:2] != self._progress[:2]:
                # When the request's last byte came is not known to less than a sweep.
                began_before = self._progress[:1] == progress[:1]
                self._request_whole_at = now if began_before else carried.began
            self._progress, self._progress_at = progress, now
        timeout = self._rules.timeout(carried.route)
        if timeout > 0 and not carried.request_left and now - self._request_whole_at > timeout:
            self._give_up(carried, failures.route_timeout(timeout))
            return
        limit = self._down.listener.options.stream_idle_timeout
        if 0 < limit < now - self._progress_at:
            self._give_up(carried, failures.stream_idle(limit, carried.request_left == 0))

    def _give_up(self, carried: Carried, refusal: Refusal) -> None:
        """Take the request from its server, and answer when the server cannot any more."""
        self._refusal = refusal, self._status(carried.connection)
        self.disarm()
        upstream = self._carrier(carried)
        if upstream is not None:
            self._forget(upstream)
            upstream.abort()
        self._cancel_timer()
        self._poll_after(GRACE_SECONDS)

    # -- odds and ends -------------------------------------------------------------------------------

    def _carried(self) -> Carried | None:
        return self._path.flows.carried(self.key)

    def _status(self, key: bytes) -> int:
        """Of the last answer on a connection that the kernel read; 0: the kernel has forgotten it."""
        connection = self._path.table.connection(key)
        return 0 if connection is None else connection.status

    def _is_busy(self, carried: Carried) -> bool:
        return (carried.requests - carried.responses - self.answered) & _MASK != 0

    def _forget(self, upstream: Upstream) -> None:
        if upstream in self._own:
            self._own.remove(upstream)
        upstream.flow = None

    def _release(self, upstream: Upstream) -> None:
        self._forget(upstream)
        if self._is_sound(upstream):
            upstream.pool.release(upstream)
        else:
            upstream.abort()

    def _is_sound(self, upstream: Upstream) -> bool:
        """Whether no byte is on its way that could pass for an answer to the next request.

        Where the kernel sees the server's socket it knows of bytes that have not come yet.
        """
        if not upstream.is_open() or upstream.has_ended():
            return False
        if upstream.kind <= 0:
            return True
        connection = self._path.table.connection(upstream.key)
        return connection is not None and connection.place != self._path.table.places["PLACE_GONE"]

    def _release_all(self) -> None:
        for upstream in tuple(self._own):
            self._release(upstream)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
