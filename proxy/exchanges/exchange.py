"""A request and its response between a downstream and an upstream connection."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from proxy.balancing.balancer import Balancer
from proxy.exchanges import failures
from proxy.exchanges.dispatch import Dispatch
from proxy.exchanges.exchange_state import EXCHANGE_WAYS, ExchangeState
from proxy.exchanges.report import Account, report
from proxy.exchanges.upstream import Upstream
from proxy.http1 import heads
from proxy.http1.body import Body, BodyError, UntilCloseBody, body_of
from proxy.http1.refusal import Refusal
from proxy.http1.request import Request
from proxy.http1.response_heads import ResponseHeads
from proxy.http1.response_parser import Response, ResponseError
from proxy.http1.response_relay import ResponseRelay
from proxy.routing.decision import Answer, ForwardTo
from proxy.telemetry import response_flags
from proxy.telemetry.response_flags import Flag

if TYPE_CHECKING:
    from proxy.exchanges.downstream import Downstream

_NEW = ExchangeState.NEW
_CONNECTING = ExchangeState.CONNECTING
_WAITING = ExchangeState.WAITING
_STREAMING = ExchangeState.STREAMING
_TUNNEL = ExchangeState.TUNNEL
_ENDED = ExchangeState.ENDED


class Exchange:
    """One request from its head to its answer's last byte. Decides by the config in force at its start."""

    __slots__ = (
        "_body",
        "_decision",
        "_downstream",
        "_heads",
        "_last_activity",
        "_relay",
        "_response_keeps_alive",
        "_timeout",
        "_upstream_eof",
        "account",
        "adopted",
        "dispatch",
        "request",
        "request_done",
        "state",
        "upstream",
    )

    def __init__(self, downstream: Downstream, request: Request, started: float) -> None:
        """``started``: when the request's head was complete, by time.monotonic."""
        self._downstream = downstream
        self.request = request
        self._body = body_of(request.length)
        self.request_done = self._body is None
        """Whether the request's last byte has come."""
        self.state = _NEW
        self.account = Account(started)
        self.dispatch: Dispatch | None = None
        self.upstream: Upstream | None = None
        self._decision: ForwardTo
        self._heads: ResponseHeads
        self._relay: ResponseRelay
        self._response_keeps_alive = False
        self._timeout: asyncio.TimerHandle | None = None
        self._last_activity = downstream.runtime.now
        self._upstream_eof = False
        self.adopted = False
        """The kernel carried the request."""

    # -- a request that the kernel carried -----------------------------------------------------------

    def adopt(self, decision: ForwardTo, upstream: Upstream | None, whole: bool) -> None:
        """Wait for the answer on ``upstream``; None: it is gone, which is to be said next.

        ``whole``: the request has come to its end.
        """
        self.adopted = True
        self._decision = decision
        self.account.route = decision.route.name
        self.account.cluster = decision.cluster
        self.request_done = whole
        self._to(_WAITING)
        self._heads = ResponseHeads(self._downstream.runtime.responses, self.request.head.method)
        self._last_activity = self.account.started
        self.upstream = upstream
        if upstream is not None:
            upstream.exchange = self
            if self._downstream.write_paused:
                upstream.hold()
        if whole:
            self._arm_timeout(time.monotonic() - self.account.started)

    def remember(self, balancer: Balancer, body: bytes) -> None:
        """What the kernel sent: the request's head and ``body``, to an endpoint that ``balancer`` had."""
        if self._body is not None:
            self.account.bytes_received = self._body.feed(body)
        self._write_down(balancer, body)

    def go_on(self, body: Body | None, status: int, passed: int) -> None:
        """The kernel has brought the client the head and ``passed`` bytes in all; ``body`` follows."""
        self._to(_STREAMING)
        self.account.status = status
        self._response_keeps_alive = True
        self._relay = ResponseRelay(body, http10=False, keep_alive=True)
        self._relay.passed = passed

    def is_request_done(self) -> bool:
        """Whether the request's last byte has come."""
        if self.adopted and self._body is None and not self.request_done:
            fast = self._downstream.fast
            self.request_done = fast is not None and fast.is_request_whole()
        return self.request_done

    # -- the request ---------------------------------------------------------------------------------

    def start(self, data: bytes, at: int) -> int:
        """Decide and begin. ``data`` from ``at`` follows the head; returns where the request ends in it."""
        request = self.request
        downstream = self._downstream
        decision = downstream.listener.routes.decide(request.head, downstream.runtime.random())
        if decision.route is not None:
            self.account.route = decision.route.name
        end = at
        if self._body is not None:
            try:
                end = self._body.feed(data, at)
            except BodyError as error:
                self.fail(failures.bad_request_body(str(error)))
                return len(data)
            self.account.bytes_received = end - at
            self.request_done = self._body.done
        if isinstance(decision, Answer):
            self.account.flags = decision.flags
            self.account.details = decision.details
            self._answer(decision.status, decision.headers, decision.body)
            return end
        self._decision = decision
        self.account.cluster = decision.cluster
        self._send(data[at:end])
        return end

    def feed_request(self, data: bytes) -> int:
        """More of the request's body; returns where the request ends in ``data``."""
        body = self._body
        if body is None:
            # The rest of a body that the kernel carried, to a server that has gone.
            return len(data)
        self._last_activity = self._downstream.runtime.now
        try:
            end = body.feed(data)
        except BodyError as error:
            self.fail(failures.bad_request_body(str(error)))
            return len(data)
        self.account.bytes_received += end
        taken = data if end == len(data) else data[:end]
        if self.dispatch is not None and self.upstream is None:
            self.dispatch.unanswered += taken
        elif self.dispatch is not None and self.upstream is not None:
            self.dispatch.unanswered = b""
            self.upstream.write(taken)
        if body.done:
            self.request_done = True
            self._arm_timeout()
        return end

    def _send(self, body: bytes) -> None:
        """Send the request on its way. ``body``: what has come of its body."""
        decision = self._decision
        downstream = self._downstream
        balancer = downstream.runtime.config.balancers.get(decision.cluster)
        if balancer is None:
            self.fail(failures.no_cluster(decision.cluster, decision.missing_cluster_status))
            return
        dispatch = self._write_down(balancer, body)
        if self.request_done:
            self._arm_timeout()
        refusal = dispatch.pick()
        if refusal is not None:
            self.fail(refusal)
            return
        self._begin_or_connect(dispatch)

    def _write_down(self, balancer: Balancer, body: bytes) -> Dispatch:
        """The request as it goes to a server."""
        decision, request, downstream = self._decision, self.request, self._downstream
        fields = self.account.sent = heads.request_fields(
            request,
            decision.host,
            decision.request_edit,
            downstream.listener.options,
            downstream.forwarded_for(),
        )
        head = heads.request_head(request.head.method, decision.target, fields)
        data = head + body if body else head
        dispatch = self.dispatch = Dispatch(self, downstream, balancer, data, decision.retry)
        return dispatch

    def _begin_or_connect(self, dispatch: Dispatch) -> None:
        upstream = dispatch.idle_connection()
        if upstream is not None:
            self.begin(upstream)
        else:
            self._connect(dispatch)

    def connect_again(self) -> None:
        """The endpoint could not be reached; one has been picked anew."""
        assert self.dispatch is not None
        self._begin_or_connect(self.dispatch)

    def _connect(self, dispatch: Dispatch) -> None:
        self._to(_CONNECTING)
        if not self.request_done:
            # What comes of its body waits with the client. Else read on: the client may go.
            self._downstream.hold_for_upstream()
        refusal = dispatch.connect()
        if refusal is not None:
            self.fail(refusal)

    def begin(self, upstream: Upstream) -> None:
        """The request has its connection."""
        self._to(_WAITING)
        self.upstream = upstream
        self._heads = ResponseHeads(self._downstream.runtime.responses, self.request.head.method)
        upstream.exchange = self
        assert self.dispatch is not None
        upstream.write(self.dispatch.unanswered)
        if not upstream.write_paused:
            self._downstream.release_for_upstream()
        if self._downstream.write_paused:
            upstream.hold()

    # -- the response --------------------------------------------------------------------------------

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the server."""
        self._last_activity = self._downstream.runtime.now
        if self.state is _WAITING:
            self._read_heads(data)
        else:
            self._pass_on(b"", data, 0)

    def _read_heads(self, data: bytes) -> None:
        """Interim responses, and the final one's head."""
        at = 0
        while True:
            try:
                response, data, at = self._heads.read(data, at)
            except ResponseError as error:
                self.fail(failures.bad_response(str(error)))
                return
            if response is None:
                return
            if response.status == 101:
                self._switch(response, data, at)
                return
            if response.status >= 200:
                self._respond(response, data, at)
                return
            if not self.request.http10:
                self._downstream.write(heads.interim_head(response))

    def _respond(self, response: Response, data: bytes, at: int) -> None:
        request = self.request
        downstream = self._downstream
        self._to(_STREAMING)
        self._response_begins(response)
        self._response_keeps_alive = response.keep_alive
        keep_alive = request.keep_alive and downstream.may_keep_alive()
        relay = ResponseRelay(body_of(response.length), request.http10, keep_alive)
        self._relay = relay
        head = heads.response_head(
            response,
            self._decision.response_edit,
            downstream.listener.options,
            downstream.runtime.date,
            relay.chunked,
            heads.connection_value(relay.keep_alive, request.http10),
        )
        self._pass_on(head, data, at)

    def _response_begins(self, response: Response) -> None:
        self.account.status = response.status
        if self.dispatch is not None:
            self.dispatch.unanswered = b""
        if self._downstream.runtime.access_log is not None:
            self.account.service_time = time.monotonic() - self.account.started

    def _pass_on(self, head: bytes, data: bytes, at: int) -> None:
        """Pass body bytes on, after ``head``."""
        relay = self._relay
        try:
            out = relay.pass_on(head, data, at)
        except BodyError as error:
            self.fail(failures.truncated(str(error)))
            return
        if relay.done:
            self._complete(out)
        else:
            self._downstream.write(out)

    def upstream_eof(self) -> bool:
        """The server has sent its last byte; True keeps our direction to it open."""
        if self.state is _TUNNEL:
            self._upstream_eof = True
            self._downstream.write_eof()
            self._end_tunnel()
            return self.state is _TUNNEL
        if self.state is _STREAMING:
            last = self._relay.close()
            if last is not None:
                self._complete(last)
        return False

    def upstream_lost(self) -> None:
        """The connection to the server is gone, and the exchange was not at its end."""
        upstream, dispatch = self.upstream, self.dispatch
        if self.state is _WAITING:
            reused = upstream is None or upstream.reused  # the kernel uses no new ones
            if dispatch is not None and not self._heads.has_begun and dispatch.may_try_again(reused):
                self._retry(dispatch)
            else:
                self.fail(failures.closed_unanswered())
        elif self.state in (_STREAMING, _TUNNEL):
            self.fail(failures.truncated())

    def _retry(self, dispatch: Dispatch) -> None:
        downstream = self._downstream
        self.upstream = None
        downstream.runtime.counters.add("upstream_replays_total")
        refusal = dispatch.pick_again()
        if refusal is not None:
            self.fail(refusal)
        else:
            self._connect(dispatch)

    # -- the tunnel ----------------------------------------------------------------------------------

    def _switch(self, response: Response, data: bytes, at: int) -> None:
        """101: from here on both directions are streams without an end of their own."""
        if not self.request.upgrade or not response.upgrade or not self.request_done:
            self.fail(failures.bad_response("the server changed protocols unasked"))
            return
        self._to(_TUNNEL)
        self._disarm_timeout()
        self._response_begins(response)
        self._body = UntilCloseBody()
        self.request_done = False
        # As to an HTTP/1.0 client, which gets a stream that ends by closing just as it is.
        self._relay = ResponseRelay(UntilCloseBody(), http10=True, keep_alive=False)
        downstream = self._downstream
        edit, options = self._decision.response_edit, downstream.listener.options
        head = heads.response_head(response, edit, options, downstream.runtime.date, False, b"Upgrade")
        self._pass_on(head, data, at)
        downstream.request_goes_on()

    @property
    def is_tunnel(self) -> bool:
        """Whether each direction goes on until its sender ends it."""
        return self.state is _TUNNEL

    def tunnel_eof(self) -> None:
        """The client has sent its last byte."""
        if self.upstream is not None:
            self.upstream.write_eof()
        self._end_tunnel()

    def _end_tunnel(self) -> None:
        if self._upstream_eof and self._downstream.eof:
            upstream = self._end()
            if upstream is not None:
                upstream.close()
            self._downstream.exchange_ended(False, b"")

    # -- flow control --------------------------------------------------------------------------------

    def downstream_write_paused(self) -> None:
        """The client does not keep up."""
        if self.upstream is not None:
            self.upstream.hold()

    def downstream_write_resumed(self) -> None:
        """The client has caught up."""
        self._last_activity = self._downstream.runtime.now
        if self.upstream is not None:
            self.upstream.release()

    def upstream_write_paused(self) -> None:
        """The server does not keep up."""
        self._downstream.hold_for_upstream()

    def upstream_write_resumed(self) -> None:
        """The server has caught up."""
        self._last_activity = self._downstream.runtime.now
        self._downstream.release_for_upstream()

    # -- the end -------------------------------------------------------------------------------------

    def fail(self, refusal: Refusal) -> None:
        """End with an answer of our own, or by cutting off the server's if it has begun."""
        if self.state is _ENDED:
            return
        self.account.flags = refusal.flags
        self.account.details = refusal.details
        if self.state in (_STREAMING, _TUNNEL):
            self._abort()
            self._downstream.cut()
        else:
            self._answer(refusal.status, heads.PLAIN_TEXT, heads.message_body(refusal.message))

    def cancel(self) -> None:
        """The client is gone."""
        if self.state is not _ENDED:
            self.account.flags = response_flags.joined(Flag.DOWNSTREAM_TERMINATED)
            self.account.details = response_flags.DOWNSTREAM_REMOTE_DISCONNECT
            self._abort()

    def _answer(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
        """End with a response of our own."""
        downstream = self._downstream
        request = self.request
        self.account.status = status
        self.account.bytes_sent = len(body)
        keep_alive = request.keep_alive and self.request_done and downstream.may_keep_alive()
        connection = heads.connection_value(keep_alive, request.http10)
        with_body = request.head.method != "HEAD"
        date = downstream.runtime.date
        self._abort()
        response = heads.local_response(status, headers, body, date, connection, with_body)
        downstream.exchange_ended(keep_alive, response)

    def _complete(self, last: bytes) -> None:
        """The response ends with ``last``, which is yet to go to the client."""
        relay = self._relay
        request_done = self.is_request_done()
        keep_alive = relay.keep_alive and request_done
        upstream = self._end()
        if upstream is not None:
            if relay.surplus or not self._response_keeps_alive or not request_done:
                upstream.close()
            else:
                upstream.release()
                fast = self._downstream.fast
                if fast is None or not keep_alive or not fast.keep(upstream):
                    upstream.pool.release(upstream)
        self._downstream.exchange_ended(keep_alive, last)

    def _abort(self) -> None:
        """End, and the upstream connection with it."""
        upstream = self._end()
        if upstream is not None:
            upstream.abort()

    def _end(self) -> Upstream | None:
        """Settle the accounts; returns the upstream connection, detached."""
        if self.state in (_STREAMING, _TUNNEL):
            self.account.bytes_sent = self._relay.passed
        self._to(_ENDED)
        self._disarm_timeout()
        report(self, self._downstream)
        if self.dispatch is not None:
            self.dispatch.leave()
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.exchange = None
        return upstream

    # -- time ----------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Compare the stream's idle time with its limit."""
        limit = self._downstream.listener.options.stream_idle_timeout
        if limit > 0 and now - self._last_activity > limit:
            self.fail(failures.stream_idle(limit, self.request_done))

    def _arm_timeout(self, passed: float = 0.0) -> None:
        """``passed``: seconds since the request's last byte came."""
        seconds = self._decision.timeout
        if seconds > 0 and self._timeout is None:
            left = max(0.0, seconds - passed)
            self._timeout = self._downstream.runtime.loop.call_later(left, self._timed_out)

    def _disarm_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _timed_out(self) -> None:
        self.fail(failures.route_timeout(self._decision.timeout))

    def _to(self, state: ExchangeState) -> None:
        assert state in EXCHANGE_WAYS[self.state], f"{self.state} to {state}"
        self.state = state
