"""UpstreamPolicies to clusters, and to what requests to them are hashed by."""

from __future__ import annotations

from collections.abc import Mapping

from meshd.gateway.keepalive import http2_options
from meshd.gateway.policies import Policies
from meshd.gateway.protocols import http_version
from meshd.kube import upstreampolicy as kube
from meshd.kube.duration import seconds
from meshd.kube.loadbalancing import HashOn, LoadBalancing
from meshd.kube.loadbalancing import SlowStart as KubeSlowStart
from meshd.kube.objects import Service, ServicePort
from meshd.model.cluster_policies import (
    Balancing,
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
    SlowStart,
    TcpProbe,
)
from meshd.model.clusters import Cluster, HttpVersion
from meshd.model.listeners import Protocol
from meshd.model.request_policies import HashCookie, HashHeader, HashKey, HashQuery, HashSource
from meshd.model.status import Problem, Severity

HashKeys = Mapping[str, tuple[HashKey, ...]]
"""By cluster, of those that have any."""


def cluster_name(service: Service, port: ServicePort) -> str:
    """``namespace/service:port``."""
    return f"{service.metadata.namespace}/{service.metadata.name}:{port.port}"


def unasked(service: Service, port: ServicePort, policies: Policies) -> str:
    """What a policy asks of a port that contradicts what the port speaks; empty: nothing."""
    spec, names = policies.upstream((service.metadata.namespace, service.metadata.name), port.name)
    check = spec.health_check if spec is not None else None
    if check is None or check.grpc is None or http_version(port) is not HttpVersion.HTTP1:
        return ""
    said = port.app_protocol or port.name
    return f"speaks {said}, so that {' and '.join(names)} cannot have it probed by gRPC: it is not probed"


def cluster(service: Service, port: ServicePort, policies: Policies) -> Cluster:
    """A port of a Service as a cluster. What is ``unasked`` is left out."""
    name = cluster_name(service, port)
    spec, names = policies.upstream((service.metadata.namespace, service.metadata.name), port.name)
    plain = Cluster(
        name=name,
        http_version=http_version(port),
        balancing=RingHash() if _is_sticky(service) else RoundRobin(),
    )
    if spec is None:
        return plain
    balancing = spec.load_balancing
    timeouts = spec.timeouts
    check = spec.health_check if not unasked(service, port, policies) else None
    return Cluster(
        name=name,
        http_version=plain.http_version,
        http2=plain.http2 if plain.http_version is HttpVersion.HTTP1 else http2_options(spec.keep_alive),
        balancing=_balancing(balancing) if balancing else plain.balancing,
        panic_percent=balancing.panic_threshold if balancing else plain.panic_percent,
        health_check=_health_check(check, _dns_name(service)) if check else None,
        outlier=_outlier(spec.outlier_detection) if spec.outlier_detection else None,
        limits=_limits(spec.limits) if spec.limits else plain.limits,
        connect_timeout=seconds(timeouts.connect) if timeouts else plain.connect_timeout,
        idle_timeout=seconds(timeouts.idle) if timeouts else plain.idle_timeout,
        policies=names,
    )


def hash_keys(services: Mapping[tuple[str, str], Service], policies: Policies) -> HashKeys:
    """What requests to the clusters are hashed by."""
    found: dict[str, tuple[HashKey, ...]] = {}
    for key, service in services.items():
        for port in service.spec.ports:
            spec = policies.upstream(key, port.name).spec
            said = spec.load_balancing if spec is not None else None
            if said is not None and said.hash_on:
                keys = tuple(_hash_key(each) for each in said.hash_on)
                found[cluster_name(service, port)] = keys
            elif said is None and _is_sticky(service):
                found[cluster_name(service, port)] = (HashSource(),)
    return found


def idle_timeouts(services: Mapping[tuple[str, str], Service], policies: Policies) -> Mapping[str, float]:
    """How long a connection to the clusters may be without a byte; of those that a policy says it of."""
    found: dict[str, float] = {}
    for key, service in services.items():
        for port in service.spec.ports:
            spec = policies.upstream(key, port.name).spec
            if spec is not None and spec.timeouts is not None:
                found[cluster_name(service, port)] = seconds(spec.timeouts.idle)
    return found


