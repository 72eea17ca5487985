"""The exchange of a request that the kernel carried, from where the proxy takes it over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from proxy.balancing.balancer import Balancer
from proxy.exchanges.attempt import Attempt
from proxy.exchanges.client import Client
from proxy.exchanges.dispatch import Dispatch
from proxy.exchanges.exchange import Exchange
from proxy.exchanges.exchange_state import ExchangeState
from proxy.exchanges.kept_request import KeptRequest
from proxy.http1.body import Body
from proxy.http1.request import Request
from proxy.http1.response_relay import ResponseRelay
from proxy.routing.decision import ForwardTo
from proxy.upstream.http1 import Upstream


class CarriedExchange(Exchange):
    """As if the proxy had sent the request itself."""

    logged: ClassVar = False
    """The proxy has seen nothing of it that a line could tell."""

    __slots__ = ("_is_whole",)

    def __init__(
        self,
        client: Client,
        request: Request,
        started: float,
        decision: ForwardTo,
        whole: bool,
        is_whole: Callable[[], bool],
    ) -> None:
        """``whole``: the request has come to its end; ``is_whole`` asks that again."""
        super().__init__(client, request, started)
        self._decision = decision
        self._is_whole = is_whole
        self.account.route = decision.route.name
        self.account.cluster = decision.cluster
        self.request_done = whole
        self._last_activity = started

    def wait(
        self, upstream: Upstream | None, attempt: Attempt | None, balancer: Balancer | None, body: bytes
    ) -> None:
        """Wait for the answer on ``upstream``; None: it is gone, which is to be said next.

        ``attempt``: to the endpoint; None: that is the cluster's no more. ``balancer``: of that; None: the
        request is not known, and not sent again. ``body``: what has gone out of the request's.
        """
        self._to(ExchangeState.DISPATCHED)
        if balancer is None:
            self.dispatch = Dispatch(self, self._client, None, KeptRequest(None, b"", 0), None, 0.0)
        else:
            if self._body is not None:
                self.account.bytes_received = self._body.feed(body)
            self._write_down(balancer, body)
        assert self.dispatch is not None
        self.dispatch.resume(upstream, attempt)
        if self.request_done:
            self._arm_timeout(time.monotonic() - self.account.started)

    def go_on(self, body: Body | None, status: int, passed: int) -> None:
        """The kernel has brought the client the head and ``passed`` bytes in all; ``body`` follows."""
        self._to(ExchangeState.STREAMING)
        self.account.status = status
        self._response_keeps_alive = True
        self._relay = ResponseRelay(body, http10=False, keep_alive=True)
        self._relay.passed = passed

    def is_request_done(self) -> bool:
        """As Exchange's; of a request that nobody here knows the kernel knows it."""
        if self._body is None and not self.request_done:
            self.request_done = self._is_whole()
        return self.request_done
