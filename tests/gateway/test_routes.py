"""HTTPRoutes to routes: precedence, merging, actions, references, statuses."""

from __future__ import annotations

import itertools
import random

import pytest

from meshd.gateway.retries import CONNECT_RETRY
from meshd.model.request_policies import StringMatch
from meshd.model.routes import (
    DirectResponse,
    Forward,
    HeaderEdit,
    PathExact,
    PathPrefix,
    PathRegex,
    Redirect,
    ReplaceFullPath,
    ReplacePrefix,
    WeightedCluster,
)
from tests.gateway.manifests import (
    PARENT,
    Object,
    condition,
    http_route,
    problems,
    routes,
    rule,
    service,
    status,
    translated,
)

HEADER = {"name": "X-A", "value": "1"}
QUERY = {"name": "q", "value": "1"}
FRAMING = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["Content-Length"]}}


def test_precedence_over_all_routes_of_a_port() -> None:
    ordered = [
        ("exact", rule("/a/b", "Exact")),
        ("regex", rule("/a/.*", "RegularExpression")),
        ("longest", rule("/a/b/c")),
        ("method+header", rule("/a/b", method="GET", headers=[HEADER])),
        ("method", rule("/a/b", method="GET")),
        ("headers", rule("/a/b", headers=[HEADER, {"name": "b", "value": "1"}])),
        ("header+query", rule("/a/b/", headers=[HEADER], queryParams=[QUERY])),
        ("header", rule("/a/b", headers=[HEADER])),
        ("query", rule("/a/b", queryParams=[QUERY])),
        ("prefix", rule("/a/b")),
        ("all", rule("/")),
    ]
    several = [http_route(one, name=f"z{i}") for i, (_, one) in enumerate(ordered)]
    random.Random(1).shuffle(several)
    found = [r.name for r in routes(translated(service(), *several))]
    assert found == [f"default/z{i}/0" for i in range(len(ordered))]
    # The same as rules of one route.
    rules = [one | {"name": name} for name, one in ordered]
    random.Random(2).shuffle(rules)
    found = [r.name for r in routes(translated(service(), http_route(*rules)))]
    assert found == [f"default/r/{name}" for name, _ in ordered]


def test_ties_go_to_the_oldest_then_by_name_then_to_the_first_rule() -> None:
    several = [
        http_route(rule(), rule(), name="b"),
        http_route(rule(), name="a"),
        http_route(rule(), name="young", created="2024-01-02T00:00:00Z"),
        http_route(rule(), name="z-old", created="2024-01-01T00:00:00Z"),
    ]
    wanted = ["default/z-old/0", "default/young/0", "default/a/0", "default/b/0", "default/b/1"]
    for order in itertools.permutations(several):
        assert [r.name for r in routes(translated(service(), *order))] == wanted


def test_matches() -> None:
    (found,) = routes(
        translated(
            service(),
            http_route(
                rule(
                    "/a/",
                    method="GET",
                    headers=[HEADER, {"name": "x-a", "value": "ignored"}],
                    queryParams=[{"name": "Q", "value": "[0-9]+", "type": "RegularExpression"}],
                )
            ),
        )
    )
    assert found.match.path == PathPrefix("/a")
    assert found.match.method == "GET"
    assert found.match.headers == (StringMatch(name="x-a", value="1"),)
    assert found.match.query == (StringMatch(name="Q", value="[0-9]+", regex=True),)
    kinds: list[Object] = [rule("/x", "Exact"), rule("/x.*", "RegularExpression"), {"backendRefs": []}]
    found_paths = [r.match.path for r in routes(translated(service(), http_route(*kinds)))]
    assert found_paths == [PathExact("/x"), PathRegex("/x.*"), PathPrefix("/")]


def action(*objects: Object) -> object:
    (found,) = routes(translated(service(), service("v2", ip="10.96.0.2"), *objects))
    return found.action


def test_weights() -> None:
    backends = [
        {"name": "web", "port": 80, "weight": 9},
        {"name": "v2", "port": 80},
        {"name": "v2", "port": 80, "weight": 0},
    ]
    assert action(http_route(rule(backendRefs=backends))) == Forward(
        clusters=(
            WeightedCluster(name="default/web:80", weight=9),
            WeightedCluster(name="default/v2:80"),
            WeightedCluster(name="default/v2:80", weight=0),
        ),
        retry=CONNECT_RETRY,
        missing_cluster_status=500,
    )
    assert action(http_route(rule(backendRefs=[{"name": "v2", "port": 80, "weight": 7}]))) == Forward(
        clusters=(WeightedCluster(name="default/v2:80"),), retry=CONNECT_RETRY, missing_cluster_status=500
    )


