"""Mirrors, CORS, retries and sessions of HTTPRoutes, as the model has them."""

from __future__ import annotations

import pytest

from meshd.gateway.retries import CONNECT_RETRY
from meshd.model.regex import Regex
from meshd.model.request_policies import (
    Cors,
    Mirror,
    Retry,
    SessionCookie,
    SessionHeader,
    StringMatch,
)
from meshd.model.routes import Forward, Route
from tests.gateway.manifests import Object, condition, http_route, problems, routes, rule, service, translated

V2 = {"name": "v2", "port": 80}


def one(*rules: Object) -> Route:
    (found,) = routes(translated(service(), service("v2", ip="10.96.0.2"), http_route(*rules)))
    return found


def forward(**fields: object) -> Forward:
    action = one({**rule(), **fields}).action
    assert isinstance(action, Forward)
    return action


def mirror(ref: Object = V2, **fields: object) -> Object:
    return {"type": "RequestMirror", "requestMirror": {"backendRef": ref, **fields}}


def test_mirrors_and_their_shares() -> None:
    filters = [
        mirror(),
        mirror(percent=7),
        mirror(fraction={"numerator": 1, "denominator": 3}),
        mirror(fraction={"numerator": 5}),
        mirror(percent=0),
    ]
    shares = [1_000_000, 70_000, 333_333, 50_000, 0]
    wanted = tuple(Mirror(cluster="default/v2:80", share=share) for share in shares)
    assert forward(filters=filters).mirrors == wanted


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ({"name": "nowhere", "port": 80}, "BackendNotFound"),
        ({"name": "v2", "port": 81}, "BackendNotFound"),
        ({"name": "v2", "port": 80, "namespace": "other"}, "RefNotPermitted"),
        ({"name": "v2", "group": "example.org", "kind": "Thing"}, "InvalidKind"),
    ],
)
def test_a_mirror_that_does_not_resolve_is_left_out_and_told(ref: Object, reason: str) -> None:
    v2 = service("v2", ip="10.96.0.2")
    translation = translated(service(), v2, http_route(rule(filters=[mirror(ref), mirror()])))
    (found,) = routes(translation)
    assert isinstance(found.action, Forward)
    assert found.action.mirrors == (Mirror(cluster="default/v2:80"),)
    assert condition(translation, "r").status
    resolved = condition(translation, "r", "ResolvedRefs")
    assert (resolved.status, resolved.reason) == (False, reason)
    assert problems(translation, "r") == [f"spec.rules: {resolved.message}; nothing is mirrored there"]


def test_what_is_redirected_cannot_be_mirrored() -> None:
    filters = [{"type": "RequestRedirect", "requestRedirect": {"port": 81}}, mirror()]
    translation = translated(service(), http_route(rule(filters=filters, backendRefs=[])))
    assert condition(translation, "r").reason == "IncompatibleFilters"


def cors(**fields: object) -> Cors | None:
    return one(rule(filters=[{"type": "CORS", "cors": fields}])).cors


def test_cors() -> None:
    assert cors() == Cors(origins=(), max_age=5)
    assert cors(
        allowOrigins=["https://a.org"],
        allowMethods=["GET", "PUT"],
        allowHeaders=["X-A"],
        exposeHeaders=["X-B"],
        allowCredentials=True,
        maxAge=60,
    ) == Cors(
        origins=(StringMatch(name="origin", value="https://a.org"),),
        methods=("GET", "PUT"),
        headers=("x-a",),
        expose=("x-b",),
        max_age=60,
        credentials=True,
    )


