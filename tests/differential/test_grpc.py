"""What shows of gRPC in heads: the same from meshd as from a real Envoy, here over HTTP/1.1."""

from __future__ import annotations

import pytest

from meshd.model.grpc import STATUSES
from meshd.model.request_policies import GRPC_CONDITIONS, MILLION, Fault, RateLimit, Retry, TokenBucket
from meshd.model.routes import (
    Action,
    DirectResponse,
    Forward,
    PathExact,
    PathPrefix,
    Redirect,
    Route,
    RouteMatch,
    WeightedCluster,
)
from tests.differential.cases import EMPTY, MISSING, A, B, routes, to
from tests.differential.requests import Outcome, Request
from tests.differential.world import REFUSING, SCRIPTED, SILENT, World

_GRPC = (("Content-Type", "application/grpc"),)
_TEXT = 'no "tea" today: 100 % \N{LATIN SMALL LETTER U WITH DIAERESIS}\n'
_UNAVAILABLE, _DEADLINE_EXCEEDED = "14", "4"


def _on(name: str, action: Action, **fields: object) -> Route:
    match = RouteMatch(path=PathExact(f"/{name}"), grpc=name == "grpc")
    return Route(name=name, match=match, action=action, **fields)  # type: ignore[arg-type]


def _to(cluster: str, **fields: object) -> Forward:
    return Forward(clusters=(WeightedCluster(name=cluster),), **fields)  # type: ignore[arg-type]


def _retry(*statuses: int) -> Retry:
    return Retry(attempts=2, connect_failure=False, grpc_statuses=statuses, backoff=0.001, max_backoff=0.002)


@pytest.fixture(scope="module")
def port(both: World) -> int:
    """A listener with a path for each thing that is asked."""
    once = RateLimit(all=TokenBucket(tokens=1, interval=3600.0, burst=1))
    given = (
        _on("grpc", to(A)),
        Route(name="not-grpc", match=RouteMatch(path=PathPrefix("/grpc")), action=to(B)),
        *(
            _on(f"direct-{status}", DirectResponse(status=status))
            for status in (200, 400, 401, 403, 418, 429)
        ),
        *(_on(f"direct-{status}", DirectResponse(status=status, body=_TEXT)) for status in (404, 500, 503)),
        _on("redirect", Redirect(host="other")),
        _on("abort", to(A), fault=Fault(abort=503, abort_share=MILLION)),
        _on("limited", to(A), rate_limit=once),
        _on("missing", _to(MISSING, missing_cluster_status=503)),
        _on("empty", to(EMPTY)),
        _on("refusing", to(REFUSING)),
        _on("slow", _to(SILENT, timeout=0.2)),
        _on("deadline", _to(SILENT, deadline_limit=0.0)),
        _on("short", _to(SILENT, deadline_limit=0.1)),
        _on("kept", _to(A, deadline_limit=0.0)),
        _on("not-kept", _to(SILENT, timeout=0.3)),
        *(_on(f"retry-{status}", _to(SCRIPTED, retry=_retry(status))) for status in GRPC_CONDITIONS),
        _on("retry", _to(SCRIPTED, retry=_retry(*GRPC_CONDITIONS))),
    )
    return both.serve([routes(*given)])[0]


def _asked(both: World, port: int, path: str, *headers: tuple[str, str]) -> Outcome:
    """The answer to a call, which is the same of both proxies but for what explains a failure."""
    outcomes = both.ask(port, Request(f"/{path}", "POST", headers=(*_GRPC, *headers), body=b"\0\0\0\0\0"))
    for found in outcomes.values():
        if path.partition("-")[0] not in ("direct", "kept", "redirect"):
            found.headers.pop("grpc-message", None)
            found.headers.pop("date", None)
    assert outcomes["meshd"] == outcomes["Envoy"]
    return outcomes["meshd"]


