"""Where requests go: clusters and their endpoints.

Where a field has an xDS counterpart, its docstring names it.
"""

from __future__ import annotations

import enum

import msgspec

from meshd.model.cluster_policies import Balancing, HealthCheck, Limits, Outlier, RoundRobin
from meshd.model.http2 import Http2Options


class HttpVersion(enum.Enum):
    """What a cluster's servers are spoken to in. xDS: HttpProtocolOptions.upstream_protocol_options."""

    SAME = "same"
    """What the client speaks (use_downstream_protocol_config)."""
    HTTP1 = "http1"
    """explicit_http_config with http_protocol_options; also what it is where nothing is said."""
    HTTP2 = "http2"
    """By prior knowledge: appProtocol kubernetes.io/h2c or grpc (http2_protocol_options)."""


class Cluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named group of endpoints that serve the same. xDS: Cluster of type EDS.

    Its endpoints come as the EndpointSet of the same name.
    """

    name: str
    """``namespace/service:port``."""
    http_version: HttpVersion = HttpVersion.SAME
    http2: Http2Options = Http2Options()
    """Where HTTP/2 is spoken (http2_protocol_options)."""
    balancing: Balancing = RoundRobin()
    panic_percent: int = 0
    """Where fewer endpoints than this are healthy, all are used; 0: never (healthy_panic_threshold)."""
    health_check: HealthCheck | None = None
    outlier: Outlier | None = None
    limits: Limits = Limits()
    connect_timeout: float = 5.0
    """Seconds."""
    idle_timeout: float = 3600.0
    """Seconds that an upstream connection may wait for a request (HttpProtocolOptions.idle_timeout)."""
    policies: tuple[str, ...] = ()
    """Which policies shaped it, for people: ``UpstreamPolicy namespace/name``."""


class Health(enum.Enum):
    """What the control plane knows of an endpoint. New requests go to healthy ones only."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One server address of a cluster."""

    address: str
    port: int
    weight: int = 1
    health: Health = Health.HEALTHY
    locality: str = ""
    """``region/zone/sub-zone``, what is unknown empty (core.v3.Locality). From Kubernetes the sub-zone is the
    node."""
    priority: int = 0
    """The lowest number takes what it can, the next the rest (LocalityLbEndpoints.priority)."""
    workload: str = ""
    """``namespace/pod`` where known; for people, not for decisions."""
    health_port: int = 0
    """Where it is probed; 0: HealthCheck.port (Endpoint.HealthCheckConfig.port_value)."""
    for_nodes: tuple[str, ...] = ()
    """Whose callers it is meant for, with Nearness.HINTED; it is not sent."""
    for_zones: tuple[str, ...] = ()
    """Likewise."""


class Nearness(enum.Enum):
    """Which endpoints the callers on a node get first."""

    ANY = "any"
    ZONE = "zone"
    """Those in the node's zone, then the others."""
    NODE = "node"
    """Those on the node, then those in its zone, then the others."""
    NODE_ONLY = "node-only"
    """Those on the node, and no others."""
    HINTED = "hinted"
    """Those that are meant for the node, or else for its zone, then the others (Endpoint.for_nodes,
    for_zones); where none is meant for it, all alike."""


class EndpointSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The endpoints of the cluster of that name. xDS: ClusterLoadAssignment."""

    name: str
    endpoints: tuple[Endpoint, ...] = ()
    overprovisioning_percent: int = 140
    """A priority whose healthy share times this is under 100 passes the rest on (overprovisioning_factor)."""
    nearness: Nearness = Nearness.ANY
    """The control plane makes priorities of it for each of its clients, and sends those in its place."""
