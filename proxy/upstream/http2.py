"""One HTTP/2 connection to a server, by prior knowledge (RFC 9113, 3.3). Its streams carry requests."""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from typing import Final, cast

from proxy.http1.field_values import Field
from proxy.http2 import codes
from proxy.http2.events import Closed, Data, Drained, Event, GoAway, Headers, Malformed, Settings
from proxy.http2.session import Limits, Session
from proxy.transports.sockets import has_something, local_name
from proxy.transports.write_limits import WRITE_HIGH_BYTES, WRITE_LOW_BYTES
from proxy.upstream.connection_pool import ConnectionPool
from proxy.upstream.http2_stream import ServerStream

_TAKE_BYTES: Final = 64 * 1024
KEEPALIVE_SECONDS: Final = 330.0
"""Without a byte from a server that has requests: it is asked whether it is there. gRPC's servers end a
connection on which they are asked more often than every 5 minutes."""
KEEPALIVE_TIMEOUT_SECONDS: Final = 20.0
_PING: Final = b"there?  "


class NotHttp2Error(OSError):
    """What answers is no HTTP/2 server. The message says so."""


class Http2UpstreamPool(ConnectionPool["Http2Upstream"]):
    """Who gives a connection's room to requests."""

    @abstractmethod
    def room_changed(self, connection: Http2Upstream) -> None:
        """A stream has begun or ended, or the server allows more or fewer."""


