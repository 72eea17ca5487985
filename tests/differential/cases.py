"""Route configs and requests to them, for every kind of match and action that the model has."""

from __future__ import annotations

from dataclasses import dataclass

from meshd.model.request_policies import StringMatch
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
from tests.differential.requests import Request

A, B, EMPTY, MISSING = "diff/a:80", "diff/b:80", "diff/empty:80", "diff/missing:80"
"""Clusters: two with a server each, one without endpoints, and one that does not exist."""


@dataclass(frozen=True, slots=True)
class Case:
    """A listener's routes and what is asked of them."""

    name: str
    virtual_hosts: tuple[VirtualHost, ...]
    requests: tuple[Request, ...]


def to(*clusters: str) -> Forward:
    """Forward to one cluster, or to several in equal shares."""
    return Forward(clusters=tuple(WeightedCluster(name=name) for name in clusters))


def is_(name: str, value: str) -> StringMatch:
    """A header or parameter that equals a value."""
    return StringMatch(name=name, value=value)


def like(name: str, pattern: str) -> StringMatch:
    """A header or parameter that matches a pattern."""
    return StringMatch(name=name, value=pattern, regex=True)


def routes(*several: Route) -> tuple[VirtualHost, ...]:
    """One virtual host for all names."""
    return (VirtualHost(name="all", routes=several),)


def _route(match: PathMatch | RouteMatch, action: Action, name: str = "r") -> Route:
    return Route(
        name=name, match=match if isinstance(match, RouteMatch) else RouteMatch(path=match), action=action
    )


def _paths(*targets: str) -> tuple[Request, ...]:
    return tuple(Request(target) for target in targets)


def _rewrite(match: PathMatch, rewrite: PathRewrite) -> tuple[VirtualHost, ...]:
    return routes(_route(match, Forward(clusters=(WeightedCluster(name=A),), path=rewrite)))


def _header(*pairs: tuple[str, str]) -> Request:
    return Request(headers=pairs)


_TARGETS = _paths(
    "/", "/a", "/a/", "/a/b", "/ab", "/A", "//a", "/a//b", "/a/../b", "/a%2Fb", "/%61", "/a;v=1", "/a?x=/b",
    "/x",
)  # fmt: skip

PATHS = (
    Case("exact", routes(_route(PathExact("/a"), to(A)), _route(PathExact("/a/b"), to(B))), _TARGETS),
    Case("prefix", routes(_route(PathPrefix("/a/b"), to(B)), _route(PathPrefix("/a"), to(A))), _TARGETS),
    Case(
        "regex", routes(_route(PathRegex("/a(/.*)?"), to(A)), _route(PathRegex("/[b-z]+"), to(B))), _TARGETS
    ),
    Case(
        "order",
        routes(
            _route(RouteMatch(path=PathPrefix("/a"), method="POST"), to(B)),
            _route(PathRegex("/a/.*"), to(A)),
            _route(PathExact("/a/b"), to(B)),
            _route(PathPrefix("/"), DirectResponse(status=404, body="none")),
        ),
        (*_TARGETS, Request("/a/b", method="POST"), Request("/a", method="POST", body=b"x")),
    ),
    Case("no routes", routes(), _paths("/")),
)

_NAMES = (
    "web",
    "WEB",
    "web:80",
    "web.example.com",
    "a.example.com",
    "a.b.example.com",
    ".example.com",
    "other",
)
HOSTS = (
    Case(
        "virtual hosts",
        (
            VirtualHost(
                name="exact", domains=("web", "web.example.com"), routes=(_route(PathPrefix("/"), to(A)),)
            ),
            VirtualHost(name="suffix", domains=("*.example.com",), routes=(_route(PathPrefix("/"), to(B)),)),
            VirtualHost(
                name="longer",
                domains=("*.b.example.com",),
                routes=(_route(PathPrefix("/"), DirectResponse(status=203)),),
            ),
            VirtualHost(
                name="prefix", domains=("a.*",), routes=(_route(PathPrefix("/"), DirectResponse(status=202)),)
            ),
        ),
        tuple(Request(host=name) for name in (*_NAMES, "a.org", "a.", "[::1]:80")),
    ),
    Case(
        "default host",
        (
            VirtualHost(name="web", domains=("web",), routes=(_route(PathPrefix("/"), to(A)),)),
            VirtualHost(name="any", domains=("*",), routes=(_route(PathPrefix("/"), to(B)),)),
        ),
        tuple(Request(host=name) for name in _NAMES),
    ),
)

