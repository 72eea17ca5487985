"""meshd and a real Envoy take and refuse the same HTTP/1.1, and pass on the same of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from meshd.model.routes import Route
from tests.differential.cases import A, routes, to
from tests.differential.requests import Outcome, outcome
from tests.differential.world import World

_HOST = b"Host: web\r\n"


@dataclass(frozen=True, slots=True)
class Message:
    """What a client sends, byte for byte."""

    name: str
    data: bytes
    method: str = "GET"


def _get(fields: bytes = b"", target: bytes = b"/", version: bytes = b"1.1", host: bytes = _HOST) -> bytes:
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + host + fields + b"\r\n"


def _post(fields: bytes, body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\n" + _HOST + fields + b"\r\n" + body


_CHUNKED = b"Transfer-Encoding: chunked\r\n"

TAKEN = (
    Message("plain", _get()),
    Message("empty lines first", b"\r\n\r\n" + _get()),
    Message("absolute target", _get(target=b"http://other.example/p?q=1")),
    Message("absolute target without path", _get(target=b"http://other.example")),
    Message("options asterisk", b"OPTIONS * HTTP/1.1\r\n" + _HOST + b"\r\n", "OPTIONS"),
    Message("HTTP/1.0", _get(version=b"1.0")),
    Message("HTTP/1.0 keep-alive", _get(b"Connection: keep-alive\r\n", version=b"1.0")),
    Message("close", _get(b"Connection: close\r\n")),
    Message("length", _post(b"Content-Length: 5\r\n", b"hello")),
    Message("length 0", _post(b"Content-Length: 0\r\n", b"")),
    Message("chunks", _post(_CHUNKED, b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")),
    Message("chunk extensions", _post(_CHUNKED, b"5;a=b\r\nhello\r\n0\r\n\r\n")),
    Message("GET with a body", _get(b"Content-Length: 5\r\n") + b"hello"),
    Message("HEAD", b"HEAD / HTTP/1.1\r\n" + _HOST + b"\r\n", "HEAD"),
    Message("several fields of one name", _get(b"X-A: 1\r\nX-B: 2\r\nx-a: 3\r\n")),
    Message("cookies", _get(b"Cookie: a=1\r\nCookie: b=2\r\n")),
    Message("space around a value", _get(b"X-A: \t 1 2 \t\r\n")),
    Message("empty value", _get(b"X-A:\r\n")),
    Message("Latin-1 value", _get(b"X-A: \xe9\r\n")),
    Message("hop by hop", _get(b"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nX-A: 1\r\n")),
    Message("TE trailers", _get(b"TE: trailers\r\nConnection: TE\r\n")),
    Message("forwarded before", _get(b"X-Forwarded-For: 1.2.3.4\r\nVia: 1.0 old\r\n")),
    Message("request id before", _get(b"X-Request-Id: mine\r\n")),
    Message("long target", _get(target=b"/" + b"a" * 8000)),
)

REFUSED = (
    Message("no host", _get(host=b"")),
    Message("two lengths", _post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!")),
    Message("length and chunks", _post(b"Content-Length: 5\r\n" + _CHUNKED, b"0\r\n\r\n")),
    Message("length not a number", _post(b"Content-Length: x\r\n", b"")),
    Message("negative length", _post(b"Content-Length: -1\r\n", b"")),
    Message("chunk size not a number", _post(_CHUNKED, b"z\r\n")),
    Message("space before colon", _get(b"X-A : 1\r\n")),
    Message("NUL in a value", _get(b"X-A: a\x00b\r\n")),
    Message("no colon", _get(b"X-A\r\n")),
    Message("empty name", _get(b": 1\r\n")),
    Message("fragment", _get(target=b"/a#b")),
    Message("relative target", _get(target=b"a")),
    Message("not HTTP", b"hello\r\n\r\n"),
    Message("head too large", _get(b"X-A: " + b"a" * 70_000 + b"\r\n")),
)


DIFFERENT = (
    # Neither passes on a method that its parser does not know; 501 is what RFC 9110, 15.6.2, says to that.
    (Message("unknown method", b"BREW / HTTP/1.1\r\n" + _HOST + b"\r\n"), 501, 400),
    # Envoy without upgrade_configs for CONNECT looks for a route that takes it; we have no such thing at all.
    (Message("CONNECT", b"CONNECT web:80 HTTP/1.1\r\n" + _HOST + b"\r\n", "CONNECT"), 501, 404),
    # RFC 9112, 5.2: a server MUST refuse folding or replace it by spaces. Envoy replaces.
    (Message("folded line", _get(b"X-A: 1\r\n 2\r\n")), 400, 200),
    # RFC 9112, 2.2: a bare CR MUST make the element invalid or be replaced by a space. Envoy drops it.
    (Message("bare CR in a value", _get(b"X-A: a\rb\r\n")), 400, 200),
)
"""Messages that the two treat differently on purpose, with our status and Envoy's."""


@pytest.fixture(scope="module")
def port(both: World) -> int:
    """A listener with one route."""
    return both.serve([routes(Route(name="all", action=to(A)))])[0]


def _ask(both: World, port: int, message: Message) -> dict[str, Outcome]:
    return {
        proxy: outcome(both.send(proxy, port, message.data, message.method)) for proxy in ("meshd", "Envoy")
    }


@pytest.mark.parametrize("message", TAKEN, ids=lambda message: message.name)
def test_taken_alike(both: World, port: int, message: Message) -> None:
    outcomes = _ask(both, port, message)
    assert outcomes["meshd"] == outcomes["Envoy"]


@pytest.mark.parametrize("message", REFUSED, ids=lambda message: message.name)
def test_refused_alike(both: World, port: int, message: Message) -> None:
    outcomes = _ask(both, port, message)
    assert outcomes["meshd"].status == outcomes["Envoy"].status


@pytest.mark.parametrize(
    ("message", "ours", "envoys"), DIFFERENT, ids=lambda value: getattr(value, "name", "")
)
def test_known_differences(both: World, port: int, message: Message, ours: int, envoys: int) -> None:
    outcomes = _ask(both, port, message)
    assert (outcomes["meshd"].status, outcomes["Envoy"].status) == (ours, envoys)


def test_expect_continue_is_left_to_the_server(both: World, port: int) -> None:
    # Envoy says 100 itself and drops the field (it has proxy_100_continue off); with us the server decides.
    message = Message("expect continue", _post(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"hello"))
    outcomes = _ask(both, port, message)
    assert [outcome.status for outcome in outcomes.values()] == [200, 200]
    seen = {proxy: outcome.upstream["headers"] for proxy, outcome in outcomes.items()}
    assert isinstance(seen["meshd"], dict)
    assert seen["meshd"].pop("expect") == "100-continue"
    assert seen["meshd"] == seen["Envoy"]
