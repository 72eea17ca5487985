"""An HTTP/2 server's end of a connection, for scripts of tests.support.http_bed.Server."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TypeVar

from proxy.http2.events import Data, Event, Field, Headers
from proxy.http2.session import Limits, Session

E = TypeVar("E", bound=Event)
OK: tuple[Field, ...] = ((b":status", b"200"),)


class Request:
    """What has come of one."""

    def __init__(self, stream: int, fields: list[Field]) -> None:
        self.stream = stream
        self.fields = fields
        self.body = b""
        self.ended = False
        self.trailers: list[Field] = []

    def __getitem__(self, name: bytes) -> bytes:
        return dict(self.fields)[name]


class Http2Server:
    """The server's end. Reading raises EOFError when the proxy has closed."""

    def __init__(self, sock: socket.socket, limits: Limits | None = None, consumes: bool = True) -> None:
        """``consumes``: what has come may come again; else it fills the stream's window."""
        self.sock = sock
        self.session = Session(True, limits or Limits(), lambda: 0.0)
        self.requests: dict[int, Request] = {}
        self._consumes = consumes
        self._events: list[Event] = []
        self.flush()

    def flush(self) -> None:
        """Send what is to be sent."""
        while data := self.session.take():
            self.sock.sendall(data)

    def _read(self) -> None:
        self.flush()
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the proxy has closed")
        self.session.feed(data)
        for event in self.session.events():
            self._events.append(event)
            if isinstance(event, Headers):
                request = self.requests.get(event.stream)
                if request is None:
                    request = self.requests[event.stream] = Request(event.stream, event.fields)
                else:
                    request.trailers = event.fields
                request.ended = event.ended
            elif isinstance(event, Data):
                request = self.requests[event.stream]
                request.body += event.data
                request.ended = event.ended
                if self._consumes:
                    self.session.consume(event.stream, len(event.data))
        self.flush()

    def wait_for(self, kind: type[E]) -> E:
        """The next event of a kind; those before it are passed over."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, kind):
                    return event
            self._read()

    def request(self) -> Request:
        """The next one whose head has come."""
        while True:
            event = self.wait_for(Headers)
            request = self.requests[event.stream]
            if request.fields is event.fields:
                return request

    def whole_request(self) -> Request:
        """The next one, when all of it has come."""
        request = self.request()
        while not request.ended:
            self._read()
        return request

    def respond(
        self,
        stream: int,
        body: bytes = b"hello",
        fields: Sequence[Field] = OK,
        trailers: Sequence[Field] = (),
    ) -> None:
        """A whole response."""
        self.session.respond(stream, fields, not body and not trailers)
        if body or trailers:
            self.session.finish(stream, body, trailers)
        self.flush()

    def serve(self) -> None:
        """Answer all requests that come, to the connection's end."""
        while True:
            self.respond(self.whole_request().stream)

    def drop(self) -> None:
        """Read until the proxy has closed."""
        while self.sock.recv(65536):
            pass


def serving(sock: socket.socket) -> None:
    """A script: answers all requests."""
    Http2Server(sock).serve()
