"""A request and its response between a downstream and an upstream connection."""

from __future__ import annotations

import asyncio
import enum
import time
from typing import TYPE_CHECKING

from meshd.model.config import Endpoint
from proxy import heads, response_flags
from proxy.access_log import AccessLogEntry
from proxy.body import BodyError, ChunkedBody, UntilCloseBody
from proxy.exchange_state import EXCHANGE_WAYS, ExchangeState
from proxy.pool import ConnectionLimitError, Pool
from proxy.refusal import Refusal
from proxy.request_parser import Request
from proxy.response_flags import Flag
from proxy.response_parser import Response, ResponseError
from proxy.routing import Answer, ForwardTo
from proxy.upstream import Upstream

if TYPE_CHECKING:
    from proxy.downstream import Downstream

MAX_RESPONSE_HEAD_BYTES = 64 * 1024

_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))  # RFC 9110, 9.2.2
_NEW = ExchangeState.NEW
_CONNECTING = ExchangeState.CONNECTING
_WAITING = ExchangeState.WAITING
_STREAMING = ExchangeState.STREAMING
_TUNNEL = ExchangeState.TUNNEL
_ENDED = ExchangeState.ENDED


class _Framing(enum.Enum):
    """How a response's body goes to the client."""

    AS_IT_IS = enum.auto()
    UNCHUNKED = enum.auto()
    """An HTTP/1.0 client knows no chunks: the content alone, ended by closing."""
    CHUNKED = enum.auto()
    """The server ends it by closing; the client's connection is to live on."""


