"""A request's way to an upstream connection: which endpoint, which connection, once more if need be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from meshd.model.clusters import Endpoint
from meshd.model.request_policies import Retry
from proxy.balancing.balancer import Balancer
from proxy.balancing.selection import Selection
from proxy.exchanges import failures
from proxy.exchanges.pool import ConnectionLimitError, Pool
from proxy.exchanges.upstream import Upstream
from proxy.http1.refusal import Refusal

if TYPE_CHECKING:
    from proxy.exchanges.downstream import Downstream
    from proxy.exchanges.exchange import Exchange

_SELECTION_ATTEMPTS = 5
"""Draws for an endpoint that has not failed yet (RetryPolicy.host_selection_retry_max_attempts)."""
_FIRST_BACKOFF = 0.05
"""Seconds, give or take a half, before the same endpoints are tried again; doubled each time. A change of the
endpoints takes about as long from the control plane to here."""
IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
"""Methods of requests that may be sent twice (RFC 9110, 9.2.2)."""


class Dispatch:
    """One request's search for a connection. Holds the endpoint's count while the request is out."""

    __slots__ = (
        "_backoff",
        "_balancer",
        "_connect_retries",
        "_connecting",
        "_downstream",
        "_exchange",
        "_failed",
        "_retried",
        "endpoint",
        "pool",
        "unanswered",
    )

    def __init__(
        self,
        exchange: Exchange,
        downstream: Downstream,
        balancer: Balancer,
        data: bytes,
        retry: Retry | None,
    ) -> None:
        """``data``: the request's head and what has come of its body.

        ``retry``: how often it may be tried again when a connection cannot be made; None: never.
        """
        self._exchange = exchange
        self._downstream = downstream
        self._balancer = balancer
        self._connecting = False
        self._backoff: asyncio.TimerHandle | None = None
        self._connect_retries = 0 if retry is None else retry.attempts
        self._failed: tuple[tuple[str, int], ...] = ()
        self._retried = False
        self.pool: Pool
        self.endpoint: Endpoint | None = None
        self.unanswered = data
        """All that has been sent or is to be, as long as it can be sent again; else empty."""

    def pick(self) -> Refusal | None:
        """Choose an endpoint, of the family that the client called."""
        runtime = self._downstream.runtime
        endpoint = self._balancer.pick(
            Selection(runtime.random, runtime.now, self._downstream.ipv6, excluded=self._failed)
        )
        if endpoint is None:
            return failures.no_endpoint(self._balancer.cluster.name)
        self._take(endpoint)
        return None

    def pick_again(self) -> Refusal | None:
        """Choose among the endpoints of now: the config may have changed since the request came."""
        cluster = self._balancer.cluster.name
        self._balancer = self._downstream.runtime.config.balancers.get(cluster, self._balancer)
        return self.pick()

    def _take(self, endpoint: Endpoint) -> None:
        self.leave()
        self.endpoint = endpoint
        self._balancer.started(endpoint)
        self.pool = self._downstream.caller.pool(self._balancer.cluster, endpoint)

    def idle_connection(self) -> Upstream | None:
        """A connection that waits for a request, or None."""
        upstream = self._idle()
        if self._exchange.request.head.method not in IDEMPOTENT:
            # It must not be sent twice, so look twice at the connection.
            while upstream is not None and upstream.has_ended():
                upstream.abort()
                upstream = self._idle()
        return upstream

    def _idle(self) -> Upstream | None:
        fast = self._downstream.fast
        own = fast.take(self.pool) if fast is not None else None
        return own or self.pool.take()

    def connect(self) -> Refusal | None:
        """Make a new connection; the exchange hears of it later."""
        try:
            self.pool.connect(self)
        except ConnectionLimitError:
            return failures.too_many_connections(self._balancer.cluster.name)
        self._connecting = True
        return None

    def connected(self, upstream: Upstream) -> bool:
        """Pool: the connection stands. False: it is not wanted any more."""
        if not self._connecting:
            return False
        self._connecting = False
        self._exchange.begin(upstream)
        return True

    def connect_failed(self, reason: str, timed_out: bool) -> None:
        """Pool: the connection could not be made."""
        failed = self.endpoint
        if not self._connecting or failed is None:
            return
        self._connecting = False
        if self._connect_retries > 0:
            self._connect_retries -= 1
            self._failed += ((failed.address, failed.port),)
            self._downstream.runtime.counters.add("upstream_connect_retries_total")
            for _ in range(_SELECTION_ATTEMPTS):
                if self.pick_again() is not None or self.endpoint is None:
                    break
                if (self.endpoint.address, self.endpoint.port) not in self._failed:
                    self._exchange.connect_again()
                    return
            # Nowhere else to go: soon there may be, for an endpoint often ends before the mesh hears of it.
            runtime = self._downstream.runtime
            delay = _FIRST_BACKOFF * 2 ** (len(self._failed) - 1) * (0.5 + runtime.random())
            self._backoff = runtime.loop.call_later(delay, self._after_backoff)
            return
        self._exchange.fail(failures.no_connection(failed, reason, timed_out))

    def _after_backoff(self) -> None:
        refusal = self.pick_again()
        if refusal is not None:
            self._exchange.fail(refusal)
        else:
            self._exchange.connect_again()

    def may_try_again(self, reused: bool) -> bool:
        """Whether a request whose connection died unanswered may be sent on a new one. True only once.

        ``reused``: the connection had carried an exchange before.

        RFC 9112, 9.3.1: a server may close an idle connection at any time; such a request is not lost.
        """
        if (
            self._retried
            or not reused
            or not self.unanswered
            or self._exchange.request.head.method not in IDEMPOTENT
        ):
            return False
        self._retried = True
        self.leave()
        return True

    def leave(self) -> None:
        """The request is out no more."""
        self._connecting = False
        if self._backoff is not None:
            self._backoff.cancel()
            self._backoff = None
        if self.endpoint is not None:
            self._balancer.finished(self.endpoint)
            self.endpoint = None
