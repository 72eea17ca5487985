"""GRPCRoutes to routes: matches, precedence, merging, what comes before what, and how all is told."""

from __future__ import annotations

import random
from typing import Any

import pytest

from meshd.gateway.route_status import object_status
from meshd.model.listeners import Protocol
from meshd.model.request_policies import Mirror, Retry, SessionHeader, StringMatch
from meshd.model.routes import (
    DirectResponse,
    Forward,
    HeaderEdit,
    PathExact,
    PathMatch,
    PathPrefix,
    PathRegex,
    RouteMatch,
    WeightedCluster,
)
from tests.gateway.manifests import (
    PARENT,
    Object,
    call,
    condition,
    grpc_route,
    http_route,
    problems,
    routes,
    rule,
    service,
    status,
    translated,
)
from tests.gateway.test_policies import request

ECHO = "demo.Echo"
V1 = {"name": "version", "value": "one"}
NOWHERE = {"name": "nowhere", "port": 80}
V2 = service("v2", ip="10.96.0.2")


def forward(only: Object, *others: Object) -> Forward:
    (found,) = routes(translated(service(), V2, grpc_route(only), *others))
    assert isinstance(found.action, Forward)
    return found.action


@pytest.mark.parametrize(
    ("one", "path"),
    [
        (call(), PathPrefix("/")),
        (call(ECHO, "Say"), PathExact("/demo.Echo/Say")),
        (call(ECHO), PathPrefix("/demo.Echo")),
        (call(method="Say"), PathRegex("/[^/]+/Say")),
        (call("demo[.].*", "S.*|T", "RegularExpression"), PathRegex("/(?:demo[.].*)/(?:S.*|T)")),
        (call("demo[.].*", "", "RegularExpression"), PathRegex("/(?:demo[.].*)/[^/]+")),
        (call("", "S.*", "RegularExpression"), PathRegex("/[^/]+/(?:S.*)")),
    ],
)
def test_matches(one: Object, path: PathMatch) -> None:
    (found,) = routes(translated(service(), grpc_route({**one, "name": "rule"})))
    assert (found.name, found.match) == ("default/g/rule", RouteMatch(path=path, grpc=True))


def test_of_headers_with_one_name_the_first_counts() -> None:
    headers = [
        V1,
        {"name": "Version", "value": "two"},
        {"name": "b", "value": "x.*", "type": "RegularExpression"},
    ]
    (found,) = routes(translated(service(), grpc_route(call(headers=headers))))
    wanted = StringMatch(name="version", value="one"), StringMatch(name="b", value="x.*", regex=True)
    assert found.match.headers == wanted


def test_precedence_over_all_routes_of_a_port() -> None:
    ordered = [
        call("demo.Longer", "Say"),
        call("demo.Echo", "SayMore"),
        call("demo.Echo", "Say", headers=[V1]),
        call("demo.Echo", "Say"),
        call("demo.Echo", headers=[V1]),
        call("demo.Echo"),
        call("demo[.].*", "Say.*", "RegularExpression"),
        call("demo[.].*", "", "RegularExpression"),
        call("d.*", "SayMuchMore.*", "RegularExpression"),
        call(method="SayMore"),
        call(method="Say"),
        call(method="S.*", kind="RegularExpression"),
        call(headers=[V1, {"name": "b", "value": "1"}]),
        call(headers=[V1]),
        call(),
    ]
    several = [grpc_route(one, name=f"z{i}") for i, one in enumerate(ordered)]
    random.Random(1).shuffle(several)
    found = [r.name for r in routes(translated(service(), *several))]
    assert found == [f"default/z{i}/0" for i in range(len(ordered))]


def test_ties_go_to_the_oldest_then_by_name_then_to_the_first_rule() -> None:
    several = (
        grpc_route(call(), call(), name="b"),
        grpc_route(call(), name="a"),
        grpc_route(call(), name="z-old", created="2024-01-01T00:00:00Z"),
    )
    found = [r.name for r in routes(translated(service(), *several))]
    assert found == ["default/z-old/0", "default/a/0", "default/b/0", "default/b/1"]


