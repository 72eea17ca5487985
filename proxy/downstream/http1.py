"""An HTTP/1.1 connection from a client: reads requests, one exchange at a time, in order."""

from __future__ import annotations

import time
from collections.abc import Callable

from proxy.downstream import first_bytes
from proxy.downstream.client_connection import ClientConnection
from proxy.downstream.http2 import Http2Downstream
from proxy.exchanges.client import Headers, Relay
from proxy.exchanges.exchange import Exchange
from proxy.exchanges.exchange_state import ConnectionState
from proxy.fast.flow import FastFlow
from proxy.http1 import heads, responses
from proxy.http1.refusal import Refusal
from proxy.http1.request import Request
from proxy.http1.response_parser import Response
from proxy.http2.session import PREFACE
from proxy.in_force import ListenerState
from proxy.requests.header_edit import Edit
from proxy.runtime import Runtime
from proxy.spliced.session import SplicedSession, splicing_now
from proxy.telemetry import response_flags
from proxy.telemetry.response_flags import Flag
from proxy.transports.read_hold import OTHER_SIDE, PIPELINE
from proxy.transports.reset import reset
from proxy.upstream.caller import Caller
from proxy.upstream.http1 import Upstream
from proxy.upstream.pool import Pool
from proxy.upstream.server import Server

MAX_PIPELINED_BYTES = 64 * 1024
"""Of requests that wait for the one before; beyond it the client is not read from."""
FIRST_BYTE_SECONDS = 60.0
"""A new connection that says nothing for so long waits for the server to speak first: not HTTP."""

_PREFACE_HEAD = PREFACE[: PREFACE.index(b"SM")]
"""As much of it as looks like a request's head."""

_IDLE = ConnectionState.IDLE
_HEAD = ConnectionState.HEAD
_EXCHANGE = ConnectionState.EXCHANGE
_LINGER = ConnectionState.LINGER
_CLOSED = ConnectionState.CLOSED


