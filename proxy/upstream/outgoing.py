"""A request as it goes to a server, whatever is spoken with that."""

from __future__ import annotations

from meshd.model.listeners import HttpOptions
from proxy.http1 import heads
from proxy.http1.field_values import Field
from proxy.http1.request import Request
from proxy.routing.decision import ForwardTo


class Outgoing:
    """Its head. Not changed once it is made."""

    __slots__ = ("asked", "fields", "target")

    def __init__(self, asked: Request, target: str, fields: list[Field]) -> None:
        self.asked = asked
        """As its client sent it: method, framing, upgrade and version are taken from there."""
        self.target = target
        """Origin form."""
        self.fields = fields
        """As an HTTP/1.1 server gets them. Who speaks another version translates them."""


def outgoing(request: Request, decision: ForwardTo, options: HttpOptions, forwarded_for: bytes) -> Outgoing:
    """What is decided about a request, done to its head. ``forwarded_for``: its caller's address."""
    fields = heads.request_fields(request, decision.host, decision.request_edit, options, forwarded_for)
    return Outgoing(request, decision.target, fields)
