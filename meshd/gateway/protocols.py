"""What a service port speaks, from what its owner wrote.

In this order:

1. ``appProtocol`` (KEP-1422 and Istio's names),
2. the port's name, ``<protocol>`` or ``<protocol>-<suffix>`` (Istio's convention),
3. nothing said: HTTP if an HTTPRoute or a GRPCRoute is attached to the port, else opaque TCP.

There is no detection by looking at the first bytes: it stalls protocols in which the server speaks first.
Which version of HTTP a client speaks is seen on each connection, for that all begin with a request or with
HTTP/2's preface. TLS is carried as opaque TCP.
"""

from __future__ import annotations

import enum

from meshd.kube.objects import ServicePort
from meshd.model.clusters import HttpVersion
from meshd.model.listeners import Protocol

HTTP_VERSIONS = {
    "http": HttpVersion.SAME,
    "grpc-web": HttpVersion.SAME,
    "http1": HttpVersion.HTTP1,
    "kubernetes.io/ws": HttpVersion.HTTP1,
    "http2": HttpVersion.HTTP2,
    "h2c": HttpVersion.HTTP2,
    "grpc": HttpVersion.HTTP2,
    "kubernetes.io/h2c": HttpVersion.HTTP2,
}
"""What is HTTP in clear text, and what its servers are spoken to in: what only says HTTP, in what the client
speaks, as without a mesh; WebSocket begins as HTTP/1.1 (KEP-3726)."""
OTHER = frozenset({"tcp", "tls", "https", "mongo", "mysql", "redis", "udp", "kubernetes.io/wss"})
"""Known, and not HTTP in clear text."""


class Declared(enum.Enum):
    """What the owner said."""

    HTTP = "http"
    OPAQUE = "opaque"
    NOTHING = "nothing"


def declared(port: ServicePort) -> Declared:
    """What a port is declared to speak."""
    said = _said(port)
    if said in HTTP_VERSIONS:
        return Declared.HTTP
    return Declared.OPAQUE if said in OTHER or port.app_protocol else Declared.NOTHING


def http_version(port: ServicePort) -> HttpVersion:
    """What a port's servers are spoken to in, where it is treated as HTTP."""
    return HTTP_VERSIONS.get(_said(port), HttpVersion.SAME)


def _said(port: ServicePort) -> str:
    """The protocol's name in what the owner wrote, in lower case; empty: nothing was said."""
    if port.app_protocol:
        return port.app_protocol.lower()
    if port.name == "grpc-web" or port.name.startswith("grpc-web-"):
        return "grpc-web"
    return port.name.partition("-")[0].lower()


def protocol(port: ServicePort, has_routes: bool) -> Protocol:
    """How a port is treated. ``has_routes``: whether such a route is attached to it."""
    said = declared(port)
    if said is Declared.HTTP or (said is Declared.NOTHING and has_routes):
        return Protocol.HTTP
    return Protocol.TCP
