"""What becomes of the requests that the kernel carries, where that is not an answer that it carries, too."""

from __future__ import annotations

import asyncio

from meshd.datapath.flows.table import Carried
from proxy.exchanges.attempt import Attempt
from proxy.fast import carried_request
from proxy.fast.carried_client import CarriedClient
from proxy.fast.carried_exchange import CarriedExchange
from proxy.fast.carried_progress import CarriedProgress
from proxy.fast.kernel_flow import GRACE_SECONDS, KernelFlow, Stage, Turn
from proxy.fast.own_connections import OwnConnections
from proxy.fast.path import FastPath
from proxy.http1.refusal import Refusal
from proxy.upstream import failures, loss
from proxy.upstream.http1 import Upstream

_FIRST_POLL, _LAST_POLL = 0.0005, 0.02
"""Seconds between two looks at a request that the kernel carries, when what the client sends waits for it."""
_END_SECONDS, REMOTE_END_SECONDS = 0.1, 2.0
"""From an answer's end to what follows it by TCP, where the client does not wait for the answer: it has sent
its FIN, or its next request. What is redirected is outside of TCP's stream, and is counted just before it is
with the client: the server's thread may be preempted in between, and what comes from another node may wait
for room."""


class Settling:
    """One flow's. Waits for the end of what is carried, and adopts what the kernel cannot end."""

    __slots__ = (
        "_delay",
        "_down",
        "_kernel",
        "_own",
        "_path",
        "_progress",
        "_refusal",
        "_settling",
        "_timer",
        "drawn",
        "pipelines",
        "unused",
    )

    def __init__(self, path: FastPath, kernel: KernelFlow, own: OwnConnections) -> None:
        self._path = path
        self._kernel = kernel
        self._own = own
        self._down: CarriedClient
        self.pipelines = False
        """The client has sent a request before it had its answer: the kernel carries nothing more."""
        self.drawn: bool | None = None
        """Whether the kernel drew the request that ended its turn for the access log; None: it drew none."""
        self.unused = 0
        """Turns of the kernel, in a row, in which it carried nothing."""
        self._timer: asyncio.TimerHandle | None = None
        self._delay = _FIRST_POLL
        self._settling = False
        self._refusal: tuple[Refusal, int] | None = None
        """Why the request was taken from its server, and the status of the answer that it had begun."""
        self._progress = CarriedProgress()

    def belongs_to(self, downstream: CarriedClient) -> None:
        """Called once, before anything else."""
        self._down = downstream

    def begin(self) -> None:
        """The flow has been armed."""
        self._refusal = None
        self._settling = False
        self._cancel_timer()

    def end(self) -> None:
        """The connection is gone."""
        self._cancel_timer()

    # -- until nothing is under way ------------------------------------------------------------------

    def is_settled(self, data: bool) -> bool:
        """As FastFlow.is_settled, of an armed flow."""
        carried = self._kernel.carried()
        if carried is None:
            self._down.close()  # the client has closed
            return False
        stage = self._kernel.stage(carried)
        if stage is not Stage.DONE and carried.request_left:
            # They are the rest of a carried request: its server has gone. Or the client has, within it.
            self._within_request(carried, stage, data)
            return False
        if stage is Stage.UNANSWERED or not data or (carried.pipelines and not self.pipelines):
            self._poll_after(_FIRST_POLL)
            return False
        self._proxys_turn(carried)
        return True

    def release(self, carried: Carried) -> None:
        """The flow was disarmed, and nothing has come of it."""
        self._proxys_turn(carried)
        self.drawn = None
        self._own.release_all()

    def _proxys_turn(self, carried: Carried) -> None:
        self._settling = False
        self.drawn = carried.drawn
        self.pipelines |= carried.pipelines
        self.unused = 0 if self._kernel.take_turn(carried) else self.unused + 1

    def _poll_after(self, delay: float) -> None:
        if self._timer is None:
            self._delay = delay
            self._timer = self._down.runtime.loop.call_later(delay, self._poll)

    def _poll(self) -> None:
        self._timer = None
        kernel = self._kernel
        if not kernel.armed or not self._down.is_idle():
            return
        carried = kernel.carried()
        if carried is None:
            self._down.close()
            return
        stage = kernel.stage(carried)
        if stage is Stage.UNANSWERED:
            self._settling = False
            if self._own.with_key(carried.connection) is None:
                self._server_gone(carried, 0)
            else:
                self._poll_after(min(2 * self._delay, _LAST_POLL))
        elif stage is Stage.DONE and not self._settling:
            self._settling = True
            self._poll_after(self._until_delivered(carried))
        elif stage is Stage.DONE and (kernel.turn is Turn.ENDING or self._down.is_waiting()):
            self._proxys_turn(carried)
            self._down.settled()

    def _until_delivered(self, carried: Carried) -> float:
        if not self._kernel.is_used(carried) or not (self._down.eof or carried.pipelines):
            return _FIRST_POLL
        return REMOTE_END_SECONDS if carried.remote else _END_SECONDS

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- the servers' side ---------------------------------------------------------------------------

    def upstream_data(self, upstream: Upstream, data: bytes) -> None:
        """As FastFlow.upstream_data."""
        kernel = self._kernel
        carried = kernel.carried() if kernel.armed and self._down.is_idle() else None
        self._own.forget(upstream)
        if (
            carried is None
            or carried.connection != upstream.key
            or kernel.stage(carried) is not Stage.UNANSWERED
        ):
            self._down.runtime.counters.add("upstream_unsolicited_bytes_total")
            upstream.abort()
            self.connection_left(0)
            return
        responses = self._path.table.responses
        connection = kernel.connection(upstream.key)
        # Without a record the connection has been reset since: these may be its last bytes.
        state = responses["RESPONSE_UPCALLED"] if connection is None else connection.response
        if state == responses["RESPONSE_UPCALLED"] and not kernel.is_begun(carried):
            exchange = self._adopt(carried, upstream)
            if exchange is not None:
                upstream.deliver(data)
        elif connection is not None and connection.response == responses["RESPONSE_SPILLED"]:
            exchange = self._adopt(carried, upstream)
            if exchange is not None:
                exchange.go_on(carried_request.rest_of_chunks(), connection.status, connection.carried)
                upstream.skip_head()
                upstream.deliver(data)
        else:
            upstream.abort()
            self._fail(carried, failures.closed_unanswered(), connection.status if connection else 0)

    def connection_left(self, status: int) -> None:
        """A connection is gone: a request may have gone that way, or go just now.

        ``status``: of the last answer on it, as far as it is known.
        """
        kernel = self._kernel
        if not kernel.armed:
            return
        kernel.disarm(self._down.runtime.loop.time())
        carried = kernel.carried()
        if (
            carried is not None
            and kernel.stage(carried) is Stage.UNANSWERED
            and self._own.with_key(carried.connection) is None
        ):
            self._server_gone(carried, status)
        else:
            self._settling = False
            self._poll_after(GRACE_SECONDS)

    def adopt(self, carried: Carried, upstream: Upstream) -> None:
        """The answer to a carried request, of which nothing has come, will come by TCP."""
        self._own.forget(upstream)
        self._adopt(carried, upstream, self._kernel.sent(carried))

    # -- requests that become the proxy's ------------------------------------------------------------

    def _adopt(
        self, carried: Carried, upstream: Upstream | None, sent: bytes = b""
    ) -> CarriedExchange | None:
        """None: the client has closed. ``sent``: as for carried_request.adopt."""
        self._cancel_timer()
        if not self._kernel.adopt(carried):
            if upstream is not None:
                upstream.abort()
            self._down.close()
            return None
        self.unused = 0
        method = self._path.table.methods[carried.method]
        rules, is_whole = self._kernel.rules, self._kernel.is_request_whole
        attempt = self._attempt(carried)
        return carried_request.adopt(self._down, is_whole, rules, carried, method, upstream, attempt, sent)

    def _attempt(self, carried: Carried) -> Attempt | None:
        """None: the endpoint's pool is gone."""
        cluster = self._kernel.rules.clusters.get(carried.cluster, "")
        server = self._path.table.connection_keys.server(carried.connection)
        pool = self._down.caller.known_pool(cluster, *server)
        return None if pool is None else Attempt(pool, pool.endpoint, carried.began)

    def _server_gone(self, carried: Carried, status: int) -> None:
        """The connection that carried it is no more: what becomes of it is decided as on the slow path.

        ``status``: of its answer, if one has begun and that is known.
        """
        if self._refusal is not None or self._kernel.is_begun(carried):
            self._fail(carried, failures.truncated(), status)
            return
        exchange = self._adopt(carried, None, self._kernel.sent(carried))
        if exchange is not None:
            exchange.upstream_lost(loss.closed())

    def _fail(self, carried: Carried, refusal: Refusal, status: int) -> None:
        """Answer it, or cut its answer off if that has begun."""
        refusal, status = self._refusal or (refusal, status)
        begun = self._kernel.is_begun(carried)
        exchange = self._adopt(carried, None)
        if exchange is None:
            return
        if begun:
            exchange.go_on(None, status, 0)
        exchange.fail(refusal)

    def _within_request(self, carried: Carried, stage: Stage, data: bool) -> None:
        """What the client sends ends, or is the proxy's, before the carried request is whole."""
        kernel = self._kernel
        upstream = self._own.with_key(carried.connection)
        if upstream is not None and data and stage is Stage.UNANSWERED and not kernel.is_begun(carried):
            # Its end, or even an answer, is about to be read.
            self._own.forget(upstream)
            self._adopt(carried, upstream, kernel.sent(carried))
            return
        if upstream is not None:
            self._own.abort(upstream)
        if not data:
            self._down.close()
        elif stage is Stage.UNANSWERED:
            self._server_gone(carried, 0)
        else:
            self._proxys_turn(carried)
            self._down.end_after_answer()

    # -- timeouts ------------------------------------------------------------------------------------

    def check(self, carried: Carried, now: float) -> None:
        """A sweep, while a carried request has not been answered: take it from its server if that is late."""
        if self._refusal is not None:
            return
        refusal = self._progress.overdue(
            carried,
            self._kernel.connection(carried.connection),
            self._kernel.rules.timeout(carried.route),
            self._down.listener.options.stream_idle_timeout,
            now,
        )
        if refusal is None:
            return
        # The answer to the client comes when the server cannot give one any more.
        self._refusal = refusal, self._kernel.status(carried.connection)
        self._kernel.disarm(self._down.runtime.loop.time())
        upstream = self._own.with_key(carried.connection)
        if upstream is not None:
            self._own.abort(upstream)
        self._cancel_timer()
        self._poll_after(GRACE_SECONDS)
