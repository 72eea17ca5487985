"""Hypothesis strategies for the model, as wide as what the encoding promises to carry."""

from __future__ import annotations

import string

import msgspec
from hypothesis import strategies as st

from meshd.model.cluster_policies import GrpcProbe
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health, HttpVersion
from meshd.model.http2 import Http2Options, KeepAlive
from meshd.model.listeners import FailurePolicy, HttpOptions, Listener, Protocol
from meshd.model.request_policies import MILLION
from meshd.model.routes import (
    Action,
    DirectResponse,
    Forward,
    HeaderEdit,
    PathExact,
    PathPrefix,
    PathRegex,
    PathRewrite,
    Redirect,
    ReplaceFullPath,
    ReplacePrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.model.tcp_routes import TcpRoute
from tests.xds.strategies import cluster_policies, request_policies
from tests.xds.strategies.basic import (
    names,
    ports,
    regexes,
    seconds,
    some_seconds,
    string_matches,
    tokens,
    tuples,
    values,
)

paths = st.lists(
    st.text(string.ascii_letters + string.digits + "-._~%", min_size=1, max_size=6), min_size=1, max_size=4
).map(lambda parts: "/" + "/".join(parts))
prefixes = st.one_of(st.just("/"), paths)
ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


def _grouped(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """As they come back: those of a priority and locality together."""
    keys = list(dict.fromkeys((e.priority, e.locality) for e in endpoints))
    return tuple(sorted(endpoints, key=lambda e: keys.index((e.priority, e.locality))))


edits = st.builds(
    HeaderEdit,
    set=tuples(st.tuples(tokens, values)),
    add=tuples(st.tuples(tokens, values)),
    remove=tuples(tokens),
)
http2_options = st.builds(
    Http2Options,
    max_streams=st.integers(1, 2**31 - 1),
    stream_window=st.integers(65_535, 2**31 - 1),
    connection_window=st.integers(65_535, 2**31 - 1),
    keepalive=st.none()
    | st.builds(
        KeepAlive,
        interval=seconds,
        timeout=some_seconds,
        jitter_percent=st.integers(0, 100).map(float),
        idle_interval=seconds,
    ),
)


def _with_one_version(cluster: Cluster) -> Cluster:
    """What is said of HTTP/2 where it is not spoken is not sent."""
    if cluster.http_version is HttpVersion.HTTP1:
        return msgspec.structs.replace(cluster, http2=Http2Options())
    return cluster


def _of_clients(options: Http2Options) -> Http2Options:
    if options.keepalive is None:
        return options
    return msgspec.structs.replace(
        options, keepalive=msgspec.structs.replace(options.keepalive, idle_interval=0.0)
    )


clusters = (
    st.builds(
        Cluster,
        name=names,
        http_version=st.sampled_from(HttpVersion),
        http2=st.just(Http2Options()) | http2_options,
        balancing=cluster_policies.balancing,
        panic_percent=st.integers(0, 100),
        health_check=st.none() | cluster_policies.health_checks,
        outlier=st.none() | cluster_policies.outliers,
        limits=cluster_policies.limits,
        connect_timeout=some_seconds,
        idle_timeout=seconds,
        policies=tuples(names),
    )
    .map(_with_one_version)
    .filter(
        lambda cluster: (
            not (
                cluster.http_version is HttpVersion.HTTP1
                and cluster.health_check
                and isinstance(cluster.health_check.probe, GrpcProbe)
            )
        )
    )
)
zones = st.text(string.ascii_lowercase + "-", min_size=1, max_size=6)
localities = st.just("") | st.tuples(*[st.just("") | zones] * 3).map("/".join).filter(lambda x: x != "//")
_endpoints = st.builds(
    Endpoint,
    address=ips,
    port=ports,
    weight=st.integers(1, 1_000_000),
    health=st.sampled_from(Health),
    locality=localities,
    priority=st.integers(0, 3),
    workload=st.one_of(st.just(""), names),
    health_port=st.just(0) | ports,
)
endpoint_sets = st.builds(
    EndpointSet,
    name=names,
    endpoints=tuples(_endpoints, 6).map(_grouped),
    overprovisioning_percent=st.integers(1, 200),
)
http_options = st.builds(
    HttpOptions,
    idle_timeout=seconds,
    stream_idle_timeout=seconds,
    request_headers_timeout=seconds,
    max_request_head_bytes=st.integers(1, 8192).map(lambda kb: kb * 1024),
    forwarded_for=st.booleans(),
    forwarded_proto=st.booleans(),
    request_id=st.booleans(),
    access_log_share=st.integers(0, MILLION),
    via=st.one_of(st.just(""), tokens),
    http2=st.just(Http2Options()) | http2_options.map(_of_clients),
)


@st.composite
def tcp_routes(draw: st.DrawFn) -> tuple[TcpRoute, ...]:
    """The last may be for whatever has no name."""
    hosts = st.from_regex(r"(\*\.)?[a-z][a-z0-9]{0,5}\.(test|example\.org)", fullmatch=True)
    several = draw(
        st.lists(st.lists(hosts, min_size=1, max_size=3), max_size=3, unique_by=lambda each: each[0])
    )
    taken: set[str] = set()
    found = []
    for names_ in [*several, *draw(st.sampled_from([[], [[]]]))]:
        fresh = tuple(dict.fromkeys(name for name in names_ if name not in taken))
        if names_ and not fresh:
            continue
        taken.update(fresh)
        weights = draw(st.lists(st.integers(1, 1_000_000), min_size=2, max_size=3) | st.just([1]))
        found.append(
            TcpRoute(
                name=draw(names),
                server_names=fresh,
                clusters=tuple(WeightedCluster(name=draw(names), weight=weight) for weight in weights),
                idle_timeout=draw(seconds),
                connect_attempts=draw(st.integers(1, 9)),
                hash_source=draw(st.booleans()),
            )
        )
    return tuple(found)


addresses = st.lists(ips, min_size=1, max_size=3, unique=True).map(tuple)
listeners = st.one_of(
    st.builds(
        Listener,
        name=names,
        service=names,
        addresses=addresses,
        port=ports,
        protocol=st.just(Protocol.HTTP),
        cluster=names,
        route_config=names,
        consumers=st.dictionaries(names, names, max_size=2).map(lambda found: tuple(sorted(found.items()))),
        failure_policy=st.sampled_from(FailurePolicy),
        http=http_options,
        fast_path=st.booleans(),
        http2_fast_path=st.booleans(),
    ),
    st.builds(
        Listener,
        name=names,
        service=names,
        addresses=addresses,
        port=ports,
        protocol=st.just(Protocol.TCP),
        cluster=names,
        tcp_routes=tcp_routes(),
        tcp_consumers=st.dictionaries(names, tcp_routes(), max_size=2).map(
            lambda found: tuple(sorted(found.items()))
        ),
        hello_timeout=seconds,
        http=st.builds(HttpOptions, access_log_share=st.integers(0, MILLION)),
        failure_policy=st.sampled_from(FailurePolicy),
        tcp_fast_path=st.booleans(),
    ),
)
path_matches = st.one_of(
    st.builds(PathExact, paths), st.builds(PathPrefix, prefixes), st.builds(PathRegex, regexes)
)
route_matches = st.builds(
    RouteMatch,
    path=path_matches,
    method=st.sampled_from(["", "GET", "POST"]),
    headers=tuples(string_matches),
    query=tuples(string_matches),
    grpc=st.booleans(),
    share=st.integers(0, MILLION),
)
weighted = st.builds(
    WeightedCluster,
    name=names,
    weight=st.integers(0, 1_000_000),
    request_headers=edits,
    response_headers=edits,
)


@st.composite
def rewrites(draw: st.DrawFn, match: RouteMatch) -> PathRewrite | None:
    kinds: list[st.SearchStrategy[PathRewrite | None]] = [st.none(), st.builds(ReplaceFullPath, paths)]
    if isinstance(match.path, PathPrefix):
        kinds.append(st.builds(ReplacePrefix, prefixes))
    return draw(st.one_of(kinds))


@st.composite
def actions(draw: st.DrawFn, match: RouteMatch) -> Action:
    kind = draw(st.sampled_from(["forward", "redirect", "direct"]))
    if kind == "forward":
        shares = st.lists(weighted, min_size=1, max_size=3)
        return Forward(
            clusters=tuple(draw(shares.filter(lambda found: any(c.weight for c in found)))),
            timeout=draw(seconds),
            deadline_limit=draw(st.none() | seconds),
            retry=draw(st.none() | request_policies.retries),
            mirrors=draw(tuples(request_policies.mirrors)),
            hash_keys=draw(tuples(request_policies.hash_keys)),
            session=draw(st.none() | request_policies.sessions),
            host=draw(st.one_of(st.just(""), tokens)),
            path=draw(rewrites(match)),
            missing_cluster_status=draw(st.sampled_from([503, 500, 404])),
        )
    if kind == "redirect":
        return Redirect(
            scheme=draw(st.sampled_from(["", "http", "https"])),
            host=draw(st.one_of(st.just(""), tokens)),
            port=draw(st.integers(0, 65535)),
            path=draw(rewrites(match)),
            status=draw(st.sampled_from([301, 302, 303, 307, 308])),
        )
    return DirectResponse(status=draw(st.integers(200, 599)), body=draw(st.one_of(st.just(""), values)))


@st.composite
def routes(draw: st.DrawFn) -> Route:
    match = draw(route_matches)
    return Route(
        name=draw(names),
        match=match,
        action=draw(actions(match)),
        request_headers=draw(edits),
        response_headers=draw(edits),
        cors=draw(st.none() | request_policies.cors),
        fault=draw(st.none() | request_policies.faults),
        rate_limit=draw(st.none() | request_policies.rate_limits),
        fast_path=draw(st.booleans()),
        policies=draw(tuples(names)),
    )


@st.composite
def route_configs(draw: st.DrawFn) -> RouteConfig:
    domains = draw(st.lists(st.one_of(st.just("*"), tokens), min_size=1, max_size=4, unique=True))
    hosts = tuple(
        VirtualHost(
            name=draw(names),
            domains=(domain,),
            routes=tuple(draw(st.lists(routes(), max_size=3))),
            rate_limit=draw(st.none() | request_policies.rate_limits),
        )
        for domain in domains
    )
    return RouteConfig(name=draw(names), virtual_hosts=hosts, ignore_port=draw(st.booleans()))
