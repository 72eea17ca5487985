"""One of each thing that the model can say, for clients that are not ours."""

from __future__ import annotations

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
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health, HttpVersion
from meshd.model.http2 import Http2Options, KeepAlive
from meshd.model.listeners import HttpOptions, Listener, Protocol
from meshd.model.request_policies import (
    Cors,
    Fault,
    HashCookie,
    HashHeader,
    HashQuery,
    HashSource,
    Mirror,
    RateLimit,
    Retry,
    SessionCookie,
    SessionHeader,
    StringMatch,
    TokenBucket,
)
from meshd.model.routes import (
    DirectResponse,
    Forward,
    PathPrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.model.snapshot import Snapshot
from meshd.model.tcp_routes import TcpRoute

_BALANCING: dict[str, Balancing] = {
    "round-robin": RoundRobin(slow_start=SlowStart(window=30.0)),
    "least-request": LeastRequest(choices=3, slow_start=SlowStart(window=1.0, aggression=0.5)),
    "random": RandomEndpoint(),
    "ring-hash": RingHash(min_size=128, max_size=4096),
    "maglev": Maglev(table_size=251),
}
_HTTP_PROBE = HttpProbe(path="/health", host="web", statuses=((200, 204), (401, 401)))
_OUTLIER = Outlier(
    consecutive_gateway=2,
    ejection_time=600.0,
    max_ejected_percent=50,
    success_rate_factor=1900,
    latency_factor=3000,
)


def _keeping_alive(idle_interval: float) -> Http2Options:
    keepalive = KeepAlive(interval=600.0, timeout=20.0, jitter_percent=10.0, idle_interval=idle_interval)
    return Http2Options(
        max_streams=100, stream_window=1 << 20, connection_window=1 << 24, keepalive=keepalive
    )


CLUSTERS = (
    *(Cluster(name=f"by/{name}", balancing=each) for name, each in _BALANCING.items()),
    Cluster(name="panic", panic_percent=30),
    *(Cluster(name=f"speaks/{version.value}", http_version=version) for version in HttpVersion),
    Cluster(name="keeps-alive", http_version=HttpVersion.HTTP2, http2=_keeping_alive(3600.0)),
    Cluster(name="http-probe", health_check=HealthCheck(probe=_HTTP_PROBE, interval=600.0, port=8081)),
    Cluster(
        name="grpc-probe",
        http_version=HttpVersion.HTTP2,
        health_check=HealthCheck(probe=GrpcProbe(service="demo.Echo", authority="web"), interval=600.0),
    ),
    Cluster(name="tcp-probe", health_check=HealthCheck(probe=TcpProbe(), interval=600.0)),
    Cluster(name="outlier", outlier=_OUTLIER),
    Cluster(name="outlier-off", outlier=Outlier(consecutive_5xx=0)),
    Cluster(name="limits", limits=Limits(connections=10, pending=5, requests=100, retries=1)),
    Cluster(name="budget", limits=Limits(retry_budget_percent=12.5, retry_budget_min=1)),
)
_ENDPOINTS = (
    Endpoint(address="127.0.0.2", port=8001, locality="r/a/", weight=3, workload="default/a"),
    Endpoint(address="127.0.0.3", port=8001, locality="r/a/", health=Health.DRAINING),
    Endpoint(address="127.0.0.4", port=8001, locality="r/b/s", health=Health.UNHEALTHY),
    Endpoint(address="127.0.0.5", port=8001, priority=1, health_port=8082),
)


def _to(**fields: object) -> Forward:
    return Forward(clusters=(WeightedCluster(name="by/maglev"),), **fields)  # type: ignore[arg-type]


_BUCKET = TokenBucket(tokens=10, interval=0.5, burst=20)
_IS_TEST = StringMatch(name="x-test", value="1")
_ORIGINS = (
    StringMatch(name="origin", value="https://a.example"),
    StringMatch(name="origin", value="https://.*", regex=True),
)
ROUTES: dict[str, Route] = {
    "retry": Route(
        name="retry",
        action=_to(
            retry=Retry(
                attempts=2,
                reset=True,
                statuses=(500, 503),
                per_try_timeout=1.5,
                backoff=0.1,
                max_backoff=2.0,
            )
        ),
    ),
    "grpc": Route(
        name="grpc",
        match=RouteMatch(grpc=True),
        action=_to(deadline_limit=10.0, retry=Retry(grpc_statuses=(1, 4, 8, 13, 14))),
    ),
    "deadline": Route(name="deadline", action=_to(deadline_limit=0.0)),
    "per-try": Route(
        name="per-try",
        action=_to(retry=Retry(attempts=0, connect_failure=False, per_try_timeout=1.0, backoff=0.0)),
    ),
    "mirror": Route(
        name="mirror",
        action=_to(mirrors=(Mirror(cluster="panic"), Mirror(cluster="limits", share=1))),
    ),
    "hash": Route(
        name="hash",
        action=_to(
            hash_keys=(
                HashHeader(name="x-user"),
                HashCookie(name="user", ttl=60.0),
                HashCookie(name="other"),
                HashQuery(name="user"),
                HashSource(),
            )
        ),
    ),
    "session": Route(name="session", action=_to(session=SessionCookie(name="s", ttl=60.0))),
    "browser-session": Route(name="browser", action=_to(session=SessionCookie(name="s", path="/a"))),
    "header-session": Route(name="header-session", action=_to(session=SessionHeader(name="x-session"))),
    "cors": Route(
        name="cors",
        action=_to(),
        cors=Cors(
            origins=_ORIGINS,
            methods=("GET", "PUT"),
            headers=("x-a",),
            expose=("x-b", "x-c"),
            max_age=60,
            credentials=True,
        ),
    ),
    "fault": Route(
        name="fault",
        action=_to(),
        fault=Fault(delay=0.01, delay_share=10, abort=503, abort_share=500_000, headers=(_IS_TEST,)),
    ),
    "own-fault": Route(
        name="own-fault", action=_to(), fault=Fault(delay_share=1, abort_share=1, by_header=True)
    ),
    "limit": Route(name="limit", action=_to(), rate_limit=RateLimit(all=_BUCKET)),
    "client-limit": Route(name="client-limit", action=_to(), rate_limit=RateLimit(each_client=_BUCKET)),
    "limits": Route(name="limits", action=_to(), rate_limit=RateLimit(all=_BUCKET, each_client=_BUCKET)),
    "direct": Route(name="direct", action=DirectResponse(status=503, body="x" * 5000)),
    "slow": Route(name="slow", action=_to(), fast_path=False),
}
"""A route for each kind of policy, by the path that it takes."""


def routes() -> tuple[Route, ...]:
    """Every kind of policy, each at its path."""
    return tuple(
        Route(
            name=route.name,
            match=RouteMatch(path=PathPrefix(f"/{name}"), grpc=route.match.grpc),
            action=route.action,
            cors=route.cors,
            fault=route.fault,
            rate_limit=route.rate_limit,
            fast_path=route.fast_path,
        )
        for name, route in ROUTES.items()
    )


_SHARES = (WeightedCluster(name="by/ring-hash", weight=9), WeightedCluster(name="panic"))
TCP = Listener(
    name="tcp",
    service="default/tcp",
    addresses=("10.96.0.2",),
    port=443,
    protocol=Protocol.TCP,
    cluster="panic",
    tcp_routes=(
        TcpRoute(
            name="named", server_names=("a.example", "*.example"), clusters=_SHARES, connect_attempts=4,
            hash_source=True,
        ),
        TcpRoute(name="rest", clusters=(WeightedCluster(name="unresolved/x"),), idle_timeout=0.0),
    ),
    tcp_consumers=(("shop", (TcpRoute(name="own", clusters=_SHARES),)),),
    hello_timeout=5.0,
)  # fmt: skip
"""A port whose connections are routed in every way."""


def snapshot(several: tuple[Route, ...] | None = None) -> Snapshot:
    """All of it, requests behind one listener; with other routes where they are given."""
    host = VirtualHost(
        name="all", routes=routes() if several is None else several, rate_limit=RateLimit(all=_BUCKET)
    )
    listener = Listener(
        name="all",
        service="default/all",
        addresses=("10.96.0.1",),
        port=80,
        protocol=Protocol.HTTP,
        cluster="panic",
        route_config="all",
        http=HttpOptions(access_log_share=1000, http2=_keeping_alive(0.0)),
    )
    return Snapshot(
        1,
        {"all": listener, "tcp": TCP},
        {"all": RouteConfig(name="all", virtual_hosts=(host,))},
        {each.name: each for each in CLUSTERS},
        {
            each.name: EndpointSet(name=each.name, endpoints=_ENDPOINTS, overprovisioning_percent=120)
            for each in CLUSTERS
        },
    )
