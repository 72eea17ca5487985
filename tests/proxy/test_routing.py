"""RouteTable against the rules of Envoy and the Gateway API, and against the plainest reading of them."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from meshd.model.regex import Regex, RegexError
from meshd.model.request_policies import StringMatch
from meshd.model.routes import (
    DirectResponse,
    Forward,
    HeaderEdit,
    PathExact,
    PathMatch,
    PathPrefix,
    PathRegex,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from proxy.routing.decision import Answer, ForwardTo, RequestHead, RouteTable


def to(cluster: str) -> Forward:
    return Forward(clusters=(WeightedCluster(name=cluster),))


def table(*routes: Route) -> RouteTable:
    return RouteTable(RouteConfig(name="r", virtual_hosts=(VirtualHost(name="v", routes=routes),)))


def request(
    path: str = "/", method: str = "GET", query: str | None = None, host: str = "web", **headers: str
) -> RequestHead:
    return RequestHead(
        method, path, query, host, CIMultiDict({k.replace("_", "-"): v for k, v in headers.items()})
    )


def chosen(table: RouteTable, head: RequestHead, random: float = 0.0) -> str:
    decision = table.decide(head, random)
    if isinstance(decision, ForwardTo):
        return decision.cluster
    return str(decision.status)


@pytest.mark.parametrize(
    ("match", "path", "taken"),
    [
        (PathExact("/a"), "/a", True),
        (PathExact("/a"), "/a/", False),
        (PathExact("/a"), "/A", False),
        (PathPrefix("/a"), "/a", True),
        (PathPrefix("/a"), "/a/", True),
        (PathPrefix("/a"), "/a/b", True),
        (PathPrefix("/a"), "/ab", False),
        (PathPrefix("/a"), "//a", False),
        (PathPrefix("/"), "/", True),
        (PathPrefix("/"), "/x", True),
        (PathPrefix("/"), "*", False),
        (PathRegex("/a.*z"), "/abz", True),
        (PathRegex("/a.*z"), "/abz/", False),
        (PathRegex("/a|/b"), "/b", True),
        (PathRegex("a"), "/a", False),
    ],
)
def test_path_conditions(match: PathMatch, path: str, taken: bool) -> None:
    routes = table(Route(name="r", match=RouteMatch(path=match), action=to("c")))
    assert chosen(routes, request(path)) == ("c" if taken else "404")


def test_no_route_is_404_with_the_flag() -> None:
    decision = table().decide(request(), 0.0)
    assert isinstance(decision, Answer)
    assert (decision.status, decision.flags, decision.route) == (404, "NR", None)


@pytest.mark.parametrize(
    ("host", "cluster"),
    [
        ("web.example.com", "exact"),
        ("WEB.example.COM:8080", "exact"),
        ("a.example.com", "suffix"),
        ("a.b.example.com", "longer"),
        (".example.com", "default"),
        ("web.other", "prefix"),
        ("web.", "default"),
        ("", "default"),
        ("[2001:db8::1]:80", "v6"),
        ("[2001:db8::1]", "v6"),
    ],
)
def test_virtual_host_by_the_most_specific_domain(host: str, cluster: str) -> None:
    domains = {
        "exact": "web.example.com",
        "suffix": "*.example.com",
        "longer": "*.b.example.com",
        "prefix": "web.*",
        "default": "*",
        "v6": "[2001:db8::1]",
    }
    config = RouteConfig(
        name="r",
        virtual_hosts=tuple(
            VirtualHost(name=n, domains=(d,), routes=(Route(name=n, action=to(n)),))
            for n, d in domains.items()
        ),
    )
    assert chosen(RouteTable(config), request(host=host)) == cluster


def test_unknown_host_has_no_route() -> None:
    host = VirtualHost(name="v", domains=("a",), routes=(Route(name="r", action=to("c")),))
    assert chosen(RouteTable(RouteConfig(name="r", virtual_hosts=(host,))), request(host="b")) == "404"


def test_a_port_counts_where_the_config_says_so() -> None:
    hosts = tuple(
        VirtualHost(name=d, domains=(d,), routes=(Route(name=d, action=to(d)),)) for d in ("web", "web:80")
    )
    config = RouteConfig(name="r", virtual_hosts=hosts, ignore_port=False)
    assert chosen(RouteTable(config), request(host="Web:80")) == "web:80"
    assert chosen(RouteTable(config), request(host="web")) == "web"
    assert chosen(RouteTable(config), request(host="web:81")) == "404"


def conditions(match: RouteMatch) -> RouteTable:
    return table(Route(name="r", match=match, action=to("c")))


def test_method() -> None:
    routes = conditions(RouteMatch(method="GET"))
    assert chosen(routes, request()) == "c"
    assert chosen(routes, request(method="HEAD")) == "404"


def test_header_exact_and_regex() -> None:
    routes = conditions(
        RouteMatch(
            headers=(
                StringMatch(name="x-user", value="ann"),
                StringMatch(name="x-id", value="[0-9]+", regex=True),
            )
        )
    )
    assert chosen(routes, request(X_User="ann", X_ID="42")) == "c"
    assert chosen(routes, request(X_User="ann", X_ID="42x")) == "404"
    assert chosen(routes, request(X_User="ann")) == "404"
    assert chosen(routes, request(X_User="Ann", X_ID="42")) == "404"


def test_one_of_repeated_header_fields_must_match() -> None:
    head = request()
    head.headers = CIMultiDict([("X-A", "1"), ("x-a", "2")])
    for value, cluster in (("1", "c"), ("2", "c"), ("1,2", "404"), ("12", "404")):
        routes = conditions(RouteMatch(headers=(StringMatch(name="x-a", value=value),)))
        assert chosen(routes, head) == cluster


def test_host_as_a_header_condition_is_the_requests_host() -> None:
    routes = conditions(RouteMatch(headers=(StringMatch(name="host", value="web:80"),)))
    assert chosen(routes, request(host="web:80")) == "c"


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ("q=1", True),
        ("a=b&q=1&q=2", True),
        ("q=2&q=1", False),
        ("q", False),
        ("", False),
        ("q=%31", False),
        ("Q=1", False),
        ("q=1=", False),
    ],
)
def test_query_takes_the_first_value_as_it_stands(query: str, taken: bool) -> None:
    routes = conditions(RouteMatch(query=(StringMatch(name="q", value="1"),)))
    assert chosen(routes, request(query=query)) == ("c" if taken else "404")


def test_query_parameter_without_a_value_is_empty() -> None:
    routes = conditions(RouteMatch(query=(StringMatch(name="q", value=""),)))
    assert chosen(routes, request(query="q")) == "c"
    assert chosen(routes, request(query="x")) == "404"


def test_first_route_in_order_wins_whatever_its_kind() -> None:
    routes = table(
        Route(
            name="0",
            match=RouteMatch(path=PathPrefix("/a"), headers=(StringMatch(name="x", value="1"),)),
            action=to("0"),
        ),
        Route(name="1", match=RouteMatch(path=PathRegex("/a/.*")), action=to("1")),
        Route(name="2", match=RouteMatch(path=PathExact("/a/b")), action=to("2")),
        Route(name="3", match=RouteMatch(path=PathPrefix("/")), action=to("3")),
        Route(name="4", match=RouteMatch(path=PathPrefix("/a")), action=to("4")),
    )
    assert chosen(routes, request("/a/b", x="1")) == "0"
    assert chosen(routes, request("/a/b")) == "1"
    assert chosen(routes, request("/a")) == "3"


def test_weights_split_in_proportion_and_zero_gets_none() -> None:
    forward = Forward(
        clusters=(
            WeightedCluster(name="none", weight=0),
            WeightedCluster(name="a", weight=3),
            WeightedCluster(name="zero", weight=0),
            WeightedCluster(name="b", weight=1),
        )
    )
    routes = table(Route(name="r", action=forward))
    counts: dict[str, int] = {}
    for i in range(400):
        cluster = chosen(routes, request(), i / 400)
        counts[cluster] = counts.get(cluster, 0) + 1
    assert counts == {"a": 300, "b": 100}


def test_routes_with_a_share_take_what_is_left_to_them() -> None:
    """As in Envoy: one number for all, and another part of it for the weights."""
    halves = Forward(clusters=(WeightedCluster(name="c"), WeightedCluster(name="d")))
    routes = table(
        Route(name="0", match=RouteMatch(share=200_000), action=to("a")),
        Route(name="1", match=RouteMatch(method="PUT", share=900_000), action=to("never")),
        Route(name="2", match=RouteMatch(share=500_000), action=to("b")),
        Route(name="3", match=RouteMatch(share=500_000), action=to("never")),
        Route(name="4", action=halves),
    )
    rng = random.Random(7)
    counts = Counter(chosen(routes, request(), rng.random()) for _ in range(4000))
    for cluster, share in {"a": 0.2, "b": 0.3, "c": 0.25, "d": 0.25}.items():
        assert abs(counts[cluster] / 4000 - share) < 0.03
    assert counts.total() == sum(counts[each] for each in "abcd")
    assert [chosen(routes, request(), draw) for draw in (0.199999, 0.2, 0.499999)] == ["a", "b", "b"]
    assert chosen(table(Route(name="r", match=RouteMatch(share=0), action=to("a"))), request()) == "404"


def test_no_weight_at_all_is_500() -> None:
    routes = table(Route(name="r", action=Forward(clusters=(WeightedCluster(name="a", weight=0),))))
    assert chosen(routes, request()) == "500"
    assert chosen(table(Route(name="r", action=Forward(clusters=()))), request()) == "500"


def test_forward_carries_what_the_route_says() -> None:
    route = Route(
        name="ns/r/0",
        action=Forward(
            clusters=(
                WeightedCluster(name="c", request_headers=HeaderEdit(set=(("x-a", "c"), ("x-b", "c")))),
            ),
            timeout=2.5,
            host="other",
            missing_cluster_status=500,
        ),
        request_headers=HeaderEdit(set=(("x-b", "route"),)),
    )
    decision = table(route).decide(request("/p", query="a=1"), 0.0)
    assert isinstance(decision, ForwardTo)
    assert (decision.route, decision.cluster, decision.target) == (route, "c", "/p?a=1")
    assert (decision.host, decision.timeout, decision.missing_cluster_status) == ("other", 2.5, 500)
    # The route's edit comes after the weighted cluster's, as in Envoy.
    assert decision.request_edit.text_added == (("x-a", "c"), ("x-b", "route"))
    assert not decision.response_edit


def test_direct_response_and_its_headers() -> None:
    edit = HeaderEdit(add=(("x-from", "mesh"),))
    routes = table(Route(name="r", action=DirectResponse(status=418, body="tea"), response_headers=edit))
    decision = routes.decide(request(), 0.0)
    assert isinstance(decision, Answer)
    assert (decision.status, decision.body) == (418, b"tea")
    assert decision.headers == (("x-from", "mesh"), ("content-type", "text/plain"))

    own = HeaderEdit(set=(("content-type", "application/json"),))
    routes = table(Route(name="r", action=DirectResponse(status=200, body="{}"), response_headers=own))
    decision = routes.decide(request(), 0.0)
    assert isinstance(decision, Answer)
    assert decision.headers == (("content-type", "application/json"),)


def test_a_direct_204_has_no_body() -> None:
    decision = table(Route(name="r", action=DirectResponse(status=204, body="x"))).decide(request(), 0.0)
    assert isinstance(decision, Answer)
    assert (decision.status, decision.headers, decision.body) == (204, (), b"")


def test_a_question_mark_without_a_query_stays() -> None:
    for query, target in ((None, "/p"), ("", "/p?"), ("a", "/p?a")):
        decision = table(Route(name="r", action=to("c"))).decide(request("/p", query=query), 0.0)
        assert isinstance(decision, ForwardTo)
        assert decision.target == target


def test_bad_regex_names_the_pattern_and_stays_off_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RegexError, match=r"'\(a'.*missing"):
        table(Route(name="r", match=RouteMatch(path=PathRegex("(a")), action=to("c")))
    with pytest.raises(RegexError, match="RE2"):
        Regex(r"(a)\1")
    assert capfd.readouterr().err == ""


def test_regex_takes_time_linear_in_the_text() -> None:
    # A backtracking engine needs 2**40 steps for this one.
    assert not Regex("(a*)*b").fullmatch("a" * 40)
    assert not Regex("(a|aa)+$").fullmatch("a" * 60_000 + "b")


def test_regex_sees_undecodable_bytes() -> None:
    assert not Regex("/é").fullmatch(b"/\xe9".decode("utf-8", "surrogateescape"))
    assert Regex("/é").fullmatch("/é")


# Few and short path elements, so that generated routes and requests meet often.
elements = st.sampled_from(["a", "b", "ab", ""])
paths = st.lists(elements, max_size=3).map(lambda parts: "/" + "/".join(parts))
matches = st.builds(
    RouteMatch,
    path=st.one_of(
        paths.map(PathExact),
        paths.map(lambda p: PathPrefix(p.rstrip("/") or "/")),
        st.sampled_from(["/a.*", "/(a|b)", ".*b", "/a/?", "/[ab]+/.+"]).map(PathRegex),
    ),
    method=st.sampled_from(["", "", "GET", "POST"]),
    headers=st.lists(
        st.builds(StringMatch, name=st.just("x"), value=st.sampled_from(["1", "2"])), max_size=1
    ).map(tuple),
    query=st.lists(
        st.builds(StringMatch, name=st.just("q"), value=st.sampled_from(["1", "2"])), max_size=1
    ).map(tuple),
)
heads = st.builds(
    RequestHead,
    method=st.sampled_from(["GET", "POST"]),
    path=paths,
    query=st.sampled_from([None, "", "q=1", "q=2&q=1", "r=1&q=1"]),
    host=st.just("web"),
    headers=st.sampled_from([{}, {"X": "1"}, {"x": "2"}]).map(CIMultiDict),
)


def path_holds(match: PathMatch, path: str) -> bool:
    if isinstance(match, PathExact):
        return path == match.value
    if isinstance(match, PathPrefix):
        return match.value == "/" or path == match.value or path.startswith(match.value + "/")
    return Regex(match.value).fullmatch(path)


def holds(match: RouteMatch, head: RequestHead) -> bool:
    values: dict[str, str] = {}
    for pair in (head.query or "").split("&"):
        name, _, value = pair.partition("=")
        values.setdefault(name, value)
    return (
        path_holds(match.path, head.path)
        and match.method in ("", head.method)
        and all(head.headers.get(h.name) == h.value for h in match.headers)
        and all(values.get(q.name) == q.value for q in match.query)
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(matches, max_size=12), st.lists(heads, min_size=1, max_size=6))
def test_indexed_decision_is_that_of_trying_all_routes_in_order(
    conditions: list[RouteMatch], requests: list[RequestHead]
) -> None:
    routes = [Route(name=str(i), match=match, action=to(str(i))) for i, match in enumerate(conditions)]
    compiled = table(*routes)
    for head in requests:
        first = next((route.name for route in routes if holds(route.match, head)), "404")
        assert chosen(compiled, head) == first


def test_a_path_of_many_slashes_costs_no_more_than_its_config() -> None:
    prefixes = [
        Route(name=str(i), match=RouteMatch(path=PathPrefix(f"/p{i}")), action=to("c")) for i in range(1000)
    ]
    routes = table(*prefixes)
    looked_up = routes.decide(request("/" * 60_000), 0.0)
    assert isinstance(looked_up, Answer)
    assert chosen(routes, request("/p999/x")) == "c"
