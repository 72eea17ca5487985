"""A request's way to a response: a connection to an endpoint, an answer, and another try if need be."""

from __future__ import annotations

import asyncio
from typing import Protocol

from meshd.model.request_policies import Retry
from proxy.exchanges import failures
from proxy.exchanges.attempt import Attempt
from proxy.exchanges.client import Client
from proxy.exchanges.destination import IDEMPOTENT, Destination
from proxy.exchanges.exchange_state import DISPATCH_WAYS, DispatchState
from proxy.exchanges.kept_request import KeptRequest
from proxy.exchanges.retries import Retries
from proxy.exchanges.retry_state import Cause
from proxy.exchanges.upstream import Upstream, User
from proxy.http1.refusal import Refusal
from proxy.http1.request import Request
from proxy.http1.response_heads import ResponseHeads
from proxy.http1.response_parser import Response, ResponseError
from proxy.http1.response_relay import response_is_whole
from proxy.telemetry.response_flags import Flag

_NEW = DispatchState.NEW
_CONNECTING = DispatchState.CONNECTING
_BACKOFF = DispatchState.BACKOFF
_WAITING = DispatchState.WAITING
_OVER = DispatchState.OVER


class Dispatched(User, Protocol):
    """The exchange whose request is dispatched."""

    request: Request
    request_done: bool
    """Whether the request's last byte has come."""
    upstream: Upstream | None
    """The connection that the request is on."""

    def interim(self, response: Response) -> None:
        """A 1xx response has come, and another one follows."""

    def respond(self, response: Response, data: bytes, at: int) -> None:
        """The final response, which ``data`` from ``at`` on follows."""

    def mark(self, flag: Flag) -> None:
        """What comes next, a response or a failure, is the last word, for a reason that the log tells."""

    def fail(self, refusal: Refusal) -> None:
        """There is no response to be had."""


