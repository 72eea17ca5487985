"""Faults that are wanted: which delay and which failure a request gets. Envoy's http.fault filter."""

from __future__ import annotations

from typing import NamedTuple

from meshd.model.request_policies import MILLION, Fault
from meshd.model.routes import RouteMatch
from proxy.requests.match import predicate
from proxy.requests.request_head import RequestHead

DELAY_REQUEST = "x-envoy-fault-delay-request"
DELAY_PERCENTAGE = "x-envoy-fault-delay-request-percentage"
ABORT_REQUEST = "x-envoy-fault-abort-request"
ABORT_PERCENTAGE = "x-envoy-fault-abort-request-percentage"
_PERCENT = MILLION // 100
_MAX_UINT32, _MAX_UINT64 = 2**32 - 1, 2**64 - 1
MAX_DELAY_SECONDS = 3600.0
"""That a request may ask for; it asks for no more than that."""


class Draw(NamedTuple):
    """What a request gets: first the delay, then the failure."""

    delay: float
    """Seconds; 0: none."""
    abort: int
    """The status that it is answered with; 0: it goes on."""


NO_FAULT = Draw(0.0, 0)


class FaultPolicy:
    """A route's Fault, compiled."""

    __slots__ = ("_fault", "_holds", "max_active")

    def __init__(self, fault: Fault) -> None:
        """Raises meshd.model.regex.RegexError."""
        self._fault = fault
        self._holds = predicate(RouteMatch(headers=fault.headers))
        self.max_active = fault.max_active

    def draw(self, request: RequestHead, for_delay: float, for_abort: float) -> Draw:
        """``for_delay``, ``for_abort``: uniform in [0, 1)."""
        if self._holds is not None and not self._holds(request):
            return NO_FAULT
        fault = self._fault
        delay, abort = fault.delay, fault.abort
        delay_share, abort_share = fault.delay_share, fault.abort_share
        if fault.by_header:
            delay = min(_number(request, DELAY_REQUEST, _MAX_UINT64, 0) / 1000, MAX_DELAY_SECONDS)
            abort = _number(request, ABORT_REQUEST, _MAX_UINT64, 0)
            abort = abort if 200 <= abort < 600 else 0
            delay_share = _share(request, DELAY_PERCENTAGE, delay_share)
            abort_share = _share(request, ABORT_PERCENTAGE, abort_share)
        return Draw(
            delay if for_delay * MILLION < delay_share else 0.0,
            abort if for_abort * MILLION < abort_share else 0,
        )


def _number(request: RequestHead, name: str, most: int, otherwise: int) -> int:
    """A field's first value, if it is a number in decimal that is not over ``most``."""
    text = request.headers.get(name, "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return otherwise
    number = int(text)
    return number if number <= most else otherwise


def _share(request: RequestHead, name: str, most: int) -> int:
    return min(most, _PERCENT * _number(request, name, _MAX_UINT32, most))
