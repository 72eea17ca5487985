"""A request's way to a response: a connection to an endpoint, an answer, and another try if need be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from meshd.model.request_policies import Retry
from proxy.exchanges.attempt import Attempt
from proxy.exchanges.client import Client
from proxy.exchanges.destination import IDEMPOTENT, Destination
from proxy.exchanges.dispatched import Dispatched
from proxy.exchanges.exchange_state import DISPATCH_WAYS, DispatchState
from proxy.exchanges.kept_request import KeptRequest
from proxy.exchanges.retries import Retries, asks_for
from proxy.exchanges.retry_state import Cause
from proxy.http1.field_values import Field
from proxy.http1.refusal import Refusal
from proxy.http1.response_parser import Response
from proxy.http1.response_relay import response_is_whole
from proxy.upstream import failures
from proxy.upstream.http1 import Upstream
from proxy.upstream.loss import Kind, Loss
from proxy.upstream.server import Server

_NEW = DispatchState.NEW
_CONNECTING = DispatchState.CONNECTING
_BACKOFF = DispatchState.BACKOFF
_WAITING = DispatchState.WAITING
_OVER = DispatchState.OVER


MAX_REPLAYS = 8
"""Times that a request is sent again that its servers have not touched; they may all be going."""


class Dispatch:
    """One request's search for a response."""

    __slots__ = (
        "_attempt",
        "_client",
        "_exchange",
        "_kept",
        "_policy",
        "_replays",
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
        self._kept = kept
        self._replays = 0
        """Times that it was sent again because it was not the first time for anybody."""
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

    def resume(self, upstream: Upstream | None, attempt: Attempt | None) -> None:
        """Wait for the answer to what is out on ``upstream`` already; None: it is gone: ``lost`` follows.

        ``attempt``: None where its endpoint is not known any more.
        """
        self._to(_WAITING)
        self._attempt = attempt
        self._exchange.upstream = upstream
        if upstream is not None:
            upstream.expect_answer(self._exchange, self._exchange.request.head.method)
            if self._client.write_paused:
                upstream.hold()

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

    def end(self, trailers: Sequence[Field]) -> None:
        """The end of a body that is CONTENT."""
        self._kept.trailers = trailers
        upstream = self._exchange.upstream
        if upstream is not None:
            upstream.end(trailers)
            if self._state is _WAITING:
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
        upstream = destination.at_once(self._exchange.request.head.method)
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

    def begin(self, upstream: Server) -> None:
        """The request has who takes it."""
        self._to(_WAITING)
        kept = self._kept
        assert self.destination is not None
        assert kept.head is not None
        if self.destination.endpoint is not None:
            self._attempt = Attempt(self.destination.pool, self.destination.endpoint)
        self._exchange.upstream = upstream
        upstream.send(self._exchange, self._exchange.as_of_now(kept.head), kept.read())
        if kept.trailers is not None:
            upstream.end(kept.trailers)
        if self._client.write_paused:
            upstream.hold()
        if not upstream.write_paused:
            self._client.release_for_upstream()
        if self._exchange.request_done:
            self._limit_try()

    def interim(self) -> None:
        """A response has come that is not the last: the next server's might say otherwise, so there is none.

        Envoy does not try again after it, either.
        """
        self._give_up_retries()

    def is_answered(self, response: Response, data: bytes, at: int) -> bool:
        """Whether a final response is the client's; else another one follows. ``data``: what follows it."""
        if self._attempt is not None:
            self._attempt.answered(self._exchange.counted_as(response))
        if self._is_retried(response, data, at):
            return False
        self._to(_OVER)
        self._kept.drop()
        return True

    def lost(self, loss: Loss) -> None:
        """No final response has come, and none comes of where the request is.

        RFC 9112, 9.3.1: a server may close an idle connection at any time. A request on a reused one that may
        be sent twice is not lost: it is sent once more, on a new connection. Where the route has requests
        tried again after such an end, that is one of its tries. Likewise, but whatever it is, what an HTTP/2
        server says not to have touched (RFC 9113, 8.7).
        """
        upstream, self._exchange.upstream = self._exchange.upstream, None
        if not self._is_replayed(loss, upstream):
            self._try_failed(Cause.RESET, loss.unbegun)
            return
        assert self.destination is not None
        self._end_attempt()
        self._replays += 1
        self._client.runtime.counters.add("upstream_replays_total")
        refusal = self.destination.pick_again()
        if refusal is not None:
            self._exchange.fail(refusal)
        elif loss.kind is Kind.UNTOUCHED:
            self._use_or_connect(self.destination)
        else:
            self._connect(self.destination)

    def _is_replayed(self, loss: Loss, upstream: Server | None) -> bool:
        if not self._kept.is_whole or self.destination is None:
            return False
        if loss.kind is Kind.UNTOUCHED:
            return self._replays < MAX_REPLAYS
        return (
            loss.kind is Kind.CLOSED
            and not self._replays
            and not (self._policy is not None and self._policy.reset)
            and self._exchange.request.head.method in IDEMPOTENT
            # The kernel uses no new ones.
            and (upstream is None or (upstream.reused and not upstream.is_answering))
        )

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
        if policy is None or response.status == 101 or not asks_for(policy, response):
            if self._retries is not None:
                self._retries.succeed()
            return False
        retries = self._made_retries()
        assert retries is not None
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
        """Leave the server. ``is_ended``: it has no more to say, so that its connection can be used again."""
        upstream, self._exchange.upstream = self._exchange.upstream, None
        if upstream is None:
            return
        if is_ended and self._exchange.request_done:
            upstream.finish(True, None)
        else:
            upstream.leave()

    def _to(self, state: DispatchState) -> None:
        assert state in DISPATCH_WAYS[self._state], f"{self._state} to {state}"
        self._state = state
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
