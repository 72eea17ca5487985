"""HTTP/1.1 and HTTP/2, at either end: meshd and a real Envoy carry a message over alike."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import h11
import pytest

from meshd.model.clusters import HttpVersion
from meshd.model.routes import Route
from tests.differential.cases import routes, to
from tests.differential.world import VERSIONS, World
from tests.support.bilingual_server import ANSWERS, SEEN_FIELD, Saw, saw
from tests.support.http2_client import Http2Client

_NOT_COMPARED = frozenset(
    (b"date", b"x-request-id", b"connection", b"transfer-encoding", b"keep-alive", b"te", SEEN_FIELD)
)
"""Each hop's own, or random. Both proxies say TE anew, Envoy only where it is asked to take trailers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, whatever it is sent in."""

    method: str
    path: str
    body: bytes = b""
    sized: bool = True
    trailers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Got:
    """Its answer, as far as the proxies must agree."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes
    trailers: list[tuple[bytes, bytes]]
    seen: Saw | None


REQUESTS = [
    asked
    for path in (each.decode() for each in ANSWERS)
    for asked in (
        Asked("GET", path),
        Asked("HEAD", path),
        Asked("POST", path, b"hello"),
        Asked("PUT", path, b"hello", sized=False),
        Asked("POST", path, b"hello", sized=False, trailers=((b"x-end", b"2"),)),
    )
]


def _comparable(fields: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    return {
        name: value
        for name, value in fields
        if name not in _NOT_COMPARED
        and not name.startswith(b"x-envoy-")
        and (name, value) != (b"content-length", b"0")
    }


def _got(
    status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes, trailers: Sequence[tuple[bytes, bytes]]
) -> Got:
    found = dict(fields).get(SEEN_FIELD)
    seen = None
    if found is not None:
        seen = saw(found)
        pairs = [(name.encode(), value.encode()) for name, value in seen.fields]
        kept = _comparable(pairs)
        seen.fields[:] = sorted([name.decode(), value.decode()] for name, value in kept.items())
    return Got(status, _comparable(fields), body, list(trailers), seen)


def _ask_http1(sock: socket.socket, asked: Asked) -> Got:
    client = h11.Connection(h11.CLIENT)
    fields = [("Host", "web"), ("User-Agent", "test")]
    if asked.body:
        fields.append(("Content-Length", "5") if asked.sized else ("Transfer-Encoding", "chunked"))
    with sock:
        sock.sendall(client.send(h11.Request(method=asked.method, target=asked.path, headers=fields)) or b"")
        if asked.body:
            sock.sendall(client.send(h11.Data(data=asked.body)) or b"")
        sock.sendall(client.send(h11.EndOfMessage(headers=list(asked.trailers))) or b"")
        response: h11.Response | None = None
        body = b""
        while True:
            event = client.next_event()
            if event is h11.NEED_DATA:
                client.receive_data(sock.recv(65536))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None
                return _got(response.status_code, list(response.headers), body, list(event.headers))


def _ask_http2(sock: socket.socket, asked: Asked) -> Got:
    with Http2Client(sock) as client:
        fields = client.head(asked.method.encode(), asked.path.encode(), (b"user-agent", b"test"))
        if asked.body and asked.sized:
            fields.append((b"content-length", b"5"))
        stream = client.request(fields, ended=not asked.body)
        if asked.body:
            client.session.finish(stream, asked.body, asked.trailers)
            client.flush()
        answer = client.answer(stream)
        return _got(answer.status, tuple(answer.final.items()), answer.body, answer.trailers)


CLIENTS = {"HTTP/1.1": _ask_http1, "HTTP/2": _ask_http2}


@pytest.mark.parametrize("cluster", VERSIONS)
@pytest.mark.parametrize("client", CLIENTS)
def test_messages(both: World, cluster: str, client: str) -> None:
    (port,) = both.serve([routes(Route(name="r", action=to(cluster)))])
    spoken = {HttpVersion.SAME: client, HttpVersion.HTTP1: "HTTP/1.1", HttpVersion.HTTP2: "HTTP/2"}
    for asked in REQUESTS:
        mine, envoys = (CLIENTS[client](both.connect(proxy, port), asked) for proxy in both.proxies)
        assert mine == envoys, asked
        assert mine.seen is not None
        assert mine.seen.version == spoken[VERSIONS[cluster]]
