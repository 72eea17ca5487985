"""TLSRoutes and TCPRoutes to routes of connections: names, shares, what comes before what, what is told."""

from __future__ import annotations

import random
from typing import Any

import pytest

from meshd.model.listeners import FailurePolicy, Listener, Protocol
from meshd.model.routes import WeightedCluster
from meshd.model.tcp_routes import TcpRoute
from tests.gateway.manifests import (
    PARENT,
    Object,
    grpc_route,
    http_route,
    problems,
    routes,
    rule,
    service,
    status,
    translated,
)

DB = {"port": 5432}
V1, V2 = service("v1", DB, ip="10.96.0.8"), service("v2", DB, ip="10.96.0.9")
TLS = {"name": "tls", "port": 443}
TO_V1 = {"name": "v1", "port": 5432}
TO_V2 = {"name": "v2", "port": 5432}
NOWHERE = {"name": "nowhere", "port": 1}


def tcp_route(*backends: Object, name: str = "t", **fields: Any) -> Object:
    return http_route({"backendRefs": list(backends or (TO_V1,))}, name=name, kind="TCPRoute", **fields)


def tls_route(
    *hostnames: str, name: str = "s", backends: tuple[Object, ...] = (TO_V1,), **fields: Any
) -> Object:
    only = {"backendRefs": list(backends)}
    return http_route(only, name=name, kind="TLSRoute", **{"hostnames": list(hostnames), **fields})


def listener(*objects: Object, name: str = "default/web:80") -> Listener:
    return translated(V1, V2, *objects).snapshot.listeners[name]


def reasons(*objects: Object, name: str = "t", kind: str = "TCPRoute") -> list[tuple[str, bool, str]]:
    (parent,) = status(translated(V1, V2, *objects), name, kind).parents
    return [(each.type, each.status, each.reason) for each in parent.conditions]


RESOLVED = ("ResolvedRefs", True, "ResolvedRefs")
ACCEPTED = ("Accepted", True, "Accepted")


# -- TCPRoute ------------------------------------------------------------------------------------------


def test_a_tcp_route_shares_connections_by_weight() -> None:
    found = listener(service(), tcp_route({**TO_V1, "weight": 90}, {**TO_V2, "weight": 10}))
    shares = (
        WeightedCluster(name="default/v1:5432", weight=90),
        WeightedCluster(name="default/v2:5432", weight=10),
    )
    assert found.protocol is Protocol.TCP
    assert found.cluster == "default/web:80"
    assert found.tcp_routes == (TcpRoute(name="default/t/0", clusters=shares, connect_attempts=4),)


def test_a_single_backend_has_all_whatever_its_weight() -> None:
    (found,) = listener(service(), tcp_route({**TO_V1, "weight": 7}, {**TO_V2, "weight": 0})).tcp_routes
    assert found.clusters == (WeightedCluster(name="default/v1:5432"),)


def test_a_backend_that_is_named_twice_has_both_weights() -> None:
    (found,) = listener(
        service(), tcp_route({**TO_V1, "weight": 1}, TO_V2, {**TO_V1, "weight": 2})
    ).tcp_routes
    assert [(each.name, each.weight) for each in found.clusters] == [
        ("default/v1:5432", 3),
        ("default/v2:5432", 1),
    ]


def test_without_weight_all_connections_are_reset() -> None:
    (found,) = listener(service(), tcp_route({**TO_V1, "weight": 0})).tcp_routes
    assert found.clusters == (WeightedCluster(name="unresolved/default/t/0"),)


def test_the_share_of_a_backend_that_is_not_there_is_reset_and_that_is_told() -> None:
    objects = (service(), tcp_route(TO_V1, NOWHERE))
    (found,) = listener(*objects).tcp_routes
    assert [each.name for each in found.clusters] == ["default/v1:5432", "unresolved/default/nowhere:1"]
    assert reasons(*objects) == [ACCEPTED, ("ResolvedRefs", False, "BackendNotFound")]
    (problem,) = problems(translated(V1, V2, *objects), "t", "TCPRoute")
    assert problem == "spec.rules: Service default/nowhere does not exist; its connections are reset"


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ({"name": "x", "port": 1, "kind": "Bucket", "group": "example.io"}, "InvalidKind"),
        ({"name": "db", "port": 1, "namespace": "far"}, "RefNotPermitted"),
    ],
)
def test_why_a_backend_does_not_resolve(backend: Object, reason: str) -> None:
    assert reasons(service(), tcp_route(backend)) == [ACCEPTED, ("ResolvedRefs", False, reason)]


