"""A request and its response between a downstream and an upstream connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import ClassVar

from meshd.model.grpc import of_http
from proxy.balancing.balancer import Balancer
from proxy.balancing.hash_keys import Source
from proxy.exchanges.client import Client, Headers, Relay
from proxy.exchanges.destination import Destination
from proxy.exchanges.dispatch import Dispatch
from proxy.exchanges.exchange_state import EXCHANGE_WAYS, ExchangeState
from proxy.exchanges.filtering import Filtering
from proxy.exchanges.kept_request import KeptRequest
from proxy.exchanges.mirroring import MirroredRequest, mirror
from proxy.exchanges.report import Account, report
from proxy.exchanges.retry_state import kept_bytes, try_seconds
from proxy.grpc.answers import trailers_only
from proxy.grpc.call import call_of, http_status
from proxy.http1 import heads
from proxy.http1.body import BodyError, OpenBody, body_of
from proxy.http1.field_values import Field
from proxy.http1.refusal import Refusal
from proxy.http1.request import Request
from proxy.http1.response_parser import Response
from proxy.requests.header_edit import NO_EDIT, Edit
from proxy.routing.affinity import Affinity, RouteAffinity
from proxy.routing.decision import Answer, Decision, ForwardTo
from proxy.telemetry import response_flags
from proxy.telemetry.response_flags import Flag
from proxy.upstream import failures
from proxy.upstream.loss import Loss
from proxy.upstream.outgoing import Outgoing, outgoing
from proxy.upstream.server import Server

_NEW = ExchangeState.NEW
_DELAYED = ExchangeState.DELAYED
_DISPATCHED = ExchangeState.DISPATCHED
_STREAMING = ExchangeState.STREAMING
_TUNNEL = ExchangeState.TUNNEL
_ENDED = ExchangeState.ENDED


class Exchange:
    """One request from its head to its answer's last byte. Decides by the config in force at its start."""

    logged: ClassVar = True
    """Whether its access log line can tell what became of it."""

    __slots__ = (
        "_affinity",
        "_body",
        "_call",
        "_client",
        "_copies",
        "_deadline",
        "_decision",
        "_filtering",
        "_last_activity",
        "_relay",
        "_response_keeps_alive",
        "_timeout",
        "_trailers",
        "_upstream_eof",
        "account",
        "dispatch",
        "edit",
        "request",
        "request_done",
        "state",
        "upstream",
    )

    def __init__(self, client: Client, request: Request, started: float) -> None:
        """``started``: when the request's head was complete, by time.monotonic."""
        self._client = client
        self.request = request
        self._body = body_of(request.length)
        self.request_done = self._body is None
        """Whether the request's last byte has come."""
        self.state = _NEW
        self.account = Account(started)
        self.dispatch: Dispatch | None = None
        self.upstream: Server | None = None
        self.edit: Edit = NO_EDIT
        """What is done to the head of the answer, whoever gives it."""
        self._decision: ForwardTo
        self._affinity: Affinity | None = None
        self._filtering: Filtering | None = None
        self._copies: tuple[MirroredRequest, ...] = ()
        self._trailers: Sequence[Field] | None = None
        """The request's, after a body that is CONTENT, when it has ended."""
        self._relay: Relay
        self._response_keeps_alive = False
        self._timeout: asyncio.TimerHandle | None = None
        self._call = call_of(request.head)
        """None: it is not gRPC."""
        self._deadline: asyncio.TimerHandle | None = None
        """Of a call that is held to one."""
        self._last_activity = client.runtime.now
        self._upstream_eof = False

    def is_request_done(self) -> bool:
        """Whether the request's last byte has come."""
        return self.request_done

    # -- the request ---------------------------------------------------------------------------------

    def start(self, data: bytes, at: int) -> int:
        """Decide and begin. ``data`` from ``at`` follows the head; returns where the request ends in it."""
        request = self.request
        client = self._client
        decision = client.listener.routes.decide(request.head, client.runtime.random())
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
        if isinstance(decision, ForwardTo):
            if decision.affinity is not None:
                decision = self._tie(decision, decision.affinity)
            self.edit = decision.response_edit
        if decision.filters is None:
            self.proceed(decision, data[at:end])
        else:
            self._filtering = Filtering(self, client, decision, decision.filters, data[at:end])
            self._filtering.start()
        return end

    def delayed(self) -> None:
        """It waits, as its route's fault policy says."""
        self._to(_DELAYED)
        self.account.flags = response_flags.joined(Flag.DELAY_INJECTED)

    def proceed(self, decision: Decision, body: bytes) -> None:
        """Do what is decided. ``body``: what has come of the request's."""
        if isinstance(decision, Answer):
            self.account.flags = response_flags.with_earlier(self.account.flags, decision.flags)
            self.account.details = decision.details
            body = decision.body if self._call is None else decision.message
            self._answer(decision.status, decision.headers, body)
        else:
            self._decision = decision
            self.account.cluster = decision.cluster
            self._send(body)

    def _tie(self, decision: ForwardTo, route: RouteAffinity) -> ForwardTo:
        """Heed what ties the request to an endpoint."""
        client = self._client
        caller = client.forwarded_for().decode()
        source = Source(caller, f"{caller} {client.remote} {client.local}")
        affinity = self._affinity = Affinity(route, self.request.head, source, time.time())
        share = affinity.share_in_session(decision.cluster, client.runtime.config.balancers)
        return decision if share is None else decision.instead_to(share)

    def feed_request(self, data: bytes) -> int:
        """More of the request's body; returns where the request ends in ``data``."""
        body = self._body
        if body is None:
            # The rest of a body that the kernel carried, to a server that has gone.
            return len(data)
        self._last_activity = self._client.runtime.now
        try:
            end = body.feed(data)
        except BodyError as error:
            self.fail(failures.bad_request_body(str(error)))
            return len(data)
        self.account.bytes_received += end
        taken = data if end == len(data) else data[:end]
        for copy in self._copies:
            copy.more(taken, body.done)
        self.request_done = body.done
        if self.dispatch is not None:
            self.dispatch.more(taken)
            if body.done:
                self._arm_timeout()
        elif self._filtering is not None:
            self._filtering.more(taken)
        return end

    def end_request(self, trailers: Sequence[Field] = ()) -> None:
        """The end of a request's body that is CONTENT, or of what a tunnel's client sends."""
        if self.state is _TUNNEL:
            self.tunnel_eof()
            return
        body = self._body
        assert body is not None
        body.closed()
        self._last_activity = self._client.runtime.now
        self.request_done = True
        self._trailers = trailers
        for copy in self._copies:
            copy.end(trailers)
        if self.dispatch is not None:
            self.dispatch.end(trailers)
            self._arm_timeout()

    def _send(self, body: bytes) -> None:
        """Send the request on its way. ``body``: what has come of its body."""
        decision = self._decision
        client = self._client
        balancer = client.runtime.config.balancers.get(decision.cluster)
        if balancer is None:
            self.fail(failures.no_cluster(decision.cluster, decision.missing_cluster_status))
            return
        head = self._write_down(balancer, body)
        self._arm_deadline()
        if self.request_done:
            self._arm_timeout()
        self._to(_DISPATCHED)
        assert self.dispatch is not None
        self.dispatch.start()
        # Of what goes nowhere there is no copy, and none of what may become a tunnel.
        if decision.mirrors and self.state is not _ENDED and not self.request.upgrade:
            self._copies = mirror(client, decision, head, body, self.request_done, self._trailers)

    def _write_down(self, balancer: Balancer, body: bytes) -> Outgoing:
        """The request as it goes to a server, and its dispatch."""
        decision, request, client = self._decision, self.request, self._client
        head = outgoing(request, decision, client.listener.options, client.forwarded_for())
        self.account.sent = head.fields
        retry, limit, seconds = decision.retry, 0, 0.0
        if retry is not None:
            limit, seconds = kept_bytes(retry), try_seconds(retry, decision.timeout)
        kept = KeptRequest(head, body, limit)
        kept.trailers = self._trailers
        destination = Destination(client, balancer, request.http2, self._affinity)
        self.dispatch = Dispatch(self, client, destination, kept, retry, seconds)
        return head

    def as_of_now(self, head: Outgoing) -> Outgoing:
        """The request's head as it is sent at this moment: with what is left of its deadline."""
        call = self._call
        if call is None or call.seconds is None:
            return head
        passed = time.monotonic() - self.account.started
        return Outgoing(head.asked, head.target, call.with_what_is_left(head.fields, passed))

    # -- the response --------------------------------------------------------------------------------

    def counted_as(self, response: Response) -> int:
        """The status that a final response counts as for its endpoint's ejection."""
        return response.status if self._call is None else http_status(response.status, response.fields)

    def upstream_interim(self, response: Response) -> None:
        """Server: a 1xx response, which another one follows."""
        self._last_activity = self._client.runtime.now
        if self.dispatch is not None:
            self.dispatch.interim()
        self._client.interim(self.request, response)

    def upstream_responds(self, response: Response, data: bytes, at: int) -> None:
        """Server: the final response, which ``data`` from ``at`` on follows."""
        self._last_activity = self._client.runtime.now
        if self.dispatch is not None and not self.dispatch.is_answered(response, data, at):
            return
        if response.status == 101:
            self._switch(response, data, at)
            return
        self._to(_STREAMING)
        self._response_begins(response)
        self._response_keeps_alive = response.keep_alive
        self._relay = self._client.begin(self.request, response, self._response_edit())
        self._pass_on(data, at)

    def upstream_data(self, data: bytes) -> None:
        """Server: more of the response's body."""
        self._last_activity = self._client.runtime.now
        self._pass_on(data, 0)

    def mark(self, flag: Flag) -> None:
        """What comes next, a response or a failure, is the last word, for a reason that the log tells."""
        self.account.flags = response_flags.with_earlier(self.account.flags, response_flags.joined(flag))

    def _response_edit(self) -> Edit:
        destination = None if self.dispatch is None else self.dispatch.destination
        endpoint = None if destination is None else destination.endpoint
        if self._affinity is None or endpoint is None:
            return self.edit
        return self.edit.then(self._affinity.answer_edit((endpoint.address, endpoint.port)))

    def _response_begins(self, response: Response) -> None:
        self.account.status = response.status
        if self._call is not None:
            self._call.read(response.fields)
        if self._client.runtime.access_log is not None:
            self.account.service_time = time.monotonic() - self.account.started

    def _pass_on(self, data: bytes, at: int) -> None:
        relay = self._relay
        try:
            out = relay.pass_on(data, at)
        except BodyError as error:
            self.fail(failures.truncated(str(error)))
            return
        if relay.done:
            self._complete(out)
        else:
            self._client.write(out)

    def upstream_end(self, trailers: Sequence[Field]) -> bool:
        """Server: it sends no more; True keeps our direction to it open."""
        if self.state is _TUNNEL:
            self._upstream_eof = True
            self._client.write_eof()
            self._end_tunnel()
            return self.state is _TUNNEL
        if self.state is _STREAMING:
            if self._call is not None:
                self._call.read(trailers)
            last = self._relay.end(trailers)
            if last is not None:
                self._complete(last)
        return False

    def upstream_lost(self, loss: Loss) -> None:
        """Server: no more comes, and the exchange was not at its end."""
        if self.state is _DISPATCHED and self.dispatch is not None:
            self.dispatch.lost(loss)
        elif self.state in (_STREAMING, _TUNNEL):
            self.fail(loss.begun)

    # -- the tunnel ----------------------------------------------------------------------------------

    def _switch(self, response: Response, data: bytes, at: int) -> None:
        """101: from here on both directions are streams without an end of their own."""
        if not self.request.upgrade or not response.upgrade or not self.request_done:
            self.fail(failures.bad_response("the server changed protocols unasked"))
            return
        self._to(_TUNNEL)
        self._disarm_timeout()
        self._response_begins(response)
        self._body = OpenBody()
        self.request_done = False
        self._relay = self._client.switch(response, self._response_edit())
        self._pass_on(data, at)
        self._client.request_goes_on()

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
        if self._upstream_eof and self._client.eof:
            upstream = self._end()
            if upstream is not None:
                upstream.finish(False, None)
            self._client.exchange_ended(False, b"")

    # -- flow control --------------------------------------------------------------------------------

    def downstream_write_paused(self) -> None:
        """The client does not keep up."""
        if self.upstream is not None:
            self.upstream.hold()

    def downstream_write_resumed(self) -> None:
        """The client has caught up."""
        self._last_activity = self._client.runtime.now
        if self.upstream is not None:
            self.upstream.release()

    def upstream_write_paused(self) -> None:
        """The server does not keep up."""
        self._client.hold_for_upstream()

    def upstream_write_resumed(self) -> None:
        """The server has caught up."""
        self._last_activity = self._client.runtime.now
        self._client.release_for_upstream()

    # -- the end -------------------------------------------------------------------------------------

    def fail(self, refusal: Refusal) -> None:
        """End with an answer of our own, or by cutting off the server's if it has begun."""
        if self.state is _ENDED:
            return
        self.account.flags = response_flags.with_earlier(self.account.flags, refusal.flags)
        self.account.details = refusal.details
        if self.dispatch is not None:
            self.dispatch.failed(refusal)
        if self.state in (_STREAMING, _TUNNEL):
            self._abort()
            self._client.cut()
        else:
            headers = self.edit.of_answer((*heads.PLAIN_TEXT, *refusal.headers))
            body = heads.message_body(refusal.message)
            if self._call is not None:
                body = body.rstrip()  # it is no line of its own there
            self._answer(refusal.status, headers, body, refusal.grpc_status)

    def cancel(self) -> None:
        """The client is gone."""
        if self.state is not _ENDED:
            gone = response_flags.joined(Flag.DOWNSTREAM_TERMINATED)
            self.account.flags = response_flags.with_earlier(self.account.flags, gone)
            self.account.details = response_flags.DOWNSTREAM_REMOTE_DISCONNECT
            self._abort()

    def _answer(self, status: int, headers: Headers, body: bytes, grpc_status: int | None = None) -> None:
        """End with a response of our own."""
        if self._call is not None:
            told = of_http(status) if grpc_status is None else grpc_status
            headers = trailers_only(told, headers, body)
            status, body = 200, b""
            self._call.answered(told)
        self.account.status = status
        self.account.bytes_sent = len(body)
        self._abort()
        self._client.answer(self.request, self.request_done, status, headers, body)

    def _complete(self, last: bytes) -> None:
        """The response ends with ``last``, which is yet to go to the client."""
        relay = self._relay
        request_done = self.is_request_done()
        keep_alive = relay.keep_alive and request_done
        upstream = self._end()
        if upstream is not None:
            is_clean = self._response_keeps_alive and request_done and not relay.surplus
            upstream.finish(is_clean, self._client if keep_alive else None)
        self._client.exchange_ended(keep_alive, last)

    def _abort(self) -> None:
        """End, and what is out to a server with it."""
        upstream = self._end()
        if upstream is not None:
            upstream.leave()

    def _end(self) -> Server | None:
        """Settle the accounts; returns who had the request, whom to tell is the caller's."""
        if self.state in (_STREAMING, _TUNNEL):
            self.account.bytes_sent = self._relay.passed
        self._to(_ENDED)
        self._disarm_timeout()
        if self._filtering is not None:
            self._filtering.leave()
        for copy in self._copies:
            copy.abandon()
        upstream, self.upstream = self.upstream, None
        destination = None if self.dispatch is None else self.dispatch.destination
        endpoint = None if destination is None else destination.endpoint
        if self._call is not None:
            self.account.grpc_status = self._call.counted(self.account.status)
        report(self._client, self.request, self.account, endpoint, upstream, self.logged)
        if self.dispatch is not None:
            self.dispatch.leave()
        return upstream

    # -- time ----------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Compare the stream's idle time with its limit."""
        limit = self._client.listener.options.stream_idle_timeout
        if limit > 0 and now - self._last_activity > limit:
            self.fail(failures.stream_idle(limit, self.request_done))

    def _arm_timeout(self, passed: float = 0.0) -> None:
        """``passed``: seconds since the request's last byte came."""
        seconds = self._decision.timeout
        if seconds > 0 and self._timeout is None:
            left = max(0.0, seconds - passed)
            self._timeout = self._client.runtime.loop.call_later(left, self._timed_out)

    def _disarm_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _arm_deadline(self) -> None:
        call = self._call
        if call is None:
            return
        call.limit(self._decision.deadline_limit)
        if call.seconds is not None:
            left = max(0.0, self.account.started + call.seconds - time.monotonic())
            self._deadline = self._client.runtime.loop.call_later(left, self._past_deadline, call.seconds)

    def _past_deadline(self, seconds: float) -> None:
        self.fail(failures.deadline(seconds, self.is_request_done()))

    def _timed_out(self) -> None:
        self.fail(failures.route_timeout(self._decision.timeout))

    def _to(self, state: ExchangeState) -> None:
        assert state in EXCHANGE_WAYS[self.state], f"{self.state} to {state}"
        self.state = state
