"""A server that speaks HTTP/1.1 and HTTP/2 on one port, and says in a field what it saw of a request."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import h11

from proxy.http2.events import Field
from proxy.http2.session import PREFACE
from tests.support.http2_server import Http2Server

SEEN_FIELD = b"x-seen"


@dataclass(frozen=True, slots=True)
class Saw:
    """A request as it arrived. Names in lower case."""

    version: str
    method: str
    target: str
    host: str
    fields: list[list[str]]
    body: str
    trailers: list[list[str]]

    def field(self) -> Field:
        return SEEN_FIELD, base64.b64encode(json.dumps(asdict(self)).encode())


def saw(value: bytes) -> Saw:
    """The reverse of ``Saw.field``."""
    return Saw(**json.loads(base64.b64decode(value)))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path is answered with."""

    status: int = 200
    fields: tuple[Field, ...] = ()
    body: bytes = b""
    trailers: tuple[Field, ...] = ()


ANSWERS = {
    b"/sized": Answer(fields=((b"content-length", b"5"),), body=b"hello"),
    b"/unsized": Answer(body=b"hello"),
    b"/empty": Answer(),
    b"/204": Answer(204),
    b"/304": Answer(304, ((b"etag", b'"1"'),)),
    b"/404": Answer(404, ((b"content-length", b"2"),), b"no"),
    b"/trailers": Answer(body=b"hello", trailers=((b"x-sum", b"1"),)),
}


def bilingual(sock: socket.socket) -> None:
    """A script of tests.support.http_bed.Server."""
    if sock.recv(3, socket.MSG_PEEK | socket.MSG_WAITALL) == PREFACE[:3]:
        _http2(sock)
    else:
        _http1(sock)


def _text(fields: Sequence[Field]) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in fields]


def _http2(sock: socket.socket) -> None:
    peer = Http2Server(sock)
    while True:
        request = peer.whole_request()
        fields = [field for field in request.fields if not field[0].startswith(b":")]
        seen = Saw(
            "HTTP/2",
            request[b":method"].decode(),
            request[b":path"].decode("latin-1"),
            request[b":authority"].decode("latin-1"),
            _text(fields),
            request.body.decode("latin-1"),
            _text(request.trailers),
        )
        answer = ANSWERS[request[b":path"]]
        head = ((b":status", b"%d" % answer.status), *answer.fields, seen.field())
        body, trailers = (b"", ()) if request[b":method"] == b"HEAD" else (answer.body, answer.trailers)
        peer.respond(request.stream, body, head, trailers)


def _http1(sock: socket.socket) -> None:
    connection = h11.Connection(h11.SERVER)
    request: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = sock.recv(65536)
            connection.receive_data(data)
            if not data:
                return
        elif isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            sock.sendall(_answer_http1(connection, request, body, list(event.headers)))
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()
        elif isinstance(event, h11.ConnectionClosed):
            return


def _answer_http1(
    connection: h11.Connection, request: h11.Request, body: bytes, trailers: list[Field]
) -> bytes:
    fields = list(request.headers)
    seen = Saw(
        "HTTP/1.1",
        request.method.decode(),
        request.target.decode("latin-1"),
        next(value for name, value in fields if name == b"host").decode("latin-1"),
        _text([field for field in fields if field[0] != b"host"]),
        body.decode("latin-1"),
        _text(trailers),
    )
    answer = ANSWERS[request.target]
    head = [*answer.fields, seen.field()]
    data: bytes | None = connection.send(h11.Response(status_code=answer.status, headers=head))
    out = data or b""
    is_head = request.method == b"HEAD"
    if answer.body and not is_head:
        out += connection.send(h11.Data(data=answer.body)) or b""
    trailers = [] if is_head else list(answer.trailers)
    return out + (connection.send(h11.EndOfMessage(headers=trailers)) or b"")
