"""The config a data plane holds, in the form in which it is decided on.

The control plane derives it from Kubernetes objects and sends it as xDS resources; an agent decodes those
back into the same types. Where a field has an xDS counterpart, its docstring names it.
"""

from __future__ import annotations

import enum

import msgspec


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
    via: str = ""
    """Appended to the Via field of requests and responses (via; RFC 9110, 7.6.3); empty: not added. The
    kernel carries no request of a listener that adds it."""


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
    failure_policy: FailurePolicy = FailurePolicy.OPEN
    http: HttpOptions = HttpOptions()
    fast_path: bool = True
    """HTTP only: whether the kernel may carry requests by itself."""

    @property
    def route_configs(self) -> tuple[str, ...]:
        """The names of all RouteConfigs that it needs."""
        own = (self.route_config,) if self.route_config else ()
        return own + tuple(name for _, name in self.consumers)

    def seen_from(self, namespace: str) -> Listener:
        """The listener as it is for callers in a namespace that has rules of its own; else itself."""
        for consumer, name in self.consumers:
            if consumer == namespace:
                return msgspec.structs.replace(self, route_config=name, consumers=())
        return self

    @property
    def caller_namespaces(self) -> tuple[str, ...]:
        """The namespaces from which it is seen differently; "": all that have no rules of their own."""
        return ("", *(namespace for namespace, _ in self.consumers))


class StringMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named value that must equal ``value``, or wholly match it where ``regex`` is set (RE2 syntax)."""

    name: str
    """Header names in lower case."""
    value: str
    regex: bool = False


class PathExact(msgspec.Struct, frozen=True, tag="exact"):
    """The path is ``value``."""

    value: str


class PathPrefix(msgspec.Struct, frozen=True, tag="prefix"):
    """The path begins with ``value``, element by element: /a matches /a and /a/b, not /ab.

    ``value`` has no trailing slash; the prefix of all paths is "/" (xDS: path_separated_prefix; prefix "/").
    """

    value: str


class PathRegex(msgspec.Struct, frozen=True, tag="regex"):
    """The whole path, without its query, matches ``value`` (RE2 syntax; xDS: safe_regex)."""

    value: str


PathMatch = PathExact | PathPrefix | PathRegex


class RouteMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a request must be for a route to take it. Everything given must hold."""

    path: PathMatch = PathPrefix("/")
    method: str = ""
    """Empty: any."""
    headers: tuple[StringMatch, ...] = ()
    query: tuple[StringMatch, ...] = ()


class HeaderEdit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Header modifier: ``set`` overwrites, ``add`` appends, ``remove`` deletes. Names in lower case."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


class ReplaceFullPath(msgspec.Struct, frozen=True, tag="full"):
    """The whole path becomes ``value``; the query stays."""

    value: str


class ReplacePrefix(msgspec.Struct, frozen=True, tag="prefix"):
    """The part that the route's PathPrefix matched becomes ``value`` (Gateway API ReplacePrefixMatch)."""

    value: str


PathRewrite = ReplaceFullPath | ReplacePrefix


class WeightedCluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One share of a route's requests. Shares are proportional to weight; a weight of 0 gets none."""

    name: str
    weight: int = 1
    request_headers: HeaderEdit = HeaderEdit()
    response_headers: HeaderEdit = HeaderEdit()


class Forward(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="forward"):
    """Send the request to one of the clusters. xDS: RouteAction."""

    clusters: tuple[WeightedCluster, ...]
    timeout: float = 0.0
    """Seconds from the request's last byte to the response's last byte; 0: none (RouteAction.timeout)."""
    host: str = ""
    """Replaces Host (host_rewrite_literal); empty: kept."""
    path: PathRewrite | None = None
    connect_retries: int = 0
    """How often a request is tried again whose connection could not be made, on another endpoint where there
    is one: nothing of it has been sent, so this is safe for every method (retry_policy: connect-failure,
    previous_hosts)."""
    missing_cluster_status: int = 503
    """The answer when the chosen cluster does not exist (cluster_not_found_response_code)."""


class Redirect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="redirect"):
    """Answer with a Location; what is empty is taken from the request. xDS: RedirectAction."""

    scheme: str = ""
    host: str = ""
    port: int = 0
    path: PathRewrite | None = None
    status: int = 302


class DirectResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="direct"):
    """Answer by ourselves. xDS: DirectResponseAction."""

    status: int
    body: str = ""


Action = Forward | Redirect | DirectResponse


class Route(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One match and what follows from it. A virtual host's routes are tried in their order."""

    name: str
    """Whose rule it is: ``namespace/route/rule-index`` or ``.../rule-name``; shown in logs and metrics."""
    match: RouteMatch = RouteMatch()
    action: Action
    request_headers: HeaderEdit = HeaderEdit()
    response_headers: HeaderEdit = HeaderEdit()


class VirtualHost(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The routes for a set of Host values (exact, ``*.suffix``, ``prefix.*`` or ``*``, most exact first)."""

    name: str
    domains: tuple[str, ...] = ("*",)
    routes: tuple[Route, ...] = ()


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All routes of an HTTP listener. xDS: RouteConfiguration."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...] = ()
    ignore_port: bool = True
    """Match Host without its port, as the Gateway API does (xDS: ignore_port_in_host_matching)."""


class LoadBalancing(enum.Enum):
    """How a cluster's endpoint is picked for a request."""

    ROUND_ROBIN = "round_robin"
    LEAST_REQUEST = "least_request"
    RANDOM = "random"


class Cluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named group of endpoints that serve the same. xDS: Cluster of type EDS.

    Its endpoints come as the EndpointSet of the same name.
    """

    name: str
    """``namespace/service:port``."""
    balancing: LoadBalancing = LoadBalancing.ROUND_ROBIN
    connect_timeout: float = 5.0
    """Seconds."""
    idle_timeout: float = 3600.0
    """Seconds that an upstream connection may wait for a request (HttpProtocolOptions.idle_timeout)."""


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
    workload: str = ""
    """``namespace/pod`` where known; for people, not for decisions."""


class EndpointSet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The endpoints of the cluster of that name. xDS: ClusterLoadAssignment."""

    name: str
    endpoints: tuple[Endpoint, ...] = ()
