"""What a dispatch needs of the exchange whose request it sends."""

from __future__ import annotations

from typing import Protocol

from proxy.http1.refusal import Refusal
from proxy.http1.request import Request
from proxy.http1.response_parser import Response
from proxy.telemetry.response_flags import Flag
from proxy.upstream.outgoing import Outgoing
from proxy.upstream.server import Server, User


class Dispatched(User, Protocol):
    """The exchange whose request is dispatched."""

    request: Request
    request_done: bool
    """Whether the request's last byte has come."""
    upstream: Server | None
    """Who has the request."""

    def as_of_now(self, head: Outgoing) -> Outgoing:
        """The request's head as it is sent at this moment."""

    def counted_as(self, response: Response) -> int:
        """The status that a final response counts as for its endpoint's ejection."""

    def mark(self, flag: Flag) -> None:
        """What comes next, a response or a failure, is the last word, for a reason that the log tells."""

    def fail(self, refusal: Refusal) -> None:
        """There is no response to be had."""
