"""Compiled routes: what the kernel decides by them, and what it leaves to the proxy."""

from __future__ import annotations

import msgspec
import pytest

from meshd.datapath.rules.compilation import CompiledRules, Share, compile_rules
from meshd.datapath.rules.decision import Carried, Reason, Upcall, decide
from meshd.datapath.rules.fingerprint import cluster_id
from meshd.model import cluster_policies
from meshd.model.clusters import Cluster
from meshd.model.listeners import HttpOptions, Protocol
from meshd.model.request_policies import Retry, SessionHeader, StringMatch
from meshd.model.routes import (
    Action,
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
from tests.support.route_configs import CLUSTERS, LISTENER, config, to


def route(path: str | RouteMatch = "/", action: Action = to("a"), name: str = "r") -> Route:  # noqa: B008
    match = RouteMatch(path=PathPrefix(path)) if isinstance(path, str) else path
    return Route(name=name, match=match, action=action)


def compiled(*routes: Route) -> CompiledRules:
    found = compile_rules(LISTENER, config(*routes), CLUSTERS)
    assert isinstance(found, CompiledRules), found
    return found


def taken(rules: CompiledRules, path: str = "/", method: str = "GET", **headers: str) -> str:
    """The index of the route that the kernel carries a request by, or the upcall's name."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    path, mark, _ = path.partition("?")
    decision = decide(rules, method, path, bool(mark), fields)
    return decision.reason.value if isinstance(decision, Upcall) else str(decision.route)


def test_the_first_route_in_order_wins_whatever_its_path() -> None:
    rules = compiled(
        route(RouteMatch(path=PathPrefix("/a"), headers=(StringMatch(name="x", value="1"),))),
        route(RouteMatch(path=PathExact("/a/b")), to("b")),
        route("/"),
        route("/a"),
    )
    assert taken(rules, "/a/b", X="1") == "0"
    assert taken(rules, "/a/b") == "1"
    assert taken(rules, "/a") == "2"
    assert taken(rules, "/b", X="1") == "2"
    assert decide(rules, "GET", "/a/b") == Carried(1, (Share(cluster_id("b"), 1),))


def test_no_route_is_the_proxys_to_say() -> None:
    rules = compiled(route("/a"))
    assert [taken(rules, path) for path in ("/a", "/a/", "/a/b", "/ab", "/")] == [*"000", "route", "route"]


@pytest.mark.parametrize(
    "action",
    [
        Redirect(),
        DirectResponse(status=404),
        Forward(clusters=to("a").clusters, host="other"),
        Forward(clusters=to("a").clusters, path=ReplacePrefix("/b")),
        Forward(clusters=(WeightedCluster(name="a", request_headers=HeaderEdit(set=(("x", "1"),))),)),
        Forward(clusters=(WeightedCluster(name="a", weight=0),)),
        Forward(clusters=(WeightedCluster(name="a", weight=2**31), WeightedCluster(name="b", weight=2**31))),
        Forward(clusters=to("a").clusters, retry=Retry(reset=True)),
        Forward(clusters=to("a").clusters, retry=Retry(statuses=(503,))),
        Forward(clusters=to("a").clusters, retry=Retry(per_try_timeout=1.0)),
        to("a", "missing"),
        to("least"),
        to("ring"),
        msgspec.structs.replace(to("a"), session=SessionHeader(name="x-session")),
        to(*"ababa"),
        to(),
    ],
)
def test_what_only_the_proxy_does_is_an_upcall_in_its_place(action: Action) -> None:
    rules = compiled(route(RouteMatch(path=PathPrefix("/a"), method="POST"), action), route("/"))
    assert taken(rules, "/a", "POST") == "route"
    assert taken(rules, "/a") == taken(rules, "/", "POST") == "1"


def test_slow_start_and_panic_are_for_the_workers_to_mind() -> None:
    assert taken(compiled(route("/", to("slow")))) == "0"


def test_tries_for_want_of_a_connection_are_the_proxys_whoever_sends_the_first() -> None:
    retrying = Forward(clusters=to("a").clusters, retry=Retry(attempts=5, least_backoff=1.0))
    assert taken(compiled(route("/", retrying))) == "0"
    limited = Cluster(name="a", limits=cluster_policies.Limits(retries=3))
    rules = compile_rules(LISTENER, config(route()), {"a": limited})
    assert isinstance(rules, CompiledRules)
    assert taken(rules) == "0"
    budget = Cluster(name="a", limits=cluster_policies.Limits(retry_budget_percent=20.0))
    rules = compile_rules(LISTENER, config(route()), {"a": budget})
    assert isinstance(rules, CompiledRules)
    assert taken(rules) == "route"


def test_a_share_of_the_requests_is_the_proxys_to_draw() -> None:
    rules = compiled(
        route(RouteMatch(method="GET", share=500_000), to("b")),
        route(RouteMatch(share=500_000), to("b")),
        route(),
    )
    assert (taken(rules, "/"), taken(rules, "/", method="PUT")) == ("route", "route")


def test_edits_of_the_route_are_the_proxys() -> None:
    edit = HeaderEdit(remove=("server",))
    for edited in (
        msgspec.structs.replace(route(), request_headers=edit),
        msgspec.structs.replace(route(), response_headers=edit),
    ):
        assert taken(compiled(edited)) == "route"


def test_a_share_of_weight_0_does_not_matter() -> None:
    weighted = (WeightedCluster(name="missing", weight=0), WeightedCluster(name="a", weight=3))
    rules = compiled(route("/", Forward(clusters=(*weighted, WeightedCluster(name="b")))))
    assert decide(rules, "GET", "/") == Carried(0, (Share(cluster_id("a"), 3), Share(cluster_id("b"), 4)))
    assert rules.clusters[cluster_id("b")] == "b"


def test_header_conditions_that_the_kernel_cannot_test_only_cost_whom_they_may_concern() -> None:
    def to_other(*headers: StringMatch) -> CompiledRules:
        return compiled(route(RouteMatch(headers=headers), to("b")), route())

    for condition in (
        StringMatch(name="x-a", value="[0-9]+", regex=True),
        StringMatch(name="x-a", value="v" * 33),
    ):
        rules = to_other(condition, StringMatch(name="x-b", value="1"))
        assert taken(rules) == taken(rules, X_A="1") == taken(rules, X_A="1", X_B="2") == "1"
        assert taken(rules, X_A="1", X_B="1") == "condition"
    twice = decide(
        to_other(StringMatch(name="x-a", value="1")), "GET", "/", False, [("x-a", "2"), ("X-A", "1")]
    )
    assert twice == Upcall(Reason.CONDITION, 0)
    for unknown in ("host", "te", "x-request-id", "x" * 33):
        rules = to_other(StringMatch(name="x-a", value="1"), StringMatch(name=unknown, value="1"))
        assert taken(rules) == "1"
        assert taken(rules, X_A="1") == "route"


def test_more_conditions_and_names_than_there_is_room_for() -> None:
    four = tuple(StringMatch(name=f"x-{n}", value="1") for n in range(4))
    rules = compiled(route(RouteMatch(headers=four), to("b")), route())
    assert taken(rules) == taken(rules, X_1="1") == "1"
    assert taken(rules, X_0="1", X_1="1") == "route"
    one_each = [
        route(RouteMatch(headers=(StringMatch(name=f"x-{n}", value="1"),)), to("b")) for n in range(6)
    ]
    rules = compiled(*(msgspec.structs.replace(each, name="") for each in one_each[1:]), route())
    assert len(rules.headers) == 4
    assert taken(rules) == "route", "there is a fifth name, which may be in any request"
    rules = compiled(one_each[0], one_each[0], one_each[0], route())
    assert (taken(rules), taken(rules, X_0="1")) == ("3", "0")
    rules = compiled(*one_each[:4], route())
    assert (taken(rules, X_3="1"), taken(rules)) == ("3", "route"), "the fifth route has no room"


def test_conditions_on_the_query_cost_requests_with_a_query() -> None:
    rules = compiled(route(RouteMatch(query=(StringMatch(name="q", value="1"),)), to("b")), route())
    assert (taken(rules, "/"), taken(rules, "/?x"), taken(rules, "/?q=1")) == ("1", "condition", "condition")


def test_methods_that_the_kernel_does_not_know() -> None:
    rules = compiled(route(RouteMatch(method="PURGE"), to("b")), route())
    assert (taken(rules), taken(rules, method="PURGE"), taken(rules, method="get")) == (
        "1",
        "method",
        "method",
    )


def test_a_pattern_costs_the_paths_below_its_literal_beginning() -> None:
    rules = compiled(route(RouteMatch(path=PathRegex("/api/v[0-9]+/.*"), method="POST"), to("b")), route())
    assert taken(rules, "/", "POST") == taken(rules, "/app/x", "POST") == taken(rules, "/apis", "POST") == "1"
    assert taken(rules, "/api/v1/x", "POST") == taken(rules, "/api/x", "POST") == "route"
    assert taken(rules, "/api/v1/x") == "1"


def test_a_pattern_is_decided_for_exact_paths() -> None:
    rules = compiled(
        route(RouteMatch(path=PathRegex("/v[0-9]")), to("b")),
        route(RouteMatch(path=PathExact("/v1"))),
        route(RouteMatch(path=PathExact("/vx"))),
    )
    assert (taken(rules, "/v1"), taken(rules, "/vx"), taken(rules, "/v2")) == ("0", "2", "route")


def test_a_prefix_of_too_many_elements_is_not_decided_by_a_shorter_one() -> None:
    deep = "/1/2/3/4/5/6/7/8/9"
    rules = compiled(route(deep, to("b")), route(RouteMatch(path=PathExact(deep + "/x")), to("b")), route())
    assert taken(rules, deep) == taken(rules, "/1/2/3/4/5/6/7/8/x") == taken(rules, deep + "/y") == "route"
    assert taken(rules, deep + "/x") == "0", "this one path is known whole"
    assert taken(rules, "/1/2/3/4/5/6/7/9") == "2"


def test_paths_that_are_too_long_need_no_entry() -> None:
    rules = compiled(
        route("/" + "a" * 256, to("b")), route(RouteMatch(path=PathExact("/" + "é" * 128))), route()
    )
    assert [key.path for key in rules.paths] == [b""]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"protocol": Protocol.TCP}, "opaque TCP"),
        ({"fast_path": False}, "off for the service"),
        ({"http": HttpOptions(via="1.1 x")}, "Via is added"),
        (
            {"http": HttpOptions(via="", max_request_head_bytes=2047)},
            "request heads are limited to less than 2048 bytes",
        ),
    ],
)
def test_listeners_whose_requests_are_all_the_proxys(change: dict[str, object], reason: str) -> None:
    changed = msgspec.structs.replace(LISTENER, **change)
    assert compile_rules(changed, config(route()), CLUSTERS) == reason


def test_virtual_hosts_are_the_proxys() -> None:
    named = VirtualHost(name="v", domains=("web",), routes=(route(),))
    anyone = VirtualHost(name="w", domains=("web", "*"), routes=(route(),))
    for hosts, reason in (
        ((named,), "virtual hosts"),
        ((named, anyone), "virtual hosts"),
        ((), "virtual hosts"),
    ):
        assert compile_rules(LISTENER, RouteConfig(name="r", virtual_hosts=hosts), CLUSTERS) == reason
    assert compile_rules(LISTENER, None, CLUSTERS) == "it has no routes"
    assert not isinstance(
        compile_rules(LISTENER, RouteConfig(name="r", virtual_hosts=(anyone,)), CLUSTERS), str
    )


def test_many_routes_are_compiled_in_time_in_proportion() -> None:
    """Each of a thousand paths may be taken by a thousand conditional routes for all paths."""
    conditional = [
        route(RouteMatch(headers=(StringMatch(name="x-user", value=str(n)),))) for n in range(1000)
    ]
    rules = compiled(*conditional, *(route(f"/{n}") for n in range(1000)))
    assert len(rules.paths) == 1001
