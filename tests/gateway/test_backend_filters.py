"""Filters of backendRefs: what goes with a weight, and what makes a backend a route of its own."""

from __future__ import annotations

import pytest

from meshd.model.request_policies import MILLION, Cors, Mirror
from meshd.model.routes import (
    DirectResponse,
    Forward,
    HeaderEdit,
    Redirect,
    ReplaceFullPath,
    ReplacePrefix,
    Route,
    WeightedCluster,
)
from tests.gateway.manifests import (
    Object,
    condition,
    http_route,
    problems,
    routes,
    rule,
    service,
    translated,
)

MIRROR: Object = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "v2", "port": 80}}}
LOST: Object = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "gone", "port": 80}}}
HOST: Object = {"type": "URLRewrite", "urlRewrite": {"hostname": "x.org"}}
PREFIX: Object = {
    "type": "URLRewrite",
    "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}},
}
REDIRECT: Object = {"type": "RequestRedirect", "requestRedirect": {"hostname": "x.org", "statusCode": 301}}
CORS: Object = {"type": "CORS", "cors": {"maxAge": 7}}
REQUEST: Object = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-a"]}}
RESPONSE: Object = {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["x-b"]}}
NO_A, NO_B = HeaderEdit(remove=("x-a",)), HeaderEdit(remove=("x-b",))


def backend(name: str, weight: int, *filters: Object) -> Object:
    return {"name": name, "port": 80, "weight": weight, "filters": list(filters)}


def parts(*backends: Object, filters: tuple[Object, ...] = ()) -> tuple[Route, ...]:
    route = http_route(rule("/a", backendRefs=list(backends), filters=list(filters)))
    return routes(translated(service(), service("v2", ip="10.96.0.2"), route))


def test_backends_that_differ_in_more_than_headers_are_routes_with_their_weights_shares() -> None:
    found = parts(
        backend("web", 1, MIRROR, REQUEST),
        backend("v2", 0, HOST),
        backend("v2", 1, PREFIX, RESPONSE),
        backend("web", 1),
    )
    assert [each.name for each in found] == ["default/r/0"] * 3
    assert [each.match.share for each in found] == [333_333, 666_667, MILLION]
    first, second, third = (each.action for each in found)
    assert isinstance(first, Forward)
    assert isinstance(second, Forward)
    assert isinstance(third, Forward)
    assert first.clusters == (WeightedCluster(name="default/web:80", request_headers=NO_A),)
    assert (first.mirrors, first.path) == ((Mirror(cluster="default/v2:80"),), None)
    assert second.clusters == (WeightedCluster(name="default/v2:80", response_headers=NO_B),)
    assert (second.mirrors, second.path) == ((), ReplacePrefix("/b"))
    assert third.clusters == (WeightedCluster(name="default/web:80"),)
    assert (third.mirrors, third.path, third.host) == ((), None, "")
    assert first.retry == second.retry == third.retry


def test_header_modifiers_alone_go_with_the_weight() -> None:
    (found,) = parts(backend("web", 1, REQUEST), backend("v2", 2, RESPONSE))
    assert found.match.share == MILLION
    assert isinstance(found.action, Forward)
    assert len(found.action.clusters) == 2


def test_a_single_backends_filters_come_with_the_rules() -> None:
    (found,) = parts(backend("v2", 5, HOST, MIRROR, CORS), filters=(REQUEST, MIRROR))
    assert found.match.share == MILLION
    assert found.request_headers == NO_A
    assert found.cors == Cors(origins=(), max_age=7)
    assert isinstance(found.action, Forward)
    assert found.action.host == "x.org"
    assert found.action.mirrors == (Mirror(cluster="default/v2:80"),) * 2


def test_a_backend_may_redirect_its_share() -> None:
    answer = Redirect(host="x.org", port=80, status=301)
    gone, moved, rest = parts(
        backend("gone", 1, REDIRECT), backend("web", 1, REDIRECT, RESPONSE), backend("web", 2)
    )
    assert (gone.action, gone.match.share) == (DirectResponse(status=500), 250_000)
    assert (moved.action, moved.match.share, moved.response_headers) == (answer, 500_000, NO_B)
    assert rest.response_headers == HeaderEdit()
    assert isinstance(rest.action, Forward)


def test_all_weights_zero_is_500() -> None:
    (found,) = parts(backend("web", 0, MIRROR), backend("v2", 0))
    assert found.action == DirectResponse(status=500)


def test_rewrites_are_of_the_backend_or_the_rule() -> None:
    full: Object = {
        "type": "URLRewrite",
        "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/b"}},
    }
    (found,) = parts(backend("web", 1, MIRROR), filters=(full,))
    assert isinstance(found.action, Forward)
    assert (found.action.path, len(found.action.mirrors)) == (ReplaceFullPath("/b"), 1)


def test_a_backends_mirror_that_does_not_resolve_is_told() -> None:
    translation = translated(service(), http_route(rule(backendRefs=[backend("web", 1, LOST)])))
    (found,) = routes(translation)
    assert isinstance(found.action, Forward)
    assert found.action.mirrors == ()
    assert condition(translation, "r").status
    assert condition(translation, "r", "ResolvedRefs").reason == "BackendNotFound"


@pytest.mark.parametrize(
    ("own", "ofrule", "more"),
    [
        ((HOST,), (PREFIX,), {}),
        ((REDIRECT,), (PREFIX,), {}),
        ((CORS,), (CORS,), {}),
        ((REDIRECT, MIRROR), (), {}),
        ((REDIRECT,), (MIRROR,), {}),
        ((REDIRECT, RESPONSE), (RESPONSE,), {}),
        ((MIRROR,), (), {"sessionPersistence": {"sessionName": "s"}}),
    ],
    ids=["rewrites", "redirect and rewrite", "cors", "mirrored", "rule's mirror", "responses", "session"],
)
def test_what_cannot_be_done_together_is_refused(
    own: tuple[Object, ...], ofrule: tuple[Object, ...], more: Object
) -> None:
    backends = [backend("web", 1, *own), backend("web", 1)]
    route = http_route(rule("/a", backendRefs=backends, filters=list(ofrule)) | more)
    translation = translated(service(), service("v2", ip="10.96.0.2"), route)
    assert condition(translation, "r").reason == "IncompatibleFilters"
    assert problems(translation, "r")[0].startswith("spec.rules[0].")


@pytest.mark.parametrize("name", ["ExternalAuth", "ExtensionRef", "Future"])
def test_filters_that_are_not_known_are_refused_by_name(name: str) -> None:
    item: Object = {"type": name}
    if name == "ExternalAuth":
        item["externalAuth"] = {"protocol": "HTTP", "backendRef": {"name": "auth", "port": 80}}
    elif name == "ExtensionRef":
        item["extensionRef"] = {"group": "meshd.io", "kind": "RoutePolicy", "name": "p"}
    several: tuple[Object, ...] = ({"filters": [item]}, {"backendRefs": [backend("web", 1, item)]})
    for fields in several:
        translation = translated(service(), http_route(rule("/a") | fields))
        assert condition(translation, "r").reason == "UnsupportedValue"
        (problem,) = problems(translation, "r")
        assert problem.endswith(f"filters[0].type: {name} is not supported")