def test_a_grant_is_for_a_kind() -> None:
    def grant(kind: str) -> Object:
        return {
            "apiVersion": "gateway.networking.k8s.io/v1beta1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "g", "namespace": "far"},
            "spec": {
                "from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "default"}],
                "to": [{"group": "", "kind": "Service"}],
            },
        }

    far = service("db", DB, ip="10.96.0.7", namespace="far")
    objects = service(), far, tcp_route({"name": "db", "port": 5432, "namespace": "far"})
    assert reasons(*objects, grant("TCPRoute")) == [ACCEPTED, RESOLVED]
    assert reasons(*objects, grant("HTTPRoute"))[1][2] == "RefNotPermitted"


def test_any_protocol_may_be_behind() -> None:
    web = service("site", {"port": 8080, "appProtocol": "http"}, ip="10.96.0.6")
    mysql = service("mysql", {"port": 3306, "appProtocol": "mysql"}, ip="10.96.0.5")
    objects = (
        *(service(), web, mysql),
        tcp_route({"name": "site", "port": 8080}, {"name": "mysql", "port": 3306}),
    )
    assert reasons(*objects) == [ACCEPTED, RESOLVED]


def test_a_port_that_is_declared_http_is_opaque_if_its_owner_routes_it_as_tcp() -> None:
    web = service("web", {"port": 80, "appProtocol": "http"})
    assert listener(web, tcp_route()).protocol is Protocol.TCP
    assert reasons(web, tcp_route()) == [ACCEPTED, RESOLVED]


def test_of_several_tcp_routes_the_oldest_has_all_and_the_others_hear_of_it() -> None:
    objects = [
        service(),
        tcp_route(TO_V1, name="older", created="2024-01-01T00:00:00Z"),
        tcp_route(TO_V2, name="a-newer", created="2024-01-02T00:00:00Z"),
    ]
    random.Random(1).shuffle(objects)
    (found,) = listener(*objects).tcp_routes
    assert found.name == "default/older/0"
    assert reasons(*objects, name="older") == reasons(*objects, name="a-newer") == [ACCEPTED, RESOLVED]
    assert problems(translated(V1, V2, *objects), "a-newer", "TCPRoute") == [
        ": TCPRoute default/older comes first, and has all connections to port 80 of Service default/web"
    ]
    assert problems(translated(V1, V2, *objects), "older", "TCPRoute") == []


def test_parent_refs_choose_ports() -> None:
    web = service("web", {"name": "a", "port": 1}, {"name": "b", "port": 2}, {"name": "c", "port": 3})
    parents = [{**PARENT, "port": 1}, {**PARENT, "sectionName": "c"}]
    objects = (web, tcp_route(parentRefs=parents))
    assert listener(*objects, name="default/web:1").tcp_routes
    assert not listener(*objects, name="default/web:2").tcp_routes
    assert listener(*objects, name="default/web:3").tcp_routes
    assert reasons(web, tcp_route(parentRefs=[{**PARENT, "port": 9}]))[0] == (
        "Accepted",
        False,
        "NoMatchingParent",
    )


# -- TLSRoute ------------------------------------------------------------------------------------------


def test_tls_routes_are_told_apart_by_names() -> None:
    objects = (
        service("web", TLS),
        tls_route("a.example", "*.b.example"),
        tls_route("c.example", name="s2", backends=(TO_V2,)),
    )
    found = listener(*objects, name="default/web:443").tcp_routes
    assert [(each.name, each.server_names) for each in found] == [
        ("default/s/0", ("a.example", "*.b.example")),
        ("default/s2/0", ("c.example",)),
    ]