def test_a_route_makes_its_port_http_and_keeps_deadlines() -> None:
    translation = translated(service(), grpc_route(call()))
    assert translation.snapshot.listeners["default/web:80"].protocol is Protocol.HTTP
    (found,) = routes(translation)
    assert isinstance(found.action, Forward)
    assert (found.action.deadline_limit, found.action.missing_cluster_status) == (0.0, 503)


def test_a_route_without_rules_does_nothing() -> None:
    translation = translated(service(), grpc_route())
    assert translation.snapshot.listeners["default/web:80"].protocol is Protocol.TCP
    assert problems(translation, "g", "GRPCRoute") == ["spec.rules: there are none: it does nothing"]


def test_what_does_not_resolve_is_unavailable_for_its_share() -> None:
    refs = [{"name": "web", "port": 80, "weight": 3}, {**NOWHERE, "weight": 1}]
    action = forward(call(backendRefs=refs))
    assert action.clusters == (
        WeightedCluster(name="default/web:80", weight=3),
        WeightedCluster(name="unresolved/default/nowhere:80"),
    )
    translation = translated(service(), grpc_route(call(backendRefs=refs), call(ECHO, backendRefs=[])))
    assert status(translation, "g", "GRPCRoute").parents[0].conditions[1].reason == "BackendNotFound"
    assert problems(translation, "g", "GRPCRoute") == [
        "spec.rules: Service default/nowhere does not exist; its requests get UNAVAILABLE"
    ]
    assert routes(translation)[0].action == DirectResponse(status=503)


def test_filters_weights_and_sessions_are_those_of_http_routes() -> None:
    header = {"set": [{"name": "X-A", "value": "1"}]}
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}}}
    edit = {"type": "RequestHeaderModifier", "requestHeaderModifier": header}
    refs = [
        {"name": "web", "port": 80, "weight": 7, "filters": [edit]},
        {"name": "v2", "port": 80, "weight": 0},
    ]
    action = forward(
        call(filters=[mirror], backendRefs=refs, sessionPersistence={"type": "Header", "sessionName": "X-S"})
    )
    assert action.clusters[0].request_headers == HeaderEdit(set=(("x-a", "1"),))
    assert [share.weight for share in action.clusters] == [7, 0]
    assert (action.mirrors, action.session) == ((Mirror(cluster="default/v2:80"),), SessionHeader(name="x-s"))


@pytest.mark.parametrize("type_", ["RequestRedirect", "ExtensionRef"])
def test_filters_that_are_not_supported_refuse_the_route(type_: str) -> None:
    reference = {"group": "example.com", "kind": "Thing", "name": "t"}
    filters: list[Object] = [
        {"type": type_, **({"extensionRef": reference} if type_ == "ExtensionRef" else {})}
    ]
    translation = translated(service(), grpc_route(call(filters=filters)))
    (accepted, _) = status(translation, "g", "GRPCRoute").parents[0].conditions
    assert (accepted.status, accepted.reason) == (False, "UnsupportedValue")


def test_a_grant_is_for_the_kind_that_it_names() -> None:
    def granted(kind: str) -> str:
        other = service("other", ip="10.96.0.9", namespace="b")
        grant: Object = {
            "apiVersion": "gateway.networking.k8s.io/v1beta1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "g", "namespace": "b"},
            "spec": {
                "from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "default"}],
                "to": [{"group": "", "kind": "Service"}],
            },
        }
        route = grpc_route(call(backendRefs=[{"name": "other", "namespace": "b", "port": 80}]))
        translation = translated(service(), other, grant, route)
        return status(translation, "g", "GRPCRoute").parents[0].conditions[1].reason

    assert granted("GRPCRoute") == "ResolvedRefs"
    assert granted("HTTPRoute") == "RefNotPermitted"


# -- beside HTTPRoutes -------------------------------------------------------------------------------


