"""What ``meshd explain`` says: the route that the proxy would take, and the path that the kernel would."""

from __future__ import annotations

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from meshd.agent.explain import explain
from meshd.agent.explained import CannotExplainError
from meshd.agent.matching import find_route
from meshd.agent.views import route_views
from meshd.cli.explain import explanation_text
from meshd.datapath.rules.compilation import CompiledRules, compile_rules
from meshd.model.cluster_policies import HealthCheck, HttpProbe, Limits, Maglev, Outlier
from meshd.model.clusters import Cluster, Endpoint, EndpointSet, Health
from meshd.model.listeners import Protocol
from meshd.model.request_policies import (
    HashCookie,
    HashHeader,
    HashQuery,
    HashSource,
    Retry,
    SessionCookie,
    StringMatch,
)
from meshd.model.routes import (
    DirectResponse,
    Forward,
    HeaderEdit,
    PathExact,
    PathPrefix,
    PathRegex,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from meshd.model.snapshot import Snapshot
from meshd.model.view import ExplainedRequest, ExplanationView
from proxy.requests.request_head import RequestHead
from proxy.routing.decision import Answer, RouteTable
from tests.support.route_configs import CLUSTERS, LISTENER, Request, config, configs, requests, to

domains = st.sampled_from(("*", "web", "a.web", "*.web", "*web", "a.*", "a*", "web:80", "[::1]", "*.a.web"))


@given(configs, st.lists(domains, max_size=3, unique=True), requests, st.text("aweb.:80[]", max_size=8))
def test_the_route_is_the_proxys(routes: RouteConfig, names: list[str], request: Request, host: str) -> None:
    method, path, query, headers = request
    (own,) = routes.virtual_hosts
    hosts = [VirtualHost(name=name, domains=(name,), routes=own.routes[i:]) for i, name in enumerate(names)]
    routes = msgspec.structs.replace(routes, virtual_hosts=tuple(hosts) or (own,))
    head = RequestHead(method, path, query, host, CIMultiDict((*headers, ("host", host))))
    decision = RouteTable(routes).decide(head, 0.0)
    target = path if query is None else f"{path}?{query}"
    asked = ExplainedRequest(service="web", method=method, target=target, host=host, headers=tuple(headers))
    found = find_route(routes, asked)
    if decision.route is None:
        assert isinstance(decision, Answer)
        assert found is None
    else:
        assert found is not None
        assert found[1] is decision.route


def route(name: str, path: str = "/", *, edit: HeaderEdit = HeaderEdit(), **match: object) -> Route:  # noqa: B008
    conditions = msgspec.structs.replace(RouteMatch(path=PathPrefix(path)), **match)
    return Route(name=name, match=conditions, action=to("a", "b"), request_headers=edit)


ROUTES = config(
    route("exact", path="", headers=(StringMatch(name="x-user", value="ann"),)),
    route("pattern", headers=(StringMatch(name="x-user", value="b.*", regex=True),)),
    route("edit", "/edit", edit=HeaderEdit(remove=("x-a",))),
    msgspec.structs.replace(route("regex"), match=RouteMatch(path=PathRegex("/v[0-9]+"), method="PUT")),
    msgspec.structs.replace(route("tea", "/tea"), action=DirectResponse(status=418)),
    route("query", "/q", query=(StringMatch(name="q", value="1"),)),
    msgspec.structs.replace(
        route("last"), action=msgspec.structs.replace(to("a", "b"), timeout=2.5), match=RouteMatch()
    ),
)
ENDPOINTS = EndpointSet(
    name="a",
    endpoints=(
        Endpoint(address="10.1.0.1", port=80),
        Endpoint(address="10.1.0.2", port=80, health=Health.DRAINING),
    ),
)
OPAQUE = msgspec.structs.replace(LISTENER, name="shop/db:5432", service="shop/db", protocol=Protocol.TCP)
SNAPSHOT = Snapshot(
    1, {LISTENER.name: LISTENER, OPAQUE.name: OPAQUE}, {LISTENER.name: ROUTES}, CLUSTERS, {"a": ENDPOINTS}
)


def rules_of(name: str, namespace: str) -> CompiledRules | str:
    assert not namespace
    return compile_rules(SNAPSHOT.listeners[name], ROUTES, CLUSTERS)


def asked(
    target: str = "/x", method: str = "GET", service: str = "shop/web", **headers: str
) -> ExplanationView:
    fields = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    request = ExplainedRequest(service=service, method=method, target=target, headers=fields)
    return explain(SNAPSHOT, request, rules_of)


@pytest.mark.parametrize(
    ("found", "route", "reason"),
    [
        (asked(), "last", ""),
        (asked(x_user="ann"), "exact", ""),
        (asked(x_user="bob"), "pattern", "only the proxy can test the route's conditions"),
        (asked(x_user="eve"), "last", "only the proxy can tell whether route pattern takes it"),
        (asked("/edit/x"), "edit", "the route changes header fields"),
        (asked("/tea"), "tea", "the route answers by itself"),
        (asked("/q?q=1"), "query", "only the proxy can test the route's conditions"),
        (asked("/q?q=2"), "last", "only the proxy can tell whether route query takes it"),
        (asked("/q"), "last", "too many routes that might take it come first"),
        (asked("/v1", "PUT"), "regex", "the route's path is a regular expression"),
        (asked(method="PURGE"), "last", "the kernel does not know method PURGE"),
        (asked("/%C3%A4"), "last", ""),
        (asked("/ä"), "last", "the kernel does not read such a path"),
        (asked("/" + 256 * "a"), "last", "the kernel does not read such a path"),
        (asked(te="trailers"), "last", "only the proxy handles the field te"),
        (asked(connection="Keep-Alive", x_request_id="1"), "last", ""),
        (asked(connection="close"), "last", "only the proxy handles the field connection"),
    ],
)
def test_the_path_and_why(found: ExplanationView, route: str, reason: str) -> None:
    assert (found.route, found.reason, found.path) == (route, reason, "proxy" if reason else "kernel")


def test_where_it_goes() -> None:
    found = asked()
    assert [(each.cluster, each.weight, each.healthy, each.endpoints) for each in found.clusters] == [
        ("a", 1, 1, 2),
        ("b", 1, 0, 0),
    ]
    assert (found.timeout, found.rule, found.host) == (2.5, 6, "web.shop")
    assert list(explanation_text(found)) == [
        "GET /x to shop/web:80 (Host web.shop)",
        "  Route    last, number 6 by order",
        "  Match    * /*",
        "  Cluster  a  50 %, healthy endpoints 1 of 2",
        "  Cluster  b  50 %, healthy endpoints 0 of 0",
        "    Does   balancing random",
        "  Timeout  2.5 s",
        "  Path     kernel",
    ]


def test_what_policies_do_and_which_they_are() -> None:
    forward = Forward(
        clusters=(WeightedCluster(name="c"),),
        retry=Retry(attempts=2, reset=True, statuses=(500, 503), per_try_timeout=0.5),
        session=SessionCookie(name="s"),
        hash_keys=(HashHeader(name="x-user"), HashCookie(name="c"), HashQuery(name="q"), HashSource()),
    )
    only = config(Route(name="r", action=forward, policies=("RoutePolicy shop/p",)))
    cluster = Cluster(
        name="c",
        balancing=Maglev(),
        panic_percent=50,
        health_check=HealthCheck(probe=HttpProbe(path="/healthz"), interval=5.0),
        outlier=Outlier(consecutive_gateway=2, success_rate_factor=1900, latency_factor=3000),
        limits=Limits(connections=1, requests=2, retry_budget_percent=20.0),
        connect_timeout=1.0,
        idle_timeout=0.0,
        policies=("UpstreamPolicy shop/u",),
    )
    snapshot = Snapshot(1, {LISTENER.name: LISTENER}, {LISTENER.name: only}, {"c": cluster})
    request = ExplainedRequest(service="shop/web", method="GET", target="/b")
    found = explain(snapshot, request, lambda *_: compile_rules(LISTENER, only, {"c": cluster}))
    assert list(explanation_text(found)) == [
        "GET /b to shop/web:80 (Host web.shop)",
        "  Route    r, number 0 by order",
        "  Match    * /*",
        "  Policy   RoutePolicy shop/p",
        "  Does     retry 2 times on connect-failure, reset, 500, 503",
        "  Does     timeout of a try 0.5 s",
        "  Does     session by cookie s",
        "  Does     hash on header x-user, cookie c, query parameter q, source address",
        "  Cluster  c  100 %, healthy endpoints 0 of 0",
        "    Policy UpstreamPolicy shop/u",
        "    Does   balancing Maglev",
        "    Does   panic with fewer than 50 % healthy",
        "    Does   health check GET /healthz every 5 s",
        "    Does   outliers ejected by 5 5xx in a row, 2 gateway errors in a row, success rate, latency",
        "    Does   limits connections 1, requests 2, retries 20 %, 3 at least",
        "    Does   connect timeout 1 s",
        "    Does   idle timeout none",
        "  Timeout  none",
        "  Path     proxy, because: the route sends requests again",
    ]


def test_a_post_is_taken_for_a_call_where_routes_are_for_grpc() -> None:
    calls = msgspec.structs.replace(
        route("call", "/demo.Echo", grpc=True), action=Forward(clusters=to("a").clusters, deadline_limit=5.0)
    )

    snapshot = Snapshot(1, {LISTENER.name: LISTENER}, {LISTENER.name: config(calls)}, CLUSTERS, {})

    def asked(method: str, *headers: tuple[str, str]) -> ExplanationView:
        request = ExplainedRequest(
            service="shop/web", method=method, target="/demo.Echo/Say", headers=headers
        )
        return explain(snapshot, request, lambda *_: compile_rules(LISTENER, config(calls), CLUSTERS))

    found = asked("POST")
    assert (found.route, found.match) == ("call", "gRPC * /demo.Echo/*")
    assert found.effects == ("deadline of gRPC calls kept, at most 5 s",)
    assert found.reason == "the route keeps deadlines"
    assert asked("POST", ("content-type", "application/grpc+proto")).route == "call"
    assert asked("POST", ("content-type", "text/plain")).route == asked("GET").route == ""


def test_no_route() -> None:
    only = config(Route(name="r", match=RouteMatch(path=PathExact("/a")), action=to("a")))
    snapshot = Snapshot(1, {LISTENER.name: LISTENER}, {LISTENER.name: only}, CLUSTERS)
    request = ExplainedRequest(service="shop/web:80", method="GET", target="/b")
    found = explain(snapshot, request, lambda *_: compile_rules(LISTENER, only, CLUSTERS))
    assert (found.route, found.rule, found.reason) == ("", None, "no route takes it")
    assert "  Route    none: answer 404: no route takes it" in list(explanation_text(found))


def test_a_caller_of_a_namespace_with_routes_of_its_own() -> None:
    own = config(Route(name="client/c/named", match=RouteMatch(path=PathExact("/own")), action=to("a")))
    listener = msgspec.structs.replace(LISTENER, consumers=(("client", "own"),))
    own = msgspec.structs.replace(own, name="own")
    snapshot = Snapshot(1, {LISTENER.name: listener}, {LISTENER.name: ROUTES, "own": own}, CLUSTERS)

    def compiled(name: str, namespace: str) -> CompiledRules | str:
        seen = snapshot.listeners[name].seen_from(namespace)
        return compile_rules(seen, snapshot.route_configs[seen.route_config], CLUSTERS)

    def asked_from(namespace: str) -> ExplanationView:
        request = ExplainedRequest(service="shop/web", method="GET", target="/own", namespace=namespace)
        return explain(snapshot, request, compiled)

    found = asked_from("client")
    assert (found.namespace, found.route, found.path) == ("client", "client/c/named", "kernel")
    assert next(explanation_text(found)).endswith(" from client")
    assert asked_from("other") == asked_from("")
    assert asked_from("").route != found.route
    views = [(view.callers, view.name) for view in route_views(snapshot, {})]
    assert ("client", "client/c/named") in views
    assert {callers for callers, _ in views} == {"", "client"}


def test_what_the_node_and_the_service_say_comes_first() -> None:
    request = ExplainedRequest(service="shop/web", method="GET", target="/")
    assert explain(SNAPSHOT, request, rules_of, "--fast-path off").reason == "--fast-path off"
    assert explain(SNAPSHOT, request, lambda *_: "off for the service").reason == "off for the service"


def test_services_that_are_none() -> None:
    for service, message in (
        ("web", "there is no service default/web; there are shop/web:80"),
        ("shop/db", "service shop/db has no HTTP port: ask without METHOD and PATH"),
        ("other/thing", "there is no service other/thing"),
        ("shop/web:81", "there is no service shop/web:81; there are shop/db:5432, shop/web:80"),
    ):
        with pytest.raises(CannotExplainError) as raised:
            asked(service=service)
        assert str(raised.value) == message


def test_all_characters_of_paths() -> None:
    for character in string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/%":
        assert asked(f"/x{character}").path == "kernel"