@pytest.mark.parametrize(
    "backends",
    [
        [],
        [{"name": "web", "port": 80, "weight": 0}],
        [{"name": "web", "port": 80, "weight": 0}, {"name": "nowhere", "port": 80, "weight": 0}],
    ],
    ids=["none", "weight 0", "all weights 0"],
)
def test_no_backend_is_500(backends: list[Object]) -> None:
    assert action(http_route(rule(backendRefs=backends))) == DirectResponse(status=500)


def test_filters() -> None:
    modifier = {"set": [HEADER, {"name": "x-A", "value": "2"}], "add": [HEADER], "remove": ["X-B", "x-b"]}
    edit = HeaderEdit(set=(("x-a", "1"),), add=(("x-a", "1"),), remove=("x-b",))
    request = {"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}
    response = {"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier}
    rewrite = {
        "type": "URLRewrite",
        "urlRewrite": {
            "hostname": "x.org",
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/y/"},
        },
    }
    backend = {"name": "web", "port": 80, "filters": [response]}
    route = http_route(
        rule("/a", filters=[request, rewrite], backendRefs=[backend], timeouts={"request": "1m1s500ms"})
    )
    (found,) = routes(translated(service(), route))
    assert (found.request_headers, found.response_headers) == (edit, HeaderEdit())
    assert found.action == Forward(
        clusters=(WeightedCluster(name="default/web:80", response_headers=edit),),
        timeout=61.5,
        host="x.org",
        path=ReplacePrefix("/y"),
        retry=CONNECT_RETRY,
        missing_cluster_status=500,
    )


@pytest.mark.parametrize(
    ("timeouts", "seconds"),
    [
        ({}, 0.0),
        ({"request": "0s"}, 0.0),
        ({"request": "3s", "backendRequest": "2s"}, 3.0),
        ({"request": "1h"}, 3600.0),
    ],
)
def test_timeouts(timeouts: Object, seconds: float) -> None:
    found = action(http_route(rule(timeouts=timeouts)))
    assert isinstance(found, Forward)
    assert found.timeout == seconds


@pytest.mark.parametrize(
    ("redirect", "wanted"),
    [
        ({"scheme": "https"}, Redirect(scheme="https", port=443)),
        ({"scheme": "https", "port": 8443}, Redirect(scheme="https", port=8443)),
        ({"hostname": "x.org"}, Redirect(host="x.org", port=80)),
        ({"statusCode": 301}, Redirect(status=301)),
        (
            {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/y"}},
            Redirect(path=ReplaceFullPath("/y")),
        ),
        (
            {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": ""}},
            Redirect(path=ReplacePrefix("/")),
        ),
    ],
)
def test_redirects(redirect: Object, wanted: Redirect) -> None:
    filters = [{"type": "RequestRedirect", "requestRedirect": redirect}]
    assert action(http_route(rule("/a", filters=filters, backendRefs=[]))) == wanted


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"filters": [{"type": "FutureFilter"}]}, "spec.rules[1].filters[0].type"),
        (
            {"sessionPersistence": {"sessionName": "a b"}},
            "spec.rules[1].sessionPersistence.sessionName",
        ),
        (
            {"sessionPersistence": {"absoluteTimeout": "1h"}},
            "spec.rules[1].sessionPersistence.absoluteTimeout",
        ),
        (
            {"filters": [FRAMING]},
            "spec.rules[1].filters[0].requestHeaderModifier",
        ),
        (
            {"filters": [{"type": "URLRewrite", "urlRewrite": {"path": {"type": "Future"}}}]},
            "spec.rules[1].filters.urlRewrite.path.type",
        ),
        (
            {
                "backendRefs": [],
                "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 300}}],
            },
            "spec.rules[1].filters.requestRedirect.statusCode",
        ),
    ],
)
def test_unsupported_values_refuse_the_route_and_leave_the_last_accepted_in_force(
    fields: Object, where: str
) -> None:
    good = translated(service(), http_route(rule("/old")))
    bad = http_route(rule("/new"), rule("/x") | fields)
    alone = translated(service(), bad)
    refused = condition(alone, "r")
    assert (refused.status, refused.reason) == (False, "UnsupportedValue")
    assert problems(alone, "r")[0].startswith(f"{where}: ")
    assert alone.snapshot.route_configs == {}
    after = translated(service(), bad, last=good.accepted)
    assert routes(after) == routes(good)
    assert condition(after, "r") == refused
    assert problems(after, "r")[1] == ": its last accepted version stays in force"
    # And it is still in force after the next change, and gone with the object.
    assert routes(translated(service(), bad, last=after.accepted)) == routes(good)
    assert translated(service(), last=after.accepted).snapshot.route_configs == {}