class Exchange:
    """One request from its head to its answer's last byte. Decides by the config in force at its start."""

    __slots__ = (
        "_balancer",
        "_bytes_received",
        "_bytes_sent",
        "_decision",
        "_details",
        "_downstream",
        "_endpoint",
        "_flags",
        "_framing",
        "_keep_alive",
        "_last_activity",
        "_partial",
        "_pool",
        "_replay",
        "_response",
        "_retried",
        "_started",
        "_timeout",
        "_upstream",
        "_upstream_eof",
        "request",
        "request_done",
        "state",
        "status",
    )

    def __init__(self, downstream: Downstream, request: Request, started: float) -> None:
        """``started``: when the request's head was complete, by time.monotonic."""
        self._downstream = downstream
        self.request = request
        self.request_done = request.body is None
        self.state = _NEW
        self.status = 0
        self._started = started
        self._decision: ForwardTo
        self._endpoint: Endpoint | None = None
        self._pool: Pool
        self._upstream: Upstream | None = None
        self._replay = b""
        """All that has been written to the server, as long as it can be written again; else empty."""
        self._retried = False
        self._response: Response
        self._framing = _Framing.AS_IT_IS
        self._keep_alive = False
        self._partial = b""
        self._flags = ""
        self._details = response_flags.VIA_UPSTREAM
        self._bytes_received = 0
        self._bytes_sent = 0
        self._timeout: asyncio.TimerHandle | None = None
        self._last_activity = downstream.runtime.now
        self._upstream_eof = False

    # -- the request ---------------------------------------------------------------------------------

    def start(self, data: bytes, at: int) -> int:
        """Decide and begin. ``data`` from ``at`` follows the head; returns where the request ends in it."""
        request = self.request
        downstream = self._downstream
        runtime = downstream.runtime
        decision = downstream.listener.routes.decide(request.head, runtime.random())
        end = at
        if request.body is not None:
            try:
                end = request.body.feed(data, at)
            except BodyError as error:
                self._refuse_body(error)
                return len(data)
            self._bytes_received = end - at
            self.request_done = request.body.done
        if isinstance(decision, Answer):
            self._answer(decision)
            return end
        self._decision = decision
        self._dispatch(data[at:end])
        return end

    def feed_request(self, data: bytes) -> int:
        """More of the request's body; returns where the request ends in ``data``."""
        body = self.request.body
        assert body is not None
        self._last_activity = self._downstream.runtime.now
        try:
            end = body.feed(data)
        except BodyError as error:
            self._refuse_body(error)
            return len(data)
        self._bytes_received += end
        taken = data if end == len(data) else data[:end]
        if self._upstream is None:
            self._replay += taken
        else:
            self._replay = b""
            self._upstream.write(taken)
        if body.done:
            self.request_done = True
            self._arm_timeout()
        return end

    def _refuse_body(self, error: BodyError) -> None:
        flags = response_flags.joined(Flag.DOWNSTREAM_PROTOCOL_ERROR)
        self.fail(Refusal(400, str(error), flags, response_flags.CODEC_ERROR))

    def _dispatch(self, body: bytes) -> None:
        decision = self._decision
        downstream = self._downstream
        config = downstream.runtime.config
        balancer = config.balancers.get(decision.cluster)
        if balancer is None:
            flags = response_flags.joined(Flag.NO_CLUSTER)
            message = f"cluster {decision.cluster} does not exist"
            self.fail(
                Refusal(decision.missing_cluster_status, message, flags, response_flags.CLUSTER_NOT_FOUND)
            )
            return
        self._balancer = balancer
        if self._pick():
            self._replay = (
                heads.request_head(
                    self.request,
                    decision.target,
                    decision.host,
                    decision.request_edit,
                    downstream.listener.options,
                    downstream.forwarded_for(),
                )
                + body
            )
            upstream = self._pool.take()
            if upstream is not None and self.request.head.method not in _IDEMPOTENT:
                # It must not be sent twice, so look twice at the connection.
                while upstream is not None and upstream.has_ended():
                    upstream.abort()
                    upstream = self._pool.take()
            if upstream is not None:
                self._begin(upstream)
            else:
                self._connect()

    def _pick(self) -> bool:
        endpoint = self._balancer.pick(self._downstream.runtime.random, self._downstream.ipv6)
        if endpoint is None:
            flags = response_flags.joined(Flag.NO_HEALTHY_UPSTREAM)
            message = f"no healthy endpoint in cluster {self._decision.cluster}"
            self.fail(Refusal(503, message, flags, response_flags.NO_HEALTHY_UPSTREAM))
            return False
        self._endpoint = endpoint
        self._balancer.started(endpoint)
        self._pool = self._downstream.caller.pool(self._balancer.cluster, endpoint)
        return True

    def _connect(self) -> None:
        self._to(_CONNECTING)
        self._downstream.hold_for_upstream()
        try:
            self._pool.connect(self)
        except ConnectionLimitError:
            flags = response_flags.joined(Flag.UPSTREAM_OVERFLOW)
            message = f"too many connections to cluster {self._decision.cluster}"
            self.fail(Refusal(503, message, flags, response_flags.UPSTREAM_OVERFLOW))

    def connected(self, upstream: Upstream) -> bool:
        """Pool: the connection stands."""
        if self.state is not _CONNECTING:
            return False
        self._begin(upstream)
        return True

    def connect_failed(self, reason: str, timed_out: bool) -> None:
        """Pool: the connection could not be made."""
        if self.state is not _CONNECTING:
            return
        details = (
            response_flags.UPSTREAM_CONNECT_TIMEOUT if timed_out else response_flags.UPSTREAM_CONNECT_FAILED
        )
        assert self._endpoint is not None
        where = f"{self._endpoint.address}:{self._endpoint.port}"
        flags = response_flags.joined(Flag.UPSTREAM_CONNECT_FAILURE)
        self.fail(Refusal(503, f"cannot connect to {where}: {reason}", flags, details))

    def _begin(self, upstream: Upstream) -> None:
        self._to(_WAITING)
        self._upstream = upstream
        upstream.exchange = self
        upstream.write(self._replay)
        if not upstream.write_paused:
            self._downstream.release_for_upstream()
        if self._downstream.write_paused:
            upstream.hold()
        if self.request_done:
            self._arm_timeout()

    # -- the response --------------------------------------------------------------------------------

    def upstream_data(self, data: bytes) -> None:
        """Bytes from the server."""
        self._last_activity = self._downstream.runtime.now
        if self.state is _STREAMING:
            self._relay(b"", data, 0)
        elif self.state is _WAITING:
            self._heads(self._partial + data if self._partial else data)
        elif self.state is _TUNNEL:
            self._bytes_sent += len(data)
            self._downstream.write(data)

    def _heads(self, data: bytes) -> None:
        """Interim responses and the final one's head."""
        at = 0
        while True:
            end = data.find(b"\r\n\r\n", at) + 4
            if end < 4 or end - at > MAX_RESPONSE_HEAD_BYTES:
                if len(data) - at > MAX_RESPONSE_HEAD_BYTES:
                    self._bad_response("the response's head is too large")
                elif not b"HTTP/1.".startswith(data[at : at + 7]):
                    self._bad_response("the server does not speak HTTP/1")
                else:
                    self._partial = data[at:]
                return
            try:
                response = self._downstream.runtime.responses.parse(data[at:end], self.request.head.method)
            except ResponseError as error:
                self._bad_response(str(error))
                return
            at = end
            self._partial = b""
            if response.status == 101:
                self._switch(response, data[at:])
                return
            if response.status >= 200:
                self._respond(response, data, at)
                return
            if not self.request.http10:
                self._downstream.write(heads.interim_head(response))
            if at == len(data):
                return

    def _respond(self, response: Response, data: bytes, at: int) -> None:
        request = self.request
        downstream = self._downstream
        self._to(_STREAMING)
        self._replay = b""
        self._response = response
        self.status = response.status
        keep_alive = request.keep_alive and downstream.may_keep_alive()
        body = response.body
        chunked = False
        if isinstance(body, ChunkedBody):
            if request.http10:
                self._framing = _Framing.UNCHUNKED
                keep_alive = False
            else:
                chunked = True
        elif isinstance(body, UntilCloseBody):
            if request.http10:
                keep_alive = False
            else:
                self._framing = _Framing.CHUNKED
                chunked = True
        self._keep_alive = keep_alive
        connection = b"" if keep_alive and not request.http10 else b"keep-alive" if keep_alive else b"close"
        head = heads.response_head(
            response,
            self._decision.response_edit,
            downstream.listener.options,
            downstream.runtime.date,
            chunked,
            connection,
        )
        self._relay(head, data, at)

    def _relay(self, head: bytes, data: bytes, at: int) -> None:
        """Pass body bytes on, after ``head``."""
        body = self._response.body
        if body is None:
            self._downstream.write(head)
            self._complete(at < len(data))
            return
        framing = self._framing
        payload: list[bytes] | None = None if framing is _Framing.AS_IT_IS else []
        try:
            end = body.feed(data, at, payload)
        except BodyError as error:
            self._downstream.write(head)
            self._truncate(Flag.UPSTREAM_PROTOCOL_ERROR, str(error))
            return
        self._bytes_sent += end - at
        surplus = end < len(data)
        if payload is None:
            if head or at or surplus:
                data = head + data[at:end]
            self._downstream.write(data)
        else:
            if framing is _Framing.CHUNKED:
                payload = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in payload]
            self._downstream.write(head + b"".join(payload))
        if body.done:
            self._complete(surplus)

    def upstream_eof(self) -> bool:
        """The server has sent its last byte; True keeps our direction to it open."""
        if self.state is _TUNNEL:
            self._upstream_eof = True
            self._downstream.write_eof()
            self._end_tunnel()
            return self.state is _TUNNEL
        if self.state is _STREAMING and self._response.body is not None and self._response.body.closed():
            if self._framing is _Framing.CHUNKED:
                self._downstream.write(b"0\r\n\r\n")
            self._complete(True)
        return False

    def upstream_lost(self) -> None:
        """The connection to the server is gone, and the exchange was not at its end."""
        upstream, self._upstream = self._upstream, None
        if self.state is _WAITING:
            assert upstream is not None
            if self._replayable(upstream):
                self._retry()
                return
            flags = response_flags.joined(Flag.UPSTREAM_TERMINATED)
            message = "the server closed the connection before it answered"
            self.fail(Refusal(502, message, flags, response_flags.UPSTREAM_RESET_BEFORE_RESPONSE))
        elif self.state is _STREAMING:
            self._truncate(Flag.UPSTREAM_TERMINATED, response_flags.UPSTREAM_RESET_AFTER_RESPONSE)
        elif self.state is _TUNNEL:
            self._flags = response_flags.joined(Flag.UPSTREAM_TERMINATED)
            self._end()
            self._downstream.cut()

    def _replayable(self, upstream: Upstream) -> bool:
        """RFC 9112, 9.3.1: a server may close an idle connection at any time; such a request is not lost."""
        return (
            upstream.reused
            and not self._retried
            and bool(self._replay)
            and not self._partial
            and self.request.head.method in _IDEMPOTENT
        )

    def _retry(self) -> None:
        self._retried = True
        self._disarm_timeout()
        self._downstream.runtime.counters.add("upstream_replays_total")
        self._finished_with_endpoint()
        if self._pick():
            self._connect()

    def _switch(self, response: Response, rest: bytes) -> None:
        if not self.request.upgrade or not response.upgrade or not self.request_done:
            self._bad_response("the server changed protocols unasked")
            return
        self._to(_TUNNEL)
        self._disarm_timeout()
        self._replay = b""
        self._response = response
        self.status = 101
        downstream = self._downstream
        edit, options = self._decision.response_edit, downstream.listener.options
        head = heads.response_head(response, edit, options, downstream.runtime.date, False, b"Upgrade")
        self._bytes_sent += len(rest)
        downstream.write(head + rest)
        downstream.become_tunnel()

    # -- the tunnel ----------------------------------------------------------------------------------

    def tunnel_data(self, data: bytes) -> None:
        """Bytes from the client, after 101."""
        self._last_activity = self._downstream.runtime.now
        self._bytes_received += len(data)
        if self._upstream is not None:
            self._upstream.write(data)

    def tunnel_eof(self) -> None:
        """The client has sent its last byte."""
        if self._upstream is not None:
            self._upstream.write_eof()
        self._end_tunnel()

    def _end_tunnel(self) -> None:
        if self._upstream_eof and self._downstream.eof:
            upstream, self._upstream = self._upstream, None
            self._end()
            if upstream is not None:
                upstream.exchange = None
                upstream.close()
            self._downstream.exchange_ended(False)

    # -- flow control --------------------------------------------------------------------------------

    def downstream_write_paused(self) -> None:
        """The client does not keep up."""
        if self._upstream is not None:
            self._upstream.hold()

    def downstream_write_resumed(self) -> None:
        """The client has caught up."""
        self._last_activity = self._downstream.runtime.now
        if self._upstream is not None:
            self._upstream.unhold()

    def upstream_write_paused(self) -> None:
        """The server does not keep up."""
        self._downstream.hold_for_upstream()

    def upstream_write_resumed(self) -> None:
        """The server has caught up."""
        self._last_activity = self._downstream.runtime.now
        self._downstream.release_for_upstream()

    # -- the end -------------------------------------------------------------------------------------

    def _answer(self, answer: Answer) -> None:
        """The route itself says what the answer is."""
        self._flags = answer.flags
        self._details = answer.details
        self._local(answer.status, answer.headers, answer.body, answer.route.name if answer.route else "")

    def fail(self, refusal: Refusal) -> None:
        """End with an answer of our own, or by closing if the server's has begun."""
        if self.state is _ENDED:
            return
        self._flags = refusal.flags
        self._details = refusal.details
        if self.state in (_STREAMING, _TUNNEL):
            self._drop_upstream()
            self._end()
            self._downstream.cut()
            return
        headers = (("content-type", "text/plain; charset=utf-8"),)
        self._local(refusal.status, headers, f"meshd: {refusal.message}\n".encode(), self._route_name())

    def _local(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes, route: str) -> None:
        downstream = self._downstream
        request = self.request
        self._drop_upstream()
        self.status = status
        keep_alive = request.keep_alive and self.request_done and downstream.may_keep_alive()
        connection = b"" if keep_alive and not request.http10 else b"keep-alive" if keep_alive else b"close"
        self._bytes_sent = len(body)
        response = heads.local_response(
            status, headers, body, downstream.runtime.date, connection, request.head.method != "HEAD"
        )
        downstream.write(response)
        self._end(route)
        downstream.exchange_ended(keep_alive)

    def _bad_response(self, reason: str) -> None:
        flags = response_flags.joined(Flag.UPSTREAM_PROTOCOL_ERROR)
        message = f"bad response from the server: {reason}"
        self.fail(Refusal(502, message, flags, response_flags.UPSTREAM_PROTOCOL_ERROR))

    def _truncate(self, flag: Flag, details: str) -> None:
        """The response cannot be completed: the client must see that it is cut off."""
        self._flags = response_flags.joined(flag)
        self._details = details
        self._drop_upstream()
        self._end()
        self._downstream.cut()

    def _complete(self, upstream_spent: bool) -> None:
        """The response's last byte has gone to the client's socket."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if upstream_spent or not self._response.keep_alive or not self.request_done:
                upstream.exchange = None
                upstream.close()
            else:
                upstream.unhold()
                self._pool.release(upstream)
        self._end()
        self._downstream.exchange_ended(self._keep_alive and self.request_done)

    def cancel(self) -> None:
        """The client is gone."""
        if self.state is _ENDED:
            return
        self._flags = response_flags.joined(Flag.DOWNSTREAM_TERMINATED)
        self._details = response_flags.DOWNSTREAM_REMOTE_DISCONNECT
        self._drop_upstream()
        self._end()

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.exchange = None
            upstream.abort()

    def _finished_with_endpoint(self) -> None:
        if self._endpoint is not None:
            self._balancer.finished(self._endpoint)
            self._endpoint = None

    def _end(self, route: str | None = None) -> None:
        self._to(_ENDED)
        self._disarm_timeout()
        downstream = self._downstream
        request = self.request
        seconds = time.monotonic() - self._started
        if route is None:
            route = self._route_name()
        if downstream.runtime.access_log is not None:
            downstream.runtime.access_log.write(self._entry(route, seconds))
        self._finished_with_endpoint()
        downstream.runtime.stats.record(
            downstream.listener.listener.name,
            route,
            self._cluster_name(),
            downstream.caller.source,
            request.head.method,
            self.status,
            self._flags,
            seconds,
        )

    def _route_name(self) -> str:
        return self._decision.route.name if hasattr(self, "_decision") else ""

    def _cluster_name(self) -> str:
        return self._decision.cluster if hasattr(self, "_decision") else ""

    def _entry(self, route: str, seconds: float) -> AccessLogEntry:
        request = self.request
        get = request.head.headers.get
        endpoint = self._endpoint
        return AccessLogEntry(
            start=time.time() - seconds,
            method=request.head.method,
            path=request.target,
            protocol="HTTP/1.0" if request.http10 else "HTTP/1.1",
            status=self.status,
            duration=seconds,
            flags=self._flags,
            details=self._details,
            bytes_received=self._bytes_received,
            bytes_sent=self._bytes_sent,
            forwarded_for=get("x-forwarded-for", ""),
            user_agent=get("user-agent", ""),
            request_id=get("x-request-id", ""),
            authority=request.head.host,
            route=route,
            source=self._downstream.caller.source,
            upstream_host=f"{endpoint.address}:{endpoint.port}" if endpoint else "",
            upstream_cluster=self._cluster_name(),
            upstream_local_address=self._upstream.local_address() if self._upstream else "",
            downstream_local_address=self._downstream.local,
            downstream_remote_address=self._downstream.remote,
        )

    # -- time ----------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Compare the stream's idle time with its limit."""
        limit = self._downstream.listener.options.stream_idle_timeout
        if limit > 0 and now - self._last_activity > limit:
            flags = response_flags.joined(Flag.STREAM_IDLE_TIMEOUT)
            status, side = (504, "server") if self.request_done else (408, "client")
            message = f"no byte from the {side} within {limit:g} s"
            self.fail(Refusal(status, message, flags, response_flags.STREAM_IDLE_TIMEOUT))

    def _arm_timeout(self) -> None:
        if self._decision.timeout > 0 and self._timeout is None:
            loop = self._downstream.runtime.loop
            self._timeout = loop.call_later(self._decision.timeout, self._timed_out)

    def _disarm_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _timed_out(self) -> None:
        flags = response_flags.joined(Flag.UPSTREAM_TIMEOUT)
        message = f"no complete response within {self._decision.timeout:g} s"
        self.fail(Refusal(504, message, flags, response_flags.RESPONSE_TIMEOUT))

    def _to(self, state: ExchangeState) -> None:
        assert state in EXCHANGE_WAYS[self.state], f"{self.state} to {state}"
        self.state = state
