"""How often a request is sent, and what the client gets of it: the same by meshd and by a real Envoy."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable

import pytest

from meshd.model.request_policies import Retry
from meshd.model.routes import Forward, PathExact, Route, RouteMatch, WeightedCluster
from tests.differential.cases import routes
from tests.differential.world import SCRIPTED, World
from tests.support.http_bed import Script, receive_head

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_SILENCE = b"silence"
"""Stands for an answer that does not come."""
_BODY = b"0123456789" * 1000
_TOO_LONG = bytes(1024 * 1024 + 1)

_ON_STATUS = Retry(attempts=2, statuses=(503,), backoff=0.001)
_ON_RESET = Retry(attempts=2, reset=True, backoff=0.001)
_IN_TIME = Retry(attempts=2, reset=True, per_try_timeout=0.3, backoff=0.001)
_ONE_TRY_IN_TIME = Retry(attempts=0, per_try_timeout=0.3)
_POLICIES = {"/status": _ON_STATUS, "/reset": _ON_RESET, "/time": _IN_TIME, "/one": _ONE_TRY_IN_TIME}


@pytest.fixture(scope="module")
def port(both: World) -> int:
    """A listener with a path for each policy."""
    forwards = {
        path: Forward(clusters=(WeightedCluster(name=SCRIPTED),), retry=retry)
        for path, retry in _POLICIES.items()
    }
    return both.serve(
        [
            routes(
                *(
                    Route(name=path, match=RouteMatch(path=PathExact(path)), action=forward)
                    for path, forward in forwards.items()
                )
            )
        ]
    )[0]


def _answering(answers: tuple[bytes, ...], bodies: list[bytes]) -> Script:
    """Gives one request a connection the next of ``answers``, at last always the last; keeps their bodies."""
    numbers = itertools.count()

    def script(sock: socket.socket) -> None:
        head, _, body = receive_head(sock).partition(b"\r\n\r\n")
        found = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
        while len(body) < int(found or b"0"):
            piece = sock.recv(65536)
            if not piece:
                return
            body += piece
        bodies.append(body)
        answer = answers[min(next(numbers), len(answers) - 1)]
        if answer == _SILENCE:
            sock.recv(1)
        else:
            sock.sendall(answer)

    return script


def _scripts(answers: tuple[bytes, ...], bodies: dict[str, list[bytes]]) -> Callable[[str], Script]:
    return lambda proxy: _answering(answers, bodies.setdefault(proxy, []))


@pytest.mark.parametrize(
    ("path", "answers", "status", "tries"),
    [
        pytest.param("/status", (_BUSY, _BUSY, _OK), 200, 3, id="a status, until it is another"),
        pytest.param("/status", (_BUSY,), 503, 3, id="a status to the end"),
        pytest.param("/status", (_BUSY.replace(b"503", b"500"), _OK), 500, 1, id="another status"),
        pytest.param(
            "/status",
            (_BUSY.replace(b"\r\nC", b"\r\nx-envoy-ratelimited: true\r\nC"), _OK),
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
        pytest.param("/time", (_SILENCE, _OK), 200, 2, id="silence, until it answers"),
        pytest.param("/time", (_SILENCE,), 504, 3, id="silence to the end"),
        pytest.param("/one", (_SILENCE,), 504, 1, id="silence where nothing is tried again"),
    ],
)
def test_as_often_and_with_the_same_end(
    both: World, port: int, path: str, answers: tuple[bytes, ...], status: int, tries: int
) -> None:
    bodies: dict[str, list[bytes]] = {}
    # Not one that may be sent twice: on a used connection meshd would replay it besides.
    request = b"POST %b HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        len(_BODY),
        _BODY,
    )
    with both.serving(_scripts(answers, bodies)):
        statuses = {proxy: both.send(proxy, port, request, "POST").status for proxy in both.proxies}
    assert statuses == dict.fromkeys(both.proxies, status)
    assert bodies == dict.fromkeys(both.proxies, [_BODY] * tries)


@pytest.mark.parametrize(("size", "tries"), [(len(_TOO_LONG), 1), (len(_TOO_LONG) // 2, 2)])
def test_a_body_is_kept_up_to_the_same_length(both: World, port: int, size: int, tries: int) -> None:
    bodies: dict[str, list[bytes]] = {}
    request = b"POST /status HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n%b" % (size, _TOO_LONG[:size])
    with both.serving(_scripts((_BUSY, _OK), bodies)):
        statuses = {proxy: both.send(proxy, port, request, "POST").status for proxy in both.proxies}
    assert statuses == dict.fromkeys(both.proxies, 200 if tries > 1 else 503)
    assert {proxy: [len(body) for body in each] for proxy, each in bodies.items()} == dict.fromkeys(
        both.proxies, [size] * tries
    )


def test_to_a_server_that_went_both_say_so_in_their_own_words(both: World, port: int) -> None:
    """As without other tries (test_failures): to Envoy a connection that ends is as one that never was."""
    bodies: dict[str, list[bytes]] = {}
    request = b"POST /reset HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n"
    with both.serving(_scripts((b"",), bodies)):
        statuses = {proxy: both.send(proxy, port, request, "POST").status for proxy in both.proxies}
    assert statuses == {"meshd": 502, "Envoy": 503}
    assert bodies == dict.fromkeys(both.proxies, [b""] * 3)
