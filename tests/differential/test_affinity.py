"""Requests that belong together go to the same endpoint, by meshd as by a real Envoy."""

from __future__ import annotations

import pytest

from meshd.model.request_policies import (
    HashCookie,
    HashHeader,
    HashKey,
    HashQuery,
    Session,
    SessionCookie,
    SessionHeader,
)
from meshd.model.routes import Forward, PathExact, Route, RouteMatch, WeightedCluster
from tests.differential.cases import A, B, routes
from tests.differential.requests import Request
from tests.differential.world import EITHER, MAGLEV, RING, World

_KEYS: tuple[HashKey, ...] = (HashHeader(name="x-user"), HashCookie(name="user"), HashQuery(name="user"))


def _on(name: str, cluster: str, keys: tuple[HashKey, ...] = (), session: Session | None = None) -> Route:
    forward = Forward(clusters=(WeightedCluster(name=cluster),), hash_keys=keys, session=session)
    return Route(name=name, match=RouteMatch(path=PathExact(f"/{name}")), action=forward)


@pytest.fixture(scope="module")
def port(both: World) -> int:
    """A listener with a path for each way of belonging together."""
    return both.serve(
        [
            routes(
                _on("ring", RING, _KEYS),
                _on("maglev", MAGLEV, _KEYS),
                _on("cookie", EITHER, session=SessionCookie(name="s")),
                _on("header", EITHER, session=SessionHeader(name="x-session")),
            )
        ]
    )[0]


@pytest.mark.parametrize("path", ["/ring", "/maglev"])
def test_hashes(both: World, port: int, path: str) -> None:
    found = set()
    for n in range(12):
        for request in (
            Request(path, headers=(("X-User", f"u{n}"), ("Cookie", "user=other"))),
            Request(path, headers=(("Cookie", f"a=b; user=u{n}"),)),
            Request(f"{path}?user=u{n}", headers=()),
        ):
            outcomes = both.ask(port, request)
            assert outcomes["meshd"] == outcomes["Envoy"], request
            found.add(outcomes["meshd"].server)
    assert found == {A, B}


@pytest.mark.parametrize(
    ("path", "says", "said_by"), [("/cookie", "set-cookie", "Cookie"), ("/header",) + ("x-session",) * 2]
)
def test_sessions(both: World, port: int, path: str, says: str, said_by: str) -> None:
    for first in both.ask(port, Request(path)).values():
        session = first.headers[says].partition(";")[0]
        # Whoever began the session, either keeps it.
        for _ in range(3):
            for outcome in both.ask(port, Request(path, headers=((said_by, session),))).values():
                assert outcome.server == first.server
