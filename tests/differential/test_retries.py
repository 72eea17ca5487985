"""A request is sent as often by meshd as by a real Envoy, with the same body, and ends alike."""

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
_TIMED = {
    "time": Retry(attempts=2, reset=True, per_try_timeout=0.3),
    "one": Retry(attempts=0, per_try_timeout=0.3),
}
# They say that they hang up: else another try might take the connection just before.
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbusy"
_OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODY = b"0123456789" * 1000
_TOO_LONG = bytes(1024 * 1024 + 1)


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
        *(_on(name, SCRIPTED, retry) for name, retry in (_POLICIES | _TIMED).items()),
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
            requests = {proxy: len(bodies) for proxy, bodies in servers.items()}
        assert requests["meshd"] == requests["Envoy"], (first, second)
        assert statuses["meshd"] == statuses["Envoy"], (first, second)


@pytest.mark.parametrize(("path", "status"), [("refusing", 503), ("one-try", 504), ("tries", 504)])
def test_servers_that_do_not_answer(both: World, port: int, path: str, status: int) -> None:
    outcomes = both.ask(port, Request(f"/{path}"))
    assert {proxy: outcome.status for proxy, outcome in outcomes.items()} == {
        "meshd": status,
        "Envoy": status,
    }


@pytest.mark.parametrize(
    ("path", "answers", "status", "tries"),
    [
        pytest.param("/status", (_BUSY, _BUSY, _OK), 200, 3, id="a status, until it is another"),
        pytest.param("/status", (_BUSY,), 503, 3, id="a status to the end"),
        pytest.param("/status", (_BUSY.replace(b"503", b"500"), _OK), 500, 1, id="another status"),
        pytest.param(
            "/status",
            (_BUSY.replace(b"\r\nContent", b"\r\nx-envoy-ratelimited: true\r\nContent"), _OK),
            503,
            1,
            id="a rate limit",
        ),
        pytest.param("/status", (_INTERIM + _BUSY, _OK), 503, 1, id="an interim answer"),
        pytest.param("/reset", (b"", b"", _OK), 200, 3, id="closes, until it answers"),
        pytest.param("/reset", (b"hello\r\n\r\n", _OK), 200, 2, id="not HTTP"),
        pytest.param("/reset", (b"HTTP/1.1 200", _OK), 200, 2, id="half a head"),
        pytest.param("/reset", (_OK[:-1], _OK), 0, 1, id="half a body"),
        pytest.param("/reset", (_BUSY, _OK), 503, 1, id="a status where none is asked for"),
        pytest.param("/time", (None, _OK), 200, 2, id="silence, until it answers"),
        pytest.param("/time", (None,), 504, 3, id="silence to the end"),
        pytest.param("/one", (None,), 504, 1, id="silence where nothing is tried again"),
    ],
)
def test_as_often_and_with_the_same_end(
    both: World, port: int, path: str, answers: tuple[bytes | None, ...], status: int, tries: int
) -> None:
    request = b"POST %b HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        len(_BODY),
        _BODY,
    )
    with both.scripted(*answers) as bodies:
        statuses = {proxy: both.send(proxy, port, request, "POST").status for proxy in both.proxies}
    assert statuses == dict.fromkeys(both.proxies, status)
    assert bodies == dict.fromkeys(both.proxies, [_BODY] * tries)


@pytest.mark.parametrize(("size", "tries"), [(len(_TOO_LONG), 1), (len(_TOO_LONG) // 2, 2)])
def test_a_body_is_kept_up_to_the_same_length(both: World, port: int, size: int, tries: int) -> None:
    request = b"POST /status HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n%b" % (size, _TOO_LONG[:size])
    with both.scripted(_BUSY, _OK) as bodies:
        statuses = {proxy: both.send(proxy, port, request, "POST").status for proxy in both.proxies}
    assert statuses == dict.fromkeys(both.proxies, 200 if tries > 1 else 503)
    assert {proxy: [len(body) for body in each] for proxy, each in bodies.items()} == dict.fromkeys(
        both.proxies, [size] * tries
    )


def test_of_a_server_that_went_both_say_the_same(both: World, port: int) -> None:
    request = b"POST /reset HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n"
    with both.scripted(b"") as bodies:
        statuses = {proxy: both.send(proxy, port, request, "POST").status for proxy in both.proxies}
    assert statuses == dict.fromkeys(both.proxies, 503)
    assert bodies == dict.fromkeys(both.proxies, [b""] * 3)
