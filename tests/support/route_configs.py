"""Route configs of one service, and requests to it, that meet in few paths, names and values."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from meshd.model.cluster_policies import LeastRequest, RandomEndpoint, RingHash, RoundRobin, SlowStart
from meshd.model.clusters import Cluster
from meshd.model.listeners import HttpOptions, Listener, Protocol
from meshd.model.request_policies import StringMatch
from meshd.model.routes import (
    DirectResponse,
    Forward,
    HeaderEdit,
    PathExact,
    PathPrefix,
    PathRegex,
    Redirect,
    ReplacePrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)

LISTENER = Listener(
    name="shop/web:80",
    service="shop/web",
    addresses=("10.96.0.1",),
    port=80,
    protocol=Protocol.HTTP,
    cluster="a",
    route_config="shop/web:80",
    http=HttpOptions(via=""),
)
CLUSTERS = {
    "a": Cluster(name="a"),
    "b": Cluster(name="b", balancing=RandomEndpoint()),
    "least": Cluster(name="least", balancing=LeastRequest()),
    "ring": Cluster(name="ring", balancing=RingHash()),
    "slow": Cluster(name="slow", balancing=RoundRobin(slow_start=SlowStart(window=30)), panic_percent=50),
}


def to(*clusters: str) -> Forward:
    """Forward to these, in equal shares."""
    return Forward(clusters=tuple(WeightedCluster(name=name) for name in clusters))


def config(*several: Route) -> RouteConfig:
    """The routes for every Host."""
    return RouteConfig(name="shop/web:80", virtual_hosts=(VirtualHost(name="all", routes=several),))


Request = tuple[str, str, str | None, list[tuple[str, str]]]
"""Method, path, query, header fields without Host."""

elements = st.sampled_from(("a", "a", "a", "b", "ab", ""))
paths = st.lists(elements, min_size=1, max_size=11).map(lambda parts: "/" + "/".join(parts))
short_paths = st.lists(elements, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
patterns = st.sampled_from(
    ("/a.*", "/a/[ab]+", "/a/b|/b", "/a/b/(a|b)?", ".*b", "/a/b*", "/ab?/a", "/a//b.*", "a/b", "/b/.*", "/")
)
path_matches = st.one_of(
    st.builds(PathExact, short_paths),
    st.builds(PathPrefix, short_paths),
    st.builds(PathPrefix, paths),
    st.builds(PathPrefix, st.just("/")),
    st.builds(PathRegex, patterns),
)
field_names = st.sampled_from(("x-a", "x-b", "x-c", "x-d", "x-e", "x-f", "host", "te", "x-request-id"))
request_field_names = st.sampled_from(("x-a", "x-b", "x-c", "x-f", "te", "x-request-id"))
content_types = st.tuples(
    st.just("content-type"),
    st.sampled_from(
        ("application/grpc", "application/grpc", "application/grpc+proto", "application/grpc-web")
    ),
)
field_values = st.sampled_from(("1", "2", "v" * 33))
string_matches = st.one_of(
    st.builds(StringMatch, name=field_names, value=field_values),
    st.builds(
        StringMatch, name=field_names, value=st.sampled_from(("[0-9]", "v+", "1|2")), regex=st.just(True)
    ),
)
parameters = st.builds(StringMatch, name=st.sampled_from(("p", "q")), value=st.sampled_from(("", "1")))
methods = st.sampled_from(("GET", "GET", "GET", "GET", "POST", "HEAD", "PURGE"))


def tuples(
    items: st.SearchStrategy[StringMatch], max_size: int
) -> st.SearchStrategy[tuple[StringMatch, ...]]:
    return st.lists(items, max_size=max_size).map(tuple)


matches = st.builds(
    RouteMatch,
    path=path_matches,
    method=st.one_of(st.just(""), st.just(""), st.just(""), methods),
    headers=st.one_of(st.just(()), st.just(()), tuples(string_matches, 3)),
    query=st.one_of(st.just(()), st.just(()), tuples(parameters, 1)),
    grpc=st.sampled_from((False, False, False, False, True)),
)
edits = st.one_of(*[st.just(HeaderEdit())] * 20, st.just(HeaderEdit(remove=("x-a",))))
shares = st.builds(
    WeightedCluster,
    name=st.sampled_from(("a", "a", "a", "a", "b", "b", "b", "least", "missing")),
    weight=st.integers(0, 3),
    request_headers=edits,
    response_headers=edits,
)
forwards = st.builds(
    Forward,
    clusters=st.lists(shares, min_size=1, max_size=5).map(tuple),
    host=st.sampled_from(("", "", "", "", "", "other")),
    path=st.sampled_from((None, None, None, None, None, ReplacePrefix("/x"))),
)
plain_forwards = st.sampled_from((to("a"), to("b"), to("a", "b")))
actions = st.one_of(
    *[plain_forwards] * 5, *[forwards] * 3, st.just(DirectResponse(status=404)), st.just(Redirect())
)
routes = st.builds(
    Route, name=st.just(""), match=matches, action=actions, request_headers=edits, response_headers=edits
)
prefix_routes = st.builds(
    Route,
    name=st.just(""),
    match=st.builds(
        RouteMatch, path=st.builds(PathPrefix, st.one_of(st.just("/"), st.just("/a"), short_paths))
    ),
    action=actions,
)
configs = st.tuples(st.lists(routes, max_size=6), st.lists(prefix_routes, min_size=1, max_size=4)).map(
    lambda found: config(
        *(msgspec.structs.replace(each, name=str(i)) for i, each in enumerate((*found[0], *found[1])))
    )
)
requests: st.SearchStrategy[Request] = st.tuples(
    methods,
    st.one_of(paths, short_paths),
    st.sampled_from((None, None, "", "q", "q=1&p=")),
    st.lists(st.one_of(*[st.tuples(request_field_names, field_values)] * 3, content_types), max_size=3),
)