MATCHES = (
    Case(
        "headers",
        routes(
            _route(RouteMatch(headers=(is_("x-a", "1"), is_("x-b", "2"))), to(A)),
            _route(RouteMatch(headers=(like("x-a", "[0-9]+"),)), to(B)),
            _route(RouteMatch(headers=(is_("x-a", ""),)), DirectResponse(status=202)),
            _route(RouteMatch(headers=(is_("x-l", "1,2"),)), DirectResponse(status=203)),
            _route(RouteMatch(headers=(is_("host", "other"),)), DirectResponse(status=205)),
        ),
        (
            Request(),
            Request(host="other"),
            _header(("X-A", "1")),
            _header(("x-a", "1"), ("X-B", "2")),
            _header(("x-a", "1"), ("X-B", "3")),
            _header(("x-a", "12")),
            _header(("x-a", "12x")),
            _header(("x-a", "")),
            _header(("x-a", " 1 ")),
            _header(("x-a", "1"), ("x-a", "1")),
            _header(("x-l", "1"), ("x-l", "2")),
            _header(("x-l", "1, 2")),
            _header(("x-l", "2"), ("x-l", "1")),
        ),
    ),
    Case(
        "query",
        routes(
            _route(RouteMatch(query=(is_("q", "1"), is_("r", "2"))), to(A)),
            _route(RouteMatch(query=(like("q", "a.*"),)), to(B)),
            _route(RouteMatch(query=(is_("q", ""),)), DirectResponse(status=202)),
            _route(RouteMatch(query=(is_("a b", "c"),)), DirectResponse(status=203)),
            _route(RouteMatch(query=(is_("q", "1/2"),)), DirectResponse(status=205)),
        ),
        _paths(
            "/", "/?", "/?q=1", "/?q=1&r=2", "/?r=2&q=1&q=3", "/?q=3&q=1&r=2", "/?q=abc", "/?q=ba", "/?q",
            "/?q=",
            "/?Q=1&r=2", "/?q=%31&r=2", "/?a%20b=c", "/?a+b=c", "/?q=1%2F2", "/?q=1/2", "/?&&q=1&&r=2",
            "/?q=1;r=2", "/?q=1=&r=2", "/?=1",
        ),
    ),
    Case(
        "method",
        routes(_route(RouteMatch(method="GET"), to(A)), _route(RouteMatch(method="PATCH"), to(B))),
        tuple(Request(method=m) for m in ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS")),
    ),
)  # fmt: skip

_BELOW = _paths("/foo", "/foo/", "/foo/bar", "/foo/bar?x=1", "/foobar", "/foo//bar", "/foo/bar/")
REWRITES = (
    Case("replace prefix", _rewrite(PathPrefix("/foo"), ReplacePrefix("/xyz")), _BELOW),
    Case("replace prefix by root", _rewrite(PathPrefix("/foo"), ReplacePrefix("/")), _BELOW),
    Case(
        "replace root",
        _rewrite(PathPrefix("/"), ReplacePrefix("/xyz")),
        (*_BELOW, Request("/"), Request("/?a")),
    ),
    Case("replace root by root", _rewrite(PathPrefix("/"), ReplacePrefix("/")), _BELOW),
    Case(
        "replace prefix with dots",
        _rewrite(PathPrefix("/f.o"), ReplacePrefix("/")),
        _paths("/f.o/a", "/foo/a"),
    ),
    Case("replace full path", _rewrite(PathPrefix("/foo"), ReplaceFullPath("/new")), _BELOW),
    Case(
        "replace full path of exact",
        _rewrite(PathExact("/foo"), ReplaceFullPath("/n\\1")),
        _paths("/foo?x=1"),
    ),
    Case(
        "host",
        routes(_route(PathPrefix("/"), Forward(clusters=(WeightedCluster(name=A),), host="new.example"))),
        (Request(), Request(host="web:8080")),
    ),
)


def _redirect(redirect: Redirect, match: PathMatch | None = None) -> tuple[VirtualHost, ...]:
    return routes(_route(match or PathPrefix("/foo"), redirect))


_FROM = (
    *(Request("/foo/bar?x=1", host=host) for host in ("web", "web:80", "web:8080", "[::1]:81")),
    Request("/foo"),
    Request("/foo/", method="HEAD"),
    Request("/foo", method="POST", body=b"some"),
)
REDIRECTS = tuple(
    Case(f"redirect {number}", _redirect(redirect), _FROM)
    for number, redirect in enumerate(
        (
            Redirect(status=301),
            Redirect(scheme="https"),
            Redirect(scheme="https", port=443),
            Redirect(port=8443, status=307),
            Redirect(port=80),
            Redirect(host="other.example", status=308),
            Redirect(scheme="https", host="other.example", port=8443, status=303),
            Redirect(path=ReplaceFullPath("/new")),
            Redirect(path=ReplacePrefix("/new")),
            Redirect(path=ReplacePrefix("/")),
            Redirect(scheme="https", path=ReplacePrefix("/new")),
        )
    )
)

_EDIT = HeaderEdit(
    set=(("x-set", "new"), ("user-agent", "mesh"), ("x-percent", "50%"), ("x-empty", "")),
    add=(("x-add", "new"), ("x-add", "newer"), ("x-multi", "three"), ("accept", "text/plain")),
    remove=("x-gone", "x-absent"),
)
_SENT = (
    ("User-Agent", "test"),
    ("X-Set", "old"),
    ("X-Set", "older"),
    ("X-Add", "old"),
    ("X-Gone", "1"),
    ("x-gone", "2"),
    ("Accept", "*/*"),
)
EDITS = (
    Case(
        "request headers",
        routes(Route(name="r", action=to(A), request_headers=_EDIT)),
        (Request(), Request(headers=_SENT)),
    ),
    Case(
        "response headers",
        routes(
            Route(
                name="r",
                action=to(A),
                response_headers=HeaderEdit(
                    set=(("server", "mesh"),),
                    add=(("x-multi", "three"), ("x-new", "1")),
                    remove=("x-backend",),
                ),
            )
        ),
        (Request(), Request(method="HEAD")),
    ),
    Case(
        "of weighted cluster and route",
        routes(
            Route(
                name="r",
                action=Forward(
                    clusters=(
                        WeightedCluster(
                            name=A,
                            request_headers=HeaderEdit(
                                set=(("x-who", "cluster"),), add=(("x-add", "cluster"),)
                            ),
                            response_headers=HeaderEdit(set=(("x-who", "cluster"),), remove=("x-multi",)),
                        ),
                        WeightedCluster(name=B, weight=0),
                    )
                ),
                request_headers=HeaderEdit(set=(("x-who", "route"),), add=(("x-add", "route"),)),
                response_headers=HeaderEdit(add=(("x-who", "route"), ("x-multi", "route"))),
            )
        ),
        (Request(), Request(headers=_SENT)),
    ),
    Case(
        "of a direct response",
        routes(
            Route(
                name="r",
                action=DirectResponse(status=418, body="tea"),
                response_headers=HeaderEdit(set=(("content-type", "text/x-tea"),), add=(("x-new", "1"),)),
            )
        ),
        (Request(), Request(method="HEAD")),
    ),
    Case(
        "of a redirect",
        routes(
            Route(name="r", action=Redirect(status=301), response_headers=HeaderEdit(add=(("x-new", "1"),)))
        ),
        (Request(),),
    ),
)

ANSWERS = (
    Case(
        "direct",
        routes(
            _route(PathExact("/empty"), DirectResponse(status=204)),
            _route(PathExact("/text"), DirectResponse(status=200, body="héllo")),
            _route(PathExact("/error"), DirectResponse(status=500, body="no")),
        ),
        (*_paths("/empty", "/text", "/error", "/else"), Request("/text", method="POST", body=b"posted")),
    ),
    Case(
        "missing clusters",
        routes(
            _route(PathExact("/503"), to(MISSING)),
            _route(
                PathExact("/500"),
                Forward(clusters=(WeightedCluster(name=MISSING),), missing_cluster_status=500),
            ),
        ),
        _paths("/503", "/500"),
    ),
    Case("no endpoints", routes(_route(PathPrefix("/"), to(EMPTY))), _paths("/")),
    Case(
        "zero weight",
        routes(
            _route(
                PathPrefix("/"),
                Forward(clusters=(WeightedCluster(name=A, weight=0), WeightedCluster(name=B, weight=7))),
            )
        ),
        _paths("/", "/a"),
    ),
)

TABLE = (*PATHS, *HOSTS, *MATCHES, *REWRITES, *REDIRECTS, *EDITS, *ANSWERS)
