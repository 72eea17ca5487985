"""How a route sends requests on and how a cluster's endpoints are used, a line each, for people. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from meshd.model.cluster_policies import (
    GrpcProbe,
    HealthCheck,
    HttpProbe,
    LeastRequest,
    Limits,
    Maglev,
    Outlier,
    RandomEndpoint,
    RingHash,
    RoundRobin,
    TcpProbe,
)
from meshd.model.clusters import Cluster, Endpoint, Health
from meshd.model.http2 import Http2Options
from meshd.model.request_policies import (
    GRPC_CONDITIONS,
    HashCookie,
    HashHeader,
    HashKey,
    HashQuery,
    HashSource,
    Retry,
    Session,
    SessionCookie,
)
from meshd.model.routes import Forward


def route_effects(action: Forward) -> Iterator[str]:
    """How a route sends its requests on, beside where to; what it does before that filter_texts tells."""
    retry = action.retry
    if retry is not None and retry.attempts:
        yield f"retry {_retry(retry)}"
    if retry is not None and retry.per_try_timeout:
        yield f"timeout of a try {retry.per_try_timeout:g} s"
    if action.deadline_limit is not None:
        longest = f", at most {action.deadline_limit:g} s" if action.deadline_limit else ""
        yield f"deadline of gRPC calls kept{longest}"
    if action.session is not None:
        yield f"session by {_session(action.session)}"
    if action.hash_keys:
        yield f"hash on {', '.join(map(_hash_key, action.hash_keys))}"


def cluster_effects(cluster: Cluster) -> Iterator[str]:
    """How a cluster's endpoints are used, where it is not the default."""
    plain = Cluster(name=cluster.name)
    if cluster.balancing != plain.balancing:
        yield f"balancing {_balancing(cluster.balancing)}"
    if cluster.panic_percent:
        yield f"panic with fewer than {cluster.panic_percent} % healthy"
    if cluster.health_check is not None:
        yield f"health check {_health_check(cluster.health_check)}"
    if cluster.outlier is not None:
        yield f"outliers ejected {_outlier(cluster.outlier)}"
    if cluster.limits != plain.limits:
        yield f"limits {_limits(cluster.limits)}"
    if cluster.connect_timeout != plain.connect_timeout:
        yield f"connect timeout {cluster.connect_timeout:g} s"
    if cluster.idle_timeout != plain.idle_timeout:
        yield f"idle timeout {f'{cluster.idle_timeout:g} s' if cluster.idle_timeout else 'none'}"
    yield from http2_effects(cluster.http2)


def http2_effects(options: Http2Options) -> Iterator[str]:
    """How HTTP/2 is spoken with a cluster's servers or a port's clients, where it is not the default."""
    plain = Http2Options()
    if options.max_streams != plain.max_streams:
        yield f"HTTP/2 streams {options.max_streams}"
    windows = options.stream_window, options.connection_window
    if windows != (plain.stream_window, plain.connection_window):
        yield f"HTTP/2 windows {windows[0]}, {windows[1]} bytes"
    if options.keepalive is not None:
        keepalive = options.keepalive
        interval = f"every {keepalive.interval:g} s" if keepalive.interval else "not by the clock"
        idle = f", after {keepalive.idle_interval:g} s idle" if keepalive.idle_interval else ""
        yield f"keep-alive {interval}{idle}, timeout {keepalive.timeout:g} s"


def endpoint_effects(endpoints: Collection[Endpoint]) -> Iterator[str]:
    """Who of a cluster's endpoints comes first, seen from this node, where it is not all alike."""
    by_priority: dict[int, list[bool]] = defaultdict(list)
    for each in endpoints:
        by_priority[each.priority].append(each.health is Health.HEALTHY)
    if len(by_priority) > 1:
        found = (f"{sum(well)} of {len(well)} healthy" for _, well in sorted(by_priority.items()))
        yield f"priorities, the nearest first: {', then '.join(found)}"


def _retry(retry: Retry) -> str:
    causes = [
        *(["connect-failure"] if retry.connect_failure else []),
        *(["reset"] if retry.reset else []),
        *map(str, retry.statuses),
        *(f"gRPC {GRPC_CONDITIONS[status]}" for status in retry.grpc_statuses),
    ]
    return f"{retry.attempts} times on {', '.join(causes)}"


def _session(session: Session) -> str:
    kind = "cookie" if isinstance(session, SessionCookie) else "header"
    return f"{kind} {session.name}"


def _hash_key(key: HashKey) -> str:
    match key:
        case HashHeader(name=name):
            return f"header {name}"
        case HashCookie(name=name):
            return f"cookie {name}"
        case HashQuery(name=name):
            return f"query parameter {name}"
        case HashSource():
            return "source address"


def _balancing(balancing: RoundRobin | LeastRequest | RandomEndpoint | RingHash | Maglev) -> str:
    match balancing:
        case RoundRobin(slow_start=slow):
            return f"round robin{f', slow start {slow.window:g} s' if slow else ''}"
        case LeastRequest(choices=choices, slow_start=slow):
            return f"least request of {choices}{f', slow start {slow.window:g} s' if slow else ''}"
        case RandomEndpoint():
            return "random"
        case RingHash():
            return "ring hash"
        case Maglev():
            return "Maglev"


def _health_check(check: HealthCheck) -> str:
    match check.probe:
        case HttpProbe(path=path):
            probe = f"GET {path}"
        case GrpcProbe(service=service):
            probe = f"gRPC{f' of {service}' if service else ''}"
        case TcpProbe():
            probe = "by TCP"
    return f"{probe} every {check.interval:g} s"


def _outlier(outlier: Outlier) -> str:
    causes = [
        *([f"{outlier.consecutive_5xx} 5xx in a row"] if outlier.consecutive_5xx else []),
        *([f"{outlier.consecutive_gateway} gateway errors in a row"] if outlier.consecutive_gateway else []),
        *(["success rate"] if outlier.success_rate_factor else []),
        *(["latency"] if outlier.latency_factor else []),
    ]
    return f"by {', '.join(causes)}" if causes else "by nothing"


def _limits(limits: Limits) -> str:
    named = {
        "connections": limits.connections,
        "pending": limits.pending,
        "requests": limits.requests,
        "retries": limits.retries,
    }
    found = [f"{name} {value}" for name, value in named.items() if value]
    if limits.retry_budget_percent:
        found.append(f"retries {limits.retry_budget_percent:g} %, {limits.retry_budget_min} at least")
    return ", ".join(found)
