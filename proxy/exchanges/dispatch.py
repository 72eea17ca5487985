"""A request's way to a response: which endpoint, which connection, once more if need be."""

from __future__ import annotations

import asyncio
from typing import Protocol

from meshd.model.clusters import Endpoint
from meshd.model.request_policies import Retry
from proxy.balancing.balancer import Balancer
from proxy.balancing.selection import Selection
from proxy.exchanges import failures
from proxy.exchanges.client import Client
from proxy.exchanges.exchange_state import DISPATCH_WAYS, DispatchState
from proxy.exchanges.pool import ConnectionLimitError, Pool
from proxy.exchanges.upstream import Upstream, User
from proxy.http1.refusal import Refusal
from proxy.http1.request import Request
from proxy.http1.response_heads import ResponseHeads
from proxy.http1.response_parser import Response, ResponseError

_SELECTION_ATTEMPTS = 5
"""Draws for an endpoint that has not failed yet (RetryPolicy.host_selection_retry_max_attempts)."""
_FIRST_BACKOFF = 0.05
"""Seconds, give or take a half, before the same endpoints are tried again; doubled each time. A change of the
endpoints takes about as long from the control plane to here."""
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""Methods of requests that may be sent twice (RFC 9110, 9.2.2)."""

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

    def fail(self, refusal: Refusal) -> None:
        """There is no response to be had."""


class Dispatch:
    """One request's search for a response. Holds the endpoint's count while the request is out."""

    __slots__ = (
        "_backoff",
        "_balancer",
        "_client",
        "_connect_retries",
        "_exchange",
        "_failed",
        "_heads",
        "_replayed",
        "_state",
        "endpoint",
        "pool",
        "unanswered",
    )

    def __init__(
        self,
        exchange: Dispatched,
        client: Client,
        balancer: Balancer | None,
        data: bytes,
        retry: Retry | None,
    ) -> None:
        """``balancer``, ``data``: None and empty only for a request that is out, and cannot be sent again.

        ``data``: the request's head and what has come of its body.

        ``retry``: how often it may be tried again when a connection cannot be made; None: never.
        """
        self._exchange = exchange
        self._client = client
        self._balancer = balancer
        self._backoff: asyncio.TimerHandle | None = None
        self._connect_retries = 0 if retry is None else retry.attempts
        self._failed: tuple[tuple[str, int], ...] = ()
        self._heads: ResponseHeads
        self._replayed = False
        self._state = _NEW
        self.pool: Pool
        self.endpoint: Endpoint | None = None
        self.unanswered = data
        """All that has been sent or is to be, as long as it can be sent again; else empty."""

    def start(self) -> None:
        """Send the request to an endpoint."""
        refusal = self._pick()
        if refusal is not None:
            self._exchange.fail(refusal)
        else:
            self._use_or_connect()

    def resume(self, upstream: Upstream | None) -> None:
        """Wait for the answer to what is out on ``upstream`` already; None: it is gone: ``lost`` follows."""
        self._to(_WAITING)
        self._await_answer(upstream)

    def more(self, data: bytes) -> None:
        """More of the request's body."""
        upstream = self._exchange.upstream
        if upstream is None:
            self.unanswered += data
        else:
            self.unanswered = b""
            upstream.write(data)

    def leave(self) -> None:
        """The request is out no more."""
        if self._state is not _OVER:
            self._to(_OVER)
        if self._backoff is not None:
            self._backoff.cancel()
            self._backoff = None
        self._free_endpoint()

    # -- an endpoint ---------------------------------------------------------------------------------

    def _pick(self) -> Refusal | None:
        """Choose an endpoint, of the family that the client called."""
        balancer, client = self._balancer, self._client
        assert balancer is not None
        endpoint = balancer.pick(Selection(client.runtime.random, client.runtime.now, client.ipv6))
        if endpoint is None:
            return failures.no_endpoint(balancer.cluster.name)
        self._free_endpoint()
        self.endpoint = endpoint
        balancer.started(endpoint)
        self.pool = client.caller.pool(balancer.cluster, endpoint)
        return None

    def _pick_again(self) -> Refusal | None:
        """Choose among the endpoints of now: the config may have changed since the request came."""
        assert self._balancer is not None
        cluster = self._balancer.cluster.name
        self._balancer = self._client.runtime.config.balancers.get(cluster, self._balancer)
        return self._pick()

    def _free_endpoint(self) -> None:
        if self.endpoint is not None and self._balancer is not None:
            self._balancer.finished(self.endpoint)
            self.endpoint = None

    # -- a connection --------------------------------------------------------------------------------

    def _use_or_connect(self) -> None:
        upstream = self._idle()
        if self._exchange.request.head.method not in IDEMPOTENT:
            # It must not be sent twice, so look twice at the connection.
            while upstream is not None and upstream.has_ended():
                upstream.abort()
                upstream = self._idle()
        if upstream is not None:
            self._begin(upstream)
        else:
            self._connect()

    def _idle(self) -> Upstream | None:
        return self._client.own_connection(self.pool) or self.pool.take()

    def _connect(self) -> None:
        self._to(_CONNECTING)
        if not self._exchange.request_done:
            # What comes of its body waits with the client. Else read on: the client may go.
            self._client.hold_for_upstream()
        try:
            self.pool.connect(self)
        except ConnectionLimitError:
            self._exchange.fail(failures.too_many_connections(self.pool.cluster.name))

    def connected(self, upstream: Upstream) -> bool:
        """Pool: the connection stands. False: it is not wanted any more."""
        if self._state is not _CONNECTING:
            return False
        self._begin(upstream)
        return True

    def connect_failed(self, reason: str, timed_out: bool) -> None:
        """Pool: the connection could not be made."""
        failed = self.endpoint
        if self._state is not _CONNECTING or failed is None:
            return
        if self._connect_retries == 0:
            self._exchange.fail(failures.no_connection(failed, reason, timed_out))
            return
        self._connect_retries -= 1
        self._failed += ((failed.address, failed.port),)
        self._client.runtime.counters.add("upstream_connect_retries_total")
        for _ in range(_SELECTION_ATTEMPTS):
            if self._pick_again() is not None or self.endpoint is None:
                break
            if (self.endpoint.address, self.endpoint.port) not in self._failed:
                self._use_or_connect()
                return
        # Nowhere else to go: soon there may be, for an endpoint often ends before the mesh hears of it.
        self._to(_BACKOFF)
        runtime = self._client.runtime
        delay = _FIRST_BACKOFF * 2 ** (len(self._failed) - 1) * (0.5 + runtime.random())
        self._backoff = runtime.loop.call_later(delay, self._after_backoff)

    def _after_backoff(self) -> None:
        refusal = self._pick_again()
        if refusal is not None:
            self._exchange.fail(refusal)
        else:
            self._use_or_connect()

    # -- an answer -----------------------------------------------------------------------------------

    def _begin(self, upstream: Upstream) -> None:
        self._to(_WAITING)
        self._await_answer(upstream)
        upstream.write(self.unanswered)
        if not upstream.write_paused:
            self._client.release_for_upstream()

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
        while self._state is _WAITING:
            try:
                response, data, at = self._heads.read(data, at)
            except ResponseError as error:
                self._exchange.fail(failures.bad_response(str(error)))
                return
            if response is None:
                return
            if response.status >= 200 or response.status == 101:
                self._to(_OVER)
                self.unanswered = b""
                self._exchange.respond(response, data, at)
            else:
                self._exchange.interim(response)

    def lost(self) -> None:
        """The connection is gone, and no final response has come.

        RFC 9112, 9.3.1: a server may close an idle connection at any time. A request on a reused one that may
        be sent twice is not lost: it is sent once more, on a new connection.
        """
        upstream = self._exchange.upstream
        self._exchange.upstream = None
        reused = upstream is None or upstream.reused  # the kernel uses no new ones
        if (
            not reused
            or self._heads.has_begun
            or self._replayed
            or not self.unanswered
            or self._exchange.request.head.method not in IDEMPOTENT
        ):
            self._exchange.fail(failures.closed_unanswered())
            return
        self._replayed = True
        self._free_endpoint()
        self._client.runtime.counters.add("upstream_replays_total")
        refusal = self._pick_again()
        if refusal is not None:
            self._exchange.fail(refusal)
        else:
            self._connect()

    def _to(self, state: DispatchState) -> None:
        assert state in DISPATCH_WAYS[self._state], f"{self._state} to {state}"
        self._state = state
