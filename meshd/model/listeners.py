"""A service port as the data plane holds it: where it is called, what it speaks.

Where a field has an xDS counterpart, its docstring names it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Set

import msgspec

from meshd.model.http2 import Http2Options
from meshd.model.request_policies import MILLION
from meshd.model.tcp_routes import TcpRoute


class Protocol(enum.Enum):
    """What a service port speaks."""

    HTTP = "http"
    TCP = "tcp"


class FailurePolicy(enum.Enum):
    """What capture does with a new connection when no proxy worker is alive."""

    OPEN = "open"
    """The kernel picks an endpoint and the connection goes there, as plain TCP."""
    CLOSED = "closed"
    """connect(2) fails with ECONNREFUSED."""


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a listener treats HTTP; the HttpConnectionManager's fields. Times in seconds, 0 means no limit."""

    idle_timeout: float = 3600.0
    """Downstream connection without a request (common_http_protocol_options.idle_timeout)."""
    stream_idle_timeout: float = 300.0
    """No byte in either direction while a request is out (stream_idle_timeout)."""
    request_headers_timeout: float = 10.0
    """From a request head's first byte to its last (request_headers_timeout)."""
    max_request_head_bytes: int = 60 * 1024
    """Request line and header fields (max_request_headers_kb)."""
    forwarded_for: bool = True
    """Append the caller's address to x-forwarded-for (use_remote_address and not skip_xff_append)."""
    forwarded_proto: bool = True
    """Set x-forwarded-proto."""
    request_id: bool = True
    """Make an x-request-id where the request has none (generate_request_id)."""
    access_log_share: int = MILLION
    """Parts per million of the requests that are logged. Where they go is the node's affair, so xDS has no
    field for it."""
    via: str = ""
    """Appended to the Via field of requests and responses (via; RFC 9110, 7.6.3); empty: not added. The
    kernel carries no request of a listener that adds it."""
    http2: Http2Options = Http2Options()
    """Of connections that speak HTTP/2 (http2_protocol_options)."""


class Listener(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One port of one service: the addresses it is called by and what happens to what arrives.

    xDS: envoy.config.listener.v3.Listener with bind_to_port false.
    """

    name: str
    """``namespace/name:port``."""
    service: str
    """``namespace/name``."""
    addresses: tuple[str, ...]
    """The service's VIPs, IPv4 and IPv6, in their canonical text form."""
    port: int
    protocol: Protocol
    cluster: str = ""
    """The service's own endpoints: opaque TCP goes there, and HTTP when it fails open."""
    route_config: str = ""
    """HTTP only: the name of the RouteConfig."""
    consumers: tuple[tuple[str, str], ...] = ()
    """HTTP only: the namespaces whose callers are routed by other rules, with the name of the RouteConfig, by
    namespace (the Gateway API's consumer routes, GEP-1294)."""
    tcp_routes: tuple[TcpRoute, ...] = ()
    """TCP only: who decides instead of ``cluster``; with them, a connection that none takes is reset."""
    tcp_consumers: tuple[tuple[str, tuple[TcpRoute, ...]], ...] = ()
    """TCP only: the namespaces whose callers have other ``tcp_routes``, by namespace."""
    hello_timeout: float = 15.0
    """TCP only: seconds for a ClientHello to come, where routes have names; 0: no limit
    (listener_filters_timeout)."""
    failure_policy: FailurePolicy = FailurePolicy.OPEN
    http: HttpOptions = HttpOptions()
    fast_path: bool = True
    """HTTP only: whether the kernel may carry requests by itself."""
    tcp_fast_path: bool = False
    """TCP only: whether the kernel joins the two ends of a connection where both are on one node."""
    http2_fast_path: bool = False
    """HTTP only: whether a client's HTTP/2 connection is spliced with one to a server, as a whole, where
    nothing is to be decided or done for each request (meshd.model.splicing)."""
    cold: bool = False
    """It is only known of: none of what decides on its connections is here, and the first one asks for it."""

    @property
    def is_relayed(self) -> bool:
        """Whether TCP connections go through the proxy, whoever makes them: the kernel cannot route them."""
        return bool(self.tcp_routes or self.tcp_consumers)

    @property
    def tcp_clusters(self) -> frozenset[str]:
        """The names of all clusters that its TCP routes lead to."""
        groups = (self.tcp_routes, *(routes for _, routes in self.tcp_consumers))
        return frozenset(cluster.name for group in groups for route in group for cluster in route.clusters)

    @property
    def route_configs(self) -> tuple[str, ...]:
        """The names of all RouteConfigs that it needs."""
        own = (self.route_config,) if self.route_config else ()
        return own + tuple(name for _, name in self.consumers if name)

    @property
    def clusters(self) -> Set[str]:
        """The names of the clusters that it refers to by itself, without those of its RouteConfigs."""
        return self.tcp_clusters | {self.cluster} if self.cluster else self.tcp_clusters

    def as_cold(self) -> Listener:
        """What is left of it where nobody uses it: where it is called, and how it fails."""
        return Listener(
            name=self.name,
            service=self.service,
            addresses=self.addresses,
            port=self.port,
            protocol=self.protocol,
            failure_policy=self.failure_policy,
            cold=True,
        )

    def for_callers(self, namespaces: Collection[str]) -> Listener:
        """The listener for a node that has callers of these namespaces only.

        That others have rules of their own it still says, but not which: their name is empty.
        """
        if all(namespace in namespaces for namespace, _ in self.consumers):
            return self
        consumers = tuple((each, name if each in namespaces else "") for each, name in self.consumers)
        return msgspec.structs.replace(self, consumers=consumers)

    def seen_from(self, namespace: str) -> Listener:
        """The listener as it is for callers in a namespace that has rules of its own; else itself."""
        for consumer, name in self.consumers:
            if consumer == namespace:
                return msgspec.structs.replace(self, route_config=name, consumers=())
        for consumer, routes in self.tcp_consumers:
            if consumer == namespace:
                return msgspec.structs.replace(self, tcp_routes=routes, tcp_consumers=())
        return self

    @property
    def caller_namespaces(self) -> tuple[str, ...]:
        """The namespaces from which it is seen differently; "": all that have no rules of their own."""
        return ("", *(namespace for namespace, _ in (*self.consumers, *self.tcp_consumers)))