def test_a_port_with_both_kinds_has_grpc_routes_whichever_is_older() -> None:
    old = http_route(rule(), created="2024-01-01T00:00:00Z")
    young = grpc_route(call(), created="2025-01-01T00:00:00Z")
    translation = translated(service(), old, young)
    assert [route.name for route in routes(translation)] == ["default/g/0"]
    told = condition(translation, "r")
    assert (told.status, told.reason) == (False, "Conflicted")
    assert told.message == "Service default/web: port 80 has GRPCRoutes, which come before HTTPRoutes"
    assert status(translation, "g", "GRPCRoute").parents[0].conditions[0].status


def test_only_the_ports_that_both_name_are_lost() -> None:
    two = service("web", {"port": 80, "name": "http-a"}, {"port": 81, "name": "http-b"})
    translation = translated(two, http_route(rule()), grpc_route(call(), parentRefs=[{**PARENT, "port": 81}]))
    assert [r.name for r in routes(translation)] == ["default/r/0"]
    assert [r.name for r in routes(translation, "default/web:81")] == ["default/g/0"]
    assert condition(translation, "r").status
    assert problems(translation, "r") == [
        "spec.parentRefs: Service default/web: port 81 has GRPCRoutes, which come before HTTPRoutes"
    ]


def test_a_grpc_route_that_is_not_accepted_takes_no_port() -> None:
    bad = grpc_route(call(filters=[{"type": "FutureFilter"}]))
    translation = translated(service(), http_route(rule()), bad)
    assert [r.name for r in routes(translation)] == ["default/r/0"]
    assert condition(translation, "r").status


def test_a_consumer_takes_nothing_from_the_producer() -> None:
    http = service("web", {"port": 80, "name": "http"})
    refs = [{"name": "web", "namespace": "default", "port": 80}]
    mine = grpc_route(
        call(backendRefs=refs), namespace="client", parentRefs=[{**PARENT, "namespace": "default"}]
    )
    translation = translated(http, http_route(rule()), mine)
    assert [r.name for r in routes(translation)] == ["default/r/0"]
    listener = translation.snapshot.listeners["default/web:80"].seen_from("client")
    assert [r.name for r in routes(translation, listener.route_config)] == ["client/g/0"]


def test_the_status_as_the_api_has_it() -> None:
    told = object_status(status(translated(service(), grpc_route(call())), "g", "GRPCRoute"))
    parents = told["parents"]
    assert isinstance(parents, list)
    assert parents[0]["parentRef"] == {"group": "", "kind": "Service", "name": "web"}


# -- policies ----------------------------------------------------------------------------------------


def for_route(kind: str, name: str, section: str = "", **spec: Any) -> Object:
    target: Object = {"group": "gateway.networking.k8s.io", "kind": kind, "name": name}
    if section:
        target["sectionName"] = section
    return request(target, name=f"{name}-{section or 'all'}", **spec)


def test_policies_say_what_the_api_has_no_field_for() -> None:
    retry = {"attempts": 2, "grpcStatuses": ["Unavailable", "Cancelled"], "perTryTimeout": "1s"}
    action = forward(
        {**call(), "name": "one"},
        for_route("GRPCRoute", "g", timeouts={"request": "5s", "grpcDeadline": "10s"}),
        for_route("GRPCRoute", "g", "one", retry=retry),
    )
    assert (action.timeout, action.deadline_limit) == (5.0, 10.0)
    assert action.retry == Retry(attempts=2, reset=True, grpc_statuses=(1, 14), per_try_timeout=1.0)


def test_what_an_http_route_says_itself_comes_before_its_policy() -> None:
    both: dict[str, Any] = {"timeouts": {"request": "5s"}, "retry": {"attempts": 9, "statuses": [503]}}
    own = rule(timeouts={"request": "1s"}, retry={"codes": [500]})
    (with_own, without) = routes(
        translated(service(), http_route(own, rule("/a")), for_route("HTTPRoute", "r", **both))
    )[::-1]
    assert isinstance(with_own.action, Forward)
    assert isinstance(without.action, Forward)
    assert (with_own.action.timeout, with_own.action.retry) == (1.0, Retry(reset=True, statuses=(500,)))
    assert (without.action.timeout, without.action.retry) == (
        5.0,
        Retry(attempts=9, reset=True, statuses=(503,)),
    )