def test_a_name_is_the_oldest_routes_and_the_others_hear_of_it() -> None:
    objects = (
        service("web", TLS),
        tls_route("a.example", "b.example", name="newer", created="2024-01-02T00:00:00Z"),
        tls_route("b.example", name="older", created="2024-01-01T00:00:00Z"),
        tls_route("b.example", name="without-date"),
    )
    found = listener(*objects, name="default/web:443").tcp_routes
    assert {each.name: each.server_names for each in found} == {
        "default/older/0": ("b.example",),
        "default/newer/0": ("a.example",),
    }
    translation = translated(V1, V2, *objects)
    has = "and has connections for b.example to port 443 of Service default/web"
    told = f": TLSRoute default/older comes first, {has}"
    assert (
        problems(translation, "newer", "TLSRoute")
        == problems(translation, "without-date", "TLSRoute")
        == [told]
    )


def test_a_tls_route_is_not_for_a_port_that_speaks_http_in_clear_text() -> None:
    web = service("web", {"port": 80, "appProtocol": "http"})
    assert reasons(web, tls_route("a.example"), name="s", kind="TLSRoute")[0] == (
        "Accepted",
        False,
        "NoMatchingParent",
    )
    assert listener(web, tls_route("a.example")).protocol is Protocol.HTTP


@pytest.mark.parametrize("said", ["https", "tls", "kubernetes.io/wss", "mysql"])
def test_a_tls_route_is_for_ports_that_may_speak_tls(said: str) -> None:
    web = service("web", {"port": 80, "appProtocol": said})
    assert reasons(web, tls_route("a.example"), name="s", kind="TLSRoute") == [ACCEPTED, RESOLVED]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"hostnames": []}, "spec.hostnames"),
        ({"hostnames": ["10.1.2.3"]}, "spec.hostnames[0]"),
        ({"hostnames": ["a.*.example"]}, "spec.hostnames[0]"),
        ({"rules": []}, "spec.rules"),
        ({"rules": [{"backendRefs": []}]}, "spec.rules[0].backendRefs"),
        ({"rules": [{"backendRefs": [{"name": "v1"}]}]}, "spec.rules[0].backendRefs[0].port"),
        ({"rules": [{"backendRefs": [TO_V1]}, {"backendRefs": [TO_V1]}]}, "spec.rules"),
        ({"parentRefs": [PARENT, PARENT]}, "spec.parentRefs[1]"),
    ],
)
def test_what_the_api_refuses_is_refused(changed: dict[str, Any], field: str) -> None:
    translation = translated(service("web", TLS), V1, tls_route("a.example", **changed))
    assert any(each.startswith(f"{field}: ") for each in problems(translation, "s", "TLSRoute"))
    assert translation.snapshot.listeners["default/web:443"].tcp_routes == ()


@pytest.mark.parametrize(("kind", "version"), [("TLSRoute", "v1alpha3"), ("TCPRoute", "v1alpha2")])
def test_earlier_versions_are_read(kind: str, version: str) -> None:
    made = tls_route("a.example") if kind == "TLSRoute" else tcp_route(name="s")
    made["apiVersion"] = f"gateway.networking.k8s.io/{version}"
    assert listener(service("web", TLS), made, name="default/web:443").tcp_routes


# -- several kinds -------------------------------------------------------------------------------------


def test_a_port_has_routes_of_one_kind_the_more_specific_one() -> None:
    http, tls = http_route(rule()), tls_route("a.example")
    old = tcp_route(created="2020-01-01T00:00:00Z")
    conflicted = ("Accepted", False, "Conflicted")
    assert reasons(service(), tls, old)[0] == conflicted
    assert reasons(service(), http, old)[0] == conflicted
    assert reasons(service(), http, tls, name="s", kind="TLSRoute")[0] == conflicted
    assert reasons(service(), grpc_route({"backendRefs": [TO_V1]}), old)[0] == conflicted
    translation = translated(service(), V1, V2, http, tls, old)
    assert translation.snapshot.listeners["default/web:80"].protocol is Protocol.HTTP
    assert [each.name for each in routes(translation)] == ["default/r/0"]
    (problem,) = problems(translation, "t", "TCPRoute")
    assert (
        problem == "spec.parentRefs: Service default/web: port 80 has HTTPRoutes, which come before TCPRoutes"
    )