class Http2Upstream(asyncio.Protocol):
    """The proxy's end of a connection to a server (U).

    It stands when the server's first SETTINGS frame has come: then it is known to speak HTTP/2, and how many
    streams it allows; till then nothing is lost if it does not.
    """

    __slots__ = (
        "_asked_at",
        "_flushing",
        "_going",
        "_is_working",
        "_is_writable",
        "_served",
        "_silent_since",
        "_sock",
        "_standing",
        "_streams",
        "_taken",
        "_transport",
        "_unsent",
        "idle_since",
        "max_streams",
        "pool",
        "runtime",
        "session",
    )

    def __init__(self, pool: Http2UpstreamPool, sock: socket.socket) -> None:
        self.pool = pool
        self.runtime = pool.runtime
        self._sock = sock
        self._transport: asyncio.Transport
        self.session = Session(False, Limits(), self.runtime.loop.time)
        self._standing: asyncio.Future[None] = self.runtime.loop.create_future()
        self._streams: dict[int, ServerStream] = {}
        self._taken: set[ServerStream] = set()
        """Streams that nobody has given a request yet."""
        self._unsent: list[ServerStream] = []
        """Streams whose requests the session may not have put into bytes yet."""
        self.max_streams = 0
        """How many streams the server allows at a time."""
        self._served = False
        self._going = False
        """It takes no more requests."""
        self._flushing: asyncio.Handle | None = None
        self._is_writable = True
        self._is_working = False
        self._silent_since = self._asked_at = self.runtime.now
        self.idle_since = self.runtime.now

    async def stands(self) -> None:
        """Wait until it stands. Raises OSError."""
        await self._standing

    # -- asyncio -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the connection stands, as far as TCP is concerned."""
        # Not isinstance: uvloop's transports are of no asyncio class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the server."""
        self._silent_since = self.runtime.now
        self.session.feed(data)
        self._flush()

    def eof_received(self) -> bool:
        """asyncio: the server has sent its last byte. False: so do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self._going = True
        if self._flushing is not None:
            self._flushing.cancel()
        if not self._standing.done():
            self._standing.set_exception(NotHttp2Error(self._why_not_standing()))
            self._standing.exception()  # nobody may be waiting for it any more
        self.pool.lost(self)
        self._mark_unsent()
        streams = tuple(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.gone()
        self.session.close()

    def pause_writing(self) -> None:
        """asyncio: too much waits to be sent."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """asyncio: enough of it has gone."""
        self._is_writable = True
        self._flush()

    def _why_not_standing(self) -> str:
        error = self.session.sent_error
        if error is not None:
            return f"the server does not speak HTTP/2: {error.reason}"
        return "the server ends the connection when it is spoken to in HTTP/2"

    # -- streams -------------------------------------------------------------------------------------

    @property
    def takes_tunnels(self) -> bool:
        """Whether the server takes extended CONNECT (RFC 8441)."""
        return self.session.takes_tunnels

    def has_room(self) -> bool:
        """Whether it takes one more request."""
        return (
            not self._going
            and not self._transport.is_closing()
            and len(self._streams) + len(self._taken) < self.max_streams
            and self.session.takes_requests
        )

    def is_idle(self) -> bool:
        """Whether it carries no request."""
        return not self._streams and not self._taken

    def is_unread(self) -> bool:
        """Whether it is idle, and something has come: a GOAWAY perhaps, or the connection's end."""
        return self.is_idle() and has_something(self._sock)

    def stream(self) -> ServerStream:
        """A stream for one request; there is room for it."""
        stream = ServerStream(self, self._served)
        self._served = True
        self._taken.add(stream)
        return stream

    def begin(self, stream: ServerStream, fields: list[Field], ended: bool) -> None:
        """Send a request's head. ``ended``: that is all."""
        self._taken.discard(stream)
        stream.number = self.session.request(fields, ended)
        self._streams[stream.number] = stream
        self._unsent.append(stream)
        self.flush_soon()

    def forget(self, stream: ServerStream) -> None:
        """It was taken, and its request has not been sent and will not be."""
        if stream in self._taken:
            self._taken.discard(stream)
            self.pool.room_changed(self)

    # -- what is said --------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """Send what is to be sent, with what else comes to be so in this turn of the loop."""
        if self._flushing is None and not self._is_working:
            self._flushing = self.runtime.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Act on what has come, and send what is to be sent."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        session, transport = self.session, self._transport
        self._is_working = True
        while True:
            events = session.events()
            if events:
                self._act_on(events)
            if transport.is_closing() or not (self._is_writable or session.has_failed):
                break
            data = session.take(_TAKE_BYTES)
            if data:
                transport.write(data)
            else:
                self._unsent.clear()
                if not events:
                    break
        self._is_working = False
        if session.is_over and not transport.is_closing():
            self._count_error()
            transport.close()

    def _count_error(self) -> None:
        if self.session.sent_error is not None:
            self.runtime.counters.add("upstream_http2_protocol_errors_total")

    def _act_on(self, events: list[Event]) -> None:
        streams = self._streams
        for at, event in enumerate(events):
            kind = type(event)
            if kind is Headers:
                assert isinstance(event, Headers)
                stream = streams.get(event.stream)
                if stream is not None:
                    stream.headers(event, _taken_with(events, at + 1, event.stream))
            elif kind is Data:
                assert isinstance(event, Data)
                stream = streams.get(event.stream)
                if stream is not None:
                    stream.data(event.data, event.ended)
            elif kind is Closed:
                assert isinstance(event, Closed)
                self._closed(event)
            elif kind is Drained:
                assert isinstance(event, Drained)
                stream = streams.get(event.stream)
                if stream is not None:
                    stream.drained()
            elif kind is Malformed:
                assert isinstance(event, Malformed)
                stream = streams.get(event.stream)
                if stream is not None:
                    stream.malformed(event.reason)
            elif kind is Settings:
                self._settings()
            elif kind is GoAway:
                assert isinstance(event, GoAway)
                self._goaway(event)

    def _mark_unsent(self) -> None:
        for stream in self._unsent:
            stream.is_untouched = True

    def _settings(self) -> None:
        self.max_streams = self.session.max_streams
        if not self._standing.done():
            self._standing.set_result(None)
            self.pool.opened(self)
        else:
            self.pool.room_changed(self)

    def _goaway(self, event: GoAway) -> None:
        """The server takes no new streams. Those that it has not touched are told of as closed."""
        self._mark_unsent()
        for number, stream in self._streams.items():
            if number > event.last_stream:
                stream.is_untouched = True
        self.runtime.counters.add("upstream_goaways_total")
        self._going = True
        self.pool.room_changed(self)
        self._close_if_done()

    def _closed(self, event: Closed) -> None:
        stream = self._streams.pop(event.stream, None)
        if stream is None:
            return
        if event.code != codes.NO_ERROR:
            self.runtime.counters.add("upstream_http2_resets_total")
        stream.closed(event.code)
        self.pool.room_changed(self)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._going and self.is_idle():
            self.close()

    # -- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Say that no more comes, and close. It carries no request."""
        self._going = True
        self.session.end(codes.NO_ERROR)
        if not self._is_working:
            self._flush()

    def abort(self) -> None:
        """Close at once."""
        self._going = True
        self._transport.abort()

    def check(self, now: float) -> None:
        """A sweep, while it carries requests: a server that says nothing for long is asked for a sign."""
        silent = now - self._silent_since
        if silent > KEEPALIVE_SECONDS + KEEPALIVE_TIMEOUT_SECONDS:
            self.runtime.counters.add("upstream_http2_keepalive_timeouts_total")
            self.abort()
        elif silent > KEEPALIVE_SECONDS and self._asked_at <= self._silent_since:
            self._asked_at = now
            self.session.ping(_PING)
            self._flush()

    def local_address(self) -> str:
        """``address:port`` of our end."""
        return local_name(self._sock)


def _taken_with(events: list[Event], at: int, stream: int) -> bytes:
    """The content that follows a head at once, taken out of its event: it goes on with the head."""
    event = events[at] if at < len(events) else None
    if not isinstance(event, Data) or event.stream != stream:
        return b""
    data, event.data = event.data, b""
    return data
