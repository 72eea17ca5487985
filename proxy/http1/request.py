"""A request's head, decided; and the answers to what is no request."""

from __future__ import annotations

from proxy.http1.field_values import Field
from proxy.http1.refusal import Refusal
from proxy.requests.request_head import RequestHead
from proxy.telemetry import response_flags
from proxy.telemetry.response_flags import Flag

PROTOCOL_ERROR = response_flags.joined(Flag.DOWNSTREAM_PROTOCOL_ERROR)


class Request:
    """One request's head, decided: where its body ends, what the connection does next, what goes on.

    Not changed once it is made: requests with the same head share it.
    """

    __slots__ = (
        "expects_continue",
        "fields",
        "forwarded_for",
        "forwarded_proto",
        "h2c",
        "head",
        "host_at",
        "http2",
        "http10",
        "keep_alive",
        "length",
        "request_id",
        "target",
        "te_trailers",
        "upgrade",
        "via",
    )

    def __init__(self) -> None:
        self.head: RequestHead
        self.target = ""
        """As the client sent it."""
        self.http10 = False
        self.http2 = False
        self.keep_alive = True
        self.length = 0
        """Of the body: bytes, or body.CHUNKED or body.CONTENT."""
        self.fields: list[Field] = []
        """What goes on to a server: no field for this connection only, the framing left in place."""
        self.host_at = -1
        """Where in ``fields`` Host stands; likewise the others. -1: it has none."""
        self.forwarded_for = -1
        self.forwarded_proto = -1
        self.request_id = -1
        self.via = -1
        self.upgrade = b""
        """The protocols that the client offers to change to; empty: none, or none that can be carried."""
        self.h2c: bytes | None = None
        """The settings of a client that offers to change to HTTP/2 (RFC 7540, 3.2); None: it does not."""
        self.te_trailers = False
        self.expects_continue = False

    @property
    def protocol(self) -> str:
        """The version that the client speaks, as the access log writes it."""
        if self.http2:
            return "HTTP/2"
        return "HTTP/1.0" if self.http10 else "HTTP/1.1"


def malformed(message: str, details: str = response_flags.CODEC_ERROR) -> Refusal:
    """The answer to what is not HTTP, or might be read in two ways: 400, and the connection ends."""
    return Refusal(400, message, PROTOCOL_ERROR, details)


def version_refusal() -> Refusal:
    """The answer to another version of HTTP."""
    return Refusal(
        505, "only HTTP/1.0 and HTTP/1.1 are spoken here", PROTOCOL_ERROR, response_flags.LOW_VERSION
    )
