"""One stream of a connection to an HTTP/2 server: the Server of one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.http1.body import Body, ChunkedBody, OpenBody, body_of
from proxy.http1.field_values import Field
from proxy.http1.response_parser import Response, ResponseError
from proxy.http2 import codes
from proxy.http2.events import Headers
from proxy.http2.response_fields import trailers as lower_trailers
from proxy.http2.session import Session
from proxy.runtime import Runtime
from proxy.upstream import failures, loss
from proxy.upstream import http2_fields as request_fields
from proxy.upstream.loss import Kind, Loss
from proxy.upstream.outgoing import Outgoing
from proxy.upstream.server import Keeper, User


class Carrier(Protocol):
    """The connection that a stream is of."""

    runtime: Runtime
    session: Session

    @property
    def takes_tunnels(self) -> bool:
        """Whether the server has said that it takes extended CONNECT (RFC 8441)."""

    def begin(self, stream: ServerStream, fields: list[Field], ended: bool) -> None:
        """Send the head of the stream's request; ``ended``: that is all of it."""

    def forget(self, stream: ServerStream) -> None:
        """It gets no request."""

    def flush_soon(self) -> None:
        """Something is to be sent."""

    def local_address(self) -> str:
        """``address:port`` of our end."""


class ServerStream:
    """From when it is taken of its pool until its connection's session has closed it.

    What is consumed of the answer opens the stream's window again: so a client that does not keep up holds
    this stream alone.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_held",
        "_is_answered",
        "_request",
        "_tunnel",
        "_unconsumed",
        "_user",
        "is_answering",
        "is_untouched",
        "number",
        "reused",
        "write_paused",
    )

    def __init__(self, connection: Carrier, reused: bool) -> None:
        """``reused``: the connection has carried another request before."""
        self._connection = connection
        self._user: User | None = None
        """None: whoever had it has left."""
        self._request: Outgoing
        self._body: Body | None = None
        """The request's, as its client frames it; None: it has none."""
        self._tunnel = False
        """It is an extended CONNECT (RFC 8441)."""
        self._is_answered = False
        """The final response's head has come."""
        self._held = False
        self._unconsumed = 0
        self.number = 0
        """0: the request has not been sent, or the session has closed the stream."""
        self.is_answering = False
        self.is_untouched = False
        """The server has not had the request, or says that it does nothing with it."""
        self.reused = reused
        self.write_paused = False

    # -- the request ---------------------------------------------------------------------------------

    def send(self, user: User, request: Outgoing, body: bytes) -> None:
        """Server: send the request's head and what has come of its body."""
        connection = self._connection
        self._user = user
        self._request = request
        self._tunnel = request_fields.is_tunnel(request) if request.asked.upgrade else False
        if self._tunnel:
            if not connection.takes_tunnels:
                connection.forget(self)
                connection.runtime.loop.call_soon(self._lose, _no_tunnels())
                return
            self._body = OpenBody()
            fields = request_fields.tunnel_head(request)
        else:
            self._body = body_of(request.asked.length)
            fields = request_fields.head(request)
        connection.begin(self, fields, self._body is None)
        if body:
            self.write(body)

    def write(self, data: bytes) -> None:
        """Server: more of the body."""
        body = self._body
        if body is None or not self.number:
            return
        payload: list[bytes] = []
        body.feed(data, 0, payload)
        content = payload[0] if len(payload) == 1 else b"".join(payload)
        if body.done:
            fields = lower_trailers(body.trailers) if isinstance(body, ChunkedBody) else ()
            self._connection.session.finish(self.number, content, fields)
        else:
            self._connection.session.send(self.number, content)
        self._written()

    def end(self, trailers: Sequence[Field]) -> None:
        """Server: the end of a body that is content."""
        if self.number:
            self._connection.session.finish(self.number, b"", lower_trailers(trailers))
            self._connection.flush_soon()

    def write_eof(self) -> None:
        """Server: the end of what a tunnel's client sends."""
        self.end(())

    def _written(self) -> None:
        self._connection.flush_soon()
        if not self.write_paused and self._connection.session.is_backed_up(self.number):
            self.write_paused = True
            if self._user is not None:
                self._user.upstream_write_paused()

    # -- the answer ----------------------------------------------------------------------------------

    def hold(self) -> None:
        """Server: consume nothing."""
        self._held = True

    def release(self) -> None:
        """Server: consume what has come, and what comes."""
        self._held = False
        if self._unconsumed:
            self._consume(0)
            self._connection.flush_soon()

    def _consume(self, size: int) -> None:
        self._unconsumed += size
        if not self._held and self.number:
            self._connection.session.consume(self.number, self._unconsumed)
            self._unconsumed = 0

    def headers(self, event: Headers, data: bytes) -> None:
        """Connection: a response's head, or trailers. ``data``: content that has come with it."""
        user = self._user
        if user is None:
            return
        if self._is_answered:
            self._end(event.fields)
            return
        self.is_answering = True
        try:
            if event.oversized:
                raise ResponseError("its head is too large")
            response = self._response(event)
        except ResponseError as error:
            self._reset(codes.CANCEL)
            self._lose(loss.broken(str(error)))
            return
        if response.status < 200 and response.status != 101:
            user.upstream_interim(response)
            return
        self._is_answered = True
        user.upstream_responds(response, data, 0)
        if data:
            self._consume(len(data))

    def _response(self, event: Headers) -> Response:
        if self._tunnel:
            return request_fields.tunnel_response(event.fields, event.ended, self._request)
        return request_fields.response(event.fields, event.ended, self._request.asked.head.method)

    def data(self, data: bytes, ended: bool) -> None:
        """Connection: content of the response."""
        if data:
            if self._user is not None:
                self._user.upstream_data(data)
            self._consume(len(data))
        if ended:
            self._end(())

    def _end(self, trailers: Sequence[Field]) -> None:
        if self._user is not None:
            self._user.upstream_end(trailers)

    def drained(self) -> None:
        """Connection: the server has caught up."""
        if self.write_paused:
            self.write_paused = False
            if self._user is not None:
                self._user.upstream_write_resumed()

    # -- the end -------------------------------------------------------------------------------------

    def finish(self, is_clean: bool, keeper: Keeper | None) -> None:
        """Server: the answer has ended. What is left of the request is not wanted any more."""
        self._user = None
        if not is_clean and not self._tunnel:
            self._reset(codes.NO_ERROR)

    def leave(self) -> None:
        """Server: nobody wants the answer, or the rest of it."""
        self._user = None
        if self.number:
            self._reset(codes.CANCEL)
        else:
            self._connection.forget(self)

    def _reset(self, code: int) -> None:
        if self.number:
            self._connection.session.reset(self.number, code)
            self._connection.flush_soon()

    def closed(self, code: int) -> None:
        """Connection: the session has closed the stream."""
        self.number = 0
        if self._user is not None:
            is_untouched = self.is_untouched or code == codes.REFUSED_STREAM
            self._lose(_reset_by_server(code, is_untouched))

    def malformed(self, reason: str) -> None:
        """Connection: what came is no response, and the stream has been reset."""
        self._lose(loss.broken(reason))

    def gone(self) -> None:
        """Connection: it has ended."""
        self.number = 0
        why = loss.closed(self.is_answering)
        if self.is_untouched:
            why.kind = Kind.UNTOUCHED
        self._lose(why)

    def _lose(self, why: Loss) -> None:
        user, self._user = self._user, None
        if user is not None:
            user.upstream_lost(why)

    def local_address(self) -> str:
        """Server: ``address:port`` of our end."""
        return self._connection.local_address()


def _reset_by_server(code: int, is_untouched: bool) -> Loss:
    kind = Kind.UNTOUCHED if is_untouched else Kind.BROKEN
    name = codes.name_of(code)
    return Loss(kind, failures.reset_unanswered(name), failures.reset_within(name))


def _no_tunnels() -> Loss:
    reason = "it takes no WebSockets over HTTP/2 (RFC 8441)"
    return loss.broken(reason)
