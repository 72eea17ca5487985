"""How the requests to an endpoint ended, added up: what workers tell the agent, for outlier ejection."""

from __future__ import annotations

import msgspec

GATEWAY_ERRORS = frozenset((502, 503, 504))


class Run(msgspec.Struct, omit_defaults=True, array_like=True):
    """Errors in a row, as far as a report can tell: it does not know what came before and comes after."""

    first: int = 0
    """Before the first request that ended otherwise; where none did, all."""
    last: int = 0
    """After the last one that ended otherwise; where none did, all."""
    most: int = 0
    """The longest there was."""
    broken: bool = False
    """One did."""

    def count(self, error: bool) -> None:
        """One more request has ended."""
        if not error:
            self.last = 0
            self.broken = True
            return
        self.last += 1
        self.most = max(self.most, self.last)
        if not self.broken:
            self.first += 1


def _run() -> Run:
    return Run()


class Tally(msgspec.Struct, omit_defaults=True, array_like=True):
    """Of the requests to one endpoint, in the order in which they ended."""

    requests: int = 0
    successes: int = 0
    """Of those, answered with less than 500."""
    answers: int = 0
    """Of those, answered at all."""
    seconds: float = 0.0
    """That the answers took, together: each from the request's sending to the answer's head."""
    errors: Run = msgspec.field(default_factory=_run)
    """Those that were no success."""
    gateway: Run = msgspec.field(default_factory=_run)
    """Of those, GATEWAY_ERRORS and what got no answer."""

    def count(self, status: int, seconds: float | None) -> None:
        """A request has ended.

        ``status``: its answer's, or what its client was given for want of one; then ``seconds`` is None.
        """
        self.requests += 1
        self.successes += status < 500
        if seconds is not None:
            self.answers += 1
            self.seconds += seconds
        self.errors.count(status >= 500)
        self.gateway.count(status in GATEWAY_ERRORS)

    def count_good(self, requests: int, seconds: float) -> None:
        """So many more were answered with less than 500, which took ``seconds`` together."""
        self.requests += requests
        self.successes += requests
        self.answers += requests
        self.seconds += seconds
        if requests:
            self.errors.count(False)
            self.gateway.count(False)


class EndpointTally(msgspec.Struct, frozen=True, array_like=True):
    """Of one endpoint."""

    cluster: str
    address: str
    port: int
    tally: Tally
