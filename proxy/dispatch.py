"""A request's way to an upstream connection: which endpoint, which connection, once more if need be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshd.model.config import Endpoint
from proxy import failures
from proxy.balancing import Balancer
from proxy.pool import ConnectionLimitError, Pool
from proxy.refusal import Refusal
from proxy.runtime import Runtime
from proxy.upstream import Upstream

if TYPE_CHECKING:
    from proxy.caller import Caller
    from proxy.exchange import Exchange

_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))  # RFC 9110, 9.2.2


class Dispatch:
    """One request's search for a connection. Holds the endpoint's count while the request is out."""

    __slots__ = ("_balancer", "_connecting", "_exchange", "_retried", "endpoint", "pool", "unanswered")

    def __init__(self, exchange: Exchange, balancer: Balancer, data: bytes) -> None:
        """``data``: the request's head and what has come of its body."""
        self._exchange = exchange
        self._balancer = balancer
        self._connecting = False
        self._retried = False
        self.pool: Pool
        self.endpoint: Endpoint | None = None
        self.unanswered = data
        """All that has been sent or is to be, as long as it can be sent again; else empty."""

    def pick(self, caller: Caller, runtime: Runtime, ipv6: bool) -> Refusal | None:
        """Choose the endpoint. ``ipv6``: the family that the client called."""
        endpoint = self._balancer.pick(runtime.random, ipv6)
        if endpoint is None:
            return failures.no_endpoint(self._balancer.cluster.name)
        self.endpoint = endpoint
        self._balancer.started(endpoint)
        self.pool = caller.pool(self._balancer.cluster, endpoint)
        return None

    def idle_connection(self) -> Upstream | None:
        """A connection that waits for a request, or None."""
        upstream = self.pool.take()
        if self._exchange.request.head.method not in _IDEMPOTENT:
            # It must not be sent twice, so look twice at the connection.
            while upstream is not None and upstream.has_ended():
                upstream.abort()
                upstream = self.pool.take()
        return upstream

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
        if self._connecting and self.endpoint is not None:
            self._connecting = False
            self._exchange.fail(failures.no_connection(self.endpoint, reason, timed_out))

    def may_try_again(self, upstream: Upstream) -> bool:
        """Whether a request whose connection died unanswered may be sent on a new one. True only once.

        RFC 9112, 9.3.1: a server may close an idle connection at any time; such a request is not lost.
        """
        if (
            self._retried
            or not upstream.reused
            or not self.unanswered
            or self._exchange.request.head.method not in _IDEMPOTENT
        ):
            return False
        self._retried = True
        self.leave()
        return True

    def leave(self) -> None:
        """The request is out no more."""
        self._connecting = False
        if self.endpoint is not None:
            self._balancer.finished(self.endpoint)
            self.endpoint = None
