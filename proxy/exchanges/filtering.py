"""A request on its way through its route's filters. It may have to wait there, and it may end there."""

from __future__ import annotations

import asyncio
from typing import Protocol

from proxy.exchanges.client import Client, Headers
from proxy.filters.chain import Filters
from proxy.http1 import heads
from proxy.http1.request import Request
from proxy.requests.header_edit import Edit
from proxy.routing.decision import Answer, Decision
from proxy.telemetry import response_flags
from proxy.telemetry.response_flags import Flag

MAX_HELD_BYTES = 64 * 1024
"""Of a delayed request's body; beyond them the client is not read from."""
_RATE_LIMITED: Headers = (*heads.PLAIN_TEXT, ("x-envoy-ratelimited", "true"))


class Filtered(Protocol):
    """The exchange whose request is filtered."""

    request: Request

    edit: Edit
    """What is done to the head of the answer, whoever gives it."""

    def delayed(self) -> None:
        """It waits; ``proceed`` follows, unless the client goes."""

    def proceed(self, decision: Decision, body: bytes) -> None:
        """Do what is decided. ``body``: what has come of the request's."""


class Filtering:
    """One request's. Owns the timer of its delay, and its place among the active faults."""

    __slots__ = ("_active", "_client", "_decision", "_exchange", "_filters", "_held", "_timer")

    def __init__(
        self, exchange: Filtered, client: Client, decision: Decision, filters: Filters, body: bytes
    ) -> None:
        """``decision``: what becomes of the request behind the filters. ``body``: what has come of it."""
        self._exchange = exchange
        self._client = client
        self._decision = decision
        self._filters = filters
        self._held = body
        self._timer: asyncio.TimerHandle | None = None
        self._active = False

    def start(self) -> None:
        """Go through the filters: cors, fault, rate limit."""
        preflight = self._check_origin()
        if preflight is not None:
            self._go_on(preflight)
        elif self._filters.fault is None:
            self._limit()
        else:
            runtime = self._client.runtime
            draw = self._filters.fault.draw(self._exchange.request.head, runtime.random(), runtime.random())
            if draw.delay > 0 and self._make_fault("faults_delayed_total"):
                self._exchange.delayed()
                self._timer = runtime.loop.call_later(draw.delay, self._abort_or_limit, draw.abort)
            else:
                self._abort_or_limit(draw.abort)

    def more(self, data: bytes) -> None:
        """More of the body of a request that waits."""
        self._held += data
        if len(self._held) > MAX_HELD_BYTES:
            self._client.hold_for_upstream()

    def leave(self) -> None:
        """The exchange has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._active:
            self._active = False
            self._client.runtime.active_faults -= 1

    def _go_on(self, decision: Decision) -> None:
        held, self._held = self._held, b""
        self._client.release_for_upstream()
        self._exchange.proceed(decision, held)

    # -- cors ----------------------------------------------------------------------------------------

    def _check_origin(self) -> Answer | None:
        """The answer, if it is a preflight."""
        if self._filters.cors is None:
            return None
        verdict = self._filters.cors.check(self._exchange.request.head)
        self._exchange.edit = self._exchange.edit.then(verdict.marks)
        counters = self._client.runtime.counters
        if verdict.allowed is not None:
            counters.add("cors_origins_allowed_total" if verdict.allowed else "cors_origins_refused_total")
        if verdict.preflight is None:
            return None
        counters.add("cors_preflights_answered_total")
        headers = verdict.marks.of_answer(verdict.preflight)
        return Answer(self._decision.route, 200, headers, details=response_flags.CORS_RESPONSE)

    # -- fault ---------------------------------------------------------------------------------------

    def _make_fault(self, counter: str) -> bool:
        """Count a fault. False: too many are active, so there is none."""
        runtime, fault = self._client.runtime, self._filters.fault
        assert fault is not None
        if not self._active:
            if 0 < fault.max_active <= runtime.active_faults:
                runtime.counters.add("faults_left_out_total")
                return False
            self._active = True
            runtime.active_faults += 1
        runtime.counters.add(counter)
        return True

    def _abort_or_limit(self, status: int) -> None:
        self._timer = None
        if not status or not self._make_fault("faults_aborted_total"):
            self._limit()
            return
        message = f"this answer is a fault that the route {self._route()} makes on purpose"
        self._refuse(status, heads.PLAIN_TEXT, message, Flag.FAULT_INJECTED, response_flags.FAULT_ABORT)

    # -- rate limit ----------------------------------------------------------------------------------

    def _limit(self) -> None:
        limits, client = self._filters.limits, self._client
        if limits is None or limits.allow(client.forwarded_for(), client.runtime.buckets.take):
            self._go_on(self._decision)
            return
        message = f"too many requests for the route {self._route()}"
        self._refuse(429, _RATE_LIMITED, message, Flag.RATE_LIMITED, response_flags.RATE_LIMITED)

    def _refuse(self, status: int, headers: Headers, message: str, flag: Flag, details: str) -> None:
        headers = self._exchange.edit.of_answer(headers)
        flags, body = response_flags.joined(flag), heads.message_body(message)
        self._go_on(Answer(self._decision.route, status, headers, body, flags, details))

    def _route(self) -> str:
        return "" if self._decision.route is None else self._decision.route.name
