"""A client's HTTP/2 connection: reads requests, any number of exchanges at a time, each on its stream."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Final

from proxy.downstream import first_bytes
from proxy.downstream.client_connection import ClientConnection
from proxy.downstream.http2_stream import RequestStream, UpgradedStream
from proxy.exchanges.exchange_state import ConnectionState
from proxy.http1 import heads
from proxy.http1.refusal import Refusal
from proxy.http1.request import Request, malformed
from proxy.http2 import codes, response_fields
from proxy.http2.events import Closed, Data, Drained, Event, Headers, Malformed, Pong, Settings
from proxy.http2.session import Limits, Session
from proxy.in_force import ListenerState
from proxy.runtime import Runtime
from proxy.upstream.caller import Caller

_TAKE_BYTES: Final = 64 * 1024
_DRAIN_PING: Final = b"drain   "
DRAIN_SECONDS: Final = 5.0
"""Between the two GOAWAY frames of a drain, if the client does not answer a ping (Envoy's drain_timeout)."""

_IDLE = ConnectionState.IDLE
_EXCHANGE = ConnectionState.EXCHANGE
_LINGER = ConnectionState.LINGER
_CLOSED = ConnectionState.CLOSED


class _Drain(enum.Enum):
    """How far the connection's end has got."""

    NO = "no"
    ANNOUNCED = "announced"
    """The client knows that no new streams are wanted, and may have sent some before it knew."""
    LAST_STREAM = "last stream"
    """No further stream is taken; those that are open go on."""


class Http2Downstream(ClientConnection):
    """The proxy's end of a client's connection (A), when it speaks HTTP/2."""

    __slots__ = (
        "_awaits_preface",
        "_drain",
        "_drain_since",
        "_greeted",
        "_is_work_due",
        "_is_working",
        "_prelude",
        "_streams",
        "session",
    )

    def __init__(
        self,
        runtime: Runtime,
        caller: Caller,
        listener: ListenerState,
        local: str,
        remote: str,
        ipv6: bool,
        present: Callable[[], bool] | None,
    ) -> None:
        """As ClientConnection's."""
        super().__init__(runtime, caller, listener, local, remote, ipv6, present)
        options = listener.options
        limits = Limits(max_head_bytes=options.max_request_head_bytes)
        self.session = Session(True, limits, runtime.loop.time)
        self._streams: dict[int, RequestStream] = {}
        self._is_working = False
        self._is_work_due = False
        self._greeted = False
        """The client's first SETTINGS frame has come."""
        self._awaits_preface = False
        """Nothing is sent until it has come: curl, for one, takes little of what follows a 101."""
        self._prelude: UpgradedStream | None = None
        """Whose request is still coming as HTTP/1.1, before the client's preface (RFC 7540, 3.2)."""
        self._drain = _Drain.NO
        self._drain_since = 0.0

    # -- the beginning -------------------------------------------------------------------------------

    def greeted(self, data: bytes) -> None:
        """``data`` is what has come, and begins with the preface."""
        self.runtime.counters.add("downstream_http2_connections_total")
        self.data_received(data)

    def upgraded(self, request: Request, settings: bytes, data: bytes, at: int) -> None:
        """The client's HTTP/1.1 request asks for it (RFC 7540, 3.2); ``data`` from ``at`` on follows it."""
        session = self.session
        session.upgrade(settings, request.head.method == "HEAD")
        session.events()  # the settings are not those of the preface
        self.runtime.counters.add("downstream_http2_connections_total")
        self.write(heads.UPGRADE_TO_H2C + session.take())
        self._awaits_preface = True
        self._to(_EXCHANGE)
        stream = self._streams[1] = UpgradedStream(self, 1, True)
        exchange = stream.begin_exchange(request, time.monotonic())
        self._is_working = True
        end = exchange.start(data, at)
        self._is_working = False
        if not exchange.request_done:
            self._prelude = stream
        elif end < len(data):
            self.received -= len(data) - end
            self.data_received(data[end:])
        self._work()

    # -- asyncio -------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client."""
        self.received += len(data)
        if self._prelude is not None:
            data = self._more_of_prelude(self._prelude, data)
        if self._state is _LINGER:
            self._discard(data)
        elif data and self._state is not _CLOSED:
            self.session.feed(data)
            self._work()

    def eof_received(self) -> bool:
        """asyncio: the client has sent its last byte. Always True: we decide when to close."""
        self.eof = True
        self.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        super().connection_lost(exc)
        self.session.close()

    def resume_writing(self) -> None:
        """asyncio: the client reads again."""
        super().resume_writing()
        self.flush()

    # -- what is said --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what is to be sent, when the loop has heard of all that has come: many streams, one write."""
        if not self._is_working and not self._is_work_due:
            self._is_work_due = True
            self.runtime.loop.call_soon(self._work)

    def _send(self) -> bool:
        """False: nothing was sent."""
        session = self.session
        is_sent = False
        is_held = self.write_paused or self._awaits_preface
        while not is_held or session.has_failed:
            data = session.take(_TAKE_BYTES)
            if not data:
                break
            self.write(data)
            is_sent = True
            is_held = self.write_paused
        return is_sent

    def _work(self) -> None:
        """Act on what has come, and send what is to be sent."""
        self._is_work_due = False
        if self._state in (_LINGER, _CLOSED):
            return
        session = self.session
        self._is_working = True
        while True:
            events = session.events()
            if events:
                self._act_on(events)
            if not self._send() and not session.has_events:
                break
        self._is_working = False
        if session.is_over:
            self._end()

    def _act_on(self, events: list[Event]) -> None:
        streams = self._streams
        for event in events:
            kind = type(event)
            if kind is Headers:
                assert isinstance(event, Headers)
                stream = streams.get(event.stream)
                if stream is None:
                    self._begin(event)
                elif event.oversized:
                    stream.spoilt("the trailer section is too long")
                else:
                    stream.end(event.fields)
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
                self.runtime.counters.add("downstream_http2_malformed_messages_total")
                if event.stream and event.stream not in streams:
                    refusal = malformed(event.reason)
                    first_bytes.record(self, refusal, "", "", "HTTP/2")
            elif kind is Settings:
                self._greeted = True
                self._awaits_preface = False
            elif kind is Pong:
                assert isinstance(event, Pong)
                if event.payload == _DRAIN_PING:
                    self._take_no_more()

    def _begin(self, event: Headers) -> None:
        """A request's head has come."""
        started = time.monotonic()
        runtime = self.runtime
        try:
            if event.oversized:
                raise first_bytes.fields_too_large(self.listener.options.max_request_head_bytes)
            request = runtime.http2_requests.decide(event.fields, event.ended)
        except Refusal as refusal:
            self._refuse(event, refusal)
            return
        if self._state is _IDLE:
            self._to(_EXCHANGE)
        stream = self._streams[event.stream] = RequestStream(self, event.stream, event.ended)
        stream.begin_exchange(request, started).start(b"", 0)

    def _refuse(self, event: Headers, refusal: Refusal) -> None:
        """Answer what never became a request. Its stream ends; the connection goes on."""
        self.runtime.counters.add("downstream_protocol_errors_total")
        body = heads.message_body(refusal.message)
        fields = response_fields.own(refusal.status, heads.PLAIN_TEXT, body, self.runtime.date)
        self.session.respond(event.stream, fields, False)
        self.session.finish(event.stream, body, (), not event.ended)
        pseudo = dict(event.fields)
        method = pseudo.get(b":method", b"").decode("utf-8", "surrogateescape")
        target = pseudo.get(b":path", b"")[:1024].decode("utf-8", "surrogateescape")
        first_bytes.record(self, refusal, method, target, "HTTP/2")

    def _closed(self, event: Closed) -> None:
        stream = self._streams.pop(event.stream, None)
        if stream is None:
            return
        if event.code != codes.NO_ERROR:
            self.runtime.counters.add("downstream_http2_resets_total")
        stream.closed()
        if not self._streams and self._state is _EXCHANGE:
            self._to(_IDLE)
            self._since = self.runtime.now

    def _more_of_prelude(self, stream: RequestStream, data: bytes) -> bytes:
        """More of an HTTP/1.1 request; returns what follows it."""
        exchange = stream.exchange
        if exchange is None:
            # It has been answered, and where its body would end nobody knows any more.
            self._prelude = None
            self._awaits_preface = False
            self._send()
            self.session.end(codes.NO_ERROR)
            self._work()
            return b""
        end = exchange.feed_request(data)
        if exchange.request_done:
            self._prelude = None
            self._since = self.runtime.now
        return data[end:]

    # -- as its streams' connection ------------------------------------------------------------------

    def forwarded_for(self) -> bytes:
        """The caller's address, of the family that it called."""
        return self.caller.address(self.ipv6)

    # -- the end -------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take no new requests, and let those that are out, or on their way, end (RFC 9113, 6.8)."""
        if self._drain is not _Drain.NO or self._state in (_LINGER, _CLOSED):
            return
        self._drain = _Drain.ANNOUNCED
        self._drain_since = self.runtime.loop.time()
        self.session.announce_end()
        # What comes after its answer was sent by a client that knows.
        self.session.ping(_DRAIN_PING)
        self.flush()

    def _take_no_more(self) -> None:
        if self._drain is _Drain.ANNOUNCED:
            self._drain = _Drain.LAST_STREAM
            self.session.go_away()

    def _end(self) -> None:
        """The session is over: whoever still has a stream is told, and the connection closes."""
        error = self.session.sent_error
        if error is not None:
            counters = self.runtime.counters
            if error.code == codes.ENHANCE_YOUR_CALM:
                counters.add("downstream_http2_floods_total")
            else:
                counters.add("downstream_http2_protocol_errors_total")
        self._linger()
        self._cancel()

    def _cancel(self) -> None:
        streams = tuple(self._streams.values())
        self._streams.clear()
        for stream in streams:
            stream.closed()

    # -- time ----------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Runtime's sweep: act on what has taken too long."""
        state = self._state
        if state is _LINGER or state is _CLOSED:
            self._check_unsent(now)
            return
        options = self.listener.options
        if self.write_paused:
            self._check_unsent(now)
        elif not (self._greeted or self._prelude) and 0 < options.request_headers_timeout < now - self._since:
            self.runtime.counters.add("downstream_silent_connections_total")
            self.close()
            return
        if self._drain is _Drain.NO:
            is_unused = self._state is _IDLE and 0 < options.idle_timeout < now - self._since
            if is_unused or self.listener.removed or self.runtime.draining:
                self.drain()
        elif self._drain is _Drain.ANNOUNCED and now - self._drain_since > DRAIN_SECONDS:
            self._take_no_more()
            self._work()
        for stream in tuple(self._streams.values()):
            stream.check(now)
