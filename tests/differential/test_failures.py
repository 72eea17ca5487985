"""What a client gets when the server fails: the same from meshd as from a real Envoy, but for one thing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meshd.model.routes import Action, Forward, PathExact, Route, RouteMatch, WeightedCluster
from tests.differential.cases import routes, to
from tests.differential.requests import Request
from tests.differential.world import REFUSING, SCRIPTED, SILENT, World

_OK = b"HTTP/1.1 200 OK\r\n"


def _on(path: str, action: Action) -> Route:
    return Route(name=path, match=RouteMatch(path=PathExact(path)), action=action)


@pytest.fixture(scope="module")
def port(both: World) -> int:
    """A listener with a path for each kind of failure."""
    impatient = Forward(clusters=(WeightedCluster(name=SILENT),), timeout=0.3)
    hosts = routes(_on("/refusing", to(REFUSING)), _on("/silent", impatient), _on("/scripted", to(SCRIPTED)))
    return both.serve([hosts])[0]


def _statuses(both: World, port: int, request: Request) -> tuple[int, int]:
    outcomes = both.ask(port, request)
    return outcomes["meshd"].status, outcomes["Envoy"].status


def test_connection_refused(both: World, port: int) -> None:
    assert _statuses(both, port, Request("/refusing")) == (503, 503)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_route_timeout(both: World, port: int, method: str) -> None:
    assert _statuses(both, port, Request("/silent", method)) == (504, 504)


@pytest.fixture
def answering(both: World, answer: bytes) -> Iterator[None]:
    """Servers that answer with ``answer``."""
    with both.scripted(answer):
        yield


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(b"", 503, id="hangs up"),
        pytest.param(b"HTTP/1.1 200", 502, id="hangs up within the head"),
        pytest.param(b"hello\r\n\r\n", 502, id="not HTTP"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", 502, id="bad status"),
        pytest.param(_OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502, id="two lengths"),
        pytest.param(
            _OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            502,
            id="length and chunks",
        ),
        pytest.param(_OK + b"X-A : 1\r\n\r\n", 502, id="space before colon"),
        # The response has begun: all that is left is to end the connection, and the client sees it cut short.
        pytest.param(_OK + b"Content-Length: 100\r\n\r\nshort", 0, id="hangs up within the body"),
        pytest.param(_OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", 0, id="hangs up within a chunk"),
        pytest.param(_OK + b"Transfer-Encoding: chunked\r\n\r\nz\r\n", 0, id="bad chunk"),
        pytest.param(_OK + b"\r\nuntil the end", 200, id="until close"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, id="HTTP/1.0"),
        pytest.param(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, id="204 with a length"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, id="304"),
        pytest.param(b"HTTP/1.1 599 What\r\nContent-Length: 0\r\n\r\n", 599, id="unknown status"),
    ],
)
def test_bad_servers(both: World, port: int, status: int) -> None:
    assert _statuses(both, port, Request("/scripted")) == (status, status)


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize("answer", [_OK + b"Content-Length: 100\r\n\r\nshort"])
def test_a_cut_body_is_cut_for_the_client(both: World, port: int) -> None:
    for proxy in ("meshd", "Envoy"):
        data = both.send_raw(proxy, port, Request("/scripted").encode())
        assert data.startswith(_OK), proxy
        assert data.endswith(b"\r\n\r\nshort"), proxy
