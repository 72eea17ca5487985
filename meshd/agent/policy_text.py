"""What policies do with a route's requests and with a cluster's endpoints, a line each, for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshd.model.cluster_policies import (
    HealthCheck,
    HttpProbe,
    LeastRequest,
    Limits,
    Maglev,
    Outlier,
    RandomEndpoint,
    RingHash,
    RoundRobin,
)
from meshd.model.clusters import Cluster
from meshd.model.request_policies import (
    MILLION,
    Fault,
    HashCookie,
    HashHeader,
    HashKey,
    HashQuery,
    HashSource,
    Mirror,
    RateLimit,
    Retry,
    Session,
    SessionCookie,
    StringMatch,
    TokenBucket,
)
from meshd.model.routes import Forward, Route, VirtualHost


def route_effects(route: Route, host: VirtualHost | None) -> Iterator[str]:
    """What is done with the requests of a route of a virtual host, but for what the route says itself."""
    if route.rate_limit is not None:
        yield f"rate limit {_rate_limit(route.rate_limit)}"
    elif host is not None and host.rate_limit is not None:
        yield f"rate limit of the service {_rate_limit(host.rate_limit)}"
    if route.fault is not None:
        yield f"fault {_fault(route.fault)}"
    if route.cors is not None:
        origins = ", ".join(("~" if each.regex else "") + each.value for each in route.cors.origins)
        yield f"CORS for {origins or 'no origin'}"
    action = route.action
    if isinstance(action, Forward):
        if action.retry is not None and action.retry.attempts:
            yield f"retry {_retry(action.retry)}"
        if action.retry is not None and action.retry.per_try_timeout:
            yield f"timeout of a try {action.retry.per_try_timeout:g} s"
        yield from (f"mirror {_mirror(each)}" for each in action.mirrors)
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


def _share(share: int) -> str:
    return f"{100 * share / MILLION:g} %"


def _rate_limit(limit: RateLimit) -> str:
    parts = ((limit.all, "all"), (limit.each_client, "each client"))
    return "; ".join(f"{_bucket(bucket)} ({whose})" for bucket, whose in parts if bucket is not None)


def _bucket(bucket: TokenBucket) -> str:
    return f"{bucket.tokens} in {bucket.interval:g} s, burst {bucket.burst}"


def _fault(fault: Fault) -> str:
    if fault.by_header:
        what = f"as the request asks, up to {_share(max(fault.delay_share, fault.abort_share))}"
    else:
        what = ", ".join(
            part
            for part, share in (
                (f"delay {fault.delay:g} s for {_share(fault.delay_share)}", fault.delay_share),
                (f"status {fault.abort} for {_share(fault.abort_share)}", fault.abort_share),
            )
            if share
        )
    only = " ".join(map(_condition, fault.headers))
    return f"{what or 'of no request'}{f', with {only}' if only else ''}"


def _condition(match: StringMatch) -> str:
    return f"{match.name}{'~' if match.regex else '='}{match.value}"


def _retry(retry: Retry) -> str:
    causes = [
        *(["connect-failure"] if retry.connect_failure else []),
        *(["reset"] if retry.reset else []),
        *map(str, retry.statuses),
    ]
    return f"{retry.attempts} times on {', '.join(causes)}"


def _mirror(mirror: Mirror) -> str:
    return f"{_share(mirror.share)} to {mirror.cluster}"


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
    probe = f"GET {check.probe.path}" if isinstance(check.probe, HttpProbe) else "by TCP"
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