def session_affinity(
    service: Service, port: ServicePort, protocol: Protocol, policies: Policies
) -> tuple[Problem, ...]:
    """Warnings where sessionAffinity is not kept on a captured port."""
    if not _is_sticky(service):
        return ()
    spec, names = policies.upstream((service.metadata.namespace, service.metadata.name), port.name)
    why = ""
    if protocol is not Protocol.HTTP:
        why = f"port {port.port} is opaque TCP, of which each connection is balanced by itself"
    elif spec is not None and spec.load_balancing is not None:
        why = f"{' and '.join(names)} says how port {port.port} is balanced"
    if not why:
        return ()
    message = f"ClientIP does nothing here: {why}"
    return (Problem(field="spec.sessionAffinity", message=message, severity=Severity.WARNING),)


def _is_sticky(service: Service) -> bool:
    """A client's requests are to go to one endpoint. kube-proxy remembers which, for a time; with several
    proxies that would be several, so here it follows from the address."""
    return service.spec.session_affinity == "ClientIP"


def _hash_key(source: HashOn) -> HashKey:
    name = source.name or ""
    match source.type:
        case "Header":
            return HashHeader(name=name.lower())
        case "Cookie":
            return HashCookie(name=name, path=source.path or "/", ttl=seconds(source.ttl))
        case "QueryParam":
            return HashQuery(name=name)
        case "SourceAddress":
            return HashSource()


def _balancing(source: LoadBalancing) -> Balancing:
    match source.type:
        case "RoundRobin":
            return RoundRobin(slow_start=_slow_start(source.slow_start))
        case "LeastRequest":
            choices = source.least_request.choices if source.least_request else LeastRequest().choices
            return LeastRequest(choices=choices, slow_start=_slow_start(source.slow_start))
        case "Random":
            return RandomEndpoint()
        case "RingHash":
            ring = source.ring_hash
            return RingHash(min_size=ring.minimum_size, max_size=ring.maximum_size) if ring else RingHash()
        case "Maglev":
            return Maglev(table_size=source.maglev.table_size) if source.maglev else Maglev()


def _slow_start(source: KubeSlowStart | None) -> SlowStart | None:
    if source is None:
        return None
    return SlowStart(
        window=seconds(source.window),
        aggression=source.aggression_percent / 100,
        min_weight_percent=float(source.min_weight_percent),
    )


def _dns_name(service: Service) -> str:
    """A cluster's own name holds a slash, which no Host may (RFC 9110, 7.2)."""
    return f"{service.metadata.name}.{service.metadata.namespace}.svc.cluster.local"


def _health_check(source: kube.HealthCheck, host: str) -> HealthCheck:
    """``host``: of the request, where the policy names none."""
    probe: HttpProbe | TcpProbe | GrpcProbe = TcpProbe()
    if source.grpc is not None:
        probe = GrpcProbe(service=source.grpc.service, authority=source.grpc.authority or host)
    if source.http is not None:
        probe = HttpProbe(path=source.http.path, host=source.http.host or host)
        if source.http.expected_statuses:
            ranges = tuple((each.start, each.end) for each in source.http.expected_statuses)
            probe = HttpProbe(path=probe.path, host=probe.host, statuses=ranges)
    return HealthCheck(
        probe=probe,
        interval=seconds(source.interval),
        timeout=seconds(source.timeout),
        unhealthy_after=source.unhealthy_threshold,
        healthy_after=source.healthy_threshold,
        port=source.port or 0,
    )


def _outlier(source: kube.OutlierDetection) -> Outlier:
    return Outlier(
        consecutive_5xx=source.consecutive_5xx,
        consecutive_gateway=source.consecutive_gateway_errors,
        interval=seconds(source.interval),
        ejection_time=seconds(source.base_ejection_time),
        max_ejection_time=max(seconds(source.max_ejection_time), seconds(source.base_ejection_time)),
        max_ejected_percent=source.max_ejected_percent,
        success_rate_factor=source.success_rate_factor,
        success_rate_hosts=source.minimum_hosts,
        success_rate_requests=source.minimum_requests,
        latency_factor=source.latency_factor,
    )


def _limits(source: kube.Limits) -> Limits:
    budget = source.retry_budget
    plain = Limits()
    return Limits(
        connections=source.connections or 0,
        pending=source.pending_requests or 0,
        requests=source.requests or 0,
        retries=source.retries or 0,
        retry_budget_percent=float(budget.percent) if budget else plain.retry_budget_percent,
        retry_budget_min=budget.min_retries if budget else plain.retry_budget_min,
    )