def test_a_route_keeps_the_ports_that_no_other_kind_has() -> None:
    web = service("web", {"name": "a", "port": 1}, {"name": "b", "port": 2})
    objects = (web, http_route(rule(), parentRefs=[{**PARENT, "port": 1}]), tcp_route())
    assert reasons(*objects)[0] == ACCEPTED
    assert listener(*objects, name="default/web:1").protocol is Protocol.HTTP
    assert listener(*objects, name="default/web:2").tcp_routes


# -- consumers -----------------------------------------------------------------------------------------


def consumer(made: Object, namespace: str = "shop") -> Object:
    made["metadata"]["namespace"] = namespace  # type: ignore[index]
    made["spec"]["parentRefs"] = [{**PARENT, "namespace": "default"}]  # type: ignore[index]
    return made


def test_a_consumers_route_is_for_callers_of_its_namespace() -> None:
    shop = service("own", DB, ip="10.96.0.4", namespace="shop")
    own = consumer(tcp_route({"name": "own", "port": 5432}))
    found = listener(service(), shop, own, tcp_route(TO_V2, name="all"))
    assert [each.name for each in found.tcp_routes] == ["default/all/0"]
    ((namespace, (only,)),) = found.tcp_consumers
    assert (namespace, only.name, only.clusters[0].name) == ("shop", "shop/t/0", "shop/own:5432")
    assert found.seen_from("shop").tcp_routes == (only,)
    alone = listener(service(), shop, own)
    assert alone.tcp_routes == ()
    assert alone.is_relayed


def test_a_consumer_may_not_make_an_http_port_opaque_for_all() -> None:
    web = service("web", {"port": 80, "appProtocol": "http"})
    objects = (web, consumer(tcp_route()))
    assert reasons(*objects)[0] == ("Accepted", False, "NoMatchingParent")
    assert listener(*objects).protocol is Protocol.HTTP


# -- policies ------------------------------------------------------------------------------------------


def policy(kind: str, target: str, **spec: Any) -> Object:
    return {
        "apiVersion": "meshd.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": target}], **spec},
    }


def test_a_clusters_idle_time_and_hash_by_source_are_its_connections() -> None:
    balancing = {"type": "RingHash", "hashOn": [{"type": "Header", "name": "x"}, {"type": "SourceAddress"}]}
    upstream = policy("UpstreamPolicy", "v1", loadBalancing=balancing, timeouts={"idle": "90s"})
    (found,) = listener(service(), tcp_route(), upstream).tcp_routes
    assert (found.idle_timeout, found.hash_source) == (90.0, True)
    (both,) = listener(service(), tcp_route(TO_V1, TO_V2), upstream).tcp_routes
    assert both.idle_timeout == 3600.0
    endless = policy("UpstreamPolicy", "v1", timeouts={"idle": "0s"})
    (never,) = listener(service(), tcp_route(TO_V1, TO_V2), endless).tcp_routes
    assert never.idle_timeout == 0.0


def test_what_connections_cannot_be_hashed_by_is_told() -> None:
    balancing = {"type": "RingHash", "hashOn": [{"type": "Header", "name": "x"}]}
    translation = translated(
        V1, service(), tcp_route(), policy("UpstreamPolicy", "v1", loadBalancing=balancing)
    )
    (problem,) = problems(translation, "t", "TCPRoute")
    assert "connections to default/v1:5432 have nothing that it is hashed by" in problem


def test_of_a_route_policy_connections_have_failure_policy_and_access_log() -> None:
    said = policy("RoutePolicy", "web", failurePolicy="Closed", accessLog={"percent": 50})
    found = listener(service(), tcp_route(), said)
    assert (found.failure_policy, found.http.access_log_share) == (FailurePolicy.CLOSED, 500_000)
    assert problems(translated(V1, service(), tcp_route(), said), "p", "RoutePolicy") == []
    limited = policy("RoutePolicy", "web", rateLimit={"all": {"requests": 1}})
    (problem,) = problems(translated(V1, service(), tcp_route(), limited), "p", "RoutePolicy")
    assert "does nothing there" in problem
