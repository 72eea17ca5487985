"""Hypothesis strategies for the model, as wide as what the encoding promises to carry."""

from __future__ import annotations

import string
from typing import TypeVar

from hypothesis import strategies as st

from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.listeners import FailurePolicy, HttpOptions, Listener, Protocol
from meshd.model.request_policies import Retry, StringMatch
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
from meshd.xds.encode import BALANCING

T = TypeVar("T")

names = st.text(string.ascii_lowercase + string.digits + "-/:.", min_size=1, max_size=30)
tokens = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=12)
values = st.text(string.ascii_letters + string.digits + " %$\\;=,()", min_size=1, max_size=20)
seconds = st.integers(0, 10_000_000).map(lambda ms: ms / 1000)
paths = st.lists(
    st.text(string.ascii_letters + string.digits + "-._~%", min_size=1, max_size=6), min_size=1, max_size=4
).map(lambda parts: "/" + "/".join(parts))
prefixes = st.one_of(st.just("/"), paths)
regexes = st.sampled_from(["/v[0-9]+/.*", ".*", "/a|/b", r"\d+", "x{2,3}"])
ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
ports = st.integers(1, 65535)


def _tuples(items: st.SearchStrategy[T], max_size: int = 3) -> st.SearchStrategy[tuple[T, ...]]:
    return st.lists(items, max_size=max_size).map(tuple)


string_matches = st.one_of(
    st.builds(StringMatch, name=tokens, value=values),
    st.builds(StringMatch, name=tokens, value=regexes, regex=st.just(True)),
)
edits = st.builds(
    HeaderEdit,
    set=_tuples(st.tuples(tokens, values)),
    add=_tuples(st.tuples(tokens, values)),
    remove=_tuples(tokens),
)
clusters = st.builds(
    Cluster,
    name=names,
    balancing=st.sampled_from(list(BALANCING)),
    connect_timeout=seconds,
    idle_timeout=seconds,
)
endpoint_sets = st.builds(
    EndpointSet,
    name=names,
    endpoints=_tuples(
        st.builds(
            Endpoint,
            address=ips,
            port=ports,
            weight=st.integers(1, 1_000_000),
            health=st.sampled_from(Health),
            workload=st.one_of(st.just(""), names),
        )
    ),
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
    via=st.one_of(st.just(""), tokens),
)
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
    ),
    st.builds(
        Listener,
        name=names,
        service=names,
        addresses=addresses,
        port=ports,
        protocol=st.just(Protocol.TCP),
        cluster=names,
        failure_policy=st.sampled_from(FailurePolicy),
    ),
)
path_matches = st.one_of(
    st.builds(PathExact, paths), st.builds(PathPrefix, prefixes), st.builds(PathRegex, regexes)
)
route_matches = st.builds(
    RouteMatch,
    path=path_matches,
    method=st.sampled_from(["", "GET", "POST"]),
    headers=_tuples(string_matches),
    query=_tuples(string_matches),
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
            retry=draw(st.none() | st.builds(Retry, attempts=st.integers(0, 5))),
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
    )


@st.composite
def route_configs(draw: st.DrawFn) -> RouteConfig:
    domains = draw(st.lists(st.one_of(st.just("*"), tokens), min_size=1, max_size=4, unique=True))
    hosts = tuple(
        VirtualHost(name=draw(names), domains=(domain,), routes=tuple(draw(st.lists(routes(), max_size=3))))
        for domain in domains
    )
    return RouteConfig(name=draw(names), virtual_hosts=hosts, ignore_port=draw(st.booleans()))
