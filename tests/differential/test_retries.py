"""A request is sent again as often by meshd as by a real Envoy, and ends alike."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from meshd.model.request_policies import Retry
from meshd.model.routes import Forward, PathExact, Route, RouteMatch, WeightedCluster
from tests.differential.cases import routes
from tests.differential.requests import Request
from tests.differential.world import REFUSING, SCRIPTED, SILENT, World

_POLICIES: dict[str, Retry | None] = {
    "none": None,
    "connect": Retry(attempts=2),
    "never": Retry(attempts=0, statuses=(503,)),
    "status": Retry(attempts=2, statuses=(503,)),
    "statuses": Retry(attempts=3, statuses=(500, 503), connect_failure=False),
    "reset": Retry(attempts=2, reset=True),
    "all": Retry(attempts=3, reset=True, statuses=tuple(range(500, 600))),
}


def _answer(status: int) -> bytes:
    return f"HTTP/1.1 {status} Any\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi".encode()


_ANSWERS = {"200": _answer(200), "500": _answer(500), "503": _answer(503), "gone": b""}


def _on(name: str, cluster: str, retry: Retry | None) -> Route:
    if retry is not None:
        retry = msgspec.structs.replace(retry, backoff=0.001, max_backoff=0.002)
    forward = Forward(clusters=(WeightedCluster(name=cluster),), retry=retry)
    return Route(name=name, match=RouteMatch(path=PathExact(f"/{name}")), action=forward)


@pytest.fixture(scope="module")
def port(both: World) -> int:
    """A listener with a path for each policy."""
    tries = Retry(attempts=0, connect_failure=False, per_try_timeout=0.2)
    given = (
        *(_on(name, SCRIPTED, retry) for name, retry in _POLICIES.items()),
        _on("refusing", REFUSING, _POLICIES["all"]),
        _on("one-try", SILENT, tries),
        _on("tries", SILENT, Retry(attempts=1, reset=True, per_try_timeout=0.2)),
    )
    return both.serve([routes(*given)])[0]


@pytest.mark.parametrize("policy", _POLICIES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_tries(both: World, port: int, policy: str, method: str) -> None:
    request = Request(f"/{policy}", method, body=b"x" * 10 if method == "POST" else b"")
    for first, second in itertools.product(_ANSWERS, repeat=2):
        with both.scripted(_ANSWERS[first], _ANSWERS[second]) as servers:
            statuses = {proxy: outcome.status for proxy, outcome in both.ask(port, request).items()}
            requests = {proxy: server.requests for proxy, server in servers.items()}
        if statuses["meshd"] == 502:
            # To Envoy a connection that ends is as one that never was. We say whose doing it is.
            statuses["meshd"] = 503
        assert requests["meshd"] == requests["Envoy"], (first, second)
        assert statuses["meshd"] == statuses["Envoy"], (first, second)


@pytest.mark.parametrize(("path", "status"), [("refusing", 503), ("one-try", 504), ("tries", 504)])
def test_servers_that_do_not_answer(both: World, port: int, path: str, status: int) -> None:
    outcomes = both.ask(port, Request(f"/{path}"))
    assert {proxy: outcome.status for proxy, outcome in outcomes.items()} == {
        "meshd": status,
        "Envoy": status,
    }
