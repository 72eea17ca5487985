"""Consumer routes: those in another namespace than their Service, for that namespace's callers (GEP-1294)."""

from __future__ import annotations

from meshd.gateway.translate import Translation
from meshd.model.listeners import Protocol
from meshd.model.routes import Forward
from tests.gateway.manifests import PARENT, Object, condition, http_route, routes, rule, service, translated

WEB = "default/web:80"
HTTP = service("web", {"port": 80, "name": "http"})


def consumer(*rules: Object, namespace: str = "client", name: str = "c", **parent: object) -> Object:
    parents = [{**PARENT, "namespace": "default", **parent}]
    back = [{**each, "backendRefs": [{"name": "web", "namespace": "default", "port": 80}]} for each in rules]
    return http_route(*back, name=name, namespace=namespace, parentRefs=parents)


def names(translation: Translation, namespace: str = "") -> list[str]:
    listener = translation.snapshot.listeners[WEB].seen_from(namespace)
    return [route.name for route in routes(translation, listener.route_config)]


def test_they_are_for_the_callers_of_their_namespace_only() -> None:
    translation = translated(HTTP, http_route(rule("/p")), consumer(rule("/c")))
    assert condition(translation, "c").status
    assert names(translation) == names(translation, "other") == ["default/r/0"]
    # The producer's do not apply beside them.
    assert names(translation, "client") == ["client/c/0"]


def test_where_the_producer_has_none_all_others_pass() -> None:
    translation = translated(HTTP, consumer(rule("/c")))
    assert names(translation) == ["default"]
    assert names(translation, "client") == ["client/c/0"]


def test_those_of_one_namespace_are_merged_by_precedence() -> None:
    mine = (
        consumer(rule("/"), name="a"),
        consumer(rule("/long"), name="b"),
        consumer(rule(), namespace="z"),
    )
    translation = translated(HTTP, *mine)
    assert translation.snapshot.listeners[WEB].caller_namespaces == ("", "client", "z")
    assert names(translation, "client") == ["client/b/0", "client/a/0"]
    assert names(translation, "z") == ["z/c/0"]


def test_they_are_for_the_ports_that_they_name() -> None:
    two = service("web", {"port": 80, "name": "http-a"}, {"port": 81, "name": "http-b"})
    translation = translated(two, consumer(rule(), sectionName="http-b"))
    assert translation.snapshot.listeners[WEB].consumers == ()
    assert translation.snapshot.listeners["default/web:81"].caller_namespaces == ("", "client")


def test_they_do_not_make_a_port_http_for_all_callers() -> None:
    translation = translated(service(), consumer(rule()))
    found = condition(translation, "c")
    assert (found.status, found.reason) == (False, "NoMatchingParent")
    assert "does not say that port 80 speaks HTTP, which only its owner may" in found.message
    assert translation.snapshot.listeners[WEB].protocol is Protocol.TCP
    two = service("web", {"port": 80, "name": "http"}, {"port": 81, "name": "what"})
    translation = translated(two, consumer(rule()))
    assert condition(translation, "c").status
    assert translation.snapshot.listeners[WEB].caller_namespaces == ("", "client")
    assert translation.snapshot.listeners["default/web:81"].protocol is Protocol.TCP


def test_a_route_may_send_requests_to_its_parents_without_a_grant() -> None:
    translation = translated(HTTP, consumer(rule()))
    assert condition(translation, "c", "ResolvedRefs").status
    (found,) = routes(translation, translation.snapshot.listeners[WEB].seen_from("client").route_config)
    assert isinstance(found.action, Forward)
    assert found.action.clusters[0].name == WEB


def test_a_route_needs_a_grant_for_other_services_of_its_parents_namespace() -> None:
    translation = translated(HTTP, service("db", ip="10.96.0.9"), consumer(rule(), name="c"))
    assert condition(translation, "c", "ResolvedRefs").status
    route = http_route(
        rule(backendRefs=[{"name": "db", "namespace": "default", "port": 80}]),
        name="c",
        namespace="client",
        parentRefs=[{**PARENT, "namespace": "default"}],
    )
    translation = translated(HTTP, service("db", ip="10.96.0.9"), route)
    assert condition(translation, "c", "ResolvedRefs").reason == "RefNotPermitted"


def test_a_route_may_be_a_producers_for_one_parent_and_a_consumers_for_another() -> None:
    mine = service("mine", {"port": 80, "name": "http"}, ip="10.96.0.2", namespace="client")
    parents = [{**PARENT, "namespace": "default"}, {**PARENT, "name": "mine"}]
    route = http_route(rule(), name="c", namespace="client", parentRefs=parents)
    translation = translated(HTTP, mine, route)
    assert [condition(translation, "c", parent=n).status for n in (0, 1)] == [True, True]
    assert names(translation) == ["default"]
    assert names(translation, "client") == ["client/c/0"]
    assert translation.snapshot.listeners["client/mine:80"].consumers == ()
    assert [r.name for r in routes(translation, "client/mine:80")] == ["client/c/0"]
