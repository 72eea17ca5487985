"""One stream of a client's HTTP/2 connection: the Client of its one exchange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from proxy.exchanges.client import Headers, Origin, Relay
from proxy.exchanges.exchange import Exchange
from proxy.http1 import heads
from proxy.http1.body import OpenBody, body_of
from proxy.http1.field_values import Field
from proxy.http1.request import Request
from proxy.http1.response_parser import Response
from proxy.http1.websocket import accepts
from proxy.http2 import codes, response_fields
from proxy.http2.response_fields import ContentRelay
from proxy.http2.session import Session
from proxy.requests.header_edit import Edit
from proxy.upstream import failures
from proxy.upstream.pool import Pool
from proxy.upstream.server import Server


class Connection(Origin, Protocol):
    """That the stream is of."""

    session: Session

    def forwarded_for(self) -> bytes:
        """The caller's address for x-forwarded-for."""

    def flush(self) -> None:
        """Send what the session has made."""

    def hold_for_upstream(self) -> None:
        """Do not read."""

    def release_for_upstream(self) -> None:
        """Read on."""


class RequestStream:
    """From its request's head until the connection's session has closed it.

    What is consumed of the request opens the stream's window again: so while the server's side cannot take
    more the client is held, on this stream alone.
    """

    __slots__ = (
        "_connection",
        "_early",
        "_head",
        "_held",
        "_id",
        "_progress_at",
        "_relay",
        "_unconsumed",
        "_unsent",
        "caller",
        "eof",
        "exchange",
        "ipv6",
        "listener",
        "local",
        "remote",
        "runtime",
        "write_paused",
    )

    def __init__(self, connection: Connection, number: int, ended: bool) -> None:
        """``number``: the stream's. ``ended``: nothing comes after the request's head."""
        self._connection = connection
        self._id = number
        self.runtime = connection.runtime
        self.caller = connection.caller
        self.listener = connection.listener
        self.local = connection.local
        self.remote = connection.remote
        self.ipv6 = connection.ipv6
        self.eof = ended
        self.write_paused = False
        self.exchange: Exchange | None = None
        """None: it has ended, and the rest of its response may still be on its way."""
        self._head: list[Field] | None = None
        """The response's, until it goes out with what follows it."""
        self._relay: ContentRelay
        self._early = b""
        """What the client has sent on a stream that is about to be a tunnel."""
        self._held = False
        self._unconsumed = 0
        self._unsent = 0
        self._progress_at = 0.0

    # -- the request ---------------------------------------------------------------------------------

    def begin_exchange(self, request: Request, started: float) -> Exchange:
        """The request's head has come."""
        exchange = self.exchange = Exchange(self, request, started)
        return exchange

    def data(self, data: bytes, ended: bool) -> None:
        """A piece of the request's content."""
        exchange = self.exchange
        if exchange is None:
            return  # answered already; what nobody consumes ends with the stream
        if exchange.request_done:
            # It waits for its 101: what the client sends meanwhile is the tunnel's.
            self._early += data
            self.eof = ended
            return
        if data:
            exchange.feed_request(data)
            self._consume(len(data))
        if ended:
            self.end(())

    def end(self, trailers: Sequence[Field]) -> None:
        """The end of the request, or of what a tunnel's client sends."""
        self.eof = True
        exchange = self.exchange
        if exchange is not None and (exchange.is_tunnel or not exchange.request_done):
            exchange.end_request(trailers)

    def spoilt(self, reason: str) -> None:
        """The request has come to its end, and cannot go on."""
        self.eof = True
        if self.exchange is not None:
            self.exchange.fail(failures.bad_request_body(reason))

    def closed(self) -> None:
        """The session has closed the stream."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.cancel()

    def _consume(self, size: int) -> None:
        if self._held:
            self._unconsumed += size
        else:
            self._connection.session.consume(self._id, size)

    # -- the exchange's client -----------------------------------------------------------------------

    def forwarded_for(self) -> bytes:
        """Client: the caller's address."""
        return self._connection.forwarded_for()

    def own_connection(self, pool: Pool) -> Server | None:
        """Client: it has none."""
        return None

    def keep(self, server: Server) -> bool:
        """Client: it keeps none."""
        return False

    def interim(self, request: Request, response: Response) -> None:
        """Client: a 1xx response."""
        self._connection.session.interim(self._id, response_fields.interim(response))
        self._connection.flush()

    def begin(self, request: Request, response: Response, edit: Edit) -> Relay:
        """Client: the response's head goes with the first of its content."""
        self._head = response_fields.relayed(response, edit, self.listener.options, self.runtime.date)
        relay = self._relay = ContentRelay(body_of(response.length))
        return relay

    def switch(self, response: Response, edit: Edit) -> Relay:
        """Client: a tunnel begins."""
        self._head = response_fields.switched(response, edit, self.listener.options, self.runtime.date)
        relay = self._relay = ContentRelay(OpenBody())
        if self.exchange is not None and not accepts(self.exchange.request.fields, response.fields):
            relay.refuse("the server's Sec-WebSocket-Accept is none to the request's key")
        return relay

    def answer(
        self, request: Request, request_done: bool, status: int, headers: Headers, body: bytes
    ) -> None:
        """Client: a response of the proxy's own."""
        self.exchange = None
        self._head = response_fields.own(status, headers, body, self.runtime.date)
        with_body = request.head.method != "HEAD" and not heads.is_bodiless(status)
        self._finish(body if with_body else b"", ())

    def write(self, data: bytes) -> None:
        """Client: content of the response."""
        session = self._connection.session
        head, self._head = self._head, None
        if head is not None:
            session.respond(self._id, head, False)
        if data:
            session.send(self._id, data)
        self._connection.flush()
        if not self.write_paused and session.is_backed_up(self._id):
            self.write_paused = True
            if self.exchange is not None:
                self.exchange.downstream_write_paused()

    def write_eof(self) -> None:
        """Client: a tunnel's server has sent its last byte."""
        self._connection.session.finish(self._id)
        self._connection.flush()

    def request_goes_on(self) -> None:
        """Client: the exchange has become a tunnel."""
        exchange = self.exchange
        early, self._early = self._early, b""
        if exchange is not None and early:
            exchange.feed_request(early)
            self._consume(len(early))
        if exchange is not None and self.eof:
            exchange.end_request()

    def exchange_ended(self, keep_alive: bool, last: bytes) -> None:
        """Client: the rest of the response."""
        self.exchange = None
        self._finish(last, self._relay.trailers)

    def _finish(self, last: bytes, trailers: Sequence[Field]) -> None:
        session = self._connection.session
        head, self._head = self._head, None
        if head is not None:
            # To a gRPC client an answer without messages is one only if its head is its end.
            ends_with_head = not last and not trailers
            session.respond(self._id, head, ends_with_head, not self.eof)
        session.finish(self._id, last, trailers, not self.eof)
        self._connection.flush()

    def cut(self) -> None:
        """Client: the response cannot be completed."""
        self.exchange = None
        self._connection.session.reset(self._id, codes.INTERNAL_ERROR)
        self._connection.flush()

    def drained(self) -> None:
        """The session: the client has caught up."""
        if self.write_paused:
            self.write_paused = False
            if self.exchange is not None:
                self.exchange.downstream_write_resumed()

    def hold_for_upstream(self) -> None:
        """Client: consume nothing."""
        self._held = True

    def release_for_upstream(self) -> None:
        """Client: consume what has come, and what comes."""
        if self._held:
            self._held = False
            size, self._unconsumed = self._unconsumed, 0
            if size:
                self._connection.session.consume(self._id, size)
                self._connection.flush()

    # -- time ----------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """The connection's sweep: act on what has taken too long."""
        if self.exchange is not None:
            self.exchange.check(now)
            return
        # The exchange has ended, but not everything has gone: the client opens no window (a slow read).
        unsent = self._connection.session.unsent(self._id)
        limit = self.listener.options.stream_idle_timeout
        if unsent != self._unsent or not self._progress_at:
            self._unsent = unsent
            self._progress_at = now
        elif 0 < limit < now - self._progress_at:
            self.runtime.counters.add("downstream_http2_stalled_streams_total")
            self._connection.session.reset(self._id, codes.CANCEL)
            self._connection.flush()


class UpgradedStream(RequestStream):
    """Stream 1 of a connection that began as HTTP/1.1: its request came, or comes, as that."""

    __slots__ = ()

    def hold_for_upstream(self) -> None:
        """Client: nothing but this request is coming yet."""
        if self.exchange is not None and not self.exchange.request_done:
            self._connection.hold_for_upstream()

    def release_for_upstream(self) -> None:
        """Client: read on."""
        self._connection.release_for_upstream()
