"""How a cluster's endpoints are used: balancing, health, limits. Envoy's meaning; times are in seconds."""

from __future__ import annotations

import msgspec


class SlowStart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A new endpoint's share grows over ``window`` (Cluster.SlowStartConfig)."""

    window: float
    aggression: float = 1.0
    min_weight_percent: float = 10.0


class RoundRobin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="round_robin"):
    """Each in turn, by weight."""

    slow_start: SlowStart | None = None


class LeastRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="least_request"):
    """The least busy of some drawn at random."""

    choices: int = 2
    slow_start: SlowStart | None = None


class RandomEndpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="random"):
    """Any, by weight."""


class RingHash(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="ring_hash"):
    """The same for the same hash (ketama): few hashes move where endpoints change."""

    min_size: int = 1024
    max_size: int = 8 * 1024 * 1024


class Maglev(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="maglev"):
    """The same for the same hash, by a table: evener than a ring, moves more (Eisenbud et al., NSDI 2016)."""

    table_size: int = 65537
    """A prime, up to 5,000,011."""


Balancing = RoundRobin | LeastRequest | RandomEndpoint | RingHash | Maglev
"""How a cluster's endpoint is picked for a request (Cluster.lb_policy)."""


class HttpProbe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="http"):
    """GET ``path`` (HealthCheck.HttpHealthCheck)."""

    path: str
    host: str = ""
    """Empty: the cluster's name, or where that cannot be one ("/"), the endpoint's address and port."""
    statuses: tuple[tuple[int, int], ...] = ((200, 200),)
    """Of a healthy endpoint; ranges, both ends included."""


class TcpProbe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="tcp"):
    """A connection can be made (HealthCheck.TcpHealthCheck without payloads)."""


class GrpcProbe(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="grpc"):
    """The service grpc.health.v1.Health says SERVING (HealthCheck.GrpcHealthCheck)."""

    service: str = ""
    """Which it is asked for; empty: the server as a whole (service_name)."""
    authority: str = ""
    """Empty: the cluster's name, or where that cannot be one ("/"), the endpoint's address and port."""


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint is asked by us whether it is well (core.v3.HealthCheck)."""

    probe: HttpProbe | TcpProbe | GrpcProbe
    interval: float = 10.0
    timeout: float = 5.0
    unhealthy_after: int = 3
    healthy_after: int = 2
    port: int = 0
    """Asked there, where an endpoint has no health_port of its own; 0: at the endpoint's own port."""


class Outlier(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint that answers badly is left out for a time (Cluster.OutlierDetection). Counts of 0: off."""

    consecutive_5xx: int = 5
    consecutive_gateway: int = 0
    """502, 503, 504, and connections that failed."""
    interval: float = 10.0
    ejection_time: float = 30.0
    """Times how often it has been ejected."""
    max_ejection_time: float = 300.0
    max_ejected_percent: int = 10
    """One may always be ejected."""
    success_rate_factor: int = 0
    """Thousandths of a standard deviation under the mean of all that ejects; 0: off. Envoy's is 1900."""
    success_rate_hosts: int = 5
    success_rate_requests: int = 100
    latency_factor: int = 0
    """Thousandths of the median of all endpoints' mean response times that ejects; 0: off. Envoy has no such
    thing. The hosts and requests needed are those of the success rate."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node lets out to a cluster at a time (CircuitBreakers.Thresholds). 0: no limit."""

    connections: int = 0
    pending: int = 0
    """Requests that wait for a connection."""
    requests: int = 0
    retries: int = 0
    retry_budget_percent: float = 0.0
    """Of the active requests that may be retries; takes the place of ``retries`` (retry_budget)."""
    retry_budget_min: int = 3
    """Retries that are allowed however few requests there are (min_retry_concurrency)."""
