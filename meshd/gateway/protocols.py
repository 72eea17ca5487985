"""What a service port speaks, from what its owner wrote.

In this order:

1. ``appProtocol`` (KEP-1422 and Istio's names),
2. the port's name, ``<protocol>`` or ``<protocol>-<suffix>`` (Istio's convention),
3. nothing said: HTTP if an HTTPRoute or a GRPCRoute is attached to the port, else opaque TCP.

There is no detection by looking at the first bytes: it stalls protocols in which the server speaks first.
HTTP/2, gRPC and TLS are carried as opaque TCP.
"""

from __future__ import annotations

import enum

from meshd.kube.objects import ServicePort
from meshd.model.listeners import Protocol

HTTP = frozenset({"http", "http1", "grpc-web", "kubernetes.io/ws"})
"""Spoken as HTTP/1.1."""
OTHER = frozenset({
    "tcp", "tls", "https", "http2", "h2c", "grpc", "mongo", "mysql", "redis", "udp",
    "kubernetes.io/h2c", "kubernetes.io/wss",
})  # fmt: skip
"""Known, and not HTTP/1.1 in clear text."""


class Declared(enum.Enum):
    """What the owner said."""

    HTTP = "http"
    OPAQUE = "opaque"
    NOTHING = "nothing"


def declared(port: ServicePort) -> Declared:
    """What a port is declared to speak."""
    if port.app_protocol:
        return Declared.HTTP if port.app_protocol.lower() in HTTP else Declared.OPAQUE
    if port.name == "grpc-web" or port.name.startswith("grpc-web-"):
        return Declared.HTTP
    prefix = port.name.partition("-")[0].lower()
    if prefix in HTTP:
        return Declared.HTTP
    return Declared.OPAQUE if prefix in OTHER else Declared.NOTHING


def protocol(port: ServicePort, has_routes: bool) -> Protocol:
    """How a port is treated. ``has_routes``: whether such a route is attached to it."""
    said = declared(port)
    if said is Declared.HTTP or (said is Declared.NOTHING and has_routes):
        return Protocol.HTTP
    return Protocol.TCP