@pytest.mark.parametrize(
    ("content_type", "server"),
    [
        ("application/grpc", A),
        ("application/grpc+proto", A),
        ("application/grpc+", A),
        ("application/grpc-web", B),
        ("application/grpc-web+proto", B),
        ("application/grpc; charset=utf-8", B),
        ("application/grpcx", B),
        ("Application/gRPC", B),
        ("application/json", B),
    ],
)
def test_which_requests_are_grpc(both: World, port: int, content_type: str, server: str) -> None:
    outcomes = both.ask(port, Request("/grpc", "POST", headers=(("Content-Type", content_type),), body=b"x"))
    assert {each.server for each in outcomes.values()} == {server}
    assert outcomes["meshd"] == outcomes["Envoy"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nowhere", "12"),
        ("direct-200", "2"),
        ("direct-400", "13"),
        ("direct-401", "16"),
        ("direct-403", "7"),
        ("direct-404", "12"),
        ("direct-418", "2"),
        ("direct-429", "14"),
        ("direct-500", "2"),
        ("direct-503", "14"),
        ("redirect", "2"),
        ("abort", "14"),
        ("missing", "14"),
        ("empty", "14"),
        ("refusing", "14"),
        ("slow", "14"),
    ],
)
def test_answers_of_the_proxys_own(both: World, port: int, path: str, status: str) -> None:
    found = _asked(both, port, path)
    assert (found.status, found.headers["content-type"], found.body) == (200, "application/grpc", b"")
    assert found.headers["grpc-status"] == status


def test_a_rate_limit(both: World, port: int) -> None:
    assert _asked(both, port, "limited").server == A
    assert _asked(both, port, "limited").headers["grpc-status"] == _UNAVAILABLE


@pytest.mark.parametrize("asked", GRPC_CONDITIONS)
def test_a_status_in_the_head_is_tried_again_where_the_policy_says(
    both: World, port: int, asked: int
) -> None:
    for status in range(len(STATUSES)):
        answer = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nGrpc-Status: {status}\r\nConnection: close\r\n\r\n"
        with both.scripted(answer.encode()) as servers:
            found = _asked(both, port, f"retry-{asked}")
            tries = {proxy: len(bodies) for proxy, bodies in servers.items()}
        assert found.headers["grpc-status"] == str(status)
        assert set(tries.values()) == {3 if status == asked else 1}, status


@pytest.mark.parametrize("status", ["", "x", "99", "014"])
def test_what_is_no_status(both: World, port: int, status: str) -> None:
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nGrpc-Status: {status}\r\nConnection: close\r\n\r\n"
    with both.scripted(answer.encode()) as servers:
        _asked(both, port, "retry")
        tries = {proxy: len(bodies) for proxy, bodies in servers.items()}
    assert tries["meshd"] == tries["Envoy"]


@pytest.mark.parametrize(
    ("path", "timeout", "status"),
    [
        ("deadline", "100m", _DEADLINE_EXCEEDED),
        ("deadline", "100000u", _DEADLINE_EXCEEDED),
        ("deadline", "99999999n", _DEADLINE_EXCEEDED),
        ("short", "1H", _DEADLINE_EXCEEDED),
        ("not-kept", "1m", _UNAVAILABLE),
    ],
)
def test_deadlines(both: World, port: int, path: str, timeout: str, status: str) -> None:
    assert _asked(both, port, path, ("grpc-timeout", timeout)).headers["grpc-status"] == status


def test_a_deadline_is_passed_on_less_what_was_used(both: World, port: int) -> None:
    """Envoy passes on what it was told."""
    outcomes = both.ask(port, Request("/kept", "POST", headers=(*_GRPC, ("grpc-timeout", "60S")), body=b"x"))
    seen = {}
    for proxy, found in outcomes.items():
        headers = found.upstream["headers"]
        assert isinstance(headers, dict)
        seen[proxy] = headers["grpc-timeout"]
    assert seen["Envoy"] == "60000m"
    assert seen["meshd"].endswith("u")
    assert 0 < int(seen["meshd"][:-1]) < 60_000_000
