"""A request as it goes to a server, whatever is spoken with that."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.http1 import heads
from proxy.http1.field_values import Field
from proxy.http1.request import Request
from proxy.routing.decision import ForwardTo

if TYPE_CHECKING:
    from proxy.exchanges.client import Client


class Outgoing(NamedTuple):
    """Its head."""

    method: str
    target: str
    """Origin form."""
    fields: list[Field]
    """As an HTTP/1.1 server gets them. Who speaks another version translates them; not changed."""
    length: int
    """Of its body, as its client frames that: bytes, or body.CHUNKED or body.CONTENT."""
    upgrade: bytes
    """The protocols that the client offers to change to; empty: none."""
    http2: bool
    """Whether the client speaks HTTP/2."""


def outgoing(request: Request, decision: ForwardTo, client: Client) -> Outgoing:
    """What is decided about a request, done to its head."""
    fields = heads.request_fields(
        request, decision.host, decision.request_edit, client.listener.options, client.forwarded_for()
    )
    return Outgoing(
        request.head.method, decision.target, fields, request.length, request.upgrade, request.http2
    )
