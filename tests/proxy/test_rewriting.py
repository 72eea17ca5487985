"""Path rewrites and Locations: the Gateway API's tables and Envoy's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from meshd.model.routes import (
    Forward,
    PathExact,
    PathPrefix,
    PathRegex,
    Redirect,
    ReplaceFullPath,
    ReplacePrefix,
    Route,
    RouteConfig,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
)
from proxy.requests.rewriting import location, rewrite_path, split_port
from proxy.routing.decision import ForwardTo, RequestHead, RouteTable


@pytest.mark.parametrize(
    ("path", "prefix", "replacement", "result"),
    [
        # The table of HTTPPathModifier.replacePrefixMatch (Gateway API v1).
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        # The prefix of all paths.
        ("/", "/", "/xyz", "/xyz/"),
        ("/bar", "/", "/xyz", "/xyz/bar"),
        ("/bar", "/", "/", "/bar"),
    ],
)
def test_replace_prefix(path: str, prefix: str, replacement: str, result: str) -> None:
    assert rewrite_path(path, PathPrefix(prefix), ReplacePrefix(replacement)) == result


def test_replace_prefix_of_another_kind_of_match_replaces_the_whole_path() -> None:
    assert rewrite_path("/a/b", PathExact("/a/b"), ReplacePrefix("/c")) == "/c"
    assert rewrite_path("/a/b", PathRegex("/a.*"), ReplacePrefix("/c")) == "/c"


@given(st.text(alphabet="/ab", max_size=6), st.text(alphabet="/ab", max_size=6))
def test_a_rewritten_path_is_rooted(rest: str, replacement: str) -> None:
    path = "/foo/" + rest
    assert rewrite_path(path, PathPrefix("/foo"), ReplacePrefix("/" + replacement)).startswith("/")


def test_the_query_stays() -> None:
    forward = Forward(clusters=(WeightedCluster(name="c"),), path=ReplaceFullPath("/new"))
    route = Route(name="r", match=RouteMatch(path=PathPrefix("/old")), action=forward)
    table = RouteTable(RouteConfig(name="r", virtual_hosts=(VirtualHost(name="v", routes=(route,)),)))
    decision = table.decide(RequestHead("GET", "/old/x", "a=%2F", "web", CIMultiDict()), 0.0)
    assert isinstance(decision, ForwardTo)
    assert decision.target == "/new?a=%2F"


@pytest.mark.parametrize(
    ("host", "split"),
    [
        ("web", ("web", "")),
        ("web:80", ("web", "80")),
        ("[::1]", ("[::1]", "")),
        ("[::1]:80", ("[::1]", "80")),
        ("", ("", "")),
        ("web:", ("web", "")),
    ],
)
def test_split_port(host: str, split: tuple[str, str]) -> None:
    assert split_port(host) == split


@pytest.mark.parametrize(
    ("redirect", "host", "result"),
    [
        (Redirect(), "web", "http://web/a/b?q=1"),
        (Redirect(), "web:8080", "http://web:8080/a/b?q=1"),
        (Redirect(host="other"), "web:8080", "http://other/a/b?q=1"),
        (Redirect(port=8443), "web:8080", "http://web:8443/a/b?q=1"),
        (Redirect(port=80), "web:8080", "http://web/a/b?q=1"),
        (Redirect(scheme="https"), "web", "https://web/a/b?q=1"),
        (Redirect(scheme="https"), "web:80", "https://web/a/b?q=1"),
        (Redirect(scheme="https"), "web:8080", "https://web:8080/a/b?q=1"),
        (Redirect(scheme="https", port=443), "web:8080", "https://web/a/b?q=1"),
        (Redirect(scheme="https", port=80), "web", "https://web:80/a/b?q=1"),
        (Redirect(scheme="https", host="h", port=8443), "web", "https://h:8443/a/b?q=1"),
        (Redirect(path=ReplaceFullPath("/new")), "web", "http://web/new?q=1"),
        (Redirect(path=ReplaceFullPath("/new?r=2")), "web", "http://web/new?r=2"),
        (Redirect(path=ReplacePrefix("/c")), "web", "http://web/c/b?q=1"),
        (Redirect(path=ReplacePrefix("/")), "web", "http://web/b?q=1"),
        (Redirect(), "[::1]:8080", "http://[::1]:8080/a/b?q=1"),
        (Redirect(port=81), "[::1]:8080", "http://[::1]:81/a/b?q=1"),
    ],
)
def test_location(redirect: Redirect, host: str, result: str) -> None:
    request = RequestHead("GET", "/a/b", "q=1", host, CIMultiDict())
    assert location(request, PathPrefix("/a"), redirect) == result
