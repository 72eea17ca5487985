"""A request as it goes to a server, whatever is spoken with that."""

from __future__ import annotations

from typing import NamedTuple

from proxy.http1.field_values import Field


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
