"""When an exchange has taken too long: its route's timeout, and its gRPC call's deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from proxy.http1.refusal import Refusal
from proxy.upstream import failures

Fail = Callable[[Refusal], None]
"""What is told the reason when a time is over."""


class TimeLimits:
    """One exchange's timers. Made where there is something to time; ``end`` ends both."""

    __slots__ = ("_deadline", "_fail", "_loop", "_response")

    def __init__(self, loop: asyncio.AbstractEventLoop, fail: Fail) -> None:
        self._loop = loop
        self._fail = fail
        self._response: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def await_response(self, seconds: float, passed: float) -> None:
        """The request came to its end ``passed`` seconds ago: the answer has ``seconds``. Twice is once."""
        if self._response is None:
            left = max(0.0, seconds - passed)
            self._response = self._loop.call_later(left, lambda: self._fail(failures.route_timeout(seconds)))

    def hold_call(self, seconds: float, started: float, is_request_done: Callable[[], bool]) -> None:
        """A call has ``seconds`` from ``started`` (time.monotonic) on, whatever happens to it."""
        left = max(0.0, started + seconds - time.monotonic())
        self._deadline = self._loop.call_later(
            left, lambda: self._fail(failures.deadline(seconds, is_request_done()))
        )

    def end(self) -> None:
        """Nothing is timed any more."""
        for timer in (self._response, self._deadline):
            if timer is not None:
                timer.cancel()
