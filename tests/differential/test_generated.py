"""meshd and a real Envoy agree on route configs and requests that nobody thought of."""

from __future__ import annotations

from collections import Counter

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshd.model.request_policies import MILLION, Cors, Fault, RateLimit, StringMatch, TokenBucket
from meshd.model.routes import (
    Action,
    DirectResponse,
    Forward,
    HeaderEdit,
    PathExact,
    PathMatch,
    PathPrefix,
    PathRegex,
    PathRewrite,
    Redirect,
    ReplaceFullPath,
    ReplacePrefix,
    Route,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from tests.differential.cases import A, B, routes
from tests.differential.requests import Request
from tests.differential.world import World

# Few and short parts, so that generated routes and generated requests meet.
_elements = st.sampled_from(["a", "b", "a.b", "%2F", "", "~"])
_paths = st.lists(_elements, max_size=3).map(lambda parts: "/" + "/".join(parts))
_prefixes = st.lists(st.sampled_from(["a", "b", "a.b"]), max_size=2).map(lambda parts: "/" + "/".join(parts))
# No header that Envoy keeps in a slot of its own, like Accept: several fields of such a one, and only
# of such a one, it joins before it matches.
_names = st.sampled_from(["x-a", "x-b", "x-d"])
_values = st.sampled_from(["1", "2", "12", ""])
_conditions = st.one_of(
    st.builds(StringMatch, name=_names, value=_values),
    st.builds(
        StringMatch,
        name=_names,
        value=st.sampled_from([".*", "[0-9]", "1+2?", "(1|2)*"]),
        regex=st.just(True),
    ),
)
_matched_paths: st.SearchStrategy[PathMatch] = st.one_of(
    _paths.map(PathExact),
    _prefixes.map(PathPrefix),
    st.sampled_from(["/a.*", "/(a|b)", ".*b", "/a/?", "/[ab]+/.+", "/"]).map(PathRegex),
)
_matches = st.builds(
    RouteMatch,
    path=_matched_paths,
    method=st.sampled_from(["", "", "GET", "POST"]),
    headers=st.lists(_conditions, max_size=2, unique_by=lambda c: c.name).map(tuple),
    query=st.lists(_conditions, max_size=2, unique_by=lambda c: c.name).map(tuple),
)
_pairs = st.lists(
    st.tuples(st.sampled_from(["x-a", "x-b", "x-c"]), st.sampled_from(["v", "w%", ""])),
    max_size=2,
    unique_by=lambda pair: pair[0],
).map(tuple)
_edits = st.builds(
    HeaderEdit,
    set=_pairs,
    add=_pairs,
    remove=st.lists(st.sampled_from(["x-a", "x-b", "x-multi"]), max_size=1).map(tuple),
)


@st.composite
def _rewrites(draw: st.DrawFn, match: PathMatch) -> PathRewrite | None:
    replacements = st.sampled_from(["/", "/new", "/n/e.w"])
    full: st.SearchStrategy[PathRewrite | None] = replacements.map(ReplaceFullPath)
    if isinstance(match, PathPrefix):
        return draw(st.one_of(st.none(), full, replacements.map(ReplacePrefix)))
    return draw(st.one_of(st.none(), full))


@st.composite
def _actions(draw: st.DrawFn, match: PathMatch) -> Action:
    kind = draw(st.sampled_from(["forward", "forward", "forward", "redirect", "direct"]))
    if kind == "forward":
        # One cluster with all the weight: the pick must not depend on chance.
        chosen = WeightedCluster(
            name=draw(st.sampled_from([A, B])),
            weight=draw(st.integers(1, 9)),
            request_headers=draw(_edits),
            response_headers=draw(_edits),
        )
        others = draw(st.lists(st.just(WeightedCluster(name=A, weight=0)), max_size=1))
        return Forward(
            clusters=(chosen, *others),
            host=draw(st.sampled_from(["", "", "new.example:81"])),
            path=draw(_rewrites(match)),
        )
    if kind == "redirect":
        return Redirect(
            scheme=draw(st.sampled_from(["", "http", "https"])),
            host=draw(st.sampled_from(["", "new.example"])),
            port=draw(st.sampled_from([0, 80, 443, 8080])),
            path=draw(_rewrites(match)),
            status=draw(st.sampled_from([301, 302, 303, 307, 308])),
        )
    # Not 204 with a body: Envoy announces a length then (RFC 9110, 8.6, forbids it), we do not.
    return draw(
        st.one_of(
            st.just(DirectResponse(status=204)),
            st.builds(
                DirectResponse, status=st.sampled_from([200, 404, 503]), body=st.sampled_from(["", "x"])
            ),
        )
    )


_ORIGINS = ("https://a.example", "https://b.example")
_allowed = st.lists(
    st.one_of(
        st.sampled_from(["*", *_ORIGINS]).map(lambda value: StringMatch(name="origin", value=value)),
        st.just(StringMatch(name="origin", value="https://[a-z].example", regex=True)),
    ),
    max_size=2,
).map(tuple)
_some = st.lists(st.sampled_from(["GET", "x-a"]), max_size=2, unique=True).map(tuple) | st.just(("*",))
_cors = st.builds(
    Cors,
    origins=_allowed,
    methods=_some,
    headers=_some,
    expose=st.lists(st.sampled_from(["x-a", "x-b"]), max_size=2, unique=True).map(tuple),
    max_age=st.sampled_from([-1, 0, 60]),
    # Without a match Envoy tells other origins its permissions; we tell only those that have one.
    forward_unmatched=st.just(True),
    credentials=st.booleans(),
)
_faults = st.builds(
    Fault,
    abort=st.sampled_from([418, 503]),
    abort_share=st.sampled_from([0, MILLION, MILLION]),
    headers=st.lists(_conditions, max_size=1).map(tuple),
)
_never = RateLimit(all=TokenBucket(tokens=1_000_000, interval=1.0, burst=1_000_000))
_limits = st.sampled_from([_never, msgspec.structs.replace(_never, each_client=_never.all)])


@st.composite
def _routes(draw: st.DrawFn) -> Route:
    match = draw(_matches)
    return Route(
        name="r",
        match=match,
        action=draw(_actions(match.path)),
        request_headers=draw(_edits),
        response_headers=draw(_edits),
        cors=draw(st.none() | _cors),
        fault=draw(st.none() | st.none() | _faults),
        rate_limit=draw(st.none() | _limits),
    )


_several_routes = st.lists(_routes(), max_size=6).map(tuple)


@st.composite
def _virtual_hosts(draw: st.DrawFn) -> tuple[VirtualHost, ...]:
    domains = draw(
        st.lists(
            st.sampled_from(["web", "*.web", "a.*", "*", "*.a.web"]), min_size=1, max_size=3, unique=True
        )
    )
    return tuple(
        VirtualHost(name=domain.replace("*", "any"), domains=(domain,), routes=draw(_several_routes))
        for domain in domains
    )


_queries = st.lists(
    st.tuples(_names, st.sampled_from(["=1", "=2", "=12", "=", "", "=%31"])).map("".join), max_size=3
).map("&".join)
_origins = st.lists(
    st.tuples(st.just("Origin"), st.sampled_from([*_ORIGINS, "https://other"])), max_size=1
).map(tuple)
_plain_headers = st.lists(st.tuples(_names, _values), max_size=3).map(tuple)
_requests = st.builds(
    Request,
    target=st.tuples(_paths, st.sampled_from(["", "?"]), _queries).map(
        lambda parts: "".join(parts) if parts[1] else parts[0]
    ),
    method=st.sampled_from(["GET", "GET", "POST", "HEAD", "OPTIONS"]),
    host=st.sampled_from(["web", "web:80", "a.web", "b.a.web:8080", "a.b", "other"]),
    headers=st.tuples(_plain_headers, _origins).map(lambda parts: parts[0] + parts[1]),
)
_preflights = st.builds(
    Request,
    target=_paths,
    method=st.just("OPTIONS"),
    host=st.sampled_from(["web", "a.web"]),
    headers=st.tuples(
        st.tuples(st.just("Origin"), st.sampled_from([*_ORIGINS, "https://other"])),
        st.just(("Access-Control-Request-Method", "PUT")),
        st.just(("Access-Control-Request-Headers", "x-a")),
    ),
)
_SETTINGS = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@_SETTINGS
@given(
    st.lists(
        st.tuples(_virtual_hosts(), st.lists(_requests | _preflights, min_size=1, max_size=12)),
        min_size=1,
        max_size=12,
    )
)
def test_same_answers(both: World, cases: list[tuple[tuple[VirtualHost, ...], list[Request]]]) -> None:
    ports = both.serve(hosts for hosts, _ in cases)
    for port, (_, requests) in zip(ports, cases, strict=True):
        for request in requests:
            outcomes = both.ask(port, request)
            assert outcomes["meshd"] == outcomes["Envoy"], request


def test_same_shares_by_weight(both: World) -> None:
    forward = Forward(clusters=(WeightedCluster(name=A, weight=1), WeightedCluster(name=B, weight=3)))
    (port,) = both.serve([routes(Route(name="r", action=forward))])
    counts: dict[str, Counter[str]] = {"meshd": Counter(), "Envoy": Counter()}
    for _ in range(200):
        for proxy, outcome in both.ask(port, Request()).items():
            counts[proxy][outcome.server] += 1
    for proxy, count in counts.items():
        # 150 of 200 expected; six standard deviations.
        assert 113 < count[B] < 187, proxy
        assert count[A] + count[B] == 200, proxy