def grant(name: str | None = None, namespace: str = "other") -> Object:
    to = {"group": "", "kind": "Service"} | ({"name": name} if name else {})
    source = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "g", "namespace": namespace},
        "spec": {"from": [source], "to": [to]},
    }


OTHER = service("db", ip="10.96.0.9", namespace="other")
OUTSIDE = service("out", ip="", type="ExternalName")
SECURE = service("tls", {"port": 80, "appProtocol": "https"}, ip="10.96.0.3")


@pytest.mark.parametrize(
    ("ref", "extra", "reason"),
    [
        ({"name": "nowhere", "port": 80}, (), "BackendNotFound"),
        ({"name": "web", "port": 81}, (), "BackendNotFound"),
        ({"name": "db", "port": 80, "namespace": "other"}, (OTHER,), "RefNotPermitted"),
        ({"name": "db", "port": 80, "namespace": "other"}, (OTHER, grant("x")), "RefNotPermitted"),
        ({"name": "db", "port": 80, "namespace": "other"}, (OTHER, grant("db")), ""),
        ({"name": "db", "port": 80, "namespace": "other"}, (OTHER, grant()), ""),
        (
            {"name": "db", "port": 80, "namespace": "other"},
            (OTHER, grant(namespace="third")),
            "RefNotPermitted",
        ),
        ({"name": "x", "group": "example.com", "kind": "Thing"}, (), "InvalidKind"),
        ({"name": "tls", "port": 80}, (SECURE,), "UnsupportedProtocol"),
        ({"name": "out", "port": 80}, (OUTSIDE,), "BackendNotFound"),
    ],
)
def test_references(ref: Object, extra: tuple[Object, ...], reason: str) -> None:
    backends = [{"name": "web", "port": 80, "weight": 3}, ref]
    translation = translated(service(), http_route(rule(backendRefs=backends)), *extra)
    accepted, resolved = condition(translation, "r"), condition(translation, "r", "ResolvedRefs")
    assert (accepted.status, accepted.reason) == (True, "Accepted")
    assert (resolved.status, resolved.reason) == (not reason, reason or "ResolvedRefs")
    (found,) = routes(translation)
    assert isinstance(found.action, Forward)
    share = found.action.clusters[1].name
    # The share of what does not resolve is kept, and answered 500, for there is no such cluster.
    assert (share in translation.snapshot.clusters) == (not reason)
    assert (found.action.missing_cluster_status, len(found.action.clusters)) == (500, 2)


TWO = service("web", {"port": 80, "name": "a"}, {"port": 81, "name": "b"}, {"port": 82, "name": "tcp-c"})


@pytest.mark.parametrize(
    ("ref", "ports", "reason"),
    [
        ({}, {80, 81}, "Accepted"),
        ({"port": 81}, {81}, "Accepted"),
        ({"sectionName": "a"}, {80}, "Accepted"),
        ({"sectionName": "a", "port": 81}, set(), "NoMatchingParent"),
        ({"port": 82}, set(), "NoMatchingParent"),
        ({"port": 99}, set(), "NoMatchingParent"),
        ({"name": "nowhere"}, set(), "NoMatchingParent"),
        ({"namespace": "other"}, set(), "NoMatchingParent"),
    ],
)
def test_parents(ref: Object, ports: set[int], reason: str) -> None:
    translation = translated(TWO, http_route(rule(), parentRefs=[{**PARENT, **ref}]))
    assert condition(translation, "r").reason == reason
    attached = {
        int(name.rpartition(":")[2])
        for name, config in translation.snapshot.route_configs.items()
        if config.virtual_hosts[0].routes[0].name != "default"
    }
    assert attached == ports


def test_headless_and_external_parents_are_refused() -> None:
    for web in (service(ip="None"), service(ip="", type="ExternalName")):
        assert condition(translated(web, http_route(rule())), "r").reason == "NoMatchingParent"


def test_one_route_on_two_parents_has_two_statuses() -> None:
    parents = [PARENT, {**PARENT, "name": "v2"}, {"name": "gateway"}]
    translation = translated(service(), http_route(rule(), parentRefs=parents))
    assert [p.parent for p in status(translation, "r").parents] == [
        "Service default/web",
        "Service default/v2",
    ]
    assert condition(translation, "r", parent=0).status
    assert condition(translation, "r", parent=1).reason == "NoMatchingParent"


def test_routes_of_gateways_are_none_of_our_business() -> None:
    translation = translated(service(), http_route(rule(), parentRefs=[{"name": "gateway"}]))
    assert translation.status.objects == ()
    assert translation.snapshot.route_configs == {}


def test_hostnames_are_not_silently_ignored() -> None:
    translation = translated(service(), http_route(rule(), hostnames=["example.org"]))
    assert condition(translation, "r").status
    assert problems(translation, "r")[0].startswith("spec.hostnames: hostnames mean nothing")
