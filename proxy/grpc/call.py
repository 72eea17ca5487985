"""One gRPC call: how it ends, and when it has to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshd.model import grpc
from proxy.grpc import deadlines
from proxy.http1.field_values import Field
from proxy.requests.request_head import RequestHead

_STATUS = b"grpc-status"
_MAX_DIGITS = 8
NO_STATUS = "none"
"""What the metrics say of a call whose answer has none."""


class Call:
    """What is known of it besides its request."""

    __slots__ = ("_asked", "seconds", "status")

    def __init__(self, asked: str) -> None:
        """``asked``: the request's grpc-timeout; empty: it has none."""
        self._asked = asked
        self.seconds: float | None = None
        """That it may take from its request's head on; None: as long as it likes."""
        self.status = ""
        """As its answer says it; empty: it does not, so far."""

    def limit(self, most: float | None) -> None:
        """Hold it to its deadline, which is no longer than ``most``. 0: it is as it is; None: do not."""
        seconds = deadlines.parsed(self._asked) if most is not None and self._asked else None
        self.seconds = min(seconds, most) if seconds is not None and most else seconds

    def with_what_is_left(self, fields: list[Field], passed: float) -> list[Field]:
        """The request's fields, as they are sent when some seconds have passed since its head."""
        if self.seconds is None:
            return fields
        left = deadlines.written(self.seconds - passed)
        return [(name, left) if name.lower() == deadlines.NAME else (name, value) for name, value in fields]

    def read(self, fields: Iterable[Field]) -> None:
        """Take the status from an answer's head or its trailers, which have the last word."""
        found = status_in(fields)
        if found is not None:
            self.status = found

    def answered(self, status: int) -> None:
        """The proxy answers it itself."""
        self.status = str(status)

    def counted(self, status: int) -> str:
        """The status for the metrics. ``status``: the answer's as HTTP has it; 0: there was none."""
        if self.status:
            return self.status
        return str(grpc.of_http(status)) if status not in (0, 200) else NO_STATUS


def call_of(head: RequestHead) -> Call | None:
    """None: the request is not gRPC."""
    kind = head.headers.get("content-type")
    if kind is None or not grpc.is_grpc(kind):
        return None
    return Call(head.headers.get("grpc-timeout", ""))


def status_in(fields: Iterable[Field]) -> str | None:
    """The number, in decimal, that the field grpc-status tells; None: there is no such field.

    One that is no number of a status is taken for UNKNOWN, as clients take it: so there are few.
    """
    for name, value in fields:
        if name.lower() == _STATUS:
            known = value.isdigit() and len(value) <= _MAX_DIGITS and int(value) < len(grpc.STATUSES)
            return str(int(value) if known else grpc.UNKNOWN)
    return None


def http_status(status: int, fields: Sequence[Field]) -> int:
    """What the answer to a call counts as for its endpoint's ejection, by its head (Router::Filter::
    onUpstreamHeaders in Envoy, which knows nothing of trailers there, either).
    """
    found = status_in(fields)
    return status if found is None else grpc.as_http(int(found))