class Downstream(ClientConnection):
    """The proxy's end of a client's connection (A): the Client of each of its exchanges."""

    __slots__ = ("_buffer", "_exchange", "_requests", "_serving", "fast")

    def __init__(
        self,
        runtime: Runtime,
        caller: Caller,
        listener: ListenerState,
        local: str = "",
        remote: str = "",
        ipv6: bool = False,
        present: Callable[[], bool] | None = None,
        fast: FastFlow | None = None,
    ) -> None:
        """As ClientConnection's. ``fast``: its share in the fast path; None: it has none."""
        super().__init__(runtime, caller, listener, local, remote, ipv6, present)
        self._exchange: Exchange | None = None
        self._buffer: bytearray | None = None
        """What has come of a head, or of requests that wait."""
        self._serving = False
        self._requests = 0
        self.fast = fast
        if fast is not None:
            fast.belongs_to(self)

    # -- asyncio -------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: the connection is gone."""
        self._buffer = None
        super().connection_lost(exc)
        if self.fast is not None:
            self.fast.closed()
            self.fast = None

    def data_received(self, data: bytes) -> None:
        """asyncio: bytes from the client."""
        self.received += len(data)
        state = self._state
        if state is _IDLE:
            if self._buffer is None:
                if self.fast is None or not self.fast.armed:
                    self._serve(data)
                else:
                    self._serve_when_settled(data)
            else:
                self._buffer += data
                self._bound_buffer()
        elif state is _EXCHANGE:
            self._more_of_request(data)
        elif state is _HEAD:
            self._more_of_head(data)
        elif state is _LINGER:
            self._discard(data)

    def eof_received(self) -> bool:
        """asyncio: the client has sent its last byte. Always True: we decide when to close."""
        self.eof = True
        state = self._state
        exchange = self._exchange
        if exchange is not None and exchange.is_tunnel:
            exchange.tunnel_eof()
        elif state is _EXCHANGE and exchange is not None and exchange.is_request_done():
            # It may have finished sending and wait for its answer, or be gone.
            self._check_presence()
        elif state is _IDLE and self.fast is not None and self.fast.armed:
            # The kernel may be carrying a request, whose answer the client waits for.
            if self._buffer is None and self.fast.is_settled(data=False):
                self.close()
        elif self._buffer is None or state is not _IDLE:
            self.close()
        return True

    def pause_writing(self) -> None:
        """asyncio: the client does not read."""
        super().pause_writing()
        if self._exchange is not None:
            self._exchange.downstream_write_paused()

    def resume_writing(self) -> None:
        """asyncio: it reads again."""
        super().resume_writing()
        if self._exchange is not None:
            self._exchange.downstream_write_resumed()
        elif self._state is _IDLE:
            self._next()

    # -- the fast path -------------------------------------------------------------------------------

    def _serve_when_settled(self, data: bytes) -> None:
        """The kernel passed ``data`` up, perhaps while it carries the request before."""
        assert self.fast is not None
        if self.fast.is_settled(data=True):
            self._serve(data)
        elif self._state is _EXCHANGE:
            self._more_of_request(data)
        elif self._state is _IDLE:
            self._keep(data)

    def leave_kernel(self, now: float) -> bool:
        """OwnEnd: the client's socket can take no more of what the kernel brings."""
        return self.fast is None or self.fast.leave(now)

    def settled(self) -> None:
        """The kernel carries no request any more."""
        if self.is_waiting():
            self._next()

    def is_idle(self) -> bool:
        """Whether no request of the proxy's is under way; the kernel may carry one."""
        return self._state is _IDLE

    def is_waiting(self) -> bool:
        """Whether bytes or the end of what the client sends wait for the kernel's last answer."""
        return self._buffer is not None or self.eof

    def active_at(self, when: float) -> None:
        """The kernel carried a request at ``when``, by the loop's clock."""
        self._since = max(self._since, when)

    def adopt(self, exchange: Exchange) -> None:
        """A request that the kernel carried is the proxy's now."""
        self._to(_EXCHANGE)
        self._exchange = exchange

    def end_after_answer(self) -> None:
        """The client has had its last answer; what it still sends is not read as a request."""
        self._linger()

    # -- requests ------------------------------------------------------------------------------------

    def _serve(self, data: bytes) -> None:
        """Answer the requests in ``data``, which begins where a request does."""
        at = 0
        size = len(data)
        self._serving = True
        while at < size:
            if data[at] == 0x0D and data[at : at + 2] == b"\r\n":
                at += 2  # RFC 9112, 2.2: an empty line before a request is ignored
                continue
            end = data.find(b"\r\n\r\n", at) + 4
            if end < 4:
                self._begin_head(data[at:])
                break
            is_preface = data[at:end] == _PREFACE_HEAD
            if is_preface and at == self._requests == 0:
                if not self._become_spliced(data):
                    self._become_http2().greeted(data)
                return
            try:
                if is_preface:
                    raise first_bytes.late_preface()
                if end - at > self.listener.options.max_request_head_bytes:
                    raise first_bytes.head_too_large(
                        data[at:end], self.listener.options.max_request_head_bytes
                    )
                request = self.runtime.requests.parse(data[at:end])
            except Refusal as refusal:
                self._refuse(refusal, data[at:end])
                return
            if request.h2c is not None:
                self._become_http2().upgraded(request, request.h2c, data, end)
                return
            at = self._exchange_for(request, data, end)
            if self._state is not _IDLE or self.write_paused:
                if at < size and self._state in (_EXCHANGE, _IDLE):
                    self._keep(data[at:])
                break
        self._serving = False
        if self.eof:
            self._close_if_done()
        elif self.fast is not None and self._state is _IDLE and self._buffer is None:
            self.fast.arm(0)

    def _exchange_for(self, request: Request, data: bytes, end: int) -> int:
        self._to(_EXCHANGE)
        exchange = self._exchange = Exchange(self, request, time.monotonic())
        if self.fast is not None:
            exchange.account.drawn = self.fast.take_drawn()
        at = exchange.start(data, end)
        if self.fast is not None and not exchange.request_done:
            # 4 GiB later the kernel's count of bytes will be what it was when it was armed.
            self.fast.disarm()
        return at

    def _become_spliced(self, data: bytes) -> bool:
        """The connection goes to a server as a whole, where that may be."""
        runtime, listener = self.runtime, self.listener
        splicing = splicing_now(runtime, listener)
        if splicing is None:
            return False
        self._serving = False
        kernel = None if self.fast is None else self.fast.splice()
        session = SplicedSession(
            *(runtime, self.caller, listener, splicing, self.local, self.remote, self.ipv6, kernel),
            fall_back=lambda come, eof: self._answer_unspliced(session, come, eof),
        )
        session.take_over(self, self._transport, data, self.eof)
        return True

    def _answer_unspliced(self, session: SplicedSession, data: bytes, eof: bool) -> None:
        """There is no server for the whole connection: each request is answered by itself."""
        self.runtime.replaced(session, self)
        self.eof = eof
        http2 = self._become_http2()
        http2.greeted(data)
        if eof:
            http2.eof_received()

    def _become_http2(self) -> Http2Downstream:
        """HTTP/2 from here on: another object has the connection, and this one hears nothing more of it."""
        self._serving = False
        self._to(_CLOSED)
        if self.fast is not None:
            self.fast.closed()
            self.fast = None
        http2 = Http2Downstream(
            self.runtime, self.caller, self.listener, self.local, self.remote, self.ipv6, self._present
        )
        http2.take_over(self)
        return http2

    def _next(self) -> None:
        """Go on with what has been kept."""
        if self._serving or self.write_paused:
            return
        buffer = self._buffer
        if buffer is not None:
            self._buffer = None
            self._hold.remove(PIPELINE)
            self._serve(bytes(buffer))
        elif self.eof:
            self._close_if_done()

    def _close_if_done(self) -> None:
        """The client has sent its last byte: close if no request is left, or none that can be completed."""
        if self._state is _HEAD or (self._state is _IDLE and self._buffer is None):
            self.close()

    def _keep(self, data: bytes) -> None:
        if self._buffer is None:
            self._buffer = bytearray(data)
        else:
            self._buffer += data
        self._bound_buffer()

    def _bound_buffer(self) -> None:
        if self._buffer is not None and len(self._buffer) > MAX_PIPELINED_BYTES:
            self._hold.add(PIPELINE)

    def _more_of_request(self, data: bytes) -> None:
        """Bytes that came while a request is being answered: the rest of its body, or the next one."""
        exchange = self._exchange
        if exchange is not None and not (exchange.request_done or exchange.is_request_done()):
            end = exchange.feed_request(data)
            if end < len(data):
                self._keep(data[end:])
        else:
            self._keep(data)

    def _begin_head(self, data: bytes) -> None:
        self._to(_HEAD)
        self._since = self.runtime.now
        self._buffer = bytearray(data)
        self._check_head()

    def _more_of_head(self, data: bytes) -> None:
        buffer = self._buffer
        assert buffer is not None
        searched = max(0, len(buffer) - 3)
        buffer += data
        if buffer.find(b"\r\n\r\n", searched) < 0:
            self._check_head()
            return
        self._buffer = None
        self._state = _IDLE
        self._serve(bytes(buffer))

    def _check_head(self) -> None:
        """What can be said before a head is whole."""
        assert self._buffer is not None
        refusal = first_bytes.partial_head(self._buffer, self.listener.options.max_request_head_bytes)
        if refusal is not None:
            self._refuse(refusal, bytes(self._buffer[:2048]))

    # -- the exchange's client -----------------------------------------------------------------------

    def forwarded_for(self) -> bytes:
        """Client: the caller's address, of the family that it called."""
        return self.caller.address(self.ipv6)

    def own_connection(self, pool: Pool) -> Upstream | None:
        """Client: one that the kernel may use for this client alone."""
        return None if self.fast is None else self.fast.take(pool)

    def keep(self, server: Server) -> bool:
        """Client: let the kernel use it."""
        return self.fast is not None and isinstance(server, Upstream) and self.fast.keep(server)

    def interim(self, request: Request, response: Response) -> None:
        """Client: HTTP/1.0 knows no such response."""
        if not request.http10:
            self.write(heads.interim_head(response))

    def begin(self, request: Request, response: Response, edit: Edit) -> Relay:
        """Client: the response as this client's version frames it."""
        return responses.relayed(
            request, response, edit, self.listener.options, self.runtime.date, self._may_keep_alive()
        )

    def switch(self, response: Response, edit: Edit) -> Relay:
        """Client: a tunnel begins."""
        return responses.switched(response, edit, self.listener.options, self.runtime.date)

    def answer(
        self, request: Request, request_done: bool, status: int, headers: Headers, body: bytes
    ) -> None:
        """Client: a response of the proxy's own."""
        keep_alive = request.keep_alive and request_done and self._may_keep_alive()
        answer = responses.own(request, status, headers, body, self.runtime.date, keep_alive)
        self.exchange_ended(keep_alive, answer)

    def _may_keep_alive(self) -> bool:
        """Whether the connection may carry another request, for all that we know."""
        return not (self.runtime.draining or self.listener.removed)

    def request_goes_on(self) -> None:
        """Client: what was taken for the next request is the tunnel's."""
        buffer, self._buffer = self._buffer, None
        self._hold.remove(PIPELINE)
        if self.fast is not None:
            self.fast.disarm()
        if self._exchange is not None:
            if buffer is not None:
                self._exchange.feed_request(bytes(buffer))
            if self.eof:
                self._exchange.tunnel_eof()

    def exchange_ended(self, keep_alive: bool, last: bytes) -> None:
        """Client: the next request, or the connection's end."""
        self._exchange = None
        self._requests += 1
        self._hold.remove(OTHER_SIDE)
        if self._state is _CLOSED:
            return
        if not keep_alive:
            if last:
                self.write(last)
            self._linger()
            return
        self._to(_IDLE)
        self._since = self.runtime.now
        if self._buffer is not None or self.eof:
            self.write(last)
            self._next()
            return
        if self.fast is not None and not self._serving:
            # Before the client has the last byte, for then its next request may be there at once.
            self.fast.arm(len(last))
        self.write(last)

    def cut(self) -> None:
        """Client: RST, as an end of stream could pass for the response's end."""
        self._exchange = None
        if self._state is not _CLOSED:
            self._to(_CLOSED)
        reset(self._transport)

    # -- the end -------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Close if no request is in flight or waited for; else a response says that it is the last."""
        if self._state is _IDLE:
            self._close_if_quiet(self.runtime.loop.time(), self.runtime.idle_seconds)
            if self.fast is not None:
                self.fast.disarm()  # so that the next request comes to the proxy, which can say so

    def _cancel(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()

    def _linger(self) -> None:
        self._buffer = None
        super()._linger()

    def _refuse(self, refusal: Refusal, head: bytes) -> None:
        """Answer what never became a request, and end."""
        self._serving = False
        other = first_bytes.refused_early(head)
        if other is None:
            answer = first_bytes.answer(refusal)
            self.runtime.counters.add("downstream_protocol_errors_total")
        else:
            refusal, answer, counter = other
            self.runtime.counters.add(counter)
        self.write(answer)
        first_bytes.record(self, refusal, *first_bytes.method_and_target(head))
        self._linger()

    # -- time ----------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Runtime's sweep: act on what has taken too long."""
        state = self._state
        options = self.listener.options
        if state is _EXCHANGE:
            if self._exchange is not None:
                if self.write_paused or (self.eof and self._exchange.request_done):
                    self._check_presence()
                if self._exchange is not None:
                    self._exchange.check(now)
            return
        waited = now - self._since
        if state is _IDLE:
            if self.listener.removed:
                self._close_if_settled(now)
            elif self.runtime.draining:
                self._close_if_quiet(now, self.runtime.idle_seconds)
            elif 0 < options.idle_timeout < waited:
                self._close_if_quiet(now, options.idle_timeout)
            elif self._requests == 0 and waited > FIRST_BYTE_SECONDS:
                self.runtime.counters.add("downstream_silent_connections_total")
                self.close()
        elif state is _HEAD:
            if 0 < options.request_headers_timeout < waited:
                flags = response_flags.joined(Flag.DOWNSTREAM_PROTOCOL_ERROR)
                message = f"the request's head was not complete within {options.request_headers_timeout:g} s"
                head = bytes(self._buffer or b"")
                self._refuse(Refusal(408, message, flags, response_flags.REQUEST_HEADER_TIMEOUT), head)
        elif state is _LINGER or state is _CLOSED:
            self._check_unsent(now)

    def _close_if_quiet(self, now: float, seconds: float) -> None:
        """Close if no request has come for so long."""
        if seconds and self.fast is not None:
            self.active_at(self.fast.quiet_since())
        if seconds <= now - self._since:
            self._close_if_settled(now)

    def _close_if_settled(self, now: float) -> None:
        """Close unless the kernel carries a request, or may just begin to; then a later sweep does it."""
        fast = self.fast
        if fast is None or (fast.may_close(now) and not (fast.armed and self.is_waiting())):
            self.close()