@pytest.mark.parametrize(
    ("allowed", "good", "bad"),
    [
        ("https://a.org", ["https://a.org"], ["http://a.org", "https://a.org:8443", "https://b.a.org"]),
        ("https://a.org:443", ["https://a.org"], ["https://a.org:444"]),
        ("http://A.org:8080", ["http://a.org:8080"], ["http://a.org"]),
        (
            "https://*.a.org",
            ["https://b.a.org", "https://c.b.a.org"],
            ["https://a.org", "https://.a.org", "https://ba.org", "https://b.a.org:1", "https://x/.a.org"],
        ),
        ("http://*:8080", ["http://a.org:8080", "http://[::1]:8080"], ["http://a.org", "https://a.org:8080"]),
        ("http://*", ["http://a", "http://a.b.c"], ["http://a:81", "https://a", "http://"]),
    ],
)
def test_origins(allowed: str, good: list[str], bad: list[str]) -> None:
    found = cors(allowOrigins=[allowed])
    assert found is not None
    (origin,) = found.origins

    def taken(value: str) -> bool:
        return Regex(origin.value).fullmatch(value) if origin.regex else origin.value == value

    assert [each for each in good if not taken(each)] == []
    assert [each for each in bad if taken(each)] == []


def test_any_origin() -> None:
    found = cors(allowOrigins=["*"])
    assert found is not None
    assert found.origins == (StringMatch(name="origin", value="*"),)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, CONNECT_RETRY),
        (
            {"timeouts": {"backendRequest": "2s"}},
            Retry(attempts=3, backoff=0.05, max_backoff=0.5, per_try_timeout=2.0),
        ),
        ({"retry": {}}, Retry(reset=True)),
        (
            {"retry": {"codes": [500, 503], "attempts": 5}, "timeouts": {"backendRequest": "100ms"}},
            Retry(attempts=5, reset=True, statuses=(500, 503), per_try_timeout=0.1),
        ),
        (
            {"retry": {"backoff": "200ms"}},
            Retry(reset=True, backoff=0.2, max_backoff=2.0, least_backoff=0.2),
        ),
        ({"retry": {"backoff": "0s"}}, Retry(reset=True, backoff=0.0, max_backoff=0.0)),
    ],
)
def test_retries(fields: dict[str, object], wanted: Retry) -> None:
    assert forward(**fields).retry == wanted


@pytest.mark.parametrize(
    ("kind", "path", "cookie_path"),
    [
        ("PathPrefix", "/", "/"),
        ("PathPrefix", "/a/", "/a"),
        ("Exact", "/a/b", "/a/b"),
        ("RegularExpression", "/p1/p2/.*/p3", "/p1/p2"),
        ("RegularExpression", "/p1/p2", "/p1/p2"),
        ("RegularExpression", "/p1/?x", "/"),
        ("RegularExpression", "/a|/b", "/"),
        ("RegularExpression", ".*", "/"),
    ],
)
def test_a_cookie_is_for_the_path_of_its_match(kind: str, path: str, cookie_path: str) -> None:
    action = one(rule(path, kind, sessionPersistence={"sessionName": "s"})).action
    assert isinstance(action, Forward)
    assert action.session == SessionCookie(name="s", path=cookie_path)


def test_sessions() -> None:
    permanent = {"absoluteTimeout": "5m", "cookieConfig": {"lifetimeType": "Permanent"}, "sessionName": "s"}
    assert forward(sessionPersistence=permanent).session == SessionCookie(name="s", ttl=300.0)
    header = {"type": "Header", "sessionName": "X-Session"}
    assert forward(sessionPersistence=header).session == SessionHeader(name="x-session")
    # Without a name each rule has its own.
    rules = [rule("/a", sessionPersistence={}), rule("/b", sessionPersistence={})]
    names = set()
    for found in routes(translated(service(), http_route(*rules))):
        assert isinstance(found.action, Forward)
        assert isinstance(found.action.session, SessionCookie)
        names.add(found.action.session.name)
    assert len(names) == 2


def test_a_session_and_the_services_own_affinity_exclude_each_other() -> None:
    sticky = service(sessionAffinity="ClientIP")
    translation = translated(sticky, http_route(rule(sessionPersistence={})))
    assert condition(translation, "r").reason == "UnsupportedValue"
    assert "sessionAffinity ClientIP of Service default/web" in condition(translation, "r").message
