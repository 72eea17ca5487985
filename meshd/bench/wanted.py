"""What is asked for and what is to be answered: the names that clients and servers share. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from meshd.bench.plan import Load
from meshd.bench.results import Placement, Protocol

PORTS: Mapping[Protocol, int] = {
    "http1": 8080,
    "http1-close": 8080,
    "h2": 8081,
    "grpc": 8082,
    "grpc-stream": 8083,
}
"""Of the services and the servers alike: without a mesh the client may then call the pod by the same URL."""
SERVERS: Mapping[Placement, str] = {"same-node": "near", "two-nodes": "far"}
HEADERS = {"x-bench": "yes"}
"""Of every request, with and without a route: the route knows its requests by it."""


def body(size: int) -> bytes:
    """The answer of so many bytes; a call's message too."""
    pattern = b"0123456789abcdef"
    return (pattern * (size // len(pattern) + 1))[:size]


def message(content: bytes) -> bytes:
    """Content as a gRPC message that is not compressed, with its prefix (PROTOCOL-HTTP2.md of grpc/grpc)."""
    return struct.pack(">BI", 0, len(content)) + content


PREFIX_BYTES = len(message(b""))
QUESTION = message(body(16))
"""What a unary call asks with, whatever is answered."""


def path(size: int) -> str:
    """Where it is found; of a gRPC call the service and its method."""
    return f"/bytes/{size}"


def host(load: Load) -> str:
    """The service that the client calls."""
    return SERVERS[load.placement] + ("-routed" if load.route else "")


def url(load: Load) -> str:
    """What the client calls."""
    return f"http://{host(load)}:{PORTS[load.protocol]}{path(load.body_bytes)}"