class Dispatch:
    """One request's search for a response."""

    __slots__ = (
        "_attempt",
        "_client",
        "_exchange",
        "_heads",
        "_kept",
        "_policy",
        "_replayed",
        "_retries",
        "_state",
        "_timer",
        "_try_seconds",
        "destination",
    )

    def __init__(
        self,
        exchange: Dispatched,
        client: Client,
        destination: Destination | None,
        kept: KeptRequest,
        retry: Retry | None,
        try_seconds: float,
    ) -> None:
        """``destination``: None only for a request that is out, and of which nothing is kept.

        ``try_seconds``: from a whole request on a connection to a response's head; 0: no limit.
        """
        self._exchange = exchange
        self._client = client
        self._attempt: Attempt | None = None
        """What is out, if anything is."""
        self._heads: ResponseHeads
        self._kept = kept
        self._replayed = False
        self._policy = retry
        """None: there is no other try."""
        self._retries: Retries | None = None
        """Made when a try has failed, for most do not."""
        self._state = _NEW
        self._timer: asyncio.TimerHandle | None = None
        """Of the state: it ends with it."""
        self._try_seconds = try_seconds
        self.destination = destination

    def start(self) -> None:
        """Send the request to an endpoint."""
        assert self.destination is not None
        refusal = self.destination.pick()
        if refusal is not None:
            self._exchange.fail(refusal)
        else:
            self._use_or_connect(self.destination)

    def resume(self, upstream: Upstream | None) -> None:
        """Wait for the answer to what is out on ``upstream`` already; None: it is gone: ``lost`` follows."""
        self._to(_WAITING)
        self._await_answer(upstream)

    def more(self, data: bytes) -> None:
        """More of the request's body."""
        upstream = self._exchange.upstream
        was_whole = self._kept.is_whole
        self._kept.add(data, upstream is not None)
        if was_whole and not self._kept.is_whole and self._policy is not None:
            self._give_up_retries()
            if self._kept.limit:
                self._client.runtime.counters.add("upstream_retries_abandoned_total")
        if upstream is not None:
            upstream.write(data)
            if self._exchange.request_done and self._state is _WAITING:
                self._limit_try()

    def leave(self) -> None:
        """The request is out no more."""
        if self._state is not _OVER:
            self._to(_OVER)
        self._end_attempt()
        if self._retries is not None:
            self._retries.end()
        if self.destination is not None:
            self.destination.leave()

    def failed(self, refusal: Refusal) -> None:
        """The client is told that there is no response, or no end of it."""
        if self._attempt is not None:
            self._attempt.failed(refusal)

    # -- a connection --------------------------------------------------------------------------------

    def _use_or_connect(self, destination: Destination) -> None:
        refusal = destination.why_full()
        if refusal is not None:
            self._exchange.fail(refusal)
            return
        upstream = destination.idle_connection(self._exchange.request.head.method)
        if upstream is not None:
            self.begin(upstream)
        else:
            self._connect(destination)

    def _connect(self, destination: Destination) -> None:
        self._to(_CONNECTING)
        if not self._exchange.request_done:
            # What comes of its body waits with the client. Else read on: the client may go.
            self._client.hold_for_upstream()
        refusal = destination.connect(self)
        if refusal is not None:
            self._exchange.fail(refusal)

    def connect_failed(self, refusal: Refusal) -> None:
        """Destination: the connection could not be made."""
        self._try_failed(Cause.CONNECT, refusal)

    def turn_away(self, refusal: Refusal) -> None:
        """Destination: a limit has been reached meanwhile."""
        self._exchange.fail(refusal)

    def go_elsewhere(self) -> None:
        """Begin anew, with the endpoints of now."""
        assert self.destination is not None
        refusal = self.destination.pick_again()
        if refusal is not None:
            self._exchange.fail(refusal)
        else:
            self._use_or_connect(self.destination)

    # -- an answer -----------------------------------------------------------------------------------

    def begin(self, upstream: Upstream) -> None:
        """The request has its connection."""
        self._to(_WAITING)
        if self.destination is not None and self.destination.endpoint is not None:
            self._attempt = Attempt(upstream.pool, self.destination.endpoint)
        self._await_answer(upstream)
        upstream.write(self._kept.read())
        if not upstream.write_paused:
            self._client.release_for_upstream()
        if self._exchange.request_done:
            self._limit_try()

    def _await_answer(self, upstream: Upstream | None) -> None:
        exchange, client = self._exchange, self._client
        self._heads = ResponseHeads(client.runtime.responses, exchange.request.head.method)
        exchange.upstream = upstream
        if upstream is not None:
            upstream.exchange = exchange
            if client.write_paused:
                upstream.hold()

    def read(self, data: bytes) -> None:
        """Bytes from the server: interim responses, and the final one's head."""
        at = 0
        while True:
            try:
                response, data, at = self._heads.read(data, at)
            except ResponseError as error:
                self._part()
                self._try_failed(Cause.RESET, failures.bad_response(str(error)))
                return
            if response is None:
                return
            if response.status >= 200 or response.status == 101:
                if self._attempt is not None:
                    self._attempt.answered(response.status)
                if not self._is_retried(response, data, at):
                    self._to(_OVER)
                    self._kept.drop()
                    self._exchange.respond(response, data, at)
                return
            # The next server's might say otherwise. Envoy does not try again after it, either.
            self._give_up_retries()
            self._exchange.interim(response)

    def lost(self) -> None:
        """The connection is gone, and no final response has come.

        RFC 9112, 9.3.1: a server may close an idle connection at any time. A request on a reused one that may
        be sent twice is not lost: it is sent once more, on a new connection. Where the route has requests
        tried again after such an end, that is one of its tries.
        """
        upstream, self._exchange.upstream = self._exchange.upstream, None
        reused = upstream is None or upstream.reused  # the kernel uses no new ones
        if (
            not reused
            or self._heads.has_begun
            or self._replayed
            or (self._policy is not None and self._policy.reset)
            or not self._kept.is_whole
            or self._exchange.request.head.method not in IDEMPOTENT
        ):
            refusal = failures.closed_unanswered()
            if self._heads.has_begun:
                refusal = failures.bad_response("it ended within its head")
            self._try_failed(Cause.RESET, refusal)
            return
        assert self.destination is not None
        self._end_attempt()
        self._replayed = True
        self._client.runtime.counters.add("upstream_replays_total")
        unavailable = self.destination.pick_again()
        if unavailable is not None:
            self._exchange.fail(unavailable)
        else:
            self._connect(self.destination)

    def _limit_try(self) -> None:
        if self._try_seconds and self._timer is None:
            self._timer = self._client.runtime.loop.call_later(self._try_seconds, self._try_timed_out)

    def _try_timed_out(self) -> None:
        self._client.runtime.counters.add("upstream_per_try_timeouts_total")
        self._part()
        self._try_failed(Cause.RESET, failures.try_timeout(self._try_seconds))

    # -- another try ---------------------------------------------------------------------------------

    def _try_failed(self, cause: Cause, refusal: Refusal) -> None:
        """This try has come to nothing: another one follows, or ``refusal`` is the answer."""
        self.failed(refusal)
        self._end_attempt()
        retries = self._made_retries()
        if retries is None or not retries.state.asks(cause) or not self._may_try_again(retries):
            self._exchange.fail(refusal)
        else:
            self._try_again(retries, cause)

    def _is_retried(self, response: Response, data: bytes, at: int) -> bool:
        """Whether a final response is one that the policy has the client not see. Then it is forgotten."""
        policy = self._policy
        if self._retries is None and (policy is None or response.status not in policy.statuses):
            return False
        retries = self._made_retries()
        if retries is None:
            return False
        if response.status == 101 or not retries.asks_for(response):
            retries.succeed()
            return False
        if not self._may_try_again(retries):
            return False
        self._end_attempt()
        self._part(response_is_whole(response, data, at))
        self._try_again(retries, Cause.RESET)
        return True

    def _may_try_again(self, retries: Retries) -> bool:
        assert self.destination is not None
        why_not = retries.why_not(self.destination.pool)
        if why_not is not None:
            self._exchange.mark(why_not)
        return why_not is None

    def _made_retries(self) -> Retries | None:
        if self._retries is None and self._policy is not None:
            self._retries = Retries(self._policy, self._client.runtime.counters)
        return self._retries

    def _give_up_retries(self) -> None:
        self._policy = None
        if self._retries is not None:
            self._retries.end()
            self._retries = None

    def _try_again(self, retries: Retries, cause: Cause) -> None:
        destination, runtime = self.destination, self._client.runtime
        assert destination is not None
        destination.fail()
        if cause is Cause.RESET:
            self._wait(retries.state.backoff(runtime.random()))
            return
        runtime.counters.add("upstream_connect_retries_total")
        if retries.state.may_go_on_at_once() and destination.pick_again() is None and destination.is_fresh():
            self._use_or_connect(destination)
        else:
            # Nowhere else to go: soon there may be, for an endpoint often ends before the mesh hears of it.
            self._wait(retries.state.patience(runtime.random()))

    def _wait(self, seconds: float) -> None:
        self._to(_BACKOFF)
        assert self.destination is not None
        self.destination.leave()
        if not self._exchange.request_done:
            self._client.hold_for_upstream()
        self._timer = self._client.runtime.loop.call_later(seconds, self.go_elsewhere)

    def _end_attempt(self) -> None:
        if self._attempt is not None:
            self._attempt.end()
            self._attempt = None

    def _part(self, is_ended: bool = False) -> None:
        """Leave the connection. ``is_ended``: its server has no more to say, so that it can be used again."""
        upstream, self._exchange.upstream = self._exchange.upstream, None
        if upstream is None:
            return
        upstream.exchange = None
        if is_ended and self._exchange.request_done:
            upstream.release()
            upstream.pool.release(upstream)
        else:
            upstream.abort()

    def _to(self, state: DispatchState) -> None:
        assert state in DISPATCH_WAYS[self._state], f"{self._state} to {state}"
        self._state = state
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
